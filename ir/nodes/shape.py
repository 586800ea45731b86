"""Nodes that change nothing but the shape."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.connection import Connection
from snncompile.ir.nodes.weights import ConnectionNode
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class Flatten(ConnectionNode):
    """All features in one row, in C order: what :class:`~snncompile.ir.nodes.connections.Linear` takes.

    Source: ``torch.nn.Flatten``, with time and batch left alone.

    Shapes: input ``(batch, time, *features)``, output ``(batch, time, N)`` with N the product of the features. The
    signal stays what it is.
    """

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection."""
        return Connection("Flatten", {}, {}, x, SignalType(x.kind, (x.size,), x.max), (name,))
