"""Pass ``drop-identities``: removes nodes that hand their input on unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snncompile.ir.connection import Connection
from snncompile.ir.graph import Graph, Note
from snncompile.passes.base import Pass
from snncompile.passes.rewrite import bypass


@dataclass(frozen=True)
class DropIdentities(Pass):
    """Flatten of flat features, pooling over one element, Dropout that does not drop, and a Delay by nothing.

    Attributes:
        training: whether Dropout drops.
        keep: record names that must stay.
    """

    name: ClassVar[str] = "drop-identities"
    training: bool = False
    keep: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = graph.copy()
        notes = []
        for name, op in list(graph.of_type(Connection)):
            if not self._is_identity(op):
                continue
            why_not = self._obstacle(graph, name)
            if why_not:
                notes.append(Note(self.name, name, f"not dropped: {why_not}"))
            else:
                graph = bypass(graph, name)
        return graph.noted(notes)

    def _is_identity(self, op: Connection) -> bool:
        if op.kind == "Dropout":
            return not self.training or op.attrs["p"] == 0
        if op.kind == "Delay":
            return op.same_for_all == 0 and op.depth == 0
        if op.kind == "Flatten":
            return op.input.shape == op.output.shape
        if op.kind in ("SumPool2d", "AvgPool2d", "MaxPool2d"):
            return _is_one(op.attrs["kernel_size"]) and op.input.shape == op.output.shape
        return False

    def _obstacle(self, graph: Graph, name: str) -> str:
        edges = [*graph.inputs_of(name).values(), *(e for _, _, e in graph.consumers(name))]
        if any(e.delay for e in edges):
            return "a delay stands at it"
        return "it is recorded" if f"{name}.out" in self.keep else ""


def _is_one(size: object) -> bool:
    return size == 1 or (isinstance(size, (tuple, list)) and all(k == 1 for k in size))
