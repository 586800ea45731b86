"""Prints the kernel that runs a cycle forward: a loop over time around everything that a step does."""

from __future__ import annotations

from typing import NamedTuple

from snncompile.targets.cycle_plan import Conv, Copy, CyclePlan, Neurons, Product, Read
from snncompile.targets.triton.cycle_images import image_helpers, print_image_step
from snncompile.targets.triton.cycle_neurons import print_neurons
from snncompile.targets.triton.cycle_products import DENSE, GATHER, print_product
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
    """

    scalar: tuple[tuple[bool, ...], ...]
    bias: tuple[bool, ...]
    live: tuple[int, ...]
    sums: tuple[Read, ...] = ()


def print_cycle_forward(plan: CyclePlan, variant: CycleForward) -> CycleKernel:
    """The module with the forward kernel of a cycle."""
    w = CycleWriter(plan, f"{plan.name}_forward")
    scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
    bias = dict(zip(plan.products, variant.bias, strict=True))
    for step in plan.steps:
        if isinstance(step, Neurons):
            print_neurons(w, step, scalar[step.name], variant.live)
        elif isinstance(step, Copy):
            print_copy(w, step)
        elif isinstance(step, Product):
            print_product(w, step, bias[step])
        else:
            print_image_step(w, step, isinstance(step, Conv) and bias[step])
    for i, read in enumerate(variant.sums):
        print_sum(w, i, read)
    helpers = [DENSE, GATHER, *image_helpers(plan)]
    return w.kernel("forward over a whole sequence, in one launch", ABOUT, helpers, reverse=False)


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
