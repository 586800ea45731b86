"""Pass ``dead-nodes``: removes what no output and no record needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import networkx as nx

from snncompile.ir.graph import Graph, Input
from snncompile.passes.base import Pass


@dataclass(frozen=True)
class DeadNodes(Pass):
    """Keeps inputs, and every node from which an output or a kept record can be reached (late edges included).

    Attributes:
        keep: record names that must stay.
    """

    name: ClassVar[str] = "dead-nodes"
    keep: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        record = graph.recordable()
        roots = {ref.node for _, ref in graph.outputs} | {record[name].node for name in self.keep if name in record}
        alive = set(roots)
        for root in roots:
            alive |= nx.ancestors(graph.nx, root)
        dead = [n for n in graph.names if n not in alive and not isinstance(graph.op(n), Input)]
        graph = graph.copy()
        graph.nx.remove_nodes_from(dead)
        return graph
