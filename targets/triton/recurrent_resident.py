"""Prints a recurrent layer whose weight, states and spikes stay on chip for the whole sequence, in one launch."""

from __future__ import annotations

from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import KernelSource, Writer
from snncompile.targets.triton.recurrent_ahead import Ahead
from snncompile.targets.triton.recurrent_kernel import (
    AT,
    TILE,
    Backward,
    Forward,
    RecurrentVariant,
    place_of,
    print_call,
    print_coefficients,
    print_tile_bounds,
    tile_of,
    value_of,
)
from snncompile.targets.triton.recurrent_offsets import print_steps
from snncompile.targets.triton.recurrent_product import Weight, print_loaded_weight, print_resident

#: Compile-time arguments: neurons, sequences and neurons of a tile, and the length of a row of the weight.
RESIDENT_CONSTANTS = ("N", "ROWS", "COLUMNS", "WIDTH")

_LAYOUT = """One program owns ROWS sequences and all N <= COLUMNS neurons. It loads the weight once, keeps it, the
states and what comes back on chip, and walks through time. What a step reads is loaded before the step, which would
otherwise wait for memory. Courses are float32 (T, B, N); those written are contiguous."""

_RING = """
What comes back several steps late is read again from the course that was stored, a step before it is multiplied."""

RING_BARRIER = "tl.debug_barrier()  # later steps read what this one stored"

def held(scan: Scan, backward: bool, ring: bool = False) -> int:
    """How many values of each neuron a resident kernel holds at the same time, about."""
    if not backward:
        return len(scan.states) + len(scan.inputs) + 2 + ring
    outputs = len(scan.results) - len(scan.states)
    return 2 * len(scan.states) + len(scan.inputs) + outputs + len(scan.accumulators) + 2 + ring


def print_resident_layer(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    """The module of a resident kernel."""
    return _backward(scan, variant) if variant.backward else _forward(scan, variant)


def _layout(variant: RecurrentVariant) -> str:
    return _LAYOUT + (_RING if variant.ring else "")


def _print_prologue(w: Writer, weight: Weight, ring: bool) -> tuple[str, ...]:
    for name, about in (("T", "time steps"), ("B", "sequences")):
        w.number(name, about)
    if ring:
        w.number("late", "steps by which what comes back is late, at least 2")
    w.line(1, "row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)")
    w.line(1, "column = tl.arange(0, COLUMNS)")
    print_tile_bounds(w, 1, "place")
    w.line(1, "cells = B.to(tl.int64) * N  # time offsets exceed 32 bits")
    w.line(1, "at = place")
    parts = print_loaded_weight(w, weight)
    w.line(1, f"scale = tl.load({weight.scale} + column)")
    return parts


def _forward(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    f = Forward(scan, variant)
    w, step = f.w, f.step
    parts = _print_prologue(w, f.weight, variant.ring)
    if f.bias:
        bias = w.names.new("product_bias")
        w.line(1, f"{bias} = tl.load({f.bias} + column, mask=column < N, other=0.0)[:, None]")
    values = print_coefficients(w, 1, f.coefs, f.scalar)
    state = {s: w.names.new(s) for s in scan.states}
    for s, pointer in f.states.items():
        w.line(1, f"{state[s]} = tl.load({pointer} + at, mask=active, other=0.0)")
    w.line(1, f"source = tl.load({f.before} + at, mask=active, other=0.0)")
    print_steps(w, 1, f.steps)
    ahead = Ahead(w, f.courses, forward=True)
    w.line(1, "for t in range(0, T):")
    w.line(2, AT)
    values.update(ahead.print_start())
    if variant.ring:
        w.line(2, f"before = {f.before} + (t + 1) * cells")
        w.line(2, "if t + 1 >= late:")
        w.line(3, f"before = {f.stores[variant.source]} + (t + 1 - late) * cells")
        w.line(2, "following = tl.load(before + at, mask=active & (t + 1 < T), other=0.0)")
    print_resident(w, 2, variant.product, parts, "source")
    if f.bias:
        w.line(2, f"product = product + {bias}")
    if f.current:
        w.line(2, f"tl.store({f.current} + (t * cells + at), product, mask=active)")
    for s, pointer in f.saved.items():
        w.line(2, f"tl.store({pointer} + (t * cells + at), {state[s]}, mask=active)")
    values.update({**state, variant.port: "product"})
    made = {r: w.names.new(f"{r}_new") for r in step.results}
    print_call(w, 2, step, values, made)
    for r, pointer in f.stores.items():
        w.line(2, f"tl.store({pointer} + (t * cells + at), {value_of(step, made, r)}, mask=active)")
    for s, name in state.items():
        w.line(2, f"{name} = {tile_of(step, made, s)}")
    if variant.ring:
        w.line(2, "source = following")
        w.line(2, RING_BARRIER)
    else:
        w.line(2, f"source = tl.where(active, {value_of(step, made, variant.source)}, 0.0)")
    ahead.print_end()
    for s, pointer in f.finals.items():
        w.line(1, f"tl.store({pointer} + at, {state[s]}, mask=active)")
    what = f"forward over a whole sequence, the product of {variant.source} with a weight included, in one launch"
    return f.source(what, _layout(variant), RESIDENT_CONSTANTS, variant.product.helpers)


def _backward(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    b = Backward(scan, variant)
    w, step = b.w, b.step
    parts = _print_prologue(w, b.weight, variant.ring)
    values = print_coefficients(w, 1, b.coefs, b.scalar)
    carry = {s: w.names.new(f"grad_{s}_later") for s in b.carry}
    nothing = f"tl.full({TILE}, 0.0, tl.float32)"
    for s, name in carry.items():
        w.line(1, f"{name} = " + (f"tl.load({b.last[s]} + at, mask=active, other=0.0)" if s in b.last else nothing))
    totals = {a: w.names.new(f"{a}_total") for a in b.sums}
    for name in ("later", *totals.values()):
        w.line(1, f"{name} = {nothing}")
    print_steps(w, 1, b.steps)
    ahead = Ahead(w, b.courses, forward=False)
    w.line(1, "for done in range(0, T):")
    w.line(2, "t = T - 1 - done")
    w.line(2, AT)
    values.update(ahead.print_start())
    if variant.ring:
        w.line(2, "following = t - 1 + late")
        load = f"tl.load({b.grad_product} + (following * cells + at), mask=active & (following < T), other=0.0)"
        w.line(2, f"source = {load}")
    for s, name in carry.items():
        values[f"grad_{s}"] = f"{name} + {values[f'grad_{s}']}" if f"grad_{s}" in values else name
    grad = f"grad_{variant.source}"
    values[grad] = f"{values[grad]} + later" if grad in values else "later"
    made = {r: w.names.new(f"{r}_new") for r in step.results}
    print_call(w, 2, step, values, made)
    port = value_of(step, made, f"grad_{variant.port}")
    w.line(2, f"tl.store({b.grad_product} + (t * cells + at), {port}, mask=active)")
    b.print_grad_inputs(2, made, place_of)
    for s, name in carry.items():
        w.line(2, f"{name} = {tile_of(step, made, f'grad_{s}')}")
    for a, total in totals.items():
        w.line(2, f"{total} = {total} + {value_of(step, made, a)}")
    if variant.ring:
        w.line(2, RING_BARRIER)
    else:
        w.line(2, f"source = tl.where(active, {port}, 0.0)")
    ahead.print_end()
    print_resident(w, 2, variant.product, parts, "source")
    w.line(2, "later = product")
    for s, pointer in b.carry.items():
        w.line(1, f"tl.store({pointer} + at, {carry[s]}, mask=active)")
    for a, pointer in b.sums.items():
        w.line(1, f"tl.store({pointer} + at, {totals[a]}, mask=active)")
    if b.grad_start:
        w.line(1, f"tl.store({b.grad_start} + at, later, mask=active)")
    what = f"backward over a whole sequence, the product of the gradient for {variant.source} included, in one launch"
    return b.source(what, _layout(variant), RESIDENT_CONSTANTS, variant.product.helpers)
