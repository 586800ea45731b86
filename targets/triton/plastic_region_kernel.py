"""Prints the kernel that runs a region that learns: a loop over time around everything that a step does.

It is the kernel of a cycle (``targets/triton/cycle_forward.py``) in one program, which takes the whole batch: a weight
that changes is shared by all sequences. Products sum in the order of ``ir/ordered.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from snncompile.ir.ordered import LANES
from snncompile.targets.cycle_plan import Conv, Copy, Neurons, Product, Read
from snncompile.targets.plastic_plan import Learn, PlasticPlan, PlasticProduct
from snncompile.targets.triton import plastic_region_conv, plastic_region_learning, plastic_region_products
from snncompile.targets.triton.cycle_forward import print_copy, print_sum
from snncompile.targets.triton.cycle_images import image_helpers, print_image_step
from snncompile.targets.triton.cycle_neurons import print_neurons
from snncompile.targets.triton.cycle_products import GATHER, print_product
from snncompile.targets.triton.cycle_writer import CYCLE_CONSTANTS, CycleKernel
from snncompile.targets.triton.plastic_parts import TREE
from snncompile.targets.triton.plastic_region_learning import Teacher
from snncompile.targets.triton.plastic_region_products import (
    ORDERED,
    print_fixed_conv,
    print_fixed_product,
    print_taught_product,
)
from snncompile.targets.triton.plastic_region_writer import RegionWriter

_ABOUT = f"""The only program takes the whole batch through all steps: neurons in tiles of ROWS sequences and COLUMNS
neurons, dense products of SEQUENCES sequences and OUTS outputs, weights in tiles of OUTS outputs and {LANES} inputs, or
of TAPS taps of a convolution. A dense product sums by lanes, then as a tree, a convolution tap by tap; the weights that
change do so at the end of a step. Values go from one part of a step to the next through memory."""

_CONSTANTS = (*CYCLE_CONSTANTS, "OUTS", "SEQUENCES", "TAPS")
_LOCALS = " ".join(m.LOCALS for m in (plastic_region_conv, plastic_region_learning, plastic_region_products))


class RegionForward(NamedTuple):
    """A kernel of a region that learns.

    Attributes:
        scalar: per elementwise node and coefficient, whether that is one number for all neurons.
        bias: per product of the plan, then per product with a weight that changes, whether it has a bias.
        live: the lines that anybody reads.
        sums: what is summed over time.
    """

    scalar: tuple[tuple[bool, ...], ...]
    bias: tuple[bool, ...]
    live: tuple[int, ...]
    sums: tuple[Read, ...] = ()


def print_region(plan: PlasticPlan, variant: RegionForward) -> CycleKernel:
    """The module with the kernel of a region."""
    w = RegionWriter(plan, f"{plan.name}_forward")
    for local in f"{_LOCALS} turn blocks snn_add snn_tree".split():
        w.names.new(local)
    scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
    bias = dict(zip((*plan.products, *plan.plastic_products), variant.bias, strict=True))
    teachers = [Teacher(w, plan.rules[learn.name], learn, i) for i, learn in enumerate(plan.learns)]
    of_learn = {teacher.learn: teacher for teacher in teachers}
    for step in plan.order:
        if isinstance(step, Neurons):
            print_neurons(w, step, scalar[step.name], variant.live)
        elif isinstance(step, Copy):
            print_copy(w, step)
        elif isinstance(step, Learn):
            of_learn[step].print_sides()
        elif isinstance(step, PlasticProduct):
            print_taught_product(w, step, teachers[step.rule], bias[step])
        elif isinstance(step, Conv):
            print_fixed_conv(w, step, bias[step])
        elif isinstance(step, Product) and step.sparse:
            print_product(w, step, bias[step])
        elif isinstance(step, Product):
            print_fixed_product(w, step, bias[step])
        else:
            print_image_step(w, step, False)
    if teachers:
        w.barrier("all products have read the weights, and factors are in memory")
    for teacher in teachers:
        teacher.print_update()
    for i, read in enumerate(variant.sums):
        print_sum(w, i, read)
    helpers = [TREE, ORDERED, GATHER, *image_helpers(plan), *(text for _, text in w.helpers.values())]
    what = "a region that learns, over a whole sequence, in one launch"
    return w.kernel(what, _ABOUT, helpers, reverse=False, constants=_CONSTANTS)
