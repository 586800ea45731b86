"""Dropout with one mask for a whole sequence."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.connection import Connection
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.membrane import check_number
from snncompile.ir.nodes.weights import ConnectionNode
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class Dropout(ConnectionNode):
    """In ``train()``, silences each feature of each sequence with probability ``p`` and scales the rest.

    ``y = x * m / (1 - p)``, with ``m`` 0 or 1 drawn once for all steps of a sequence. In ``eval()``, ``y = x``.
    Source: ``torch.nn.Dropout``; one mask over time as in Gal and Ghahramani 2016.

    Shapes: input and output ``(batch, time, *features)``. The output is a current, since spikes are scaled; with
    ``p = 0`` it stays what it is.

    Attributes:
        p: probability of silence, from 0 to less than 1. Default 0.5.
    """

    p: float = 0.5

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection."""
        check_number("p", self.p)
        if not 0 <= self.p < 1:
            raise ModelError(f"p is a probability of at least 0 and less than 1, not {self.p!r}")
        out = SignalType("current", x.shape) if self.p else x
        return Connection("Dropout", {"p": float(self.p)}, {}, x, out, (name,))
