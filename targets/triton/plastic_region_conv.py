"""Convolutions inside a region that learns, as its kernel computes them: by arithmetic, without tables of synapses.

An output adds its taps up in the order of channel, row and column, as :func:`snncompile.ir.ordered.ordered_taps` does;
a tap in the padding meets 0.
"""

from __future__ import annotations

from snncompile.targets.sliding import Sliding
from snncompile.targets.triton.plastic_region_writer import RegionWriter

#: Names that mean something in what is printed here.
LOCALS = "k u tap taps row column inside values weights channel place image v"


def taps_of(s: Sliding) -> int:
    """Weights of an output channel."""
    return s.inputs[0] // s.groups * s.taps


def print_taps(
    w: RegionWriter, s: Sliding, x: str, made: str, weight: str, mask: str, bias: str
) -> None:
    """The product of a convolution.

    Args:
        w: the kernel.
        s: its geometry.
        x: where the values of the sequences ``b`` stand.
        made: where the product goes.
        weight: its weight, ``(outs, taps)``.
        mask: what to multiply that with, or "".
        bias: its bias, or "".
    """
    (channels, height, width), (outs, rows, columns) = s.inputs, s.outputs
    line, meet, taps = w.line, meeting(w, s), taps_of(s)
    w.tiles(outs * rows * columns)
    line(3, f"channel = n // {rows * columns}")
    first = "" if s.groups == 1 else f" + channel // {outs // s.groups} * {channels // s.groups * height * width}"
    line(3, f"image = {x}{first}")
    line(3, "total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)")
    line(3, f"for k in range(0, {taps}, AHEAD):")
    line(4, "values = ()")
    line(4, "weights = ()")
    line(4, "for u in tl.static_range(AHEAD):")
    line(5, "tap = k + u")
    line(5, f"inside = there & (tap < {taps})")
    line(5, f"values = values + ({meet}(image, tap, n % {rows * columns}, inside & present),)")
    line(5, f"v = tl.load({weight} + channel * {taps} + tap, mask=inside, other=0.0)")
    if mask:
        line(5, f"v = v * tl.load({mask} + channel * {taps} + tap, mask=inside, other=0.0)")
    line(5, "weights = weights + (v,)")
    line(4, "for u in tl.static_range(AHEAD):")
    line(5, "total = total + weights[u] * values[u]")
    if bias:
        line(3, f"total = total + tl.load({bias} + channel, mask=there, other=0.0)")
    w.store(3, made, "total")


def meeting(w: RegionWriter, s: Sliding) -> str:
    """The function that reads what a tap meets at a place, one of them a block; its name."""
    return w.helper(("meet", *s[:6]), "meet", lambda name: _meet(name, s))


def _meet(name: str, s: Sliding) -> str:
    (_, height, width), (_, _, columns) = s.inputs, s.outputs
    row, column = (
        f"{at}{_times(stride)} + {tap}{_times(apart)}{f' - {around}' if around else ''}"
        for at, tap, stride, apart, around in zip(
            (f"place // {columns}", f"place % {columns}"),
            (f"tap % {s.taps} // {s.kernel[1]}", f"tap % {s.kernel[1]}"),
            s.stride, s.dilation, s.padding, strict=True,
        )
    )  # fmt: skip
    there = f" & (row >= 0) & (row < {height}) & (column >= 0) & (column < {width})" if any(s.padding) else ""
    return f'''@triton.jit
def {name}(x, tap, place, inside):
    """What tap of a window of {s.kernel[0]} x {s.kernel[1]} meets at place in x, {height} x {width}; 0 outside."""
    row = {row}
    column = {column}
    inside = inside{there}
    return tl.load(x + tap // {s.taps} * {height * width} + row * {width} + column, mask=inside, other=0.0)
'''


def _times(factor: int) -> str:
    return f" * {factor}" if factor > 1 else ""
