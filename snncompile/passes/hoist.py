"""Pass ``hoist-parameters``: what a step computes from parameters alone is computed once, before the loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncompile.ir.derive import hoisted
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph
from snncompile.passes.base import Pass


@dataclass(frozen=True)
class HoistParameters(Pass):
    """Decay factors such as ``exp(-dt/tau)`` leave the loop over time: a node's ``derived`` program gives them, once a
    sequence, by torch's own functions on the CPU. It runs after the fusions, which compose whole steps.
    """

    name: ClassVar[str] = "hoist-parameters"
    requires: ClassVar[frozenset[str]] = frozenset({"fused"})
    ensures: ClassVar[frozenset[str]] = frozenset({"hoisted"})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = replace(graph.copy(), regions=())
        for name, op in list(graph.of_type(Elementwise)):
            graph.nx.nodes[name]["op"] = hoisted(op)
        return graph
