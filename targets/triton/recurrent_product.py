"""Prints the product inside a recurrent layer: weight times what comes back, in the precision that was chosen.

Tiles are neurons by sequences, so that the weight is the left operand: Hopper's matrix instructions then read it from
shared memory as it lies, and need at least 64 neurons but only 8 sequences.

How a weight is split into float16 parts, and what is lost, says ``targets/triton/split_kernel.py``. What comes back is
one float16 where it is a small whole number, else two as well: scaled by a constant where its type bounds it, by the
largest of its sequence where not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from snncompile.targets.precision import EXACT_IN_HALF, EXACT_IN_HALVES
from snncompile.targets.triton.kernel import Writer

#: Splits a block in two float16: the second holds what rounding the first left.
HALVES = '''@triton.jit
def snn_halves(x):
    """`x`, at most 65504 in magnitude, as the sum of two float16."""
    first = x.to(tl.float16)
    return first, (x - first.to(tl.float32)).to(tl.float16)
'''

#: Powers of two by which a block is scaled so that the largest of each column lies in [2**14, 2**15).
COLUMN_SCALES = '''@triton.jit
def snn_larger(a, b):
    """The larger of two numbers."""
    return tl.maximum(a, b)


@triton.jit
def snn_scales(x):
    """For each column of `x`: a power of two that puts its largest magnitude into [2**14, 2**15), and its inverse."""
    bits = tl.reduce(tl.abs(x).to(tl.int32, bitcast=True), 0, snn_larger)  # ordered like the numbers themselves
    up = tl.minimum(tl.maximum(268 - (bits >> 23), 1), 253)
    return (up << 23).to(tl.float32, bitcast=True), ((254 - up) << 23).to(tl.float32, bitcast=True)
'''


@dataclass(frozen=True)
class Product:
    """How a product is computed.

    Attributes:
        parts: float16 parts of a weight; 0 for a weight in float32.
        operand: what is multiplied: ``"whole"`` (float16 holds it), ``"counts"`` (two float16 of a known scale do) or
            ``"real"`` (any float32 number).
        scale: by what ``"counts"`` are multiplied.
        tf32: whether float32 operands are rounded to TF32.
    """

    parts: int = 0
    operand: str = "real"
    scale: float = 1.0
    tf32: bool = False

    @property
    def helpers(self) -> list[str]:
        """Device functions it calls."""
        if not self.parts or self.operand == "whole":
            return []
        return [HALVES] if self.operand == "counts" else [HALVES, COLUMN_SCALES]


def product_of(precision: str, most: int | None) -> Product:
    """The product for a precision other than ``"auto"``.

    Args:
        precision: one of :data:`snncompile.targets.precision.PRECISIONS`.
        most: the largest value where what comes back is whole numbers from 0 on; None where it is anything.
    """
    if precision in ("float32", "tf32"):
        return Product(tf32=precision == "tf32")
    parts = 1 if precision == "fp16" else 2
    if most is not None and most <= EXACT_IN_HALF:
        return Product(parts, "whole")
    if most is not None and most <= EXACT_IN_HALVES:
        return Product(parts, "counts", 2.0 ** (15 - ceil(log2(most))))
    return Product(parts, "real")


@dataclass(frozen=True)
class Weight:
    """Names of a weight's arguments.

    Attributes:
        pointers: one for each part, or the only one.
        scale: of what each neuron's sum is to be multiplied with, for a weight in parts.
        down: what to multiply a neuron's number with for its place, as ``" * name"``.
        across: likewise, for the number of what comes in.
    """

    pointers: tuple[str, ...]
    scale: str | None
    down: str
    across: str


def weight_arguments(w: Writer, product: Product, rows: bool) -> Weight:
    """Add a weight's arguments to a kernel.

    Args:
        w: the kernel.
        product: how it multiplies.
        rows: for a weight in float32: whether the elements of a row lie one after the other.
    """
    if product.parts:
        about = "of the weight, a row of WIDTH for each neuron"
        names = [w.pointer("weight_high", f"first part {about}", "*fp16")]
        if product.parts == 2:
            names.append(w.pointer("weight_low", f"second part {about}", "*fp16"))
        return Weight(tuple(names), w.pointer("weight_scale", "what undoes their scaling, (N,)"), " * WIDTH", "")
    pointer = w.pointer("weight", "weight (N, N): a row for each output")
    down = w.number(w.names.new("weight_row"), "stride of the weight from row to row")
    if rows:
        return Weight((pointer,), None, f" * {down}", "")
    across = w.number(w.names.new("weight_column"), "stride of the weight from column to column")
    return Weight((pointer,), None, f" * {down}", f" * {across}")


def print_loaded_weight(w: Writer, weight: Weight) -> tuple[str, ...]:
    """Load the whole weight, all of whose places are there; names of the parts."""
    names = ("high", "low")[: len(weight.pointers)]
    w.line(1, "inner = tl.arange(0, WIDTH)")
    for name, pointer in zip(names, weight.pointers, strict=True):
        w.line(1, f"{name} = tl.load({pointer} + column[:, None]{weight.down} + inner[None, :])")
    return names


def print_resident(w: Writer, depth: int, product: Product, parts: tuple[str, ...], value: str) -> None:
    """``product`` = the loaded weight times ``value``, unscaled."""
    if product.operand == "real":
        w.line(depth, f"up, down = snn_scales({value})")
        w.line(depth, f"part, rest = snn_halves({value} * up[None, :])")
    elif product.operand == "counts":
        w.line(depth, f"part, rest = snn_halves({value} * {product.scale!r})")
    else:
        w.line(depth, f"part = {value}.to(tl.float16)")
    _dots(w, depth, product, parts, "product", None)
    if product.operand == "real":
        w.line(depth, "product = product * down[None, :]")
    print_unscaled(w, depth, product)


def print_streamed(
    w: Writer, depth: int, product: Product, weight: Weight, left: str, limit: str, swapped: bool
) -> None:
    """``product`` = the weight times what lies at ``left``, the next INNER of both loaded at a time.

    Args:
        w: the kernel.
        depth: indentation.
        product: how it multiplies.
        weight: its arguments.
        left: where a time step of what comes back lies.
        limit: how much of it there is.
        swapped: for a weight in float32: whether its columns are the neurons (the gradient's product).
    """
    down, across = (weight.across, weight.down) if swapped else (weight.down, weight.across)
    w.line(depth, "product = tl.full((COLUMNS, ROWS), 0.0, tl.float32)")
    w.line(depth, f"for start in range(0, {limit}, INNER):")
    d = depth + 1
    w.line(d, "inner = start + tl.arange(0, INNER)")
    w.line(d, "across = tl.load(")
    w.line(d + 1, f"{left} + inner[:, None] + row[None, :] * N,")
    w.line(d + 1, 'mask=(inner < N)[:, None] & (row < B)[None, :], other=0.0, cache_modifier=".cg",')
    w.line(d, ")")
    if not product.parts:
        w.line(d, "part = tl.load(")
        w.line(d + 1, f"{weight.pointers[0]} + column[:, None]{down} + inner[None, :]{across},")
        w.line(d + 1, "mask=(column < N)[:, None] & (inner < N)[None, :], other=0.0,")
        w.line(d, ")")
        how = "tf32" if product.tf32 else "ieee"
        w.line(d, f'product = tl.dot(part, across, product, input_precision="{how}")')
        return
    names = ("high", "low")[: product.parts]
    for name, pointer in zip(names, weight.pointers, strict=True):
        w.line(d, f"{name} = tl.load({pointer} + column[:, None]{weight.down} + inner[None, :])")
    if product.operand == "real":
        w.line(d, "up, down = snn_scales(across)")
        w.line(d, "part, rest = snn_halves(across * up[None, :])")
        _dots(w, d, product, names, "sums", None)
        w.line(d, "product = product + sums * down[None, :]")
    elif product.operand == "counts":
        w.line(d, f"part, rest = snn_halves(across * {product.scale!r})")
        _dots(w, d, product, names, "product", "product")
    else:
        w.line(d, "part = across.to(tl.float16)")
        _dots(w, d, product, names, "product", "product")
    print_unscaled(w, depth, product)


def print_unscaled(w: Writer, depth: int, product: Product) -> None:
    """Undo the scaling of a product of parts."""
    back = f" * {1.0 / product.scale!r}" if product.scale != 1.0 else ""
    w.line(depth, f"product = product * scale[:, None]{back}")


def _dots(w: Writer, depth: int, product: Product, names: tuple[str, ...], target: str, start: str | None) -> None:
    """``target`` = ``start`` + the products of the parts, without the smallest one."""
    pairs = [(name, "part") for name in names]
    if product.operand != "whole" and product.parts == 2:
        pairs.append((names[0], "rest"))
    for left, right in pairs:
        w.line(depth, f"{target} = tl.dot({left}, {right}{f', {start}' if start else ''})")
        start = target
