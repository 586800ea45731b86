"""Prints the kernels of a recurrent layer: the product with the step before, and the neurons' step, fused.

Three kinds, all from the same step function:

- *resident* (``targets/triton/recurrent_resident.py``): one program owns some sequences and all neurons, and keeps the
  weight, the states and what comes back on chip for the whole run.
- *sliced* (``targets/triton/recurrent_sliced.py``): several programs share the neurons of some sequences; each keeps
  its rows of the weight, and its states, on chip for the whole run, and reads what the others sent out.
- *looped* (``targets/triton/recurrent_looped.py``): programs own some sequences and walk over blocks of neurons, with
  states and what comes back in memory. It runs a whole sequence, or one step a launch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from snncompile.targets.prune import Pruned, prune_reverse
from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import Course, KernelSource, Writer, module_text
from snncompile.targets.triton.printer import Function, literal, print_function
from snncompile.targets.triton.recurrent_offsets import (
    by_neuron,
    late_course,
    late_helpers,
    load_late,
    print_late_offsets,
)
from snncompile.targets.triton.recurrent_product import Product, Weight, weight_arguments
from snncompile.targets.variant import Layout

_SAVED = "state before every step, (T, B, N)"

#: A tile of neurons by sequences, as source.
TILE = "(COLUMNS, ROWS)"


class RecurrentVariant(NamedTuple):
    """A recurrent kernel.

    Attributes:
        backward: whether it is the gradient's.
        port: the input that is the product.
        source: the result that the product reads, some steps later.
        layout: of inputs (the port's entry is ignored) and of forward or reverse coefficients.
        rows: for a weight in float32: whether the elements of a row lie one after the other.
        bias: whether the product has a bias (forward).
        store: results whose course is stored, besides the source (forward).
        train: whether states and products are saved (forward).
        grads: results whose course has a gradient, each with whether a time step of it is contiguous (backward).
        finals: states whose final value has a gradient (backward).
        need_inputs: inputs whose gradient is wanted, besides the port (backward).
        need_accumulators: whether the accumulators are wanted (backward).
        resident: which form.
        sliced: likewise.
        dense: for the sliced form: whether all operands are contiguous; then their strides are no arguments.
        product: how products are computed.
        ring: for the resident form: whether the source comes back more than one step late, from memory.
    """

    backward: bool
    port: str
    source: str
    layout: Layout
    rows: bool = True
    bias: bool = False
    store: tuple[str, ...] = ()
    train: bool = False
    grads: tuple[tuple[str, bool], ...] = ()
    finals: tuple[str, ...] = ()
    need_inputs: tuple[str, ...] = ()
    need_accumulators: bool = False
    resident: bool = False
    product: Product = Product()
    ring: bool = False
    sliced: bool = False
    dense: bool = False

    @property
    def kept(self) -> bool:
        """Whether weight and states stay on chip."""
        return self.resident or self.sliced


def print_recurrent(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    """The module of a recurrent kernel."""
    from snncompile.targets.triton.recurrent_looped import print_looped
    from snncompile.targets.triton.recurrent_resident import print_resident_layer
    from snncompile.targets.triton.recurrent_sliced import print_sliced

    if variant.sliced:
        return print_sliced(scan, variant)
    return print_resident_layer(scan, variant) if variant.resident else print_looped(scan, variant)


@dataclass
class Forward:
    """A forward kernel being printed: its arguments by what they are, added in this order."""

    scan: Scan
    variant: RecurrentVariant
    w: Writer = field(default_factory=Writer)

    def __post_init__(self) -> None:
        scan, variant, w, own = self.scan, self.variant, self.w, self.variant.sliced
        self.name, step_name = w.names.new(f"{scan.name}_recurrent"), w.names.new(f"{scan.name}_step")
        self.scalar = dict(zip(scan.coefs, variant.layout.coefs, strict=True))
        layout = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
        stored = tuple(r for r in scan.results if r in variant.store or r == variant.source)
        program = scan.forward.select({*scan.states, *stored})
        flat = [c for c, one in self.scalar.items() if one]
        self.step = print_function(step_name, program, "One time step.", flat)
        self.inputs = [x for x in scan.inputs if x in self.step.args and x != variant.port]
        self.read_coefs = [c for c in scan.coefs if c in self.step.args]
        self.weight = weight_arguments(w, variant.product, variant.rows)
        self.bias = w.pointer("bias_of_product", "bias of the product, (N,)") if variant.bias else None
        about = f"{variant.source} before the first step, (late, B, N), oldest first"
        self.before = w.pointer(f"{variant.source}_start", about)
        late = variant.layout.late_of(scan.inputs)
        self.courses = {x: _input(w, variant, x, layout[x], late.get(x, "")) for x in self.inputs}
        #: numbers of steps of each neuron, to be loaded
        self.steps = [c.late for c in self.courses.values() if by_neuron(c)]
        self.coefs = {c: w.pointer(c, "coefficient") for c in self.read_coefs}
        about = "state before the first step, (B, N)" if variant.kept else "state, (B, N), read and written"
        how = "start" if variant.kept else "running"
        self.states = {s: w.pointer(f"{s}_{how}", about) for s in scan.states}
        self.finals: dict[str, str] = {}
        if variant.kept:
            about = "state after the last step, (B, N)"
            self.finals = {s: w.pointer(f"{s}_final", about, own=own) for s in scan.states}
        self.stores = {r: w.pointer(r, "result, (T, B, N)", own=own) for r in stored}
        saved = scan.states if variant.train else ()
        self.saved = {s: w.pointer(f"{s}_saved", _SAVED, own=own) for s in saved}
        self.current = w.pointer("product", "the product, (T, B, N)", own=own) if variant.train else None

    def source(self, what: str, layout: str, constants: tuple[str, ...], helpers: list[str]) -> KernelSource:
        """The finished kernel."""
        scan = self.scan
        helpers = [*helpers, *late_helpers(self.courses.values())]
        text = module_text(scan, what, self.w, self.name, [self.step], helpers, layout, constants)
        return KernelSource(
            self.name,
            text,
            tuple(self.w.params),
            inputs=tuple(scan.inputs.index(x) for x in self.inputs),
            coefs=tuple(scan.coefs.index(c) for c in self.read_coefs),
            states=tuple(range(len(scan.states))),
            by_chunk=False,
            by_neuron=True,
            streams=len(self.courses),
            work=self.step.size,
        )


@dataclass
class Backward:
    """A backward kernel being printed: its arguments by what they are, added in this order."""

    scan: Scan
    variant: RecurrentVariant
    w: Writer = field(default_factory=Writer)

    def __post_init__(self) -> None:
        scan, variant, w, own = self.scan, self.variant, self.w, self.variant.sliced
        self.name = w.names.new(f"{scan.name}_recurrent_backward")
        step_name = w.names.new(f"{scan.name}_step_grad")
        self.scalar = dict(zip(scan.reverse_coefs, variant.layout.coefs, strict=True))
        layout = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
        given = dict(variant.grads)
        self.pruned = _pruned(scan, variant)
        flat = [c for c, one in self.scalar.items() if one]
        self.step = step = print_function(step_name, self.pruned.program, "The gradient of one step.", flat)
        self.inputs = [x for x in scan.inputs if x in step.args and x != variant.port]
        self.read_coefs = [c for c in scan.reverse_coefs if c in step.args]
        self.read_states = [s for s in scan.states if s in step.args]
        self.read_grads = [r for r in given if f"grad_{r}" in step.args]
        self.weight: Weight = weight_arguments(w, variant.product, variant.rows)
        late = variant.layout.late_of(scan.inputs)
        courses = {x: _input(w, variant, x, layout[x], late.get(x, "")) for x in self.inputs}
        self.current = w.pointer("product", "the product, (T, B, N)", own=own)
        self.coefs = {c: w.pointer(c, "reverse coefficient") for c in self.read_coefs}
        saved = {s: w.pointer(f"{s}_saved", _SAVED, own=own) for s in self.read_states}
        about = "gradient of the result"
        grads = {f"grad_{r}": _operand(w, variant, f"grad_{r}", given[r], about) for r in self.read_grads}
        #: everything that is read at every step: value -> its course
        self.courses = {**courses, **{s: _whole(s, p) for s, p in saved.items()}, **grads}
        if variant.port in step.args:
            self.courses[variant.port] = _whole(variant.port, self.current)
        carried, finals = self.pruned.carried, variant.finals
        self.carry, self.last = {}, {}
        if variant.kept:
            about = "gradient of the last state, (B, N)"
            self.last = {s: w.pointer(f"grad_{s}_final", about) for s in carried if s in finals}
            about = "gradient of the first state, (B, N)"
            self.carry = {s: w.pointer(f"grad_{s}_start", about, own=own) for s in carried}
        else:
            about = "gradient of the state, (B, N), read and written"
            self.carry = {s: w.pointer(f"grad_{s}_running", about) for s in carried}
        self.grad_product = w.pointer("grad_product", "gradient of the product, (T, B, N)", own=own)
        self.grad_inputs = {x: w.pointer(f"grad_{x}", _gradient(late.get(x, "")), own=own) for x in variant.need_inputs}
        #: input whose gradient goes to other rows than its step's -> how many rows on, for each neuron
        self.shifts: dict[str, str] = {}
        self.steps = [c.late for c in courses.values() if by_neuron(c)]
        for x in self.grad_inputs:
            if late.get(x, "one") == "one":
                continue  # the row of a step's number is the one that it saw
            reach, steps = (courses[x].reach, courses[x].late) if x in courses else self._steps_of(x)
            self.shifts[x] = f"{reach} - {steps}"
        sums = scan.accumulators if variant.need_accumulators else ()
        how = "(B, N)" if variant.kept else "(B, N), read and written"
        self.sums = {a: w.pointer(f"{a}_running", f"sum over time, {how}", own=own) for a in sums}
        self.grad_start = ""
        if variant.resident and not variant.ring:
            about = f"gradient of {variant.source} before the first step, (B, N)"
            self.grad_start = w.pointer(f"grad_{variant.source}_before", about)

    def _steps_of(self, x: str) -> tuple[str, str]:
        """Add how late an input is that the step does not read: the names of L and of its steps."""
        reach = self.w.number(self.w.names.new(f"{x}_reach"), "L")
        self.steps.append(self.w.lateness(f"{x}_late", "each"))
        return reach, self.steps[-1]

    def print_grad_inputs(self, depth: int, made: dict[str, str], place: Callable[[str, str], str]) -> None:
        """Store the gradients of inputs.

        Args:
            depth: indentation.
            made: names of the step's results.
            place: from a pointer and a row of a course to where its elements lie.
        """
        for x, pointer in self.grad_inputs.items():
            if x in self.shifts:
                where = place(pointer, f"(t + {self.shifts[x]})")
                self.w.line(depth, f"snn_store_late({where}, {tile_of(self.step, made, f'grad_{x}')}, active)")
            else:
                value = value_of(self.step, made, f"grad_{x}")
                self.w.line(depth, f"tl.store({place(pointer, 't')}, {value}, mask=active)")

    def source(self, what: str, layout: str, constants: tuple[str, ...], helpers: list[str]) -> KernelSource:
        """The finished kernel."""
        scan = self.scan
        helpers = [*helpers, *late_helpers(self.courses.values(), bool(self.shifts))]
        text = module_text(scan, what, self.w, self.name, [self.step], helpers, layout, constants)
        return KernelSource(
            self.name,
            text,
            tuple(self.w.params),
            inputs=tuple(scan.inputs.index(x) for x in self.inputs),
            coefs=tuple(scan.reverse_coefs.index(c) for c in self.read_coefs),
            states=tuple(scan.states.index(s) for s in self.read_states),
            by_chunk=False,
            by_neuron=True,
            streams=len(self.courses),
            work=self.step.size,
            grads=tuple(self.read_grads),
            carried=self.pruned.carried,
        )


def _pruned(scan: Scan, variant: RecurrentVariant) -> Pruned:
    accumulators = scan.accumulators if variant.need_accumulators else ()
    wanted = [f"grad_{x}" for x in (*variant.need_inputs, variant.port)]
    return prune_reverse(scan, {*dict(variant.grads), variant.source}, variant.finals, [*wanted, *accumulators])


def _operand(w: Writer, variant: RecurrentVariant, name: str, flat: bool, about: str) -> Course:
    """Add an operand ``(T, B, N)``: strides are arguments, unless it is known to be contiguous."""
    if not variant.dense:
        return w.course(name, flat, about)
    return _whole(name, w.pointer(name, f"{about}, (T, B, N), at a multiple of 16 bytes", own=True))


def _input(w: Writer, variant: RecurrentVariant, name: str, flat: bool, late: str) -> Course:
    """Add an input; ``late``: how late it is."""
    return late_course(w, name, flat, late, variant.dense) if late else _operand(w, variant, name, flat, "input")


def _gradient(late: str) -> str:
    """What the gradient of an input is, for the header."""
    if late in ("", "one"):
        return "gradient of the input, (T, B, N)"
    return "gradient of the input and its past, (L + T, B, N), zeros at first"


def _whole(value: str, pointer: str) -> Course:
    """A course of our own, ``(T, B, N)`` contiguous."""
    return Course(value, pointer, "cells", None, None)


def print_offsets(w: Writer, depth: int, courses: dict[str, Course]) -> dict[str, str]:
    """Compute the offsets of each course's elements inside a time step; their names."""
    offsets = {}
    for x, course in courses.items():
        offsets[x] = print_late_offsets(w, depth, course) if course.late else "at"
        if course.row is not None and not course.late:
            offsets[x] = w.names.new(f"{course.base}_at")
            rows, columns = f"{course.row}.to(tl.int64)", f"{course.column}.to(tl.int64)"
            w.line(depth, f"{offsets[x]} = column[:, None] * {columns} + row[None, :] * {rows}")
    return offsets


def load_of(course: Course, offset: str, t: str, mask: str, origin: str = "") -> str:
    """The load of a tile of a course.

    Args:
        course: the course.
        offset: offsets of the tile's elements inside a time step.
        t: the step.
        mask: what there is of the tile.
        origin: where in a step, if it is contiguous, ``offset`` counts from.
    """
    if course.late:
        return load_late(course, offset, t, mask, origin)
    return f"tl.load({_address(course, offset, t, origin)}, mask={mask}, other=0.0)"


def _address(course: Course, offset: str, t: str, origin: str) -> str:
    step = course.step if course.step == "cells" else f"{course.step}.to(tl.int64)"
    time = t if t.isidentifier() else f"({t})"
    if origin and course.row is None:
        return f"{course.pointer} + ({time} * {step} + {origin}) + {offset}"
    return f"{course.pointer} + ({time} * {step} + {offset})"


def print_coefficients(w: Writer, depth: int, pointers: dict[str, str], scalar: dict[str, bool]) -> dict[str, str]:
    """Load coefficients; name of each one's value."""
    values = {c: w.names.new(c) for c in pointers}
    for c, pointer in pointers.items():
        by_column = f"tl.load({pointer} + column, mask=column < N, other=1.0)[:, None]"
        w.line(depth, f"{values[c]} = " + (f"tl.load({pointer})" if scalar[c] else by_column))
    return values


def print_call(w: Writer, depth: int, step: Function, values: dict[str, str], made: dict[str, str]) -> None:
    """Print ``made = step(values)``."""
    if step.results:
        head = f"{', '.join(made.values())}{',' if len(made) == 1 else ''} = {step.name}"
        w.call(depth, head, [values[a] for a in step.args])


def value_of(step: Function, made: dict[str, str], result: str) -> str:
    """What stands for a result of ``step``: the number it always is, or its name."""
    return literal(step.constants[result]) if result in step.constants else made[result]


def tile_of(step: Function, made: dict[str, str], result: str) -> str:
    """A result of ``step`` as a whole tile, which a value that goes from step to step must be."""
    value = value_of(step, made, result)
    if result in step.constants and not value.startswith("tl."):
        return f"tl.full({TILE}, {value}, tl.float32)"
    return f"tl.broadcast_to({value}, {TILE})"


def print_tile_bounds(w: Writer, depth: int, place: str = "at") -> None:
    """Compute where the elements of a tile lie inside a time step, and which of them exist."""
    w.line(depth, f"{place} = column[:, None] + row[None, :] * N")
    w.line(depth, "active = (column < N)[:, None] & (row < B)[None, :]")


def place_of(pointer: str, t: str) -> str:
    """Where the elements of a tile lie in step ``t`` of a course of our own."""
    return f"{pointer} + ({t} * cells + at)"


#: Computes ``at`` anew at every step, with a 0 that the compiler cannot know. Otherwise it would hold the address of
#: each element of every course in two registers, and these would not suffice.
AT = "at = place + (B >> 31) * t  # B >> 31 is 0; this keeps addresses out of registers"
