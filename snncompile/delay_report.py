"""Why a target makes the signal of a delay after all, in words: for a region that goes node by node there."""

from __future__ import annotations

from math import inf

from snncompile.ir.graph import Graph, Region

_WHERE = {"triton": "Triton", "c": "C"}
_WITH_FEWER = " with fewer than "


def made_for(graph: Graph, name: str, target: str) -> str:
    """What reads the delay ``name`` step by step, as a signal of its own; "" where nothing does.

    Args:
        graph: the network after the passes.
        name: a delay that kernels can read at offsets.
        target: ``"triton"``, ``"c"`` or ``"auto"``.
    """
    found = []
    for backend in ("triton", "c") if target == "auto" else (target,):
        for reader in _readers(graph, name):
            why = _loops(graph, reader, backend)
            if why:
                found.append(f"for {reader}, which {why}" + (f" on {_WHERE[backend]}" if target == "auto" else ""))
    return " and ".join(found)


def always_made(graph: Graph, name: str, target: str) -> bool:
    """Whether the signal of the delay ``name``, which kernels can read at offsets, is made in every run on ``target``,
    ``"triton"`` or ``"c"``, all the same."""
    from snncompile.ir.regions import panel_readers
    from snncompile.targets.c.target import CTarget
    from snncompile.targets.late_choice import ALWAYS
    from snncompile.targets.late_kinds import late_kinds
    from snncompile.targets.triton.target import TritonTarget

    loops = [_loops(graph, reader, target) for reader in _readers(graph, name)]
    if any(why and _WITH_FEWER not in why for why in loops):
        return True
    if not (TritonTarget if target == "triton" else CTarget).panel.choose:
        return False
    view = graph.op(name).same_for_all is not None and late_kinds(graph, name) == ["one"]
    return not view and any(graph.op(n).kind in ALWAYS for n in panel_readers(graph, name))


def _readers(graph: Graph, name: str) -> list[str]:
    """The nodes that read ``name``, or another view of it."""
    found = []
    for reader, _, _ in graph.consumers(name):
        views = getattr(graph.op(reader), "kind", "") == "Flatten"
        found += _readers(graph, reader) if views else [reader]
    return found


def _loops(graph: Graph, reader: str, target: str) -> str:
    """Why ``reader`` does not read late; "" where it does, or is in no region of several."""
    region = next(r for r in graph.regions if reader in r.nodes)
    if region.kind == "recurrent":
        return _cycle(graph, region, target)
    return _learning(graph, region, target) if region.kind == "plastic" else ""


def _cycle(graph: Graph, region: Region, target: str) -> str:
    from snncompile.targets.cycle_limits import way_of
    from snncompile.targets.cycle_planner import plan_cycle
    from snncompile.targets.recurrent_layer import Layer, match

    if isinstance(match(graph, region, ring=target != "c"), Layer):
        return ""
    plan = plan_cycle(graph, region, {})
    if isinstance(plan, str):
        return "goes node by node"
    least = way_of(plan, target).blocks_up_to
    if not least:
        return ""
    return "goes node by node" if least == inf else f"goes node by node{_WITH_FEWER}{least} sequences"


def _learning(graph: Graph, region: Region, target: str) -> str:
    from snncompile.targets.cycle_limits import way_of
    from snncompile.targets.plastic_layer import PlasticLayer, match, planned
    from snncompile.targets.plastic_planner import plan_plastic

    layer = match(graph, region)
    if isinstance(layer, PlasticLayer) and not planned(graph, layer, target):
        return ""
    way = way_of(plan_plastic(graph, region, {}, {}), target)
    return "goes node by node" if way.blocks_up_to == inf else ""
