"""Courses that the kernels of a plastic layer read some steps late, and what they compute of them.

Where all of a course is equally late, that is another address for a step. Else each feature has a step of its own, and
what a delay shows may be computed of one or two values of the past: then a device function makes it of the block that
is wanted, wherever it is read, and it is stored nowhere.
"""

from __future__ import annotations

from typing import NamedTuple

from snncompile.targets.printing import Names
from snncompile.targets.triton.kernel import Writer
from snncompile.targets.triton.plastic_parts import Parts
from snncompile.targets.triton.plastic_seen import SeenVariant
from snncompile.targets.triton.printer import RESERVED, Function, literal

#: Where the row of a step begins that is read late.
LATE_ROW = '''@triton.jit
def snn_late_row(course, step, row, past, reach, late, size, width, t, b):
    """What is seen of sequence b at step t begins here: in the course, or in `past`, the `reach` steps before it."""
    source = t - late
    before = ((source + reach).to(tl.int64) * size + b) * width
    return tl.where(source < 0, past + before, course + source * step + b * row)
'''

#: Values each of which is read late by steps of its own.
LATE_EACH = '''@triton.jit
def snn_late_each(course, step, row, past, reach, late, size, width, t, b, place, there):
    """The values at `place` of sequence b, each some steps before t: of the course, or of `past` as in snn_late_row."""
    source = t - late
    new = tl.load(course + source * step + b * row + place, mask=there & (source >= 0), other=0.0)
    before = ((source + reach).to(tl.int64) * size + b) * width
    old = tl.load(past + before + place, mask=there & (source < 0), other=0.0)
    return tl.where(source >= 0, new, old)
'''

#: What a function that reads a course takes last: sequences, features, and what is wanted of them.
_WANTED = ("size", "width", "t", "b", "place", "there")


class Extent(NamedTuple):
    """What a course is read by.

    Attributes:
        size: source of how many sequences there are.
        width: likewise of the features that are seen.
        held: where the block that is read lies, and what of it is there, if that never changes: how late each of it is
            is loaded once.
    """

    size: str
    width: str
    held: tuple[str, str] | None = None


class Course:
    """A course that a kernel being printed reads as it is; takes its arguments.

    Args:
        parts: the kernel.
        slot: which course, among its arguments.
        about: what it is.
    """

    #: Whether what is seen lies in memory as it is.
    by_row = True

    def __init__(self, parts: Parts, slot: str, about: str) -> None:
        self._line, self._address = parts.w.line, parts.strided(slot, slot, about, "tb")

    def row(self, t: str, b: str) -> str:
        """Source of where what is seen at step ``t`` of sequence ``b`` begins, where it lies in memory as it is."""
        return self._address.format(t, b)

    def load(self, depth: int, name: str, t: str, b: str, place: str, there: str) -> None:
        """Print ``name``: what is seen at step ``t`` of sequence ``b`` at ``place`` where ``there`` holds, else 0."""
        self._line(depth, f"{name} = tl.load({self.row(t, b)} + {place}, mask={there}, other=0.0)")


class LateCourse:
    """A course that a kernel being printed reads late; takes its arguments.

    Args:
        parts: the kernel.
        slot: which course, among its arguments.
        wanted: how that shall be called.
        about: what it is.
        seen: how it is seen.
        extent: what is read of it.
    """

    def __init__(self, parts: Parts, slot: str, wanted: str, about: str, seen: SeenVariant, extent: Extent) -> None:
        self._parts, self._slot, self._wanted, self._seen, self._extent = parts, slot, wanted, seen, extent
        self._function = self._print_function()
        read = list(range(len(seen.kinds)))
        if self._function is not None and seen.scan is not None:
            read = [i for i in read if seen.scan.inputs[i] in self._function.args]
        self._kinds = {i: seen.kinds[i] for i in read}
        pointer, strides = parts.strides(slot, wanted, about, "tb")
        self._course = [pointer, *strides]
        self._share = ""
        if "shared" in self._kinds.values():
            name = parts.w.names.new(f"{wanted}_share")
            self._share = parts.number(f"{slot}.share", name, "features that read one value")
        self._late = {i: self._take(i, kind) for i, kind in self._kinds.items() if kind}
        if "one" in self._kinds.values():
            parts.helpers[LATE_ROW] = None
        if {"each", "shared"} & {*self._kinds.values()}:
            parts.helpers[LATE_EACH] = None
        self._reader = None if self.by_row or extent.held else self._print_reader()

    @property
    def by_row(self) -> bool:
        """As of a course that is read as it is."""
        return self._seen.by_row

    def row(self, t: str, b: str) -> str:
        """As of a course that is read as it is."""
        return f"snn_late_row({', '.join([*self._course, *self._late[0], *self._extent[:2], t, b])})"

    def load(self, depth: int, name: str, t: str, b: str, place: str, there: str) -> None:
        """As of a course that is read as it is."""
        w, size, width = self._parts.w, self._extent.size, self._extent.width
        if self.by_row:
            w.line(depth, f"{name} = tl.load({self.row(t, b)} + {place}, mask={there}, other=0.0)")
        elif self._reader is not None:
            function, given = self._reader
            w.call(depth, f"{name} = {function}", [*given, size, width, t, b, place, there])
        else:
            wanted = [*self._at(size, width), t, b, self._narrow(place), there]
            w.call(depth, f"{name} = snn_late_each", [*self._course, *self._late[0], *wanted])

    def _print_function(self) -> Function | None:
        """The function of what is computed, if anything is."""
        scan = self._seen.scan
        if scan is None:
            return None
        one = [c for c, scalar in zip(scan.coefs, self._seen.coefs, strict=True) if scalar]
        made = scan.forward.select({"seen"})
        function = self._parts.function(f"{scan.name}_{self._wanted}", made, f"What is seen of {self._wanted}.", one)
        self._parts.functions.append(function)
        return function

    def _take(self, i: int, kind: str) -> list[str]:
        """Take what makes value ``i`` late: its past, how far that reaches, and how late it is."""
        p, names, slot = self._parts, self._parts.w.names, self._slot
        which = f"{self._wanted}{'' if len(self._seen.kinds) == 1 else i}"
        past = p.pointer(f"{slot}.past.{i}", f"{which}_past", f"what came before {self._wanted}, (L, B, features)")
        reach = p.number(f"{slot}.reach.{i}", names.new(f"{which}_reach"), "L")
        if kind == "one":
            return [past, reach, p.number(f"{slot}.late.{i}", names.new(f"{which}_late"), "steps late")]
        steps = p.pointer(f"{slot}.late.{i}", f"{which}_late", "steps late, of each that is seen", "*i32")
        if self._extent.held is None:
            return [past, reach, steps]
        place, there = self._extent.held
        name = names.new(f"{which}_late")
        p.w.line(1, f"{name} = tl.load({steps} + {place}, mask={there}, other=0)")
        return [past, reach, name]

    def _take_coefficients(self) -> list[tuple[str, str, bool]]:
        """Take what is computed with: its name, its value if it is one number, else its pointer; and which of both."""
        p, scan, function = self._parts, self._seen.scan, self._function
        found = []
        for c, scalar in () if scan is None else zip(scan.coefs, self._seen.coefs, strict=True):
            if function is not None and c in function.args:
                about = f"coefficient of what is seen of {self._wanted}"
                source = pointer = p.pointer(f"{self._slot}.coef.{c}", f"{self._wanted}_{c}", about)
                if scalar:
                    source = p.w.names.new(f"{self._wanted}_{c}")
                    p.w.line(1, f"{source} = tl.load({pointer})")
                found.append((c, source, scalar))
        return found

    def _print_reader(self) -> tuple[str, list[str]]:
        """The function that gives what is seen of a block: its name, and what it takes before what is wanted."""
        p, coefs = self._parts, self._take_coefficients()
        given = [*self._course, *([self._share] if self._share else ())]
        given += [name for i in self._late for name in self._late[i]] + [source for _, source, _ in coefs]
        w, names = Writer(), Names([*RESERVED, *given, *_WANTED, *self._called])
        name = p.w.names.new(f"{self._wanted}_seen")
        w.line(0, "@triton.jit")
        w.call(0, f"def {name}", [*given, *_WANTED])
        w.lines[-1] += ":"
        about = f"What is seen of {self._wanted} at step t of sequence b, at `place`; 0 where nothing is there."
        w.line(1, f'"""{about}"""')
        values: dict[str, str] = {}
        for i in self._kinds:
            port = "value" if self._seen.scan is None else self._seen.scan.inputs[i]
            values[port] = names.new(port)
            self._print_value(w, i, values[port], names)
        for c, source, scalar in coefs:
            values[c] = source
            if not scalar:
                values[c] = names.new(c)
                w.line(1, f"{values[c]} = tl.load({source} + place, mask=there, other=0.0)")
        if self._function is None:
            w.line(1, f"return {values['value']}")
        else:
            w.line(1, f"return tl.where(there, {self._computed(w, self._function, values, names)}, 0.0)")
        p.helpers["\n".join(w.lines) + "\n"] = None
        return name, given

    @property
    def _called(self) -> list[str]:
        return ["snn_late_row", "snn_late_each", *([] if self._function is None else [self._function.name])]

    def _print_value(self, w: Writer, i: int, name: str, names: Names) -> None:
        """Print, in the function of a block, one of the values that are read."""
        kind, size = self._kinds[i], self._at("size", "width")
        if kind in ("each", "shared"):
            past, reach, steps = self._late[i]
            late = names.new("late")
            w.line(1, f"{late} = tl.load({steps} + place, mask=there, other=0)")
            wanted = [*size, "t", "b", self._narrow("place"), "there"]
            w.call(1, f"{name} = snn_late_each", [*self._course, past, reach, late, *wanted])
            return
        pointer, step, row = self._course
        begin = f"{pointer} + t * {step} + b * {row}"
        if kind:
            begin = names.new("row")
            w.call(1, f"{begin} = snn_late_row", [*self._course, *self._late[i], *size, "t", "b"])
        w.line(1, f"{name} = tl.load({begin} + place, mask=there, other=0.0)")

    def _computed(self, w: Writer, function: Function, values: dict[str, str], names: Names) -> str:
        """Print, likewise, what is computed of them; its source."""
        if "seen" in function.constants:
            text = literal(function.constants["seen"])
            return text if text.startswith("tl.") else f"tl.full((), {text}, tl.float32)"
        made = names.new("seen")
        w.call(1, f"{made}, = {function.name}", [values[a] for a in function.args])
        return made

    def _at(self, size: str, width: str) -> list[str]:
        """How many sequences there are, and how many values of the course itself."""
        return [size, self._narrow(width)]

    def _narrow(self, place: str) -> str:
        """Where the course itself has what is seen at ``place``."""
        return f"{place} // {self._share}" if self._share else place
