"""Pass ``infer-types``: gives connections the type of what truly feeds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from snncompile.ir.connection import Connection, delayed_type
from snncompile.ir.graph import Graph
from snncompile.ir.types import SignalType
from snncompile.passes.base import Pass


@dataclass(frozen=True)
class InferTypes(Pass):
    """A feedback is declared before it is closed, so what reads it saw no more than a shape; now its kind is known."""

    name: ClassVar[str] = "infer-types"
    ensures: ClassVar[frozenset[str]] = frozenset({"types"})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = graph.copy()
        order = graph.order()
        for _ in order:  # a late edge may come from a node further on
            if not _update(graph, order):
                break
        return graph


def _update(graph: Graph, order: list[str]) -> bool:
    """Give each connection the type of what feeds it now; whether any was new."""
    changed = False
    for name in order:
        op = graph.op(name)
        if not isinstance(op, Connection):
            continue
        edge = graph.inputs_of(name)["x"]
        source = graph.type_of(edge.source)
        if source != op.input:
            graph.nx.nodes[name]["op"] = replace(op, input=source, output=_output(op, source))
            changed = True
    return changed


def _output(op: Connection, source: SignalType) -> SignalType:
    keeps = op.kind in ("Flatten", "MaxPool2d", "SumPool2d") or (op.kind == "Dropout" and op.attrs["p"] == 0)
    if op.kind == "Delay":
        return delayed_type(source, op.output.shape, op.attrs["interpolation"], op.attrs["overbound"])
    if not keeps:
        return op.output
    most = source.max
    if most is not None and op.kind == "SumPool2d":
        most *= prod(op.attrs["kernel_size"])
    return SignalType(source.kind, op.output.shape, most)
