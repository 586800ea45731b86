"""Dense connections with a delay for each synapse, on a target that reads what is late where it lies.

Such a product is a sum over its *terms*: a synapse reads one value of the past, or two neighbours, each times a value.
What these are is the rule of ``ir/delay.py``; autograd leads from their gradients to weights and delays.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable


class Lags:
    """How many steps ago each term of a product reads, and what is worked out from that.

    Attributes:
        index: ``(out, in, taps)`` int32.
        depth: the most that it may be.
    """

    def __init__(self, index: Tensor, depth: int) -> None:
        self.index, self.depth = index, depth
        self._places: dict[int, Tensor] = {}

    @property
    def outputs(self) -> int:
        """Output features."""
        return self.index.shape[0]

    @property
    def inputs(self) -> int:
        """Input features."""
        return self.index.shape[1]

    @property
    def taps(self) -> int:
        """Values of the past that a synapse reads."""
        return self.index.shape[2]

    @cached_property
    def by_event(self) -> Tensor:
        """``(in, taps, out)`` int32."""
        return self.index.permute(1, 2, 0).contiguous()

    @cached_property
    def by_output(self) -> Tensor:
        """``(out, taps, in)`` int32."""
        return self.index.transpose(1, 2).contiguous()

    @cached_property
    def by_input(self) -> Tensor:
        """``(in, out, taps)`` int32."""
        return self.index.transpose(0, 1).contiguous()

    def places(self, width: int) -> Tensor:
        """Where a term adds, among steps of ``width`` outputs that begin with that of what it reads: ``(in, taps,
        out)`` int32, steps times ``width`` and the output."""
        if width not in self._places:
            outputs = torch.arange(self.outputs, dtype=torch.int32, device=self.index.device)
            self._places[width] = self.by_event * width + outputs
        return self._places[width]


class LateTarget(Protocol):
    """Computes products whose synapses have delays. Courses ``(T, B, features)`` lie in any order.

    Attributes:
        worth: how many products without delays take as long as a synapse's one value of the past: of fewer different
            delays, a product each is quicker.
        sparse: what computes those of inputs that are mostly zero.
    """

    worth: int

    @property
    def sparse(self) -> LateTarget:
        """See the class."""
        ...

    def fits(self, lags: Lags, steps: int, batch: int) -> bool:
        """Whether a product over so many steps of so many sequences is not too large."""
        ...

    def forward(self, lags: Lags, x: Tensor, past: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """The product ``(T, B, out)``, in any memory order.

        Args:
            lags: what its terms read.
            x: the input, ``(T, B, in)``.
            past: what came before it, ``(depth, B, in)``, oldest first.
            values: what each term is multiplied by, ``(out, in, taps)``.
            bias: ``(out,)``.
        """
        ...

    def expect_gradients(self) -> None:
        """Calls of :meth:`value_gradient` are to follow: a target may get ready."""
        ...

    def input_gradient(self, lags: Lags, values: Tensor, grad: Tensor, early: bool) -> tuple[Tensor, Tensor | None]:
        """Gradients of the input, and where they are wanted of what came before it."""
        ...

    def value_gradient(self, lags: Lags, grad: Tensor, x: Tensor, past: Tensor) -> Tensor:
        """The gradient of the values, ``(out, in, taps)``."""
        ...


def apply_late(
    target: LateTarget, lags: Lags, x: Tensor, past: Tensor, values: Tensor, bias: Tensor | None
) -> Tensor:
    """The product, as :meth:`LateTarget.forward`; differentiable."""
    return _LateProduct.apply(target, lags, x.float(), past.float(), values.float(), _float(bias))


def _float(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.float()


class _LateProduct(Function):
    """The product, and its gradients."""

    @staticmethod
    def forward(
        ctx: Any, target: LateTarget, lags: Lags, x: Tensor, past: Tensor, values: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.target, ctx.lags = target, lags
        need_x, need_past, need_values = ctx.needs_input_grad[2:5]
        learns = need_values and bool(x.shape[0])
        ctx.save_for_backward(
            x if need_values else None, past if need_values else None, values if need_x or need_past else None
        )
        if learns:
            target.expect_gradients()
        return target.forward(lags, x, past, values, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, past, values = ctx.saved_tensors
        _, need_past, need_values, need_bias = ctx.needs_input_grad[2:]
        d_x = d_past = None
        if values is not None:
            d_x, d_past = ctx.target.input_gradient(ctx.lags, values, grad, need_past)
        d_values = ctx.target.value_gradient(ctx.lags, grad, x, past) if need_values else None
        return None, None, d_x, d_past, d_values, grad.sum((0, 1)) if need_bias else None


__all__ = ["Lags", "LateTarget", "apply_late"]
