"""Connections: weighted maps from one population to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snncompile.ir.connection import Connection
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.nodes.base import Node
from snncompile.ir.params import Init, Parameter
from snncompile.ir.types import SignalType


class ConnectionNode(Node):
    """Base of the nodes that lower to a :class:`~snncompile.ir.connection.Connection`."""

    inputs = ("x",)

    def lower(
        self, name: str, inputs: Mapping[str, SignalType], dt: float, where: Location | None, owner: str | None = None
    ) -> Connection:
        """The IR node for this one; arguments as for :meth:`ElementwiseNode.lower`."""
        try:
            return self.connection(owner or name, inputs["x"], name)
        except ModelError as err:
            raise ModelError(err.message, node=name, where=where) from None

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection with its parameters named after ``owner``."""
        raise TypeError(f"{type(self).__name__} does not lower")


@dataclass(frozen=True, eq=False)
class Linear(ConnectionNode):
    """Dense connection ``y = x W^T + b``, the same at every step (torch's ``Linear``).

    Shapes: input ``(batch, time, in)``, output ``(batch, time, out)``, weight ``(out, in)``, bias ``(out,)``.

    Attributes:
        out: number of output features.
        bias: whether a bias is added.
        init: an array ``(out, in)`` of first weights, or None for torch's default initialisation.
        trainable: whether weight and bias are trained.
    """

    out: int = 0
    bias: bool = True
    init: Any = None
    trainable: bool = True

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection with its parameters named after ``owner``."""
        if isinstance(self.out, bool) or not isinstance(self.out, int) or self.out < 1:
            raise ModelError(f"Linear(out) takes a whole number of at least 1, not {self.out!r}")
        if len(x.shape) != 1:
            raise ModelError(f"Linear takes flat features, not {x.shape}. Put `>> Flatten()` before it")
        fan_in = x.shape[0]
        params = {"weight": weight_parameter(f"{owner}.weight", (self.out, fan_in), fan_in, self.init, self.trainable)}
        if self.bias:
            init = Init("fan_in_uniform", (float(fan_in),))
            params["bias"] = Parameter(f"{owner}.bias", (self.out,), "biases", init, self.trainable)
        return Connection("Linear", {}, params, x, SignalType("current", (self.out,)), (name,))


def weight_parameter(name: str, shape: tuple[int, ...], fan_in: int, init: Any, trainable: bool) -> Parameter:
    """A weight with torch's default initialisation, or the array given."""
    if init is None:
        return Parameter(name, shape, "weights", Init("kaiming_uniform", (float(fan_in),)), trainable)
    value = np.asarray(init.detach().cpu() if hasattr(init, "detach") else init, dtype=np.float32)
    if value.shape != shape:
        raise ModelError(f"init has shape {value.shape}, but the weight is {shape}")
    return Parameter(name, shape, "weights", Init("given", (), value), trainable)
