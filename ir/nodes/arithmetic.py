"""Arithmetic on signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import reduce
from types import SimpleNamespace
from typing import Any

import torch

from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.params import Param, param
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class Scale(ElementwiseNode):
    """Multiplies: ``y = x * factor``.

    Source: NIR's primitive of that name.

    Shapes: input and output ``(batch, time, *features)``. The output ``y`` is a current.

    Attributes:
        factor: a number, or one value per channel or per neuron; family ``scales``. Default 1.
        trainable: whether the factor is trained. Default False, unlike that of other parameters: ``0.5 * signal`` is a
            Scale too. (A Param that says so itself wins.)
    """

    factor: Any = param(1.0, "scales", layout="scalar")
    _: KW_ONLY
    trainable: bool = False

    def declared(self) -> dict[str, Param]:
        """The factor, trained or not."""
        declared = super().declared()["factor"]
        said = isinstance(self.factor, Param) and self.factor.trainable is not None
        return {"factor": declared if said else replace(declared, trainable=bool(self.trainable))}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """A current."""
        return {"y": SignalType("current", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"y": x.x * p.factor}


@dataclass(frozen=True, eq=False)
class Add(ElementwiseNode):
    """Adds signals of the same shape, from left to right: ``y = ((x0 + x1) + x2) + ...``.

    ``a + b`` of two signals is ``Add()(a, b)``.

    Shapes: inputs and output ``(batch, time, *features)``. Spikes add up to spikes, membranes to a membrane; any other
    mixture is a current.

    Attributes:
        count: number of inputs, at least 2; their ports are ``x0``, ``x1``, ... None, the default, is as many as it is
            applied to.
    """

    count: int | None = None

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]  # a class has no count yet, an object does
        """``x0``, ``x1``, ..."""
        return tuple(f"x{i}" for i in range(self.count or 2))

    def for_inputs(self, signals: int) -> Add:
        """The node to apply to this many positional signals."""
        return replace(self, count=signals) if self.count is None and signals > 2 else self

    def check(self) -> None:
        """Settings that make no sense."""
        if self.count is not None and (isinstance(self.count, bool) or not isinstance(self.count, int)):
            raise ModelError(f"count must be a whole number of at least 2, not {self.count!r}")
        if self.count is not None and self.count < 2:
            raise ModelError(f"it adds at least 2 signals, not {self.count}")

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spikes if all are, a membrane if all are, else a current."""
        types = list(inputs.values())
        kinds = {t.kind for t in types}
        kind = kinds.pop() if len(kinds) == 1 else "current"
        most = sum(t.max or 0 for t in types) if kind == "spikes" else None
        return {"y": SignalType(kind, types[0].shape, most)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"y": reduce(torch.add, (getattr(x, port) for port in self.inputs))}
