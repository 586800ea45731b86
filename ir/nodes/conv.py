"""Convolutions."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from snncompile.ir.connection import Connection
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.weights import Weighted, per_dim, share, whole, window_counts
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class _Conv(Weighted):
    dims: ClassVar[int]
    layout: ClassVar[str]

    out_channels: int
    kernel_size: Any
    stride: Any = 1
    padding: Any = 0
    _: KW_ONLY
    dilation: Any = 1
    groups: int = 1
    density: float | None = None

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection with its parameters named after ``owner``."""
        n = self.dims
        out, groups = whole("out_channels", self.out_channels), whole("groups", self.groups)
        if len(x.shape) != n + 1:
            raise ModelError(f"it takes features {self.layout}, not {x.shape}")
        kernel = per_dim("kernel_size", self.kernel_size, n)
        stride = per_dim("stride", self.stride, n)
        dilation = per_dim("dilation", self.dilation, n)
        padding = self._padding(kernel, stride, dilation)
        channels, *size = x.shape
        for what, count in (("the input's", channels), ("out_channels =", out)):
            if count % groups:
                raise ModelError(f"{what} {count} channels cannot be divided into groups={groups}")
        counts = window_counts(tuple(size), kernel, stride, padding, dilation)
        params = self.parameters(owner, (out, channels // groups, *kernel))
        attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        if self.density is not None:
            attrs["density"] = share(self.density)
        return Connection(type(self).__name__, attrs, params, x, SignalType("current", (out, *counts)), (name,))

    def _padding(
        self, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> tuple[int, ...]:
        if not isinstance(self.padding, str):
            return per_dim("padding", self.padding, self.dims, least=0)
        if self.padding != "same":
            raise ModelError(f"padding must be a whole number, {self.dims} of them or 'same', not {self.padding!r}")
        if any(s != 1 for s in stride):
            raise ModelError("padding='same' needs stride 1. Give the padding as a number")
        extra = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(e % 2 for e in extra):
            raise ModelError("padding='same' needs an odd kernel_size, or one side gets more. Give it as a number")
        return tuple(e // 2 for e in extra)


@dataclass(frozen=True, eq=False)
class Conv1d(_Conv):
    """Convolution over the positions of ``(C, L)`` features (not over time), the same at every step.

    Source: ``torch.nn.Conv1d`` (a cross-correlation), with its default initialisation.

    Shapes: input ``(batch, time, C_in, L)``, output ``(batch, time, C_out, L')`` with
    ``L' = (L + 2*padding - dilation*(kernel_size - 1) - 1) // stride + 1``; weight ``(C_out, C_in/groups, kernel)``,
    bias ``(C_out,)``.

    Attributes:
        out_channels: number of output channels.
        kernel_size: width of the kernel.
        stride: distance of windows. Default 1.
        padding: zeros on either side, or ``"same"`` for ``L' = L`` (stride 1, odd kernel). Default 0.
        dilation: distance of kernel elements. Default 1.
        groups: input channels fall into this many groups, each with its own outputs. Default 1.
        bias, init, trainable, mask, sign, density: as in :class:`~snncompile.ir.nodes.connections.Linear`.
    """

    dims = 1
    layout = "(channels, length)"


@dataclass(frozen=True, eq=False)
class Conv2d(_Conv):
    """Convolution over the image ``(C, H, W)``, the same at every step.

    Source: ``torch.nn.Conv2d`` (a cross-correlation), with its default initialisation.

    Shapes: input ``(batch, time, C_in, H, W)``, output ``(batch, time, C_out, H', W')`` with
    ``H' = (H + 2*padding - dilation*(kernel_size - 1) - 1) // stride + 1`` and W' alike; weight
    ``(C_out, C_in/groups, kh, kw)``, bias ``(C_out,)``.

    Attributes:
        out_channels: number of output channels.
        kernel_size: size of the kernel, one number or ``(kh, kw)``, as for the next three.
        stride: distance of windows. Default 1.
        padding: zeros on either side, or ``"same"`` for an output as large as the input (stride 1, odd kernel). Default
            0.
        dilation: distance of kernel elements. Default 1.
        groups: input channels fall into this many groups, each with its own outputs. Default 1.
        bias, init, trainable, mask, sign, density: as in :class:`~snncompile.ir.nodes.connections.Linear`.
    """

    dims = 2
    layout = "(channels, height, width)"
