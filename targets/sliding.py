"""Windows that slide over images, as sums over planes: what convolutions and poolings have in common.

An image is copied into planes with room around, one for each place of the stride. Then a tap of the window is the plane
a fixed distance on, for all places of the result at once: places lie in rows of the plane's pitch, and what comes out
between the rows' ends and the next ones' beginnings is not used. The gradient of the image is a sum over planes of the
gradient, likewise, one for each place of the stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from snncompile.ir.connection import Connection
from snncompile.targets.event_conv import Size, window_of
from snncompile.targets.pooling import divisor_of


class Packing(NamedTuple):
    """How a channel of an image lies in planes.

    Attributes:
        first: where its first value stands, in rows and columns of the planes taken together.
        apart: height and width of what is divided: value ``(y, x)`` is on plane
            ``(first + (y, x)) % apart``, there at ``(first + (y, x)) // apart``.
        plane: rows of a plane, and their pitch.
    """

    first: Size
    apart: Size
    plane: Size

    @property
    def channel(self) -> int:
        """Values of a channel's planes."""
        return self.apart[0] * self.apart[1] * self.plane[0] * self.plane[1]


class Pass(NamedTuple):
    """Some places of the result: those at ``start``, and every ``apart`` from there.

    Attributes:
        start: the first of them.
        apart: how far they are from each other.
        size: rows and columns of them.
        taps: what they read, as numbers of taps, row by row.
        offsets: where in a channel's planes, from a place on.
    """

    start: Size
    apart: Size
    size: Size
    taps: tuple[int, ...]
    offsets: tuple[int, ...]


class Sliding(NamedTuple):
    """A convolution's or pooling's geometry; sizes are height and width.

    Attributes:
        inputs: channels of the input, height and width.
        outputs: the same of the output.
        kernel: size of the window.
        stride: distance of windows.
        padding: zeros on either side.
        dilation: distance of taps.
        groups: into which channels fall.
        divisor: what a pooled sum is divided by.
    """

    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    kernel: Size
    stride: Size
    padding: Size
    dilation: Size
    groups: int
    divisor: int = 1

    def forward(self) -> tuple[Packing, Pass]:
        """How the image lies, and what the result reads of it."""
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = self.kernel, self.stride, self.padding, self.dilation
        (_, height, width), (_, rows, columns) = self.inputs, self.outputs
        plane = (
            max((height - 1 + ph) // sh + 1, rows + (kh - 1) * dh // sh),
            max((width - 1 + pw) // sw + 1, columns + (kw - 1) * dw // sw),
        )
        offsets = tuple(
            ((a * dh % sh * sw + b * dw % sw) * plane[0] + a * dh // sh) * plane[1] + b * dw // sw
            for a in range(kh)
            for b in range(kw)
        )
        whole = Pass((0, 0), (1, 1), (rows, columns), tuple(range(kh * kw)), offsets)
        return Packing((ph, pw), (sh, sw), plane), whole

    def backward(self) -> tuple[Packing, tuple[Pass, ...]]:
        """How the gradient of the result lies, and what that of the image reads of it: a pass for each place of the
        stride that a window reaches."""
        down, across = (
            _reached(self.inputs[i + 1], self.kernel[i], self.stride[i], self.padding[i], self.dilation[i])
            for i in (0, 1)
        )
        first = tuple(max([0, *(-by for _, _, taps in axis for _, by in taps)]) for axis in (down, across))
        plane = tuple(
            max([f + n, *(f + size + by for _, size, taps in axis for _, by in taps)])
            for axis, f, n in zip((down, across), first, self.outputs[1:], strict=True)
        )
        passes = []
        for y, rows, in_rows in down:
            for x, columns, in_columns in across:
                taps = [(a * self.kernel[1] + b, i, j) for a, i in in_rows for b, j in in_columns]
                offsets = tuple((first[0] + i) * plane[1] + first[1] + j for _, i, j in taps)
                passes.append(Pass((y, x), self.stride, (rows, columns), tuple(t for t, _, _ in taps), offsets))
        return Packing(_size(first), (1, 1), _size(plane)), tuple(passes)

    @property
    def taps(self) -> int:
        """Taps of the window."""
        return self.kernel[0] * self.kernel[1]


def _reached(
    size: int, kernel: int, stride: int, padding: int, dilation: int
) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Of one axis of an image, for each place of the stride: where it begins, how many there are, and the taps by which
    windows reach them, each with how much further than it the window stands."""
    found = []
    for start in range(min(stride, size)):
        reach = [(a, start + padding - a * dilation) for a in range(kernel)]
        taps = [(a, by // stride) for a, by in reach if by % stride == 0]
        if taps:
            found.append((start, -(-(size - start) // stride), taps))
    return found


def sliding_of(op: Connection) -> Sliding:
    """The geometry of a convolution or pooling; an image of a ``Conv1d`` has one row."""
    flat = (1,) if op.kind == "Conv1d" else ()
    inputs, outputs = ((shape[0], *flat, *shape[1:]) for shape in (op.input.shape, op.output.shape))
    if op.kind in ("Conv1d", "Conv2d"):
        window = window_of(op)
        size = _size((*flat, *op.params["weight"].shape[2:]))
        return Sliding(inputs, outputs, size, window.stride, window.padding, window.dilation, window.groups)
    kernel, stride, padding = (_size(op.attrs[name]) for name in ("kernel_size", "stride", "padding"))
    return Sliding(inputs, outputs, kernel, stride, padding, (1, 1), inputs[0], divisor_of(op))


def _size(given: Sequence[Any]) -> Size:
    height, width = given
    return height, width
