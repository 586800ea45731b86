"""Which cycles a target runs as one function, and which go node by node: where that is quicker, or the only way.

The figures of ``c`` were measured. Those of ``triton`` are reasoned, since nobody has timed it on a GPU: a program
reads all weights at every step, at what one processor gets of the L2 cache, some 100 bytes a nanosecond. Programs that
share a cycle wait for each other before each product at most, and once more, some one and a half microseconds each
time, once for all the steps by which the cycle is late. A node of its own costs the host some tens of microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod

from snncompile.targets.cycle_plan import Conv, CyclePlan, Pool, Product
from snncompile.targets.plastic_plan import PlasticPlan

#: C: cycles that are late by at least so many steps, with at least so many weights: their products are quicker for all
#: of these steps at once, node by node. Dense ones of what is no spikes, and sparse ones of fewer sequences than that.
DENSE_LATE, DENSE_WEIGHTS = 32, 2**18
SPARSE_LATE, SPARSE_WEIGHTS, SPARSE_BATCH = 8, 2**20, 4
#: And those with convolutions of what is no spikes, by their multiply-adds at a step of one sequence.
CONV_LATE, CONV_PRODUCTS = 8, 2**22

#: Triton: weights that a program reads in the time in which the programs of a GPU wait for each other once, doubled:
#: rather one program for each tile of sequences.
MEETING_WEIGHTS = 2**16
#: Triton: weights that a program reads in the time in which a node is run on its own, doubled: rather one kernel.
NODE_WEIGHTS = 2**21


@dataclass(frozen=True)
class Way:
    """How a target runs a cycle.

    Attributes:
        blocks_up_to: batches of fewer sequences go node by node, so many steps at a time as the cycle is late.
        why: why, for a person.
        at_most: batches of more sequences go node by node, too.
        shared_from: of a region that learns: batches of so many sequences are shared by several programs.
        several: why several programs share the cycle, where batches leave processors free for that; "" if they do not.
    """

    blocks_up_to: float = 0
    why: str = ""
    at_most: float = inf
    shared_from: float = inf
    several: str = ""

    def suits(self, plan: CyclePlan, batch: int, training: bool) -> bool:
        """Whether one function runs ``plan`` for so many sequences in the module's mode."""
        return self.blocks_up_to <= batch <= self.at_most and not (training and plan.sequence_only)


def way_of(plan: CyclePlan, target: str) -> Way:
    """How ``target`` (``"c"`` or ``"triton"``) runs ``plan``."""
    if isinstance(plan, PlasticPlan):
        return _taught(plan) if target == "triton" else Way()
    return _triton(plan) if target == "triton" else _c(plan)


def _c(plan: CyclePlan) -> Way:
    at_once = f"products are quicker for {plan.late} steps at once"
    if plan.late >= DENSE_LATE and plan.dense >= DENSE_WEIGHTS:
        return Way(inf, f"its dense {at_once}")
    if plan.late >= CONV_LATE and _convolved(plan) >= CONV_PRODUCTS:
        return Way(inf, f"its convolutions are quicker for {plan.late} steps at once")
    if plan.late >= SPARSE_LATE and plan.sparse >= SPARSE_WEIGHTS:
        return Way(SPARSE_BATCH, f"its sparse {at_once}")
    return Way()


def _convolved(plan: CyclePlan) -> int:
    """Multiply-adds of convolutions of anything but spikes, at a step of one sequence."""
    dense = [s.sliding for s in plan.steps if isinstance(s, Conv) and not s.events]
    return sum(prod(s.outputs) * s.inputs[0] // s.groups * s.taps for s in dense)


def is_large(plan: CyclePlan) -> bool:
    """Whether one program of Triton takes longer for ``plan`` than its nodes do apart."""
    return plan.weights * plan.late > NODE_WEIGHTS * len(plan.nodes)


def _triton(plan: CyclePlan) -> Way:
    import torch

    many = f"its {plan.weights:,} weights are read quicker by many programs"
    if torch.version.hip:  # programs that wait for each other need an NVIDIA GPU
        times = f" for {plan.late} steps at once" if plan.late > 1 else ""
        return Way(inf, many + times) if is_large(plan) else Way()
    reading = sum(isinstance(step, Product | Conv | Pool) for step in plan.steps)
    return Way(several=many) if plan.weights * plan.late > MEETING_WEIGHTS * (reading + 1) else Way()


def _taught(plan: PlasticPlan) -> Way:
    """A region that learns: each sequence reads all weights, and what learns is read twice more, and written.

    Programs that share it wait for each other before each product and change at most, and read a part of them each: no
    loop over the steps, which computes the same with many launches, is quicker.
    """
    import torch

    learn = sum(plan.products_of(p) for p in plan.plastic_products)
    each, once = plan.weights + learn, 3 * learn
    if not torch.version.hip:  # programs that wait for each other need an NVIDIA GPU
        meetings = len(plan.products) + len(plan.plastic_products) + 2
        return Way(shared_from=max(1, -(-(MEETING_WEIGHTS * meetings - once) // max(each, 1))))
    most = (NODE_WEIGHTS * len(plan.nodes) - once) // max(each, 1)
    return Way(at_most=most) if most >= 1 else Way(inf, f"its {each:,} weights are read quicker by many programs")
