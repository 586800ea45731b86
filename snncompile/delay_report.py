"""Why a target makes the signal of a delay after all, in words: for a region that goes node by node there."""

from __future__ import annotations

from math import inf

from snncompile.ir.graph import Graph, Region
from snncompile.ir.regions import late_readers, panel_readers

_WHERE = {"triton": "Triton", "c": "C"}


def made_for(graph: Graph, name: str, target: str) -> str:
    """What reads the delay ``name`` step by step, as a signal of its own; "" where nothing does.

    Args:
        graph: the network after the passes.
        name: a delay that kernels can read at offsets.
        target: ``"triton"``, ``"c"`` or ``"auto"``.
    """
    found = []
    for backend in ("triton", "c") if target == "auto" else (target,):
        for reader in late_readers(graph, name):
            below = _by_node_below(graph, reader, backend)
            few = "" if below == inf else f" with fewer than {below:g} sequences"
            where = f" on {_WHERE[backend]}" if target == "auto" else ""
            if below:
                found.append(f"for {reader}, which goes node by node{few}{where}")
    return " and ".join(found)


def always_made(graph: Graph, name: str, target: str) -> bool:
    """Whether the signal of the delay ``name``, which kernels can read at offsets, is made in every run on ``target``,
    ``"triton"`` or ``"c"``, all the same."""
    from snncompile.targets.c.target import CTarget
    from snncompile.targets.late_choice import ALWAYS
    from snncompile.targets.late_kinds import late_kinds
    from snncompile.targets.triton.target import TritonTarget

    if any(_by_node_below(graph, reader, target) == inf for reader in late_readers(graph, name)):
        return True
    if not (TritonTarget if target == "triton" else CTarget).panel.choose:
        return False
    view = graph.op(name).same_for_all is not None and late_kinds(graph, name) == ["one"]
    return not view and any(graph.op(n).kind in ALWAYS for n in panel_readers(graph, name))


def _by_node_below(graph: Graph, reader: str, target: str) -> float:
    """Of fewer sequences than that ``reader`` goes node by node, and does not read late."""
    region = next(r for r in graph.regions if reader in r.nodes)
    if region.kind == "recurrent":
        return _cycle_below(graph, region, target)
    return _learning_below(graph, region, target) if region.kind == "plastic" else 0


def _cycle_below(graph: Graph, region: Region, target: str) -> float:
    from snncompile.targets.cycle_limits import way_of
    from snncompile.targets.cycle_planner import plan_cycle
    from snncompile.targets.recurrent_layer import Layer, match

    if isinstance(match(graph, region, ring=target != "c"), Layer):
        return 0
    plan = plan_cycle(graph, region, {})
    return inf if isinstance(plan, str) else way_of(plan, target).blocks_up_to


def _learning_below(graph: Graph, region: Region, target: str) -> float:
    from snncompile.targets.cycle_limits import way_of
    from snncompile.targets.plastic_layer import PlasticLayer, match, planned
    from snncompile.targets.plastic_planner import plan_plastic

    layer = match(graph, region)
    if isinstance(layer, PlasticLayer) and not planned(graph, layer, target):
        return 0
    return way_of(plan_plastic(graph, region, {}, {}), target).blocks_up_to
