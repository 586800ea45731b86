"""Runs the regions of a graph that hold a cycle, or learn: each by the kernel of a target that can, else in a loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from snncompile.ir.graph import Graph, Ref, Region
from snncompile.targets.cycle_call import CycleTarget
from snncompile.targets.cycle_late import late_here
from snncompile.targets.cycle_limits import Way, way_of
from snncompile.targets.cycle_plan import CyclePlan, LateSource
from snncompile.targets.cycle_planner import NOTHING_LATE, plan_cycle
from snncompile.targets.cycle_run import run_cycle
from snncompile.targets.evaluation import Evaluation, Prepared
from snncompile.targets.event_linear import EventTarget
from snncompile.targets.late_scan import one_each
from snncompile.targets.plastic import run_plastic
from snncompile.targets.plastic_call import PlasticTarget
from snncompile.targets.plastic_layer import PlasticLayer, run_plastic_layer, why_not
from snncompile.targets.plastic_layer import match as match_plastic
from snncompile.targets.plastic_plan import PlasticPlan
from snncompile.targets.plastic_planner import plan_plastic
from snncompile.targets.plastic_region import run_plastic_region
from snncompile.targets.plastic_region_call import PlasticRegionTarget
from snncompile.targets.recurrent import run_recurrent
from snncompile.targets.recurrent_call import RecurrentTarget
from snncompile.targets.recurrent_layer import Layer, match, run_layer
from snncompile.targets.scan import ScanTarget

P = TypeVar("P", bound=CyclePlan)


class RegionRunner:
    """The regions of one graph on one target.

    Attributes:
        recurrent: the target's part for recurrent layers; None where it has none.
        cycles: its part for cycles of any form, likewise.
        layers: region with a cycle -> the recurrent layer that it is, or why it is none.
    """

    def __init__(self, graph: Graph, regions: tuple[Region, ...], prepared: Prepared, target: ScanTarget) -> None:
        self.graph, self.prepared, self.name = graph, prepared, target.name
        self.recurrent: RecurrentTarget | None = getattr(target, "recurrent", None)
        self.cycles: CycleTarget | None = getattr(target, "cycles", None)
        self._plastic: PlasticTarget | None = getattr(target, "plastic", None)
        self._taught: PlasticRegionTarget | None = getattr(target, "plastic_regions", None)
        self._events: EventTarget | None = getattr(target, "events", None)
        self._scans = {name: prepared.scan for name, prepared in prepared.scans.items()}
        self._rules = {name: prepared.rule for name, prepared in prepared.rules.items()}
        ring: bool = getattr(self.recurrent, "ring", False)
        self.layers = {r: match(graph, r, ring) for r in regions if r.kind == "recurrent"}
        self._plastic_layers = {r: match_plastic(graph, r) for r in regions if r.kind == "plastic"}
        self._plans: dict[tuple[Region, bool], CyclePlan | str] = {}  # outside of training, and in it
        self._ways: dict[tuple[Region, bool], Way] = {}
        planned = [*(self.layers if self.cycles else ()), *(self._plastic_layers if self._taught else ())]
        for region in planned:
            plan = self._plans[region, False] = self._plan(region, False)
            drops = not isinstance(plan, str) and plan.sequence_only
            self._plans[region, True] = self._plan(region, True) if drops else plan
        for key, plan in self._plans.items():
            if not isinstance(plan, str):
                self._ways[key] = way_of(plan, self.name)
        self._late_plans: dict[tuple[CyclePlan, frozenset[tuple[Ref, LateSource]]], CyclePlan] = {}
        self._region_of = {n: r for r in (*self.layers, *self._plastic_layers) for n in r.nodes}
        prepared.reads_late = self.reads_late

    def run(self, ev: Evaluation, region: Region) -> None:
        """Run ``region`` over all steps of ``ev``, leaving courses, sums and final states there."""
        by = self._by(ev, region)
        if isinstance(by, Layer) and self.recurrent is not None:
            run_layer(ev, by, self.recurrent, self._events)
        elif isinstance(by, PlasticLayer) and self._plastic is not None:
            run_plastic_layer(ev, by, region, self._plastic)
        elif isinstance(by, PlasticPlan) and self._taught is not None:
            run_plastic_region(ev, self._with_late(ev, region, by), region, self._taught)
        elif isinstance(by, CyclePlan) and self.cycles is not None:
            run_cycle(ev, self._with_late(ev, region, by), self.cycles, self._events)
        elif region.kind == "plastic":
            run_plastic(ev, region)
        else:
            run_recurrent(ev, region)

    def plans(self, training: bool = False) -> dict[Region, CyclePlan | str]:
        """Region -> its plan, or why there is none, for a target that takes plans."""
        return {region: plan for (region, mode), plan in self._plans.items() if mode == training}

    def way(self, region: Region, training: bool = False) -> Way:
        """How the target runs a region that has a plan."""
        return self._ways[region, training]

    def reads_late(self, ev: Evaluation, node: str, port: str) -> bool | None:
        """Whether ``node`` can read late here what comes to its input ``port`` from outside of its region; None where
        that is neither a cycle nor learns."""
        region = self._region_of.get(node)
        if region is None:
            return None
        by = self._by(ev, region)
        if isinstance(by, Layer):
            return getattr(self.recurrent, "offsets", False)
        if isinstance(by, PlasticLayer):
            return getattr(self._plastic, "offsets", False)
        target = self._taught if isinstance(by, PlasticPlan) else self.cycles if by is not None else None
        return getattr(target, "offsets", False)

    def _by(self, ev: Evaluation, region: Region) -> Layer | PlasticLayer | CyclePlan | None:
        """What a kernel runs ``region`` as; None where a loop does."""
        if region.kind == "plastic":
            layer = self._plastic_layers[region]
            if ev.r.differentiable:
                return None
            if self._plastic is not None and not isinstance(layer, str) and not why_not(ev, layer, self._plastic):
                return layer
        else:
            simple = self.layers[region]
            if self.recurrent is not None and isinstance(simple, Layer):
                return simple
        key = region, ev.r.training
        plan = self._plans.get(key, "no kernel")
        if isinstance(plan, str) or not self._ways[key].suits(plan, ev.r.batch, ev.r.training):
            return None
        return plan

    def _plan(self, region: Region, training: bool, late: Mapping[Ref, LateSource] = NOTHING_LATE) -> CyclePlan | str:
        scans = self._scans
        if late:
            showers = {d: self.prepared.shower(d, one_each(self.graph.op(d))) for d in {x.delay for x in late.values()}}
            scans = {**scans, **{delay: made.scan for delay, made in showers.items()}}
        if region.kind == "plastic":
            return plan_plastic(self.graph, region, scans, self._rules, training, late)
        return plan_cycle(self.graph, region, scans, training, late)

    def _with_late(self, ev: Evaluation, region: Region, plan: P) -> P:
        """The plan that reads late what is late in this run."""
        late = late_here(ev, plan.outside) if ev.late else {}
        if not late:
            return plan
        key = plan, frozenset(late.items())
        if key not in self._late_plans:
            self._late_plans[key] = cast(P, self._plan(region, ev.r.training, late))
        return cast(P, self._late_plans[key])
