"""What the functions of all plastic layers print alike: arguments, the step of the neurons, the file around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from snncompile.targets.c.kernel import PREAMBLE, Argument, Course, KernelSource, Writer, listed
from snncompile.targets.c.late_row import LATE_ROWS
from snncompile.targets.c.plastic_late import Gathered, take_late
from snncompile.targets.c.plastic_parts import print_inputs
from snncompile.targets.c.plastic_seen import SeenForm, SeenRows
from snncompile.targets.c.printer import Function, call_lines, print_called, print_function, safe
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.variant import Layout

_SIDES = {"before": "the input's side", "after": "the output's side", "synapse": "a synapse of one sequence"}


class PlasticVariant(NamedTuple):
    """A forward function of a plastic layer.

    Attributes:
        port: the input that is the product.
        source: the result that the rule watches.
        layout: of inputs (the port's entry is ignored) and coefficients.
        bias: whether the product has a bias.
        store: results whose course is stored.
        store_traces: traces whose course is stored.
        store_product: whether the product's course is.
        pre: whether the rule watches another input than the connection takes.
        seen_x: how what the connection takes is made of a course; None: it is that.
        seen_pre: the same of what the rule watches.
        heard: the same of signals that the rule hears, by their names.
    """

    port: str
    source: str
    layout: Layout
    bias: bool
    store: tuple[str, ...]
    store_traces: tuple[str, ...]
    store_product: bool
    pre: bool = False
    seen_x: SeenForm | None = None
    seen_pre: SeenForm | None = None
    heard: tuple[tuple[str, SeenForm], ...] = ()

    @property
    def gathers(self) -> bool:
        """Whether anything is late by steps of its own."""
        seen = (self.seen_x, self.seen_pre, *(form for _, form in self.heard))
        kinds = [*self.layout.late, *(kind for one in seen if one for kind in one.late)]
        return "each" in kinds or "shared" in kinds


class PlasticSource(NamedTuple):
    """What is printed, and what it reads.

    Attributes:
        kernel: the file.
        rule_coefs: program and coefficient, in the order of the arguments.
        signals: signals that it reads.
        fixed: mask and sign, those that it reads.
        copies: how many scratch arrays of the weight's size, padded, come after all others.
    """

    kernel: KernelSource
    rule_coefs: tuple[tuple[str, str], ...]
    signals: tuple[str, ...]
    fixed: tuple[str, ...]
    copies: int


class PlasticPrinter(ABC):
    """The function of a plastic layer being printed. What :meth:`take` adds is named by attributes.

    Args:
        scan: the neurons.
        rule: the rule.
        variant: the function wanted.
        locals: names that mean something in the file.
    """

    def __init__(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant, locals: str) -> None:
        self.scan, self.rule, self.variant = scan, rule, variant
        self.w = w = Writer(locals)
        self.name, self.row = w.name(f"{scan.name}_{rule.name}"), w.name(f"{scan.name}_row")
        self.inputs, self.learn = w.name(f"{rule.name}_inputs"), w.name(f"{rule.name}_learn")
        for part in ("some", "rest", "many", "sum"):
            w.name(f"{self.learn}_{part}")
        results = {*scan.states, *variant.store, variant.source}
        self.step = print_function(w.name(f"{scan.name}_step"), scan.forward.select(results), "One step of a neuron.")
        self.parts: dict[str, Function] = {
            part: print_function(w.name(f"{rule.name}_{part}"), rule.programs[part], f"One step of {what}.")
            for part, what in _SIDES.items()
            if part in rule.programs
        }
        self.update = print_function(
            w.name(f"{rule.name}_update"), rule.programs["update"], "A new weight.", bare=True,
            bounds=rule.coefs["update"],
        )  # fmt: skip
        self.sides = {s: [t.local for t in rule.node.of_side(s)] for s in ("pre", "post", "synapse")}
        heard = self.parts["synapse"].args if "synapse" in self.parts else ()
        self.signals = tuple(s for s in rule.node.signals if s in heard)
        #: scratch arrays of the weight's size, padded, that come after all others
        self.copies = 0
        #: (program, coefficient) -> the argument that is its address, for those that blocks are not handed
        self.coefs: dict[tuple[str, str], str] = {}

    @abstractmethod
    def print(self) -> PlasticSource:
        """The file."""

    # -- arguments -----------------------------------------------------------------------------------------------------

    def take(self, weights: str, bias: str) -> None:
        """Take the arguments that every layer has.

        Args:
            weights: shape of the weight.
            bias: shape of the bias.
        """
        scan, variant, w = self.scan, self.variant, self.w
        scalar = dict(zip(scan.coefs, variant.layout.coefs, strict=True))
        unit = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
        self.read_inputs = [x for x in scan.inputs if x in self.step.args and x != variant.port]
        self.read_coefs = [c for c in scan.coefs if c in self.step.args]
        self.weight = w.whole("weight", f"weight, {weights}, read and written", "float")
        self.bias = w.whole("bias_of_product", f"bias of the product, {bias}") if variant.bias else ""
        self.fixed = {role: w.whole(role, f"{role} of the weight, {weights}") for role in self.rule.node.fixed}
        self.made: list[SeenRows] = []
        #: the row of sequence 0 that the connection takes, and how far from it the next sequence's lies
        self.x, self.x_b = self._rows("input", "what the connection takes", variant.seen_x)
        self.watched = "x_now"
        if variant.pre:
            watched, row = self._rows("watched", "what the rule watches", variant.seen_pre)
            self.watched = f"{watched} + b * {row}"
        late = variant.layout.late_of(scan.inputs)
        self.courses: dict[str, Course] = {
            n: take_late(w, n, late[n]) if n in late else w.course(n, unit[n], "input of the neurons")
            for n in self.read_inputs
        }
        self.values = {c: w.coefficient(c, scalar[c], "coefficient") for c in self.read_coefs}
        self.states = {s: w.cells(f"{s}_running", "state, (B, N), read and written", True) for s in scan.states}
        self.stores = {r: w.cells(r, "result, (T, B, N)", True) for r in variant.store}
        rows = "(T, B, N)" if variant.store_product else "of one step, (B, N)"
        self.product = w.whole("product", f"the product, {rows}", "float")
        about = "(blocks, B, M), read and written"
        self.pre = {t: w.whole(f"{t}_trace", about, "float") for t in self.sides["pre"]}
        self.post = {t: w.cells(f"{t}_trace", "(B, N), read and written", True) for t in self.sides["post"]}
        about = f"(B, {weights[1:]}, read and written"
        self.held = {t: w.whole(f"{t}_trace", about, "float") for t in self.sides["synapse"]}
        kept = {s: [t for t in self.sides[s] if t in variant.store_traces] for s in ("pre", "post")}
        self.pre_courses = {t: w.whole(f"{t}_course", "trace, (T, B, M)", "float") for t in kept["pre"]}
        self.post_courses = {t: w.cells(f"{t}_course", "trace, (T, B, N)", True) for t in kept["post"]}
        #: likewise of the signals
        self.heard = {s: self._signal(s, dict(variant.heard).get(s)) for s in self.signals}
        for part in ("before", "synapse", "update"):
            for c in self.rule.coefs.get(part, ()):
                self.coefs[part, c] = w.whole(f"{part}_{c}", f"coefficient of {part}, one number")
        of_after = self.rule.coefs["after"]
        self.after = {c: w.coefficient(f"after_{c}", True, "coefficient of after") for c in of_after}

    def _rows(self, wanted: str, about: str, seen: SeenForm | None) -> tuple[str, str]:
        """Add a course of the inputs' side: its row of sequence 0 at step ``t``, and its stride over the batch."""
        w = self.w
        if seen is not None:
            about = f"{about} is made of"
        course = w.whole(wanted, f"{about}, (T, B, M{' / share' if seen and seen.shared else ''})")
        return self._at_step(wanted, course, seen, "M")

    def _at_step(self, wanted: str, course: str, seen: SeenForm | None, size: str) -> tuple[str, str]:
        w = self.w
        time, row = (w.whole(f"{course}_{axis}", f"stride of {course}", number=True) for axis in "tb")
        if seen is None:
            return f"{course} + t * {time}", row
        self.made.append(SeenRows(w, wanted, seen, (course, time, row), size))
        return self.made[-1].now, self.made[-1].now_b

    def _signal(self, signal: str, seen: SeenForm | None) -> tuple[str, str]:
        """Add a signal, likewise."""
        pointer = self.w.whole(f"{signal}_signal", "(T, B)")
        return self._at_step(f"{signal}_signal", pointer, seen, "1")

    def factor(self, wanted: str, part: str, about: str) -> str:
        """Add factors of the outputs; ``part`` says where a block's are in them."""
        name = self.w.name(wanted)
        pointer = f"float *restrict {name}"
        self.w.arguments.append(Argument(f"float *{name}", f"{name} + {part}", pointer, "p", about))
        return name

    # -- a step --------------------------------------------------------------------------------------------------------

    def print_row(self, factors: dict[str, str]) -> None:
        """The body of the function of one step of m neurons: their step, and the output's side of the rule.

        Args:
            factors: pointers of the outputs' factors.
        """
        w = self.w
        now = {n: w.name(f"{n}_now") for n in self.courses}
        late = self.variant.layout.late_of(self.scan.inputs)
        for n, course in self.courses.items():
            if n in late:
                w.lines += [f"    {line}" for line in course.row(now[n])]
            else:
                w.line(1, f"const float *restrict {now[n]} = {course.pointer} + t * {course.step};")
        targets = {**self.stores, **{f"trace {t}": p for t, p in self.post_courses.items()}}
        ends = {key: w.name(f"{pointer}_row") for key, pointer in targets.items()}
        for key, pointer in targets.items():
            w.line(1, f"float *restrict {ends[key]} = {pointer} + t * cells;")
        w.lanes(1)
        read = {**self.values, **{s: f"{p}[j]" for s, p in self.states.items()}, self.variant.port: "current[j]"}
        read.update({n: f"{now[n]}[{course.at('j')}]" for n, course in self.courses.items()})
        made = {r: w.name(f"{r}_new") for r in self.step.results}
        w.call(2, self.step, read, made)
        for s, pointer in self.states.items():
            w.line(2, f"{pointer}[j] = {made[s]};")
        for r in self.stores:
            w.line(2, f"{ends[r]}[j] = {made[r]};")
        part = self.parts["after"]
        taught = {r: w.name(f"{r}_after") for r in part.results}
        held = {t: f"{p}[j]" for t, p in self.post.items()}
        w.call(2, part, {"z": made[self.variant.source], **held, **self.after}, taught)
        for r, pointer in (*self.post.items(), *factors.items()):
            w.line(2, f"{pointer}[j] = {taught[r]};")
        for t in self.post_courses:
            w.line(2, f"{ends[f'trace {t}']}[j] = {taught[t]};")
        w.line(1, "}")

    def call_row(self, depth: int) -> list[str]:
        """The call of that function, and what it reads of the past."""
        items = [*(a.part for a in self.w.arguments if a.part), "current", "cells", "t", "m"]
        gathered = [line for course in self._gathered for line in course.each_step(depth)]
        return [*gathered, *call_lines(self.row, items, depth, ";")]

    @property
    def _gathered(self) -> list[Gathered]:
        return [course for course in self.courses.values() if isinstance(course, Gathered)]

    def late_whole(self) -> list[str]:
        """What comes once, before the blocks, for what is late by steps of its own."""
        made = [line for rows in self.made for line in rows.whole(1)]
        return [*made, *(line for course in self._gathered for line in course.whole(1))]

    def late_block(self) -> list[str]:
        """What comes once in each block, likewise."""
        return [line for course in self._gathered for line in course.block(2)]

    def late_step(self) -> list[str]:
        """What comes at the beginning of each step: the rows that the inputs' side sees."""
        return [line for rows in self.made for line in rows.each_step(3)]

    def call_inputs(self, depth: int) -> list[str]:
        """The input's side of the rule for sequence ``b``, and its traces' courses."""
        traces = [f"{p} + own + b * M" for p in self.pre.values()]
        coefs = self.passed("before", self.parts["before"])
        items = [self.watched, *traces, "own_p + b * M", "own_d + b * M", "M", *coefs]
        lines = call_lines(self.inputs, items, depth, ";")
        pad = "    " * depth
        for t, course in self.pre_courses.items():
            lines += [
                f"{pad}for (i = 0; block == 0 && i < M; i++)",
                f"{pad}    {course}[(t * B + b) * M + i] = {self.pre[t]}[own + b * M + i];",
            ]
        return lines

    @property
    def current(self) -> str:
        """Where a block's part of the product of a step is."""
        return f"{self.product} + {'t * cells + at' if self.variant.store_product else 'at'}"

    @property
    def told(self) -> list[str]:
        """What the synapses are handed of the signals."""
        return [*(now for now, _ in self.heard.values()), *(row for _, row in self.heard.values())]

    def taken(self, part: str, function: Function) -> list[str]:
        """The coefficients of a program that its function takes."""
        return [c for c in self.rule.coefs.get(part, ()) if c in function.args]

    def passed(self, part: str, function: Function) -> list[str]:
        """Their values."""
        return [f"*{self.coefs[part, c]}" for c in self.taken(part, function)]

    # -- the whole -----------------------------------------------------------------------------------------------------

    def source(self, loop: list[str], sizes: Sequence[str], about: str, helpers: Sequence[str]) -> PlasticSource:
        """The finished file.

        Args:
            loop: the body of the exported function.
            sizes: its last arguments, all but the last of 64 bits.
            about: how a step goes, for the header.
            helpers: source of the functions that are called besides the printed ones; the last is the learning.
        """
        w, scan = self.w, self.scan
        kernel = KernelSource(
            self.name,
            self._file(loop, sizes, about, helpers),
            "".join(a.type for a in w.arguments) + "q" * (len(sizes) - 1) + "i",
            inputs=tuple(scan.inputs.index(n) for n in self.read_inputs),
            coefs=tuple(scan.coefs.index(c) for c in self.read_coefs),
            states=tuple(range(len(scan.states))),
            by_chunk=False,
        )
        rule_coefs = (*self.coefs, *(("after", c) for c in self.after))
        return PlasticSource(kernel, rule_coefs, self.signals, tuple(self.fixed), self.copies)

    def _file(self, loop: list[str], sizes: Sequence[str], about: str, helpers: Sequence[str]) -> str:
        w, scan = self.w, self.scan
        header = f"""/* {safe(scan.name)} and {safe(self.rule.name)}: a layer that learns. Generated by snncompile.
 *
 * Nodes: {safe(", ".join((*scan.members, *self.rule.node.members)))}.
{about} *
{listed(w)}
 */
"""
        inner = [a.part_declaration for a in w.arguments if a.part]
        row = [*inner, "const float *restrict current", "int64_t cells", "int64_t t", "int m"]
        lines = [
            "/* One step of one sequence: m neurons, and the output's side of the rule. */",
            *call_lines(f"static void {self.row}", row),
            "{",
            *w.lines,
            "}",
            "",
            *call_lines(f"void {self.name}", [*(a.declaration for a in w.arguments), *sizes]),
            "{",
            "    const int64_t cells = B * N;",
            "    (void)threads;",
            *loop,
            "}",
        ]
        before, shown = self.parts["before"], [rows.step for rows in self.made if rows.step]
        *first, learning = helpers
        parts = [
            header, PREAMBLE, LATE_ROWS if self.variant.gathers else "", *first,
            print_called([self.step, *self.parts.values(), self.update, *shown]), *(r.text for r in self.made),
            self.step.text,
            *(f.text for f in self.parts.values()), self.update.text,
            print_inputs(self.inputs, before, self.sides["pre"], self.taken("before", before)), learning,
            "\n".join(lines) + "\n",
        ]  # fmt: skip
        return "\n".join(p for p in parts if p)
