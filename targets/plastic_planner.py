"""Makes the plan of a plastic region: that of a cycle, with weights that change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from snncompile.ir.connection import Connection
from snncompile.ir.graph import Edge, Graph, Ref, Region
from snncompile.ir.plasticity import Plasticity
from snncompile.targets.cycle_plan import LateSource, Read
from snncompile.targets.cycle_planner import NOTHING_LATE, Planner
from snncompile.targets.plastic_plan import Learn, PlasticPlan, PlasticProduct
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.sliding import sliding_of


def plan_plastic(
    graph: Graph,
    region: Region,
    scans: Mapping[str, Scan],
    rules: Mapping[str, PlasticRule],
    training: bool = False,
    late: Mapping[Ref, LateSource] = NOTHING_LATE,
) -> PlasticPlan:
    """The plan of a plastic region.

    Args:
        graph: the network after the passes.
        region: the region.
        scans: elementwise node -> its scan; and a delay's, which makes what it shows.
        rules: plasticity node -> its rule.
        training: whether a Dropout drops.
        late: what from outside is read late.
    """
    return _PlasticPlanner(graph, region, scans, rules, training, late).whole_plan()


class _PlasticPlanner(Planner):
    dense = True  # they sum in a defined order

    def __init__(
        self,
        graph: Graph,
        region: Region,
        scans: Mapping[str, Scan],
        rules: Mapping[str, PlasticRule],
        training: bool,
        late: Mapping[Ref, LateSource],
    ) -> None:
        super().__init__(graph, region, scans, training, late)
        self.rules = rules
        self.taught = [n for n in region.nodes if isinstance(graph.op(n), Plasticity)]

    def whole_plan(self) -> PlasticPlan:
        plan = self.plan()
        assert isinstance(plan, PlasticPlan)
        return plan

    def _add_lines(self, name: str) -> None:
        op = self.graph.op(name)
        if not isinstance(op, Plasticity):
            super()._add_lines(name)
            return
        for side in ("pre", "post"):
            size = self.graph.type_of(self.graph.inputs_of(name)[side].source).size
            for t in op.of_side(side):
                self.own[Ref(name, t.local)] = self._new(t.name, size, 1, t.name, True)

    def _refs(self, name: str) -> list[Ref]:
        op = self.graph.op(name)
        if not isinstance(op, Plasticity):
            return super()._refs(name)
        return [Ref(name, t.local) for t in op.traces if t.side != "synapse"]

    def _late_edges(self) -> dict[str, Edge]:
        weights = {Ref(name, "weight") for name in self.taught}
        return {feedback: e for feedback, e in super()._late_edges().items() if e.source not in weights}

    def _steps_of(self, name: str) -> list[Any]:
        op = self.graph.op(name)
        edges = self.graph.inputs_of(name)
        if isinstance(op, Plasticity):
            signals = tuple(self._input(edges[s], False) for s in op.signals)
            pre, post = (self._input(edges[side], False) for side in ("pre", "post"))
            traces = [tuple(self.own[Ref(name, t.local)] for t in op.of_side(side)) for side in ("pre", "post")]
            return [Learn(name, pre, post, signals, traces[0], traces[1])]
        if isinstance(op, Connection) and op.plastic:
            rule = self.taught.index(edges["weight"].source.node)
            sliding = sliding_of(op) if op.kind == "Conv2d" else None
            return [PlasticProduct(name, rule, self._input(edges["x"], False), self.own[Ref(name)], sliding)]
        return super()._steps_of(name)

    def _outside(self, edge: Edge, kind: str = "", tap: int = 0) -> int:
        there = (edge, kind, tap)
        return self.outside.index(there) if there in self.outside else super()._outside(edge, kind, tap)

    def _made_by(self, step: Any) -> tuple[int, ...]:
        return step.pre_traces + step.post_traces if isinstance(step, Learn) else super()._made_by(step)

    def _moved(self, step: Any, at: Callable[[Read], Read], index: Mapping[int, int]) -> Any:
        def to(x: Read | int) -> Read | int:
            return at(x) if isinstance(x, Read) else x

        if isinstance(step, PlasticProduct):
            return step._replace(read=to(step.read), line=index[step.line])
        if isinstance(step, Learn):
            return Learn(
                step.name,
                to(step.pre),
                to(step.post),
                tuple(map(to, step.signals)),
                tuple(index[t] for t in step.pre_traces),
                tuple(index[t] for t in step.post_traces),
            )
        return super()._moved(step, at, index)

    def _whole(self, steps: list[Any], rest: Mapping[str, Any]) -> PlasticPlan:
        rules = {n: self.rules[n] for n in self.taught if n in self.rules}
        usual = tuple(s for s in steps if not isinstance(s, Learn | PlasticProduct))
        name = f"plastic_{self.nodes[0]}"
        return PlasticPlan(name=name, steps=usual, order=tuple(steps), rules=rules, **rest)
