"""What a cycle, or a region that learns, reads of signals that delays outside of it make late."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.graph import Edge, Graph, Ref, Region
from snncompile.ir.interpolated import roles
from snncompile.targets.autograd import BoundScan
from snncompile.targets.cycle_plan import CyclePlan, LateSource
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.late_kinds import behind_views, late_kinds
from snncompile.targets.late_scan import shower
from snncompile.targets.scan import Late


def late_here(ev: Evaluation, edges: Iterable[Edge]) -> dict[Ref, LateSource]:
    """Which of these signals are read late in this run, and how."""
    found = {}
    for source in {edge.source for edge in edges} & ev.late.keys():
        shown = ev.late[source]
        kinds = tuple("" if one is None else one.kind for one in shown.late)
        found[source] = LateSource(shown.name, kinds, not shown.factors)
    return found


def late_usually(graph: Graph, region: Region) -> dict[Ref, LateSource]:
    """Which signals ``region`` reads late in a run that is long enough, and how."""
    found = {}
    for name in region.nodes:
        for edge in graph.inputs_of(name).values():
            delay = behind_views(graph, edge.source.node)
            op = graph.op(delay)
            if edge.source.node not in region.nodes and isinstance(op, Connection) and op.attrs.get("offset"):
                found[edge.source] = LateSource(delay, tuple(late_kinds(graph, delay)), not roles(op))
    return found


def bound_scans(ev: Evaluation, plan: CyclePlan) -> dict[str, BoundScan]:
    """The scans of a plan with this run's coefficients."""
    delays = {shown.name: shown for shown in ev.late.values()} if plan.offsets else {}
    return {n: shower(ev, delays[n]) if n in delays else ev.bind(n) for n in plan.scans}


def outside(ev: Evaluation, plan: CyclePlan) -> tuple[list[Tensor], tuple[Late | None, ...]]:
    """The signals that a plan takes from outside, and what makes each late."""
    shape = (ev.r.steps, ev.r.batch)
    signals, late = [], []
    for i, (edge, size) in enumerate(zip(plan.outside, plan.sizes, strict=True)):
        shown = ev.late.get(edge.source)
        x = ev.course(edge)
        signals.append((x if shown else x.reshape(*shape, size)).float())
        late.append(shown.late[plan.taps[i]] if shown else None)
    return signals, tuple(late) if plan.offsets else ()
