"""Prints the kernel that runs a cycle forward: a loop over time around everything that a step does."""

from __future__ import annotations

from typing import NamedTuple

from snncompile.targets.cycle_blocks import blocks_of, made_by
from snncompile.targets.cycle_plan import Conv, Copy, CyclePlan, Neurons, Product, Read, Step
from snncompile.targets.triton.cycle_events import (
    LIST,
    MARKED,
    PICKED,
    listed_lines,
    print_list,
    print_listed_product,
)
from snncompile.targets.triton.cycle_images import image_helpers, print_image_step
from snncompile.targets.triton.cycle_neurons import print_neurons
from snncompile.targets.triton.cycle_products import DENSE, GATHER, print_product
from snncompile.targets.triton.cycle_shared import SharedWriter
from snncompile.targets.triton.cycle_writer import CycleKernel, CycleWriter

ABOUT = """A program takes ROWS sequences through all steps, COLUMNS neurons at a time. Values go from one part of a
step to the next through memory, which only this program touches; a sum takes its terms one after the other."""


class CycleForward(NamedTuple):
    """A forward kernel of a cycle.

    Attributes:
        scalar: per elementwise node and coefficient, whether that is one number for all neurons.
        bias: per product, whether it has a bias.
        live: the lines that anybody reads.
        sums: what is summed over time.
        late: steps of a block where several programs share the cycle, or 0.
        listed: per product, whether it reads lists of what is not zero; () for none.
    """

    scalar: tuple[tuple[bool, ...], ...]
    bias: tuple[bool, ...]
    live: tuple[int, ...]
    sums: tuple[Read, ...] = ()
    late: int = 0
    listed: tuple[bool, ...] = ()


def print_cycle_forward(plan: CyclePlan, variant: CycleForward) -> CycleKernel:
    """The module with the forward kernel of a cycle."""
    w = writer_of(plan, f"{plan.name}_forward", variant.late, reverse=False)
    scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
    bias = dict(zip(plan.products, variant.bias, strict=True))
    listed = dict(zip(plan.products, variant.listed or [False] * len(plan.products), strict=True))
    lists = listed_lines(plan, listed.values())
    for step in steps_of(plan, variant.late):
        w.begin_part(step)
        if isinstance(step, Neurons):
            print_neurons(w, step, scalar[step.name], variant.live)
        elif isinstance(step, Copy):
            print_copy(w, step)
        elif isinstance(step, Product) and isinstance(w, SharedWriter) and listed[step]:
            print_listed_product(w, step, bias[step])
        elif isinstance(step, Product):
            print_product(w, step, bias[step])
        else:
            print_image_step(w, step, isinstance(step, Conv) and bias[step])
        for line in made_by(step):
            if isinstance(w, SharedWriter) and line in lists:
                print_list(w, line)
    w.begin_part(None)
    for i, read in enumerate(variant.sums):
        print_sum(w, i, read)
    helpers = [DENSE, GATHER, *image_helpers(plan), *([LIST, MARKED, PICKED] if lists else [])]
    return w.kernel("forward over a whole sequence, in one launch", ABOUT, helpers, reverse=False)


def writer_of(plan: CyclePlan, name: str, late: int, reverse: bool) -> CycleWriter:
    """What prints a kernel: of one program for each tile of sequences, or (``late``: steps of a block) of several."""
    return SharedWriter(plan, f"{name}_shared", late, reverse) if late else CycleWriter(plan, name)


def steps_of(plan: CyclePlan, late: int) -> tuple[Step, ...]:
    """The parts of a step in the order in which they are printed."""
    return blocks_of(plan).order if late else plan.steps


def print_copy(w: CycleWriter, step: Copy) -> None:
    """Hold what another line holds."""
    about = f"{w.plan.lines[step.line].key}: what it holds"
    w.begin_step(about, [("line", step.read.line)], [("line", step.line)])
    source, to = w.row("line", step.read), w.row("line", Read(step.line))
    w.tiles(w.plan.lines[step.line].size)
    w.load(3, "value", source)
    w.store(3, to, "value")


def print_sum(w: CycleWriter, index: int, read: Read) -> None:
    """Add to a sum over time."""
    key = w.plan.lines[read.line].key
    about = f"sum of {key} over time, (B, N), read and written"
    total = w.address(("sum", index), f"{w.stem(read.line)}_sum", about)
    w.begin_step(f"{key}: its sum over time", [("line", read.line)], [])
    row = w.row("line", read)
    w.tiles(w.plan.lines[read.line].size)
    w.load(3, "value", row)
    w.add(3, total, "value")
