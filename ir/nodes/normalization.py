"""Normalisation over batch and time."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.connection import Connection
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.membrane import check_number
from snncompile.ir.nodes.weights import ConnectionNode
from snncompile.ir.params import Init, Parameter
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class BatchNorm(ConnectionNode):
    """Normalises each channel over batch, time and positions, then scales and shifts it.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``. In ``train()`` the mean and variance are those of the data,
    and ``running_mean`` and ``running_var`` move towards them by ``momentum`` (the variance by its unbiased estimate);
    in ``eval()`` the running ones are used. It looks at all steps at once, so it is refused inside a cycle. Source:
    ``torch.nn.BatchNorm1d`` and ``2d``, time taken as part of the batch.

    Shapes: input and output ``(batch, time, C, ...)``; weight, bias, running_mean and running_var ``(C,)``. Weight
    (family ``scales``, from 1) and bias (family ``biases``, from 0) are trained; the other two (family ``statistics``,
    from 0 and 1) are buffers. The output is a current.

    Attributes:
        eps: added to the variance, greater than 0. Default 1e-5.
        momentum: weight of the newest statistics, from 0 to 1. Default 0.1.
    """

    eps: float = 1e-5
    momentum: float = 0.1

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection with its parameters named after ``owner``."""
        check_number("eps", self.eps)
        check_number("momentum", self.momentum)
        if self.eps <= 0:
            raise ModelError(f"eps must be greater than 0, not {self.eps!r}")
        if not 0 <= self.momentum <= 1:
            raise ModelError(f"momentum must be from 0 to 1, not {self.momentum!r}")

        def one(role: str, family: str, start: float, trained: bool) -> Parameter:
            return Parameter(f"{owner}.{role}", x.shape[:1], family, Init("constant", (start,)), trained)

        params = {
            "weight": one("weight", "scales", 1.0, True),
            "bias": one("bias", "biases", 0.0, True),
            "running_mean": one("running_mean", "statistics", 0.0, False),
            "running_var": one("running_var", "statistics", 1.0, False),
        }
        attrs = {"eps": float(self.eps), "momentum": float(self.momentum)}
        return Connection("BatchNorm", attrs, params, x, SignalType("current", x.shape), (name,))
