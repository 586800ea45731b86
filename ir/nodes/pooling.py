"""Pooling over images."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from snncompile.ir.connection import Connection
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.weights import ConnectionNode, per_dim, window_counts
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class _Pool2d(ConnectionNode):
    kernel_size: Any
    stride: Any = None
    padding: Any = 0

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection."""
        if len(x.shape) != 3:
            raise ModelError(f"it takes features (channels, height, width), not {x.shape}")
        kernel = per_dim("kernel_size", self.kernel_size, 2)
        stride = kernel if self.stride is None else per_dim("stride", self.stride, 2)
        padding = per_dim("padding", self.padding, 2, least=0)
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise ModelError(f"padding {padding} is more than half of kernel_size {kernel}")
        counts = window_counts(x.shape[1:], kernel, stride, padding, (1, 1))
        attrs = {"kernel_size": kernel, "stride": stride, "padding": padding}
        out = self.pooled(x, (x.shape[0], *counts), prod(kernel))
        return Connection(type(self).__name__, attrs, {}, x, out, (name,))

    def pooled(self, x: SignalType, shape: tuple[int, ...], area: int) -> SignalType:
        """The type of the output."""
        raise TypeError(f"{type(self).__name__} does not say what it gives")


@dataclass(frozen=True, eq=False)
class SumPool2d(_Pool2d):
    """Sum over windows of an image: spikes stay spikes, with a higher maximum.

    Source: Sinabs' ``SumPool2d``; NIR's primitive of that name.

    Shapes: input ``(batch, time, C, H, W)``, output ``(batch, time, C, H', W')`` with
    ``H' = (H + 2*padding - kernel_size) // stride + 1`` and W' alike.

    Attributes:
        kernel_size: size of a window, one number or ``(kh, kw)``, as for the next two.
        stride: distance of windows. Default: ``kernel_size``.
        padding: zeros on either side, at most half of ``kernel_size``. Default 0.
    """

    def pooled(self, x: SignalType, shape: tuple[int, ...], area: int) -> SignalType:
        """Spikes of a higher maximum, or what came in."""
        return SignalType(x.kind, shape, None if x.max is None else x.max * area)


@dataclass(frozen=True, eq=False)
class AvgPool2d(_Pool2d):
    """Mean over windows of an image; padded zeros count.

    Source: ``torch.nn.AvgPool2d`` with its defaults. Shapes and attributes as in :class:`SumPool2d`; the output is a
    current.
    """

    def pooled(self, x: SignalType, shape: tuple[int, ...], area: int) -> SignalType:
        """A current: the mean of spikes is no whole number."""
        return SignalType("current", shape)


@dataclass(frozen=True, eq=False)
class MaxPool2d(_Pool2d):
    """Maximum over windows of an image; padding never wins.

    Source: ``torch.nn.MaxPool2d`` with its defaults. Shapes and attributes as in :class:`SumPool2d`; spikes stay spikes
    with the same maximum.
    """

    def pooled(self, x: SignalType, shape: tuple[int, ...], area: int) -> SignalType:
        """What came in."""
        return SignalType(x.kind, shape, x.max)
