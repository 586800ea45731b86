"""Prints the kernels of one time step of a recurrent layer: the product with the step before, and the neurons' step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from snncompile.targets.prune import prune_reverse
from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import Course, KernelSource, Writer, module_text
from snncompile.targets.triton.printer import Function, literal, print_function
from snncompile.targets.variant import Layout

#: Compile-time arguments: batch and neurons of a tile, and how much of the product is summed at a time.
TILE = ("ROWS", "COLUMNS", "INNER")

_LAYOUT = """One program owns ROWS sequences of COLUMNS neurons and computes their product in float32 before their step.
It is launched once a time step; only `t` differs. Courses are float32 (T, B, N); those written are contiguous."""


class RecurrentVariant(NamedTuple):
    """A recurrent step kernel.

    Attributes:
        backward: whether it is the gradient's.
        port: the input that is the product.
        source: the result that the product reads, one step later.
        layout: of inputs (the port's entry is ignored) and of forward or reverse coefficients.
        rows: whether the elements of a row of the weight lie one after the other.
        bias: whether the product has a bias (forward).
        store: results whose course is stored, besides the source (forward).
        train: whether states and products are saved (forward).
        grads: results whose course has a gradient, each with whether a time step of it is contiguous (backward).
        finals: states whose final value has a gradient (backward).
        need_inputs: inputs whose gradient is wanted, besides the port (backward).
        need_accumulators: whether the accumulators are wanted (backward).
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


def print_recurrent(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    """The module of a recurrent step kernel."""
    return _backward(scan, variant) if variant.backward else _forward(scan, variant)


def _forward(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    w = Writer()
    name, step_name = w.names.new(f"{scan.name}_recurrent"), w.names.new(f"{scan.name}_step")
    scalar = dict(zip(scan.coefs, variant.layout.coefs, strict=True))
    layout = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
    stored = tuple(r for r in scan.results if r in variant.store or r == variant.source)
    program = scan.forward.select({*scan.states, *stored})
    step = print_function(step_name, program, "One time step.", [c for c, one in scalar.items() if one])
    inputs = [x for x in scan.inputs if x in step.args and x != variant.port]
    coefs = [c for c in scan.coefs if c in step.args]

    weight = _weight(w, variant.rows)
    bias = w.pointer("bias_of_product", "bias of the product, (N,)") if variant.bias else None
    before = w.pointer(f"{variant.source}_start", f"{variant.source} before the first step, (B, N)")
    courses = {x: w.course(x, layout[x], "input") for x in inputs}
    coef_ptrs = {c: w.pointer(c, "coefficient") for c in coefs}
    states = {s: w.pointer(f"{s}_running", "state, (B, N), read and written") for s in scan.states}
    stores = {r: w.pointer(r, "result, (T, B, N)") for r in stored}
    saved = {s: w.pointer(f"{s}_saved", "state before every step, (T, B, N)") for s in scan.states if variant.train}
    current = w.pointer("product", "the product, (T, B, N)") if variant.train else None
    _sizes(w)
    at = _tile(w, courses)
    w.line(1, f"before = {before}")
    w.line(1, "if t > 0:")
    w.line(2, f"before = {stores[variant.source]} + (t - 1) * cells")
    _product(w, "before", weight.pointer, inner=weight.across, column=weight.down, limit="N")
    if bias:
        w.line(1, f"product = product + tl.load({bias} + column, mask=column < N, other=0.0)[None, :]")
    if current:
        w.line(1, f"tl.store({current} + t * cells + at, product, mask=active)")
    values = {variant.port: "product"}
    values.update(_loaded(w, courses, at))
    values.update(_coefficients(w, coef_ptrs, scalar))
    for s, pointer in states.items():
        values[s] = w.names.new(s)
        w.line(1, f"{values[s]} = tl.load({pointer} + at, mask=active, other=0.0)")
        if variant.train:
            w.line(1, f"tl.store({saved[s]} + t * cells + at, {values[s]}, mask=active)")
    made = {r: w.names.new(f"{r}_new") for r in step.results}
    _call(w, step, values, made)
    for s, pointer in states.items():
        w.line(1, f"tl.store({pointer} + at, {_value(step, made, s)}, mask=active)")
    for r, pointer in stores.items():
        w.line(1, f"tl.store({pointer} + t * cells + at, {_value(step, made, r)}, mask=active)")
    what = f"one forward step, the product of {variant.source} with a weight included"
    return KernelSource(
        name,
        module_text(scan, what, w, name, [step], [], _LAYOUT, TILE),
        tuple(w.params),
        inputs=tuple(scan.inputs.index(x) for x in inputs),
        coefs=tuple(scan.coefs.index(c) for c in coefs),
        states=tuple(range(len(scan.states))),
        by_chunk=False,
        by_neuron=True,
        streams=0,
        work=step.size,
    )


def _backward(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    w = Writer()
    name, step_name = w.names.new(f"{scan.name}_recurrent_backward"), w.names.new(f"{scan.name}_step_grad")
    scalar = dict(zip(scan.reverse_coefs, variant.layout.coefs, strict=True))
    layout = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
    accumulators = scan.accumulators if variant.need_accumulators else ()
    wanted = [f"grad_{x}" for x in (*variant.need_inputs, variant.port)]
    given = dict(variant.grads)
    pruned = prune_reverse(scan, {*given, variant.source}, variant.finals, [*wanted, *accumulators])
    scalars = [c for c, one in scalar.items() if one]
    step = print_function(step_name, pruned.program, "The gradient of one step.", scalars)
    inputs = [x for x in scan.inputs if x in step.args and x != variant.port]
    coefs = [c for c in scan.reverse_coefs if c in step.args]
    states = [s for s in scan.states if s in step.args]
    grads = [r for r in given if f"grad_{r}" in step.args]

    weight = _weight(w, variant.rows)
    courses = {x: w.course(x, layout[x], "input") for x in inputs}
    current = w.pointer("product", "the product, (T, B, N)")
    coef_ptrs = {c: w.pointer(c, "reverse coefficient") for c in coefs}
    saved = {s: w.pointer(f"{s}_saved", "state before every step, (T, B, N)") for s in states}
    grad_courses = {f"grad_{r}": w.course(f"grad_{r}", given[r], "gradient of the result") for r in grads}
    about = "gradient of the state, (B, N), read and written"
    carry = {s: w.pointer(f"grad_{s}_running", about) for s in pruned.carried}
    grad_product = w.pointer("grad_product", "gradient of the product, (T, B, N)")
    grad_inputs = {x: w.pointer(f"grad_{x}", "gradient of the input, (T, B, N)") for x in variant.need_inputs}
    sums = {a: w.pointer(f"{a}_running", "sum over time, (B, N), read and written") for a in accumulators}
    w.number("T", "time steps")
    _sizes(w)
    at = _tile(w, {**courses, **grad_courses})
    w.line(1, "limit = tl.where(t + 1 < T, N, 0)  # nothing comes after the last step")
    w.line(1, f"before = {grad_product} + (t + 1) * cells")
    _product(w, "before", weight.pointer, inner=weight.down, column=weight.across, limit="limit")
    values = _coefficients(w, coef_ptrs, scalar)
    if variant.port in step.args:
        values[variant.port] = w.names.new(variant.port)
        w.line(1, f"{values[variant.port]} = tl.load({current} + t * cells + at, mask=active, other=0.0)")
    values.update(_loaded(w, {**courses, **grad_courses}, at))
    for s, pointer in saved.items():
        values[s] = w.names.new(s)
        w.line(1, f"{values[s]} = tl.load({pointer} + t * cells + at, mask=active, other=0.0)")
    for s, pointer in carry.items():
        name_of = w.names.new(f"grad_{s}_later")
        w.line(1, f"{name_of} = tl.load({pointer} + at, mask=active, other=0.0)")
        grad = f"grad_{s}"
        values[grad] = f"{name_of} + {values[grad]}" if grad in values else name_of
    grad = f"grad_{variant.source}"
    values[grad] = f"{values[grad]} + product" if grad in values else "product"
    made = {r: w.names.new(f"{r}_new") for r in step.results}
    _call(w, step, values, made)
    for s, pointer in carry.items():
        w.line(1, f"tl.store({pointer} + at, {_value(step, made, f'grad_{s}')}, mask=active)")
    w.line(1, f"tl.store({grad_product} + t * cells + at, {_value(step, made, f'grad_{variant.port}')}, mask=active)")
    for x, pointer in grad_inputs.items():
        w.line(1, f"tl.store({pointer} + t * cells + at, {_value(step, made, f'grad_{x}')}, mask=active)")
    for a, pointer in sums.items():
        total = f"tl.load({pointer} + at, mask=active, other=0.0) + {_value(step, made, a)}"
        w.line(1, f"tl.store({pointer} + at, {total}, mask=active)")
    what = f"one backward step, the product of the next step's gradient for {variant.source} included"
    return KernelSource(
        name,
        module_text(scan, what, w, name, [step], [], _LAYOUT, TILE),
        tuple(w.params),
        inputs=tuple(scan.inputs.index(x) for x in inputs),
        coefs=tuple(scan.reverse_coefs.index(c) for c in coefs),
        states=tuple(scan.states.index(s) for s in states),
        by_chunk=False,
        by_neuron=True,
        streams=0,
        work=step.size,
        grads=tuple(grads),
        carried=pruned.carried,
    )


@dataclass(frozen=True)
class _Weight:
    """Names of a weight's arguments: what to multiply an output's and an input's number with for its place."""

    pointer: str
    down: str
    across: str


def _weight(w: Writer, rows: bool) -> _Weight:
    pointer = w.pointer("weight", "weight (N, N): a row for each output")
    down = w.number(w.names.new("weight_row"), "stride of the weight from row to row")
    if rows:
        return _Weight(pointer, f" * {down}", "")
    across = w.number(w.names.new("weight_column"), "stride of the weight from column to column")
    return _Weight(pointer, f" * {down}", f" * {across}")


def _sizes(w: Writer) -> None:
    w.number("B", "sequences")
    w.number("N", "neurons")
    w.number("t", "the time step")


def _tile(w: Writer, courses: dict[str, Course]) -> dict[str, str]:
    """Compute which elements this program owns; the offsets of each course's elements inside a time step."""
    w.line(1, "row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)")
    w.line(1, "column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)")
    w.line(1, "at = row[:, None] * N + column[None, :]")
    w.line(1, "active = (row < B)[:, None] & (column < N)[None, :]")
    w.line(1, "cells = B.to(tl.int64) * N  # time offsets exceed 32 bits")
    offsets = {}
    for x, course in courses.items():
        offsets[x] = f"t * {course.step}.to(tl.int64) + at"
        if course.row is not None:
            name = w.names.new(f"{course.base}_at")
            rows, columns = f"{course.row}.to(tl.int64)", f"{course.column}.to(tl.int64)"
            w.line(1, f"{name} = row[:, None] * {rows} + column[None, :] * {columns}")
            offsets[x] = f"t * {course.step}.to(tl.int64) + {name}"
    return offsets


def _product(w: Writer, left: str, weight: str, inner: str, column: str, limit: str) -> None:
    """``product = left @ weight``, in float32 and always in the same order."""
    w.line(1, "product = tl.full((ROWS, COLUMNS), 0.0, tl.float32)")
    w.line(1, f"for start in range(0, {limit}, INNER):")
    w.line(2, "inner = start + tl.arange(0, INNER)")
    w.line(2, "across = tl.load(")
    w.line(3, f"{left} + row[:, None] * N + inner[None, :], mask=(row < B)[:, None] & (inner < N)[None, :], other=0.0")
    w.line(2, ")")
    w.line(2, "part = tl.load(")
    w.line(3, f"{weight} + inner[:, None]{inner} + column[None, :]{column},")
    w.line(3, "mask=(inner < N)[:, None] & (column < N)[None, :], other=0.0,")
    w.line(2, ")")
    w.line(2, 'product = tl.dot(across, part, product, input_precision="ieee")')


def _loaded(w: Writer, courses: dict[str, Course], at: dict[str, str]) -> dict[str, str]:
    values = {x: w.names.new(x) for x in courses}
    for x, course in courses.items():
        w.line(1, f"{values[x]} = tl.load({course.pointer} + {at[x]}, mask=active, other=0.0)")
    return values


def _coefficients(w: Writer, pointers: dict[str, str], scalar: dict[str, bool]) -> dict[str, str]:
    values = {c: w.names.new(c) for c in pointers}
    for c, pointer in pointers.items():
        by_column = f"tl.load({pointer} + column, mask=column < N, other=1.0)[None, :]"
        w.line(1, f"{values[c]} = " + (f"tl.load({pointer})" if scalar[c] else by_column))
    return values


def _call(w: Writer, step: Function, values: dict[str, str], made: dict[str, str]) -> None:
    if step.results:
        head = f"{', '.join(made.values())}{',' if len(made) == 1 else ''} = {step.name}"
        w.call(1, head, [values[a] for a in step.args])


def _value(step: Function, made: dict[str, str], result: str) -> str:
    return literal(step.constants[result]) if result in step.constants else made[result]
