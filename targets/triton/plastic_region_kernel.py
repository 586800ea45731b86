"""Prints the kernel that runs a region that learns: a loop over time around everything that a step does.

It is the kernel of a cycle (``targets/triton/cycle_forward.py``) in one program, or several that share it, for the
whole batch: a weight that changes is shared by all sequences. Products sum in the order of ``ir/ordered.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from snncompile.ir.ordered import LANES
from snncompile.targets.cycle_plan import Conv, Copy, Mask, Neurons, Pool, Read
from snncompile.targets.plastic_plan import Learn, PlasticPlan, PlasticProduct
from snncompile.targets.triton import plastic_region_conv, plastic_region_learning, plastic_region_products
from snncompile.targets.triton.cycle_forward import print_copy, print_sum
from snncompile.targets.triton.cycle_images import image_helpers, print_image_step
from snncompile.targets.triton.cycle_neurons import print_neurons
from snncompile.targets.triton.cycle_products import GATHER, print_product
from snncompile.targets.triton.cycle_writer import CYCLE_CONSTANTS, CycleKernel
from snncompile.targets.triton.meeting import MEET, MEET_ALL
from snncompile.targets.triton.plastic_parts import TREE
from snncompile.targets.triton.plastic_region_learning import PLACES, Teacher
from snncompile.targets.triton.plastic_region_order import Part, phases_of
from snncompile.targets.triton.plastic_region_products import (
    ORDERED,
    print_fixed_conv,
    print_fixed_product,
    print_taught_product,
)
from snncompile.targets.triton.plastic_region_writer import RegionWriter

_ABOUT = f"""{{who}} the whole batch through all steps: neurons in tiles of ROWS sequences and COLUMNS neurons, dense
products of SEQUENCES sequences and OUTS outputs, weights in tiles of OUTS outputs and {LANES} inputs, of a convolution
of TAPS. A dense product sums by lanes, then as a tree, a convolution tap by tap; the weights that change do so
at the end of a step. Values go from one part of a step to the next through memory."""
_ALONE = "The only program takes"
_SHARED = """Programs that run at the same time, and wait for each other where one reads what others made, take every
so-manieth tile of a part each. They take"""

_CONSTANTS = (*CYCLE_CONSTANTS, "OUTS", "SEQUENCES", "TAPS")
_LOCALS = " ".join(m.LOCALS for m in (plastic_region_conv, plastic_region_learning, plastic_region_products))


class RegionForward(NamedTuple):
    """A kernel of a region that learns.

    Attributes:
        scalar: per elementwise node and coefficient, whether that is one number for all neurons.
        bias: per product of the plan, then per product with a weight that changes, whether it has a bias.
        live: the lines that anybody reads.
        sums: what is summed over time.
        shared: whether several programs share the region.
    """

    scalar: tuple[tuple[bool, ...], ...]
    bias: tuple[bool, ...]
    live: tuple[int, ...]
    sums: tuple[Read, ...] = ()
    shared: bool = False


def print_region(plan: PlasticPlan, variant: RegionForward) -> CycleKernel:
    """The module with the kernel of a region."""
    w = RegionWriter(plan, f"{plan.name}_{'shared' if variant.shared else 'forward'}", variant.shared)
    for local in f"{_LOCALS} snn_add snn_tree".split():
        w.names.new(local)
    teachers = [Teacher(w, plan.rules[learn.name], learn, i) for i, learn in enumerate(plan.learns)]
    sums = {read: i for i, read in enumerate(variant.sums)}
    for phase in phases_of(plan, variant.sums):
        for part in phase:
            w.part = part
            if isinstance(part.step, Read):
                print_sum(w, sums[part.step], part.step)
            else:
                _print_part(w, part, variant, teachers)
    w.part = None
    w.barrier("all products have read the weights, and factors are in memory")
    for teacher in teachers:
        teacher.print_update()
    if w.shared:
        w.barrier("the next step reads what this one wrote")
    helpers = [TREE, PLACES, ORDERED, GATHER, *image_helpers(plan), *(text for _, text in w.helpers.values())]
    about = _ABOUT.format(who=_SHARED if w.shared else _ALONE)
    what = f"a region that learns, over a whole sequence, in one launch{' of several programs' if w.shared else ''}"
    return w.kernel(what, about, [*([MEET, MEET_ALL] if w.shared else []), *helpers], False, _CONSTANTS)


def _print_part(w: RegionWriter, part: Part, variant: RegionForward, teachers: Sequence[Teacher]) -> None:
    step, plan = part.step, w.plan
    if isinstance(step, Neurons):
        print_neurons(w, step, variant.scalar[plan.neurons.index(step)], variant.live)
    elif isinstance(step, Copy):
        print_copy(w, step)
    elif isinstance(step, Learn):
        teachers[plan.learns.index(step)].print_side(part.side)
    elif isinstance(step, Mask | Pool):
        print_image_step(w, step, False)
    else:
        assert not isinstance(step, Read)
        bias = variant.bias[(*plan.products, *plan.plastic_products).index(step)]
        if isinstance(step, PlasticProduct):
            print_taught_product(w, step, teachers[step.rule], bias)
        elif isinstance(step, Conv):
            print_fixed_conv(w, step, bias)
        elif step.sparse:
            print_product(w, step, bias)
        else:
            print_fixed_product(w, step, bias)
