"""Pass ``fuse-populations``: populations that do the same thing side by side become one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import networkx as nx

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Note
from snncompile.ir.ops import OPS
from snncompile.passes.base import Pass
from snncompile.passes.fuse import cycle_of, merge, too_large


@dataclass(frozen=True)
class FusePopulations(Pass):
    """Fuses nodes with the same program and features, neither of which needs the other: one launch instead of two,
    and an input they share is read once."""

    name: ClassVar[str] = "fuse-populations"
    requires: ClassVar[frozenset[str]] = frozenset({"fused"})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        notes: list[Note] = []
        names = [n for n, _ in graph.of_type(Elementwise)]
        while names:
            first, *rest = names
            group = [first]
            for other in rest:
                if _normal(graph.op(first)) != _normal(graph.op(other)):
                    continue
                why_not = self._obstacle(graph, group, other)
                if why_not:
                    notes.append(Note(self.name, other, f"not fused with {first}: {why_not}"))
                else:
                    group.append(other)
            if len(group) > 1:
                graph, _ = merge(graph, group)
            names = [n for n in rest if n not in group]
        return graph.noted(notes)

    @staticmethod
    def _obstacle(graph: Graph, group: list[str], other: str) -> str:
        nodes = [graph.op(n) for n in (*group, other)]
        if nodes[0].shape != nodes[-1].shape:
            return f"their features differ: {nodes[0].shape} and {nodes[-1].shape}"
        cycles = cycle_of(graph)
        if cycles[group[0]] != cycles[other]:
            return "one stands on a cycle that the other is not part of"
        if any(nx.has_path(graph.nx, n, other) or nx.has_path(graph.nx, other, n) for n in group):
            return "one needs the other's output"
        return too_large(nodes)


def _normal(node: Elementwise) -> tuple:
    """The program with values numbered in order of definition: equal for programs that do the same thing."""
    number: dict[str, int] = {}
    for name in (*node.forward.inputs, *(op.name for op in node.forward.ops)):
        number[name] = len(number)

    def arg(a: object) -> object:
        return ("value", number[a]) if isinstance(a, str) else ("constant", a)

    # which stream a node draws from is its own: it keeps it when it is fused
    ops = tuple((op.op, () if OPS[op.op].random else tuple(arg(a) for a in op.args)) for op in node.forward.ops)
    return len(node.forward.inputs), ops, tuple(arg(a) for _, a in node.forward.outputs)
