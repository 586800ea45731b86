"""The connection node of the IR: a linear map or a change of shape, with a fixed lowering on every target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snncompile.ir.params import Parameter
from snncompile.ir.types import SignalType

#: Every kind of connection, with its settings. A target lowers exactly these.
CONNECTIONS: Mapping[str, tuple[str, ...]] = {
    "Linear": (),
    "Conv1d": ("stride", "padding", "dilation", "groups"),
    "Conv2d": ("stride", "padding", "dilation", "groups"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "MaxPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": (),
    "Dropout": ("p",),
    "BatchNorm": ("eps", "momentum"),
}

#: Connections that are matrix products: what a schedule hoists over time and what costs arithmetic.
PRODUCTS = frozenset({"Linear", "Conv1d", "Conv2d"})

#: Connections whose meaning involves several time steps or draws once per sequence.
WHOLE_SEQUENCE = frozenset({"BatchNorm", "Dropout"})


@dataclass(frozen=True, eq=False)
class Connection:
    """A stateless map of one signal, the same at every step.

    Attributes:
        kind: a key of :data:`CONNECTIONS`.
        attrs: its settings.
        params: role (``"weight"``, ``"bias"``, ``"mask"``, ``"running_mean"``, ...) -> parameter.
        input: type of the input.
        output: type of the output.
    """

    kind: str
    attrs: Mapping[str, Any]
    params: Mapping[str, Parameter]
    input: SignalType
    output: SignalType
    members: tuple[str, ...] = field(default=())

    inputs = ("x",)
