"""What runs a cycle that is no layer of one connection and one population, in words."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Region
from snncompile.ir.regions import lateness

if TYPE_CHECKING:
    from snncompile.targets.cycle_plan import CyclePlan

_WHERE = {"triton": "Triton", "c": "C"}
_ONE = {"triton": "one kernel", "c": "one function"}


def cycle_report(graph: Graph, region: Region, target: str) -> str:
    """How ``target`` (``"triton"``, ``"c"`` or ``"auto"``) runs a cycle, and why.

    Args:
        graph: the network after the passes.
        region: the cycle.
        target: where.
    """
    if target in _WHERE:
        return _on(graph, region, target, _WHERE[target])
    gpu, cpu = (_on(graph, region, name, where) for name, where in (("triton", "on a GPU"), ("c", "on a CPU")))
    return f"{gpu}; {cpu}"


def _on(graph: Graph, region: Region, target: str, where: str) -> str:
    from snncompile.targets.cycle_limits import way_of
    from snncompile.targets.cycle_plan import CyclePlan
    from snncompile.targets.cycle_planner import plan_cycle

    kernels = sum(isinstance(graph.op(n), Elementwise) for n in region.nodes)
    steps = min(lateness(graph, region.nodes).values())
    each = "each step" if steps == 1 else f"every {steps} steps"
    parts = f"{_counted(kernels, 'kernel')} and {_counted(len(region.nodes) - kernels, 'product')}"
    inside = f"{_counted(kernels, 'population')} and {_counted(len(region.nodes) - kernels, 'connection')}"
    plan = plan_cycle(graph, region, {})
    if not isinstance(plan, CyclePlan):
        return f"{parts} for {each} ({where}), since {plan}"
    way = way_of(plan, target)
    if way.blocks_up_to == inf:
        return f"{parts} for {each} ({where}), since {way.why}"
    few = f"; of fewer than {way.blocks_up_to} sequences {parts} for {each}" if way.blocks_up_to else ""
    training = ""
    if plan.sequence_only:
        dropping = plan_cycle(graph, region, {}, training=True)
        why = dropping if isinstance(dropping, str) else way_of(dropping, target).why
        training = f"; in training {parts} for {each}, since {why}" if why else ""
    several = _several(plan, way.several) if way.several else ""
    return f"{_ONE[target]} for the cycle, over all steps: {inside} inside ({where}){several}{few}{training}"


def _several(plan: CyclePlan, why: str) -> str:
    """How several programs share a cycle, and why."""
    from snncompile.targets.cycle_blocks import blocks_of

    late = blocks_of(plan).late
    return f", in several programs, {_counted(late, 'step')} at a time, since {why}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
