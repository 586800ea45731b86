"""Dense connections with sparse inputs, on a target that offers event-driven products."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from snncompile.targets.event_conv import EventConvTarget

#: With fewer steps and sequences, turning the weight costs more than its events save.
LEAST_ROWS = 16


class EventTarget(EventConvTarget, Protocol):
    """Computes products from the inputs that are not zero; convolutions as ``EventConvTarget`` says.

    Rows may also be steps and sequences, ``(T, B, features)``, in any memory order; what comes out has that order.
    """

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x (rows, in)`` times the transpose of ``weight (out, in)``, plus ``bias (out,)``: ``(rows, out)``."""
        ...

    def expect_gradients(self) -> None:
        """A call of :meth:`gradients` is to follow: a target may get ready."""
        ...

    def gradients(self, grad: Tensor, x: Tensor, with_bias: bool) -> tuple[Tensor, Tensor | None]:
        """The transpose of ``grad (rows, out)`` times ``x (rows, in)``: ``(out, in)``; and the sum of ``grad`` over
        its rows, ``(out,)``, where it is asked for."""
        ...


def apply_events(target: EventTarget, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The connection on ``x (T, B, in)``: ``(T, B, out)``, float32, in the memory order of ``x``."""
    return _EventLinear.apply(target, x.float(), weight.float(), None if bias is None else bias.float())


class _EventLinear(Function):
    """The product, and its gradients: event-driven for the weight, dense for the input."""

    @staticmethod
    def forward(ctx: Any, target: EventTarget, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.target = target
        need_x, need_weight = ctx.needs_input_grad[1:3]
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
        if need_weight:
            target.expect_gradients()
        return target.forward(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return None, *gradients(ctx.target, grad, x, weight, ctx.needs_input_grad[1:])


def gradients(
    target: EventTarget | None, grad: Tensor, x: Tensor | None, weight: Tensor | None, needs: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a product's input, weight and bias, as ``needs`` says.

    Args:
        target: computes those of weight and bias where the input is sparse; None is torch.
        grad: the gradient of the product, ``(T, B, out)`` or ``(rows, out)``.
        x: its input, likewise; None where the weight needs no gradient.
        weight: ``(out, in)``; None where the input needs none.
        needs: which gradients are wanted.
    """
    need_x, need_weight, need_bias = needs
    d_x: Tensor | None = None
    d_weight: Tensor | None = None
    d_bias: Tensor | None = None
    if need_weight and target is not None and x is not None:
        d_weight, d_bias = target.gradients(grad, x, need_bias)
    turn = not grad.is_contiguous() and grad.transpose(0, 1).is_contiguous()  # batch first: stay in that order
    flat = grad.transpose(0, 1) if turn else grad
    if need_weight and d_weight is None and x is not None:
        d_weight = flat.flatten(0, -2).t() @ (x.transpose(0, 1) if turn else x).flatten(0, -2)
    if need_bias and d_bias is None:
        d_bias = flat.flatten(0, -2).sum(0)
    if need_x and weight is not None:
        d_x = flat @ weight
    return d_x.transpose(0, 1) if turn and d_x is not None else d_x, d_weight, d_bias
