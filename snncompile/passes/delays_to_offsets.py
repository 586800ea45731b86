"""Pass ``delays-to-offsets``: a delay by whole steps becomes an offset in the loads of the kernels that read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import networkx as nx

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Note
from snncompile.passes.base import Pass


@dataclass(frozen=True)
class DelaysToOffsets(Pass):
    """Where scans alone read a Delay, the late signal need not exist: each scan reads the signal itself, so many steps
    before; between two steps, or where something stands in for what lies too far back, it also computes what is seen of
    the one or two values that it reads. A target without such loads makes the late signal all the same."""

    name: ClassVar[str] = "delays-to-offsets"
    requires: ClassVar[frozenset[str]] = frozenset({"hoisted"})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = graph.copy()
        notes = []
        on_cycles = {n for part in nx.strongly_connected_components(graph.nx) if len(part) > 1 for n in part}
        for name, op in list(graph.of_type(Connection)):
            if op.kind != "Delay" or not op.depth:
                continue
            if not graph.consumers(name) and not any(ref.node == name for _, ref in graph.outputs):
                continue  # a record: nothing reads it
            why_not = self._obstacle(graph, name, op, on_cycles)
            if why_not:
                notes.append(Note(self.name, name, f"no offset in a load: {why_not}"))
            else:
                graph.nx.nodes[name]["op"] = replace(op, attrs={**op.attrs, "offset": True})
        return graph.noted(notes)

    @staticmethod
    def _obstacle(graph: Graph, name: str, op: Connection, on_cycles: set[str]) -> str:
        if op.output.shape != op.input.shape:
            return "it shows several delays of each neuron"
        if any(ref.node == name for _, ref in graph.outputs):
            return "it is an output"
        if name in on_cycles:
            return "it stands on a cycle"
        for reader, port, edge in graph.consumers(name):
            if not isinstance(graph.op(reader), Elementwise):
                return f"{reader}, which reads it, is no scan"
            if edge.delay or reader in on_cycles or graph.nx.has_edge(reader, reader):
                return f"{reader}, which reads it as {port}, stands on a cycle"
        return ""
