"""Prints a recurrent layer whose weight, states and spikes pass through memory: all steps in one launch, or one."""

from __future__ import annotations

from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import Course, KernelSource, Writer
from snncompile.targets.triton.recurrent_kernel import (
    AT,
    Backward,
    Forward,
    RecurrentVariant,
    load_of,
    place_of,
    print_call,
    print_coefficients,
    print_offsets,
    print_tile_bounds,
    value_of,
)
from snncompile.targets.triton.recurrent_offsets import print_steps
from snncompile.targets.triton.recurrent_product import print_streamed

#: Compile-time arguments: neurons, sequences and neurons of a tile, terms of the product summed at a time, the length
#: of a row of a weight in parts, and whether programs that share the neurons wait for each other after every step.
LOOPED_CONSTANTS = ("N", "ROWS", "COLUMNS", "INNER", "WIDTH", "TOGETHER")

_LAYOUT = """A program owns ROWS sequences and walks, step after step, over blocks of COLUMNS neurons; where several
programs share the sequences, each takes some of the blocks. What comes back, and the states, go through memory,
complete for the next step after a barrier: inside the program, or (TOGETHER), for what comes back, of all programs that
share the sequences, once in `late` steps. Otherwise programs that share sequences run `late` steps a launch. Courses
are float32 (T, B, N); those written are contiguous."""

#: Waits until every program that shares the sequences has come here `times` times: only where all of them run at once.
_TOGETHER = '''@triton.jit
def snn_together(arrived, target):
    """Wait until `target` programs have come here, all steps counted; what they wrote can be read then."""
    tl.debug_barrier()
    count = tl.atomic_add(arrived, 1, sem="acq_rel", scope="gpu") + 1
    while count < target:
        count = tl.atomic_add(arrived, 0, sem="acquire", scope="gpu")
    tl.debug_barrier()
'''


def print_looped(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    """The module of a looped kernel."""
    return _backward(scan, variant) if variant.backward else _forward(scan, variant)


def _print_loops(f: Forward | Backward, time: str) -> tuple[str, dict[str, str]]:
    """Open the loops over time and blocks; the name of the barrier's counter, and the courses' offsets."""
    w = f.w
    arrived = w.pointer("arrived", "how often programs came to a barrier, for each group of sequences", "*i32")
    w.number("T", "time steps")
    w.number("B", "sequences")
    w.number("first", "the first step to do")
    w.number("end", "the step before which to stop")
    w.number("late", "steps by which what comes back is late, at least 1")
    w.line(1, "row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)")
    w.line(1, "cells = B.to(tl.int64) * N  # time offsets exceed 32 bits")
    w.line(1, "blocks = (N + COLUMNS - 1) // COLUMNS")
    w.line(1, "for done in range(first, end):")
    w.line(2, f"t = {time}")
    w.line(2, "for block in range(tl.program_id(1), blocks, tl.num_programs(1)):")
    w.line(3, "column = block * COLUMNS + tl.arange(0, COLUMNS)")
    print_tile_bounds(w, 3, "place")
    w.line(3, AT)
    if f.weight.scale:
        w.line(3, f"scale = tl.load({f.weight.scale} + column)")
    print_steps(w, 3, f.steps)
    return arrived, print_offsets(w, 3, f.courses)


def _print_end(w: Writer, arrived: str) -> None:
    w.line(2, "tl.debug_barrier()  # the next step reads what this one wrote")
    w.line(2, "if TOGETHER:")
    w.line(3, "if (done - first + 1) % late == 0:")
    w.line(4, f"snn_together({arrived} + tl.program_id(0), (done - first + 1) // late * tl.num_programs(1))")


def _load(w: Writer, courses: dict[str, Course], offsets: dict[str, str]) -> dict[str, str]:
    values = {x: w.names.new(x) for x in courses}
    for x, course in courses.items():
        w.line(3, f"{values[x]} = {load_of(course, offsets[x], 't', 'active')}")
    return values


def _forward(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    f = Forward(scan, variant)
    w, step = f.w, f.step
    arrived, offsets = _print_loops(f, "done")
    w.line(3, f"before = {f.before} + t * cells")
    w.line(3, "if t >= late:")
    w.line(4, f"before = {f.stores[variant.source]} + (t - late) * cells")
    print_streamed(w, 3, variant.product, f.weight, "before", "N", swapped=False)
    if f.bias:
        w.line(3, f"product = product + tl.load({f.bias} + column, mask=column < N, other=0.0)[:, None]")
    if f.current:
        w.line(3, f"tl.store({f.current} + (t * cells + at), product, mask=active)")
    values = _load(w, f.courses, offsets)
    values.update(print_coefficients(w, 3, f.coefs, f.scalar))
    values[variant.port] = "product"
    for s, pointer in f.states.items():
        values[s] = w.names.new(s)
        w.line(3, f"{values[s]} = tl.load({pointer} + at, mask=active, other=0.0)")
        if variant.train:
            w.line(3, f"tl.store({f.saved[s]} + (t * cells + at), {values[s]}, mask=active)")
    made = {r: w.names.new(f"{r}_new") for r in step.results}
    print_call(w, 3, step, values, made)
    for s, pointer in f.states.items():
        w.line(3, f"tl.store({pointer} + at, {value_of(step, made, s)}, mask=active)")
    for r, pointer in f.stores.items():
        w.line(3, f"tl.store({pointer} + (t * cells + at), {value_of(step, made, r)}, mask=active)")
    _print_end(w, arrived)
    what = f"forward steps, the product of {variant.source} with a weight included"
    return f.source(what, _LAYOUT, LOOPED_CONSTANTS, [*variant.product.helpers, _TOGETHER])


def _backward(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    b = Backward(scan, variant)
    w, step = b.w, b.step
    arrived, offsets = _print_loops(b, "T - 1 - done")
    w.line(3, "limit = tl.where(t + late < T, N, 0)  # nothing comes after the last step")
    w.line(3, f"before = {b.grad_product} + (t + late) * cells")
    print_streamed(w, 3, variant.product, b.weight, "before", "limit", swapped=True)
    values = print_coefficients(w, 3, b.coefs, b.scalar)
    values.update(_load(w, b.courses, offsets))
    for s, pointer in b.carry.items():
        later = w.names.new(f"grad_{s}_later")
        w.line(3, f"{later} = tl.load({pointer} + at, mask=active, other=0.0)")
        values[f"grad_{s}"] = f"{later} + {values[f'grad_{s}']}" if f"grad_{s}" in values else later
    grad = f"grad_{variant.source}"
    values[grad] = f"{values[grad]} + product" if grad in values else "product"
    made = {r: w.names.new(f"{r}_new") for r in step.results}
    print_call(w, 3, step, values, made)
    for s, pointer in b.carry.items():
        w.line(3, f"tl.store({pointer} + at, {value_of(step, made, f'grad_{s}')}, mask=active)")
    port = value_of(step, made, f"grad_{variant.port}")
    w.line(3, f"tl.store({b.grad_product} + (t * cells + at), {port}, mask=active)")
    b.print_grad_inputs(3, made, place_of)
    for a, pointer in b.sums.items():
        total = f"tl.load({pointer} + at, mask=active, other=0.0) + {value_of(step, made, a)}"
        w.line(3, f"tl.store({pointer} + at, {total}, mask=active)")
    _print_end(w, arrived)
    what = f"backward steps, the product of a later step's gradient for {variant.source} included"
    return b.source(what, _LAYOUT, LOOPED_CONSTANTS, [*variant.product.helpers, _TOGETHER])
