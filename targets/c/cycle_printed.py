"""The functions of a cycle that a usual caller needs, printed without calling anything: for a person to read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from snncompile.targets.c.cycle_backward import CycleBackward, print_cycle_backward
from snncompile.targets.c.cycle_forward import CycleForward, print_cycle_forward
from snncompile.targets.c.cycle_writer import CycleSource
from snncompile.targets.cycle_plan import CyclePlan, Read


def cycle_sources(
    plan: CyclePlan,
    leaving: Collection[Read],
    one: Mapping[str, Collection[str]],
    one_reverse: Mapping[str, Collection[str]],
) -> dict[str, CycleSource]:
    """Role -> file: forward, for inference and training, and backward.

    Args:
        plan: the cycle.
        leaving: what is read outside of it.
        one: elementwise node -> coefficients that are one number for all neurons.
        one_reverse: elementwise node -> reverse coefficients that are.
    """
    scans = {n.name: plan.scans[n.name] for n in plan.neurons}
    forward = CycleForward(
        tuple(tuple(c in one[n] for c in scan.coefs) for n, scan in scans.items()), plan.live(leaving)
    )
    backward = CycleBackward(
        tuple(tuple(c in one_reverse[n] for c in scan.reverse_coefs) for n, scan in scans.items()),
        tuple(leaving),
        (),
        tuple(range(len(plan.outside))),
        tuple(n for n, scan in scans.items() if scan.accumulators),
    )
    return {"forward": print_cycle_forward(plan, forward), "backward": print_cycle_backward(plan, backward)}
