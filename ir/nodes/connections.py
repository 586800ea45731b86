"""Dense connections from one population to another."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.connection import Connection
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.weights import ConnectionNode, Weighted, weight_parameter, whole
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class Linear(Weighted):
    """Dense connection, the same at every step: ``y = x W^T + b``.

    Source: ``torch.nn.Linear``, with its default initialisation.

    Shapes: input ``(batch, time, in)``, output ``(batch, time, out)``, weight ``(out, in)`` of family ``weights``, bias
    ``(out,)`` of family ``biases``.

    Attributes:
        out: number of output features.
        bias: whether a bias is added. Default True.
        init: first weights: an array ``(out, in)``, a function from that shape to one, or None for torch's default
            (weights and biases uniform within ``1/sqrt(in)``).
        trainable: whether weight and bias are trained. Default True.
        mask: an array of 0 and 1 that broadcasts to ``(out, in)``; the weight that acts is ``weight * mask``.
        sign: +1 or -1, or an array of them that broadcasts to ``(out, in)``; ``(in,)`` is one per source neuron. The
            first weights get this sign, by their absolute value.
    """

    out: int

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection with its parameters named after ``owner``."""
        out = whole("out", self.out)
        if len(x.shape) != 1:
            raise ModelError(f"it takes flat features, not {x.shape}. Put `>> Flatten()` before it")
        params = self.parameters(owner, (out, x.shape[0]))
        return Connection("Linear", {}, params, x, SignalType("current", (out,)), (name,))


__all__ = ["ConnectionNode", "Linear", "weight_parameter"]
