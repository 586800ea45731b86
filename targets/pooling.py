"""Pooling by windows that tile the image, on a target that offers it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snncompile.ir.connection import Connection

Size = tuple[int, int]


class Windows(NamedTuple):
    """Pooling of one result of a scan, by windows that tile images without a remainder.

    Attributes:
        result: which result.
        width: of an image.
        size: height and width of a window.
        divisor: what the sum of a window is divided by.
    """

    result: str
    width: int
    size: Size
    divisor: int

    @property
    def area(self) -> int:
        """Neurons of a window."""
        return self.size[0] * self.size[1]

    @property
    def band(self) -> int:
        """Neurons, one after the other, of a row of windows."""
        return self.size[0] * self.width


class PoolTarget(Protocol):
    """Sums over windows that tile an image, divided by a number. All tensors are contiguous float32."""

    def forward(self, x: Tensor, window: Size, divisor: int) -> Tensor:
        """``x (planes, H, W)`` to ``(planes, H // kh, W // kw)``: windows added row by row, as torch adds them."""
        ...

    def backward(self, grad: Tensor, size: Size, window: Size, divisor: int) -> Tensor:
        """The gradient of ``x (planes, *size)``."""
        ...


def tiles(op: Connection) -> bool:
    """Whether ``op`` is a sum or mean over windows that lie side by side: each value is in one of them at most."""
    if op.kind not in ("SumPool2d", "AvgPool2d"):
        return False
    a = op.attrs
    return tuple(a["kernel_size"]) == tuple(a["stride"]) and not any(a["padding"])


def divisor_of(op: Connection) -> int:
    """What the sums of the windows of ``op`` are divided by."""
    height, width = op.attrs["kernel_size"]
    return height * width if op.kind == "AvgPool2d" else 1


def apply_pool(target: PoolTarget, op: Connection, x: Tensor) -> Tensor:
    """The connection on ``x (T, B, C, H, W)``, in the memory order of ``x``."""
    window: Size = tuple(op.attrs["kernel_size"])
    divisor = divisor_of(op)
    batch_first = not x.is_contiguous() and x.transpose(0, 1).is_contiguous()
    ordered = x.transpose(0, 1) if batch_first else x
    planes = ordered.contiguous().flatten(0, 2)
    y = _Pool.apply(target, planes, window, divisor).unflatten(0, ordered.shape[:3])
    return y.transpose(0, 1) if batch_first else y


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target: PoolTarget, x: Tensor, window: Size, divisor: int) -> Tensor:
        ctx.target, ctx.window, ctx.divisor, ctx.size = target, window, divisor, tuple(x.shape[1:])
        return target.forward(x, window, divisor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return None, ctx.target.backward(grad.contiguous(), ctx.size, ctx.window, ctx.divisor), None, None
