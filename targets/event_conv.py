"""Convolutions with sparse inputs, on a target that offers event-driven ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snncompile.ir.connection import Connection
from snncompile.targets.scan import Seen

Size = tuple[int, int]


class Window(NamedTuple):
    """How a kernel goes over an image."""

    stride: Size
    padding: Size
    dilation: Size
    groups: int

    def output(self, size: Sequence[int], kernel: Sequence[int]) -> Size:
        """Height and width of what comes out."""
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return height, width


@dataclass(frozen=True)
class ImageCourse:
    """A convolution of images over time.

    Attributes:
        x: the images, ``(T, B, C, H, W)`` float32, each of them contiguous; or what a delay shows them of, ``(T, B,
            channels)``.
        weight: ``(O, C / groups, kh, kw)``.
        bias: ``(O,)``, or None.
        window: how the kernel goes over an image.
        seen: the delay, or None.
        shown: C, H and W of what it shows.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    window: Window
    seen: Seen | None = None
    shown: tuple[int, ...] = ()

    @property
    def image(self) -> tuple[int, ...]:
        """C, H and W."""
        return self.shown or tuple(self.x.shape[2:])


class EventConvTarget(Protocol):
    """Computes convolutions from the inputs that are not zero. All tensors are float32."""

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
        """``x (images, C, H, W)`` with ``weight (O, C / groups, kh, kw)`` plus ``bias (O,)``: ``(images, O, h, w)``."""
        ...

    def expect_conv_gradients(self, weight: Tensor, window: Window) -> None:
        """A call of :meth:`conv_gradients` is to follow: a target may get ready."""
        ...

    def conv_gradients(self, grad: Tensor, x: Tensor, kernel: Size, window: Window) -> tuple[Tensor, Tensor]:
        """Gradients of weight ``(O, C / groups, kh, kw)`` and bias ``(O,)`` from ``grad (images, O, h, w)``."""
        ...


def window_of(op: Connection) -> Window:
    """The window of a ``Conv2d``; of a ``Conv1d`` that of images of one row."""
    a = op.attrs
    first = {"stride": 1, "padding": 0, "dilation": 1} if op.kind == "Conv1d" else {}
    stride, padding, dilation = (_pair(a[name], first.get(name)) for name in ("stride", "padding", "dilation"))
    return Window(stride, padding, dilation, a["groups"])


def _pair(given: Any, first: int | None) -> Size:
    values = tuple(given) if isinstance(given, Sequence) else (given,)
    height, width = values if first is None else (first, *values)
    return height, width


def apply_event_conv(
    target: EventConvTarget, op: Connection, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """The connection on ``x (T, B, *features)``, float32, in the memory order of ``x``."""
    batch_first = not x.is_contiguous() and x.transpose(0, 1).is_contiguous()
    ordered = (x.transpose(0, 1) if batch_first else x).float()
    weight, bias, images = weight.float(), None if bias is None else bias.float(), ordered.flatten(0, 1)
    flat = op.kind == "Conv1d"
    if flat:
        images, weight = images.unsqueeze(2), weight.unsqueeze(2)
    made = _EventConv.apply(target, window_of(op), images, weight, bias)
    y = (made.squeeze(2) if flat else made).unflatten(0, ordered.shape[:2])
    return y.transpose(0, 1) if batch_first else y


class _EventConv(torch.autograd.Function):
    """The convolution, and its gradients: event-driven for the weight, dense for the input."""

    @staticmethod
    def forward(
        ctx: Any, target: EventConvTarget, window: Window, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.target, ctx.window = target, window
        ctx.save_for_backward(x, weight)
        if ctx.needs_input_grad[3]:
            target.expect_conv_gradients(weight, window)
        return target.conv(x, weight, bias, window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        window: Window = ctx.window
        return None, None, *conv_gradients(ctx.target, grad, x, weight, window, ctx.needs_input_grad[2:])


def conv_gradients(
    target: EventConvTarget, grad: Tensor, x: Tensor, weight: Tensor, window: Window, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a convolution's input, weight and bias, as ``needs`` says, from ``grad (images, O, h, w)``."""
    need_x, need_weight, need_bias = needs
    kernel: Size = tuple(weight.shape[2:])
    d_x = input_gradient(grad, x, weight, window) if need_x else None
    if need_weight:
        d_weight, d_bias = target.conv_gradients(grad, x, kernel, window)
        return d_x, d_weight, d_bias if need_bias else None
    return d_x, None, grad.sum((0, 2, 3)) if need_bias else None


def input_gradient(grad: Tensor, x: Tensor, weight: Tensor, window: Window) -> Tensor:
    """The gradient of a convolution's input ``x`` from ``grad``, dense."""
    if not grad.numel():
        return torch.zeros_like(x)
    ways = (window.stride, window.padding, window.dilation, False, (0, 0), window.groups)
    found: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, None, *ways, (True, False, False))[0]
    return found
