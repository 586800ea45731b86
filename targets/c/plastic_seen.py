"""What a plastic layer takes or watches of a delayed signal: how its rows are printed, and handed to the function.

Where a delay shows a whole earlier step, that is the row, as it stands. Else a function makes the row of each step and
sequence, in memory of the block's own: it gathers what each value is late by steps of its own, and computes what the
delay does with what it reads. Nothing of the course's length is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from snncompile.targets.c.calling import scratch
from snncompile.targets.c.courses import past_end
from snncompile.targets.c.kernel import Writer
from snncompile.targets.c.late_row import LateRow
from snncompile.targets.c.plastic_parts import bare_call
from snncompile.targets.c.printer import Function, call_lines, print_function, safe
from snncompile.targets.scan import Scan, Seen


class SeenForm(NamedTuple):
    """What a function that makes rows of a course is printed for.

    Attributes:
        scan: what is computed of the values that are read; None where the row is one of the course as it stands.
        late: per value how late it is read, as in :class:`~snncompile.targets.variant.Layout`.
        coefs: per coefficient, whether it is one number.
    """

    scan: Scan | None
    late: tuple[str, ...] = ("one",)
    coefs: tuple[bool, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether the course has fewer values than are shown of it."""
        return "shared" in self.late

    @property
    def read(self) -> tuple[int, ...]:
        """Places of the values that are read."""
        return (0,) if self.scan is None else _places(self.scan, self.scan.inputs)

    @property
    def used(self) -> tuple[int, ...]:
        """Places of the coefficients that are."""
        return () if self.scan is None else _places(self.scan, self.scan.coefs)


def _places(scan: Scan, names: tuple[str, ...]) -> tuple[int, ...]:
    """The places of those of ``names`` that the program of ``scan`` reads."""
    program = scan.forward
    read = {a for op in program.ops for a in op.args} | {a for _, a in program.outputs}
    return tuple(i for i, name in enumerate(names) if name in read)


def form_of(seen: Seen | None) -> SeenForm | None:
    """What the function of ``seen`` is printed for."""
    if seen is None:
        return None
    late = tuple("" if one is None else one.kind for one in seen.late)
    return make_form(seen.scan, late, tuple(not c.dim() for c in seen.coefs))


def make_form(scan: Scan, late: tuple[str, ...], coefs: tuple[bool, ...]) -> SeenForm:
    """What the function of a delay is printed for, that computes ``scan``; the others as :class:`SeenForm` has them."""
    whole = not scan.forward.ops and late == ("one",) and scan.forward.outputs[0][1] in scan.inputs
    return SeenForm(None) if whole else SeenForm(scan, late, coefs)


class _Tap(NamedTuple):
    """One value that is read late: names of the exported function's arguments.

    Attributes:
        kind: how late.
        past: where what came before the first step ends.
        late: how many steps.
        places: room for where each is found, or "".
        most: the longest, or "".
    """

    kind: str
    past: str = ""
    late: str = ""
    places: str = ""
    most: str = ""


class SeenRows:
    """The rows of a course being printed.

    Args:
        w: the function that reads them.
        wanted: what the course is called.
        form: how they are made.
        course: the course, and its strides over time and batch.
        size: C of how many values a row has.
    """

    def __init__(
        self, w: Writer, wanted: str, form: SeenForm, course: tuple[str, str, str], size: str = "M"
    ) -> None:
        self.form, (self.course, self.course_t, self.course_b) = form, course
        self.size = size
        about = "values that are shown of one"
        self.share = w.whole(f"{wanted}_share", about, number=True) if form.shared else "1"
        self.taps = [self._take(w, f"{wanted}_{k}", form.late[k]) for k in form.read]
        #: the row of sequence 0 at the present step, and how far from it the next sequence's lies
        self.now, self.now_b, self.old = w.name(f"{wanted}_now"), w.name(f"{wanted}_now_b"), w.name(f"{wanted}_old")
        self.step: Function | None = None
        if form.scan is None:
            return
        scan = form.scan
        self.coefs = [w.whole(f"{wanted}_coef_{k}", _coefficient(form.coefs[k], size)) for k in form.used]
        about = f"scratch: what is shown of {self.course}, (blocks, B, {size})"
        self.rows = w.whole(f"{wanted}_rows", about, "float")
        about = f"scratch: more values that this takes, (blocks, {self.more}, {size})"
        self.room = w.whole(f"{wanted}_room", about, "float") if self.more else ""
        self.name = w.name(f"{scan.name}_row")
        if scan.forward.ops or not self._gathered:
            name = w.name(f"{scan.name}_shown")
            self.step = print_function(name, scan.forward, "What is shown of the values that are read.", bare=True)

    def _take(self, w: Writer, wanted: str, kind: str) -> _Tap:
        if not kind:
            return _Tap(kind)
        about = f"where what came before {self.course} ends, (L, B, {self.size}{self._by_share})"
        past = w.whole(f"{wanted}_past", about)
        if kind == "one":
            return _Tap(kind, past, w.whole(f"{wanted}_late", f"steps that {self.course} is late", number=True))
        late = w.whole(f"{wanted}_late", f"steps late, ({self.size},)", "const int32_t")
        places = w.whole(f"{wanted}_places", f"scratch, ({self.size},)", "int64_t")
        return _Tap(kind, past, late, places, w.name(f"{wanted}_most"))

    @property
    def _by_share(self) -> str:
        return "" if self.share == "1" else f" / {self.share}"

    @property
    def _gathered(self) -> list[int]:
        return [k for k, tap in enumerate(self.taps) if tap.places]

    @property
    def more(self) -> int:
        """Rows besides its own that a row is made of: what is gathered first goes where the row does."""
        return max(len(self._gathered) - 1, 0)

    def _times(self, count: str) -> str:
        """How many values ``count`` rows have."""
        return count if self.size == "1" else f"{count} * {self.size}"

    # -- in the exported function --------------------------------------------------------------------------------------

    def whole(self, depth: int) -> list[str]:
        """What comes once, before the blocks."""
        rows = (LateRow("", self.course_t, "", "", t.late, t.places, t.most, self.share) for t in self.taps if t.places)
        return [line for row in rows for line in row.prepare(depth, self.size)]

    def each_step(self, depth: int) -> list[str]:
        """What comes at each step: :attr:`now` and :attr:`now_b`."""
        pad = "    " * depth
        if self.form.scan is None:
            (tap,) = self.taps
            return [
                f"{pad}const int {self.old} = t < {tap.late}; /* before the first step */",
                f"{pad}const int64_t {self.now_b} = {self.old} ? {self.size} : {self.course_b};",
                f"{pad}const float *{self.now} = {self.old} ? {tap.past} : {self.course};",
                f"{pad}{self.now} += (t - {tap.late}) * ({self.old} ? {self._times('B')} : {self.course_t});",
            ]
        return [
            f"{pad}float *{self.now} = {self.rows} + {self._times('block * B')};",
            f"{pad}const int64_t {self.now_b} = {self.size};",
            f"{pad}for (int64_t b = 0; b < B; b++)",
            *self.make(
                depth + 1, f"{self.room} + {self._times(f'block * {self.more}')}", f"{self.now} + {self._times('b')}"
            ),
        ]

    def make(self, depth: int, room: str, to: str) -> list[str]:
        """Make the row of sequence ``b`` at step ``t`` at ``to``; in ``room`` is what it takes besides."""
        items = [f"{self.course} + b * {self.course_b}", self.course_t, f"{self._times('B')}{self._by_share}"]
        items += [] if self.share == "1" else [self.share]
        for tap in self.taps:
            row = self.size if self.share == "1" else f"({self.size} / {self.share})"
            past = [f"{tap.past} + b * {row}"] if tap.kind else []
            items += [*past, *(n for n in (tap.late, tap.places, tap.most) if n)]
        items += [f"*{c}" if self.form.coefs[k] else c for k, c in zip(self.form.used, self.coefs, strict=True)]
        return call_lines(self.name, [*items, *([room] if self.room else []), self.size, "t", to], depth, ";")

    # -- the function that makes a row ---------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """It, with the step that it calls; "" where none is needed."""
        scan = self.form.scan
        if scan is None:
            return ""
        lines = [
            f"/* What {safe(', '.join(scan.members) or scan.name)} shows of one sequence at step t: M values. */",
            *call_lines(f"static void {self.name}", list(self._declared())),
            "{",
            *self._body(scan),
            "}",
        ]
        return "\n".join([*([self.step.text] if self.step else []), *lines]) + "\n"

    def _declared(self) -> Iterator[str]:
        yield from ("const float *x", "int64_t x_t", "int64_t past_t")
        if self.share != "1":
            yield "int64_t share"
        for k, tap in enumerate(self.taps):
            if tap.kind:
                yield f"const float *past_{k}"
            if tap.kind == "one":
                yield f"int64_t late_{k}"
            elif tap.kind:
                yield from (f"const int32_t *late_{k}", f"const int64_t *places_{k}", f"int64_t most_{k}")
        for k, place in enumerate(self.form.used):
            yield f"float coef_{k}" if self.form.coefs[place] else f"const float *restrict coef_{k}"
        if self.room:
            yield "float *restrict room"
        yield from ("int64_t M", "int64_t t", "float *restrict shown")

    def _body(self, scan: Scan) -> list[str]:
        share = "1" if self.share == "1" else "share"
        values, lines = {}, []
        for k, (place, tap) in enumerate(zip(self.form.read, self.taps, strict=True)):
            values[scan.inputs[place]] = f"tap_{k}[k]"
            if not tap.places:
                now = "x + t * x_t"
                if tap.kind:
                    now = f"t < late_{k} ? past_{k} + (t - late_{k}) * past_t : x + (t - late_{k}) * x_t"
                lines.append(f"    const float *restrict tap_{k} = {now};")
                continue
            row, n = "shown", self._gathered.index(k)
            if n:
                row = f"tap_{k}"
                lines.append(f"    float *restrict {row} = room{f' + {n - 1} * M' if n > 1 else ''};")
            else:
                values[scan.inputs[place]] = "shown[k]"
            late = LateRow("x", "x_t", f"past_{k}", "past_t", f"late_{k}", f"places_{k}", f"most_{k}", share)
            lines += late.gather(1, "M", row)
        if self.step is None:
            return lines
        for k, place in enumerate(self.form.used):
            values[scan.coefs[place]] = f"coef_{k}" if self.form.coefs[place] else f"coef_{k}[k]"
        return [
            *lines,
            "#pragma omp simd",
            "    for (int64_t k = 0; k < M; k++)",
            f"        shown[k] = {bare_call(self.step, values)};",
        ]


def _coefficient(one: bool, size: str) -> str:
    return f"coefficient of what is shown, {'one number' if one else f'({size},)'}"


def add_seen(args: list[int], seen: Seen, batch: int, size: int, blocks: int) -> list[Tensor]:
    """Append what makes rows of a course, as a function takes it; what must live until it has run.

    Args:
        args: the arguments so far.
        seen: how they are made.
        batch: sequences.
        size: values of a row.
        blocks: that each make their own.
    """
    form, held = form_of(seen), list[Tensor]()
    assert form is not None

    def room(*shape: int, dtype: torch.dtype = torch.float32) -> int:
        held.append(scratch(*shape, dtype=dtype))
        return held[-1].data_ptr()

    if form.shared:
        args.append(next(one.share for one in seen.late if one is not None and one.share > 1))
    late = [seen.late[k] for k in form.read] if form.scan is not None else [seen.whole]
    for one in late:
        if one is None:
            continue
        args.append(past_end(one))
        if isinstance(one.steps, int):
            args.append(one.steps)
        else:
            args += [one.steps.data_ptr(), room(size, dtype=torch.int64)]
    if form.scan is None:
        return held
    args += [seen.coefs[k].data_ptr() for k in form.used]
    args.append(room(blocks, batch, size))
    more = sum(one is not None and one.kind != "one" for one in late) - 1
    if more > 0:
        args.append(room(blocks, more, size))
    return held
