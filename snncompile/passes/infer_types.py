"""Pass ``infer-types``: gives connections the type of what truly feeds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncompile.ir.connection import Connection
from snncompile.ir.graph import Graph
from snncompile.ir.types import SignalType
from snncompile.passes.base import Pass

_KEEPS_KIND = frozenset({"Flatten", "MaxPool2d", "Dropout"})


@dataclass(frozen=True)
class InferTypes(Pass):
    """A feedback is declared before it is closed, so what reads it saw no more than a shape; now its kind is known."""

    name: ClassVar[str] = "infer-types"
    ensures: ClassVar[frozenset[str]] = frozenset({"types"})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = graph.copy()
        for name in graph.order():
            op = graph.op(name)
            if not isinstance(op, Connection):
                continue
            (edge,) = graph.inputs_of(name).values()
            source = graph.type_of(edge.source)
            if source != op.input:
                graph.nx.nodes[name]["op"] = replace(op, input=source, output=_output(op, source))
        return graph


def _output(op: Connection, source: SignalType) -> SignalType:
    if op.kind in _KEEPS_KIND and op.output.kind == "any":
        return SignalType(source.kind, op.output.shape, source.max)
    return op.output
