"""The kernels that a cycle needs, for the chips they are compiled for ahead of time.

They are those of a usual caller with few sequences; others are compiled when first used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from snncompile.targets.cycle_blocks import blocks_back, blocks_of
from snncompile.targets.cycle_limits import way_of
from snncompile.targets.cycle_plan import Conv, CyclePlan, Product, Read
from snncompile.targets.triton.arch import Arch
from snncompile.targets.triton.cycle_backward import CycleBackward, print_cycle_backward
from snncompile.targets.triton.cycle_design import CycleSettings, choose_settings
from snncompile.targets.triton.cycle_forward import CycleForward, print_cycle_forward
from snncompile.targets.triton.cycle_shared_design import PROCESSORS, choose_shared, listed_products
from snncompile.targets.triton.cycle_writer import CycleKernel


@dataclass(frozen=True)
class CompiledCycle:
    """One kernel.

    Attributes:
        source: the printed kernel.
        settings: name of a chip -> launch settings there.
    """

    source: CycleKernel
    settings: Mapping[str, CycleSettings]


def cycle_kernels(
    plan: CyclePlan,
    leaving: Collection[Read],
    one: Mapping[str, Collection[str]],
    one_reverse: Mapping[str, Collection[str]],
    biased: Collection[Product | Conv],
    archs: Sequence[Arch],
    synapses: Sequence[int | None] = (),
) -> dict[str, CompiledCycle]:
    """Role -> kernel: forward, for inference and training, and backward; for the chips on which several programs share
    the cycle, of that form.

    Args:
        plan: the cycle.
        leaving: what is read outside of it.
        one: elementwise node -> coefficients that are one number for all neurons.
        one_reverse: elementwise node -> reverse coefficients that are.
        biased: products that have a bias.
        archs: the chips, at least one.
        synapses: per product, how many it lists, or None where it is dense; needed where several programs share it.
    """
    scans = {n.name: plan.scans[n.name] for n in plan.neurons}
    forward = CycleForward(
        tuple(tuple(c in one[n] for c in scan.coefs) for n, scan in scans.items()),
        tuple(p in biased for p in plan.products),
        plan.live(leaving),
    )
    backward = CycleBackward(
        tuple(tuple(c in one_reverse[n] for c in scan.reverse_coefs) for n, scan in scans.items()),
        tuple(leaving),
        (),
        tuple(range(len(plan.outside))),
        tuple(n for n, scan in scans.items() if scan.accumulators),
    )
    alone, together = list(archs), []
    if way_of(plan, "triton").several:
        alone, together = ([a for a in archs if (a.backend == "cuda") is shared] for shared in (False, True))
    found = {}
    if alone:
        settings = {arch.name: choose_settings(plan, 1, arch.warp) for arch in alone}
        found["forward"] = CompiledCycle(print_cycle_forward(plan, forward), settings)
        found["backward"] = CompiledCycle(print_cycle_backward(plan, backward), settings)
    if together:
        late = blocks_of(plan).late
        back = blocks_back(plan, late)
        by_late = {n: {a.name: choose_shared(plan, 1, n, PROCESSORS[a.name]) for a in together} for n in (late, back)}
        forward = forward._replace(late=late, listed=listed_products(plan, synapses))
        backward = backward._replace(late=back)
        found["forward_shared"] = CompiledCycle(print_cycle_forward(plan, forward), by_late[late])
        found["backward_shared"] = CompiledCycle(print_cycle_backward(plan, backward), by_late[back])
    return found
