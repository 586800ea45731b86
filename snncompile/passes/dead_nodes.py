"""Pass ``dead-nodes``: removes what no output, no state and no record needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import networkx as nx

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Input
from snncompile.ir.plasticity import Plasticity
from snncompile.passes.base import Pass


@dataclass(frozen=True)
class DeadNodes(Pass):
    """Keeps inputs, and every node from which an output, a state or a kept record can be reached (late edges included).

    A state that nothing reads is kept: it is part of what a run gives back, and the next run may record it. So is what
    teaches a connection, with the spikes it watches.

    Attributes:
        keep: record names that must stay.
    """

    name: ClassVar[str] = "dead-nodes"
    keep: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        record = graph.recordable()
        roots = {ref.node for _, ref in graph.outputs} | {record[name].node for name in self.keep if name in record}
        roots |= {name for name in graph.names if _holds_state(graph, name)}
        alive = set(roots)
        for root in roots:
            alive |= nx.ancestors(graph.nx, root)
        dead = [n for n in graph.names if n not in alive and not isinstance(graph.op(n), Input)]
        graph = graph.copy()
        graph.nx.remove_nodes_from(dead)
        return graph


def _holds_state(graph: Graph, name: str) -> bool:
    op = graph.op(name)
    late = any(edge.delay for edge in graph.inputs_of(name).values())
    remembers = isinstance(op, Plasticity) or (isinstance(op, Connection) and op.depth > 0)
    return late or remembers or (isinstance(op, Elementwise) and not op.stateless)
