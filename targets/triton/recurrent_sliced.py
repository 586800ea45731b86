"""Prints a recurrent layer that several programs share, each with its rows of the weight on chip, in one launch.

What a program sends out goes into a ring in memory; then it arrives at the tile's counter, and waits there until all of
them have (``targets/triton/meeting.py``). What is read was written by others, so loads pass the L1 cache by. All
programs of a tile must run at the same time; the launch sees to it (``targets/triton/recurrent_launch.py``).
"""

from __future__ import annotations

from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import KernelSource, Writer
from snncompile.targets.triton.meeting import APART, MEET
from snncompile.targets.triton.recurrent_ahead import Ahead
from snncompile.targets.triton.recurrent_kernel import (
    TILE,
    Backward,
    Forward,
    RecurrentVariant,
    print_call,
    print_coefficients,
    tile_of,
    value_of,
)
from snncompile.targets.triton.recurrent_offsets import print_steps
from snncompile.targets.triton.recurrent_product import Product, Weight, print_loaded_weight, print_resident

#: Compile-time arguments: neurons, sequences and neurons of a tile, and the length of a row of the weight.
SLICED_CONSTANTS = ("N", "ROWS", "COLUMNS", "WIDTH")

_LAYOUT = """Programs (b, 0), (b, 1), ... share ROWS sequences; each owns COLUMNS neurons. It loads their rows of the
weight once, keeps them and the states on chip, and walks through time. What comes back goes through a ring in memory:
a program arrives when it has stored its part, and reads all parts once every program has arrived, once in `late` steps.
The other courses are written, and loaded for the next step, in between. Courses are float32 (T, B, N); those written
are contiguous. All programs of a tile must run at the same time: the launch is cooperative."""

#: Where the elements of a tile of a course lie, after a pointer: one number for a tile, and constants inside of it.
_AT = "origin + at"


def print_sliced(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    """The module of a sliced kernel."""
    return _backward(scan, variant) if variant.backward else _forward(scan, variant)


def ring_shape(late: int, rows: int, width: int) -> tuple[int, int, int]:
    """The ring of one tile."""
    return 2 * late, rows, width


class _Exchange:
    """What the programs of a tile exchange: a ring of ``2 * late`` steps, ``(ROWS, WIDTH)`` each, zeros at first.

    ``late`` steps are written while the ``late`` before them are read, and there is a wait before each such stretch. So
    a step is written over in the next stretch but one, when every program has arrived after reading it.
    """

    def __init__(self, w: Writer, product: Product) -> None:
        self.w = w
        self.half = product.operand == "whole"
        self.arrived = w.pointer("arrived", f"arrivals of programs, {APART} apart for each tile, 0 at first", "*i32")
        about = "what is exchanged, (2 * late, ROWS, WIDTH) for each tile of sequences, zeros at first"
        self.ring = w.pointer("ring", about, "*fp16" if self.half else "*fp32", own=True)
        w.number("T", "time steps")
        w.number("B", "sequences")
        w.number("group", "the first tile of sequences")
        w.number("late", "steps by which what comes back is late, at least 1")

    def print_places(self) -> None:
        """Where this tile's part lies."""
        self.w.line(1, f"arrived = {self.arrived} + tile * {APART}")
        self.w.line(1, "slots = 2 * late")
        self.w.line(1, f"ring = {self.ring} + tile.to(tl.int64) * slots * (ROWS * WIDTH)")
        self.w.line(1, "cell = tl.arange(0, COLUMNS)[:, None] + tl.arange(0, ROWS)[None, :] * WIDTH")

    def print_send(self, depth: int, step: str, value: str) -> None:
        """Store this program's part of a step."""
        value = f"{value}.to(tl.float16)" if self.half else value
        self.w.line(depth, f"slot = {step} % slots * (ROWS * WIDTH) + tl.program_id(1) * COLUMNS")
        self.w.line(depth, f"tl.store(ring + slot + cell, {value}, mask=active)")

    def print_arrive(self, step: str) -> None:
        """All programs may read what this one sent, if ``step`` was the last of its stretch."""
        self.w.line(2, f"if ({step} + 1) % late == 0:")
        self.w.line(3, "snn_arrive(arrived)")

    def print_receive(self, step: str) -> None:
        """Load what was sent ``late`` steps before ``step``: ``across``, (WIDTH, ROWS)."""
        self.w.line(2, f"if {step} % late == 0:")
        self.w.line(3, f"snn_await(arrived, ({step} // late + 1) * tl.num_programs(1))")
        self.w.line(2, f"slot = ({step} + late) % slots * (ROWS * WIDTH)")
        self.w.line(2, "seen = inner[:, None] + tl.arange(0, ROWS)[None, :] * WIDTH")
        self.w.line(2, 'across = tl.load(ring + slot + seen, cache_modifier=".cg")')


def _print_prologue(w: Writer, weight: Weight, exchange: _Exchange) -> tuple[str, ...]:
    w.line(1, "tile = group + tl.program_id(0)")
    w.line(1, "row = tile * ROWS + tl.arange(0, ROWS)")
    w.line(1, "column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)")
    w.line(1, "active = (column < N)[:, None] & (row < B)[None, :]")
    w.line(1, "cells = B.to(tl.int64) * N  # time offsets exceed 32 bits")
    w.line(1, "origin = tile.to(tl.int64) * (ROWS * N) + tl.program_id(1) * COLUMNS")
    w.line(1, "at = tl.arange(0, COLUMNS)[:, None] + tl.arange(0, ROWS)[None, :] * N")
    exchange.print_places()
    parts = print_loaded_weight(w, weight)
    w.line(1, f"scale = tl.load({weight.scale} + column)")
    return parts


def _step(pointer: str, t: str = "t") -> str:
    """Where this program's tile of a step lies in a course of our own."""
    return f"{pointer} + ({t} * cells + origin) + at"


def _forward(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    f = Forward(scan, variant)
    w, step = f.w, f.step
    exchange = _Exchange(w, variant.product)
    parts = _print_prologue(w, f.weight, exchange)
    w.line(1, "for k in range(0, late):")
    w.line(2, f"source = tl.load({_step(f.before, 'k')}, mask=active, other=0.0)")
    exchange.print_send(2, "(k + late)", "source")
    w.line(1, "snn_arrive(arrived)")
    if f.bias:
        bias = w.names.new("product_bias")
        w.line(1, f"{bias} = tl.load({f.bias} + column, mask=column < N, other=0.0)[:, None]")
    values = print_coefficients(w, 1, f.coefs, f.scalar)
    state = {s: w.names.new(s) for s in scan.states}
    for s, pointer in f.states.items():
        w.line(1, f"{state[s]} = tl.load({pointer} + {_AT}, mask=active, other=0.0)")
    print_steps(w, 1, f.steps)
    ahead = Ahead(w, f.courses, forward=True, early=False, origin="origin")
    w.line(1, "for t in range(0, T):")
    values.update(ahead.print_start())
    exchange.print_receive("t")
    print_resident(w, 2, variant.product, parts, "across")
    if f.bias:
        w.line(2, f"product = product + {bias}")
    values.update({**state, variant.port: "product"})
    made = {r: w.names.new(f"{r}_new") for r in step.results}
    print_call(w, 2, step, values, made)
    w.line(2, f"source = {tile_of(step, made, variant.source)}")
    exchange.print_send(2, "t", "source")
    exchange.print_arrive("t")
    for r, pointer in f.stores.items():
        w.line(2, f"tl.store({_step(pointer)}, {value_of(step, made, r)}, mask=active)")
    if f.current:
        w.line(2, f"tl.store({_step(f.current)}, product, mask=active)")
    for s, pointer in f.saved.items():
        w.line(2, f"tl.store({_step(pointer)}, {state[s]}, mask=active)")
    for s, name in state.items():
        w.line(2, f"{name} = {tile_of(step, made, s)}")
    ahead.print_end()
    for s, pointer in f.finals.items():
        w.line(1, f"tl.store({pointer} + {_AT}, {state[s]}, mask=active)")
    what = f"forward over a whole sequence, the product of {variant.source} with a weight included, in one launch"
    return f.source(what, _LAYOUT, SLICED_CONSTANTS, [*variant.product.helpers, MEET])


def _backward(scan: Scan, variant: RecurrentVariant) -> KernelSource:
    b = Backward(scan, variant)
    w, step = b.w, b.step
    exchange = _Exchange(w, variant.product)
    parts = _print_prologue(w, b.weight, exchange)
    w.line(1, "snn_arrive(arrived)  # nothing comes after the last step: the ring holds zeros")
    values = print_coefficients(w, 1, b.coefs, b.scalar)
    carry = {s: w.names.new(f"grad_{s}_later") for s in b.carry}
    nothing = f"tl.full({TILE}, 0.0, tl.float32)"
    for s, name in carry.items():
        last = f"tl.load({b.last[s]} + {_AT}, mask=active, other=0.0)" if s in b.last else nothing
        w.line(1, f"{name} = {last}")
    totals = {a: w.names.new(f"{a}_total") for a in b.sums}
    for name in totals.values():
        w.line(1, f"{name} = {nothing}")
    print_steps(w, 1, b.steps)
    ahead = Ahead(w, b.courses, forward=False, early=False, origin="origin")
    w.line(1, "for done in range(0, T):")
    w.line(2, "t = T - 1 - done")
    values.update(ahead.print_start())
    exchange.print_receive("done")
    print_resident(w, 2, variant.product, parts, "across")
    for s, name in carry.items():
        values[f"grad_{s}"] = f"{name} + {values[f'grad_{s}']}" if f"grad_{s}" in values else name
    grad = f"grad_{variant.source}"
    values[grad] = f"{values[grad]} + product" if grad in values else "product"
    made = {r: w.names.new(f"{r}_new") for r in step.results}
    print_call(w, 2, step, values, made)
    w.line(2, f"source = {tile_of(step, made, f'grad_{variant.port}')}")
    exchange.print_send(2, "done", "source")
    exchange.print_arrive("done")
    w.line(2, f"tl.store({_step(b.grad_product)}, source, mask=active)")
    b.print_grad_inputs(2, made, _step)
    for s, name in carry.items():
        w.line(2, f"{name} = {tile_of(step, made, f'grad_{s}')}")
    for a, total in totals.items():
        w.line(2, f"{total} = {total} + {value_of(step, made, a)}")
    ahead.print_end()
    for s, pointer in b.carry.items():
        w.line(1, f"tl.store({pointer} + {_AT}, {carry[s]}, mask=active)")
    for a, pointer in b.sums.items():
        w.line(1, f"tl.store({pointer} + {_AT}, {totals[a]}, mask=active)")
    what = f"backward over a whole sequence, the product of the gradient for {variant.source} included, in one launch"
    return b.source(what, _LAYOUT, SLICED_CONSTANTS, [*variant.product.helpers, MEET])
