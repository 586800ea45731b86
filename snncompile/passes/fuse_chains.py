"""Pass ``fuse-chains``: synapse, neuron and whatever elementwise stands around them become one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Note
from snncompile.passes.base import Pass
from snncompile.passes.fuse import cycle_of, late_elsewhere, merge, path_around, too_large


@dataclass(frozen=True)
class FuseChains(Pass):
    """Fuses along edges: what flows between the members stays in registers instead of going through memory."""

    name: ClassVar[str] = "fuse-chains"
    requires: ClassVar[frozenset[str]] = frozenset({"types"})
    ensures: ClassVar[frozenset[str]] = frozenset({"fused"})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        declined: dict[tuple[str, str], str] = {}
        changed = True
        while changed:
            changed = False
            for u, v in self._pairs(graph):
                why_not = self._obstacle(graph, u, v)
                if why_not:
                    declined[u, v] = why_not
                    continue
                graph, _ = merge(graph, (u, v) if u != v else (u,))
                changed = True
                break
        left = [(u, v) for u, v in declined if u in graph.nx and v in graph.nx]
        return graph.noted(Note(self.name, v, self._declined(u, v, declined[u, v])) for u, v in left)

    @staticmethod
    def _declined(u: str, v: str, why: str) -> str:
        return f"its late value does not become a state: {why}" if u == v else f"not fused with {u}: {why}"

    @staticmethod
    def _pairs(graph: Graph) -> list[tuple[str, str]]:
        """Edges between elementwise nodes: those without delay in order, then late ones (cycles of their own)."""
        order = graph.order()
        pairs: list[tuple[str, str]] = []
        late: list[tuple[str, str]] = []
        for name in order:
            if not isinstance(graph.op(name), Elementwise):
                continue
            for edge in graph.inputs_of(name).values():
                if isinstance(graph.op(edge.source.node), Elementwise) and edge.delay <= 1:
                    (late if edge.delay else pairs).append((edge.source.node, name))
        return list(dict.fromkeys(pairs + [p for p in late if p[0] == p[1]]))

    @staticmethod
    def _obstacle(graph: Graph, u: str, v: str) -> str:
        shared = late_elsewhere(graph, (u, v))
        if shared:
            return f"{', '.join(shared)} is read elsewhere, too"
        if u == v:
            return ""  # a node that reads its own last value: the value becomes one of its states
        a, b = graph.op(u), graph.op(v)
        if a.shape != b.shape:
            return f"their features differ: {a.shape} and {b.shape}"
        cycles = cycle_of(graph)
        if cycles[u] != cycles[v] and cycles[u] >= 0 and cycles[v] >= 0:
            return "they stand on two cycles"
        if cycles[u] != cycles[v]:
            outside = u if cycles[u] < 0 else v
            return f"{outside} is outside the cycle and runs over all steps in one kernel"
        between = path_around(graph, (u, v), on_a_cycle=cycles[u] >= 0)
        if between:
            return f"{', '.join(between)} stands between them"
        return too_large((a, b))
