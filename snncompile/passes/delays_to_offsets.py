"""Pass ``delays-to-offsets``: a delay by whole steps becomes an offset in the loads of the kernels that read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import networkx as nx

from snncompile.ir.connection import DELAYS, Connection
from snncompile.ir.density import event_driven
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Note
from snncompile.ir.interpolated import moves_only, roles
from snncompile.ir.plasticity import Plasticity
from snncompile.ir.regions import late_readers, panel_readers
from snncompile.passes.base import Pass

#: Products that read one late signal a panel at a time, each panels of its own; dense convolutions do not count.
MOST_PRODUCTS = 2


@dataclass(frozen=True)
class DelaysToOffsets(Pass):
    """The late signal need not exist: those that read a Delay read the signal itself, so many steps before; between two
    steps, or where something stands in for what lies too far back, they also compute what is seen of the one or two
    values that they read. Scans, recurrent layers, cycles and what learns do so step by step, other products and
    poolings a panel of steps at a time. A target without such loads makes the late signal all the same."""

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
            why_not = _obstacle(graph, name, op, on_cycles) or _no_chain(graph, name) or _too_many(graph, name)
            if why_not:
                notes.append(Note(self.name, name, f"no offset in a load: {why_not}"))
            else:
                graph.nx.nodes[name]["op"] = replace(op, attrs={**op.attrs, "offset": True})
        return graph.noted(notes)


def _obstacle(graph: Graph, name: str, op: Connection, on_cycles: set[str]) -> str:
    if any(ref.node == name for _, ref in graph.outputs):
        return "it is an output" if op.kind in DELAYS else f"{name}, another view of it, is an output"
    if name in on_cycles:
        return "it stands on a cycle"
    for reader, port, edge in graph.consumers(name):
        read = graph.op(reader)
        if edge.delay:
            return f"{reader}, which reads it as {port}, reads it late besides"
        if isinstance(read, Elementwise | Plasticity):
            continue
        if isinstance(read, Connection) and read.kind in DELAYS:
            continue  # see _no_chain
        if not isinstance(read, Connection):
            return f"{reader}, which reads it, reads the past itself"
        further = _obstacle(graph, reader, read, on_cycles) if read.kind == "Flatten" else ""
        if further:
            return further
    return ""


def _no_chain(graph: Graph, name: str) -> str:
    """Why delays that read a delay do not read the signal that it delays, later by both; "" where they do."""
    op: Connection = graph.op(name)
    for reader in late_readers(graph, name):
        if getattr(graph.op(reader), "kind", "") in DELAYS and not moves_only(op):
            what = "computes what it shows" if roles(op) else "shows several values of each channel"
            return f"{reader}, which reads it, is a delay itself, and this one {what}"
    return ""


def _too_many(graph: Graph, name: str) -> str:
    """Why it is quicker to make the late signal once for all that read it; "" where that is not so."""
    op: Connection = graph.op(name)
    read = {n: graph.op(n) for n in panel_readers(graph, name)}
    # a dense convolution gains more by panels than filling them costs, whoever else does (docs/delays.md)
    products = [n for n, at in read.items() if at.kind not in ("Conv1d", "Conv2d") or event_driven(at)]
    if op.same_for_all is not None or len(products) <= MOST_PRODUCTS:
        return ""
    return f"{len(products)} products read it: for so many it is made once"
