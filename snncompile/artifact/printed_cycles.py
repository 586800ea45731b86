"""The functions of cycles that C runs as one, printed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph

if TYPE_CHECKING:
    from snncompile.targets.c.cycle_writer import CycleSource
    from snncompile.targets.cycle_plan import CyclePlan


def cycle_plans(compiled: Graph, layers: Collection[str]) -> list[CyclePlan]:
    """The cycles of a network that are one function each, but for those of the populations ``layers``."""
    from snncompile.targets.cycle_plan import CyclePlan
    from snncompile.targets.cycle_planner import plan_cycle
    from snncompile.targets.scan import make_scan

    found = []
    for region in compiled.regions:
        if region.kind != "recurrent" or set(region.nodes) & set(layers):
            continue
        nodes = {n: compiled.op(n) for n in region.nodes}
        scans = {n: make_scan(n, op) for n, op in nodes.items() if isinstance(op, Elementwise)}
        plan = plan_cycle(compiled, region, scans)
        if isinstance(plan, CyclePlan):
            found.append(plan)
    return found


def cycle_kernels(compiled: Graph, plan: CyclePlan) -> Iterator[tuple[str, str, CycleSource]]:
    """Node, role and source of the functions of one cycle."""
    from snncompile.targets.c.cycle_printed import cycle_sources
    from snncompile.targets.scan import one_number

    one, one_reverse = {}, {}
    for name, scan in plan.scans.items():
        per_neuron = [role for role, p in compiled.op(name).params.items() if p.shape != ()]
        one[name] = one_number(scan, per_neuron)
        one_reverse[name] = one_number(scan, per_neuron, reverse=True)
    refs = {ref for _, ref in compiled.outputs}
    for name in plan.nodes:
        refs |= {e.source for reader, _, e in compiled.consumers(name) if reader not in plan.nodes}
    leaving = tuple(dict.fromkeys(plan.ports[ref] for ref in sorted(refs & set(plan.ports), key=str)))
    for role, source in cycle_sources(plan, leaving, one, one_reverse).items():
        yield plan.neurons[0].name, f"{plan.name}_{role}", source
