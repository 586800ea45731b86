"""Dense connections with sparse inputs, on a target that offers event-driven products."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: With fewer steps and sequences, turning the weight costs more than its events save.
LEAST_ROWS = 16


class EventTarget(Protocol):
    """Computes products from the inputs that are not zero."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x (rows, in)`` times the transpose of ``weight (out, in)``, plus ``bias (out,)``: ``(rows, out)``."""
        ...

    def weight_gradient(self, grad: Tensor, x: Tensor) -> Tensor:
        """The transpose of ``grad (rows, out)`` times ``x (rows, in)``: ``(out, in)``."""
        ...


def apply_events(target: EventTarget, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The connection on ``x (T, B, in)``: ``(T, B, out)``, float32, in the memory order of ``x``."""
    weight, bias = weight.float(), None if bias is None else bias.float()
    batch_first = not x.is_contiguous() and x.transpose(0, 1).is_contiguous()
    ordered = (x.transpose(0, 1) if batch_first else x).float()
    y = _EventLinear.apply(target, ordered.flatten(0, 1), weight, bias).unflatten(0, ordered.shape[:2])
    return y.transpose(0, 1) if batch_first else y


class _EventLinear(torch.autograd.Function):
    """The product, and its gradients: event-driven for the weight, dense for the input."""

    @staticmethod
    def forward(ctx: Any, target: EventTarget, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.target = target
        ctx.save_for_backward(x, weight)
        return target.forward(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        _, need_x, need_weight, need_bias = ctx.needs_input_grad
        return (
            None,
            grad @ weight if need_x else None,
            ctx.target.weight_gradient(grad, x) if need_weight else None,
            grad.sum(0) if need_bias else None,
        )
