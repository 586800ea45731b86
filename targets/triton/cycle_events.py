"""Products of a shared cycle that read only what is not zero, from lists of it.

Once a line is made, each sequence and step of it gets a list of the places that are not zero, in order; some program
makes it. A product takes from it one place after the other, and of the weights only the rows of these places. What is
left out would have added zeros, so sums are the same, bit for bit, unless a weight is not finite.

A sparse weight is found by *marks*: for each source, and each 32 outputs, the outputs that it reaches as bits, and the
number of the first of these synapses. Bits below its own tell an output which synapse is its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from snncompile.targets.cycle_plan import Conv, CyclePlan, Product, Read
from snncompile.targets.triton.cycle_products import print_bias, zeros
from snncompile.targets.triton.cycle_shared import SharedWriter

LIST = '''@triton.jit
def snn_sum(a, b):
    """What a sum does with two values."""
    return a + b


@triton.jit
def snn_larger(a, b):
    """The larger of two numbers."""
    return tl.maximum(a, b)


@triton.jit
def snn_list(x, listed, held, size, there, BLOCK: tl.constexpr):
    """List which of the `size` values of x are not zero, in order, and how many these are."""
    count = 0
    for first in range(0, size, BLOCK):
        place = first + tl.arange(0, BLOCK)
        value = tl.load(x + place, mask=there & (place < size), other=0.0)
        found = (value != 0.0).to(tl.int32)
        tl.store(listed + count + tl.associative_scan(found, 0, snn_sum) - 1, place, mask=found != 0)
        count += tl.reduce(found, 0, snn_sum)
    tl.store(held, count, mask=there)
'''

MARKED = '''@triton.jit
def snn_marked(total, x, listed, held, most, marks, weights, words, n, there, AHEAD: tl.constexpr):
    """`total` + what comes over the synapses of the listed places of x."""
    below = (tl.full(n.shape, 1, tl.int64) << (n & 31).to(tl.int64)) - 1
    for k in range(0, most, AHEAD):
        factors = ()
        values = ()
        for u in tl.static_range(AHEAD):
            used = k + u < held
            place = tl.load(listed + (k + u), mask=used, other=0)
            mark = tl.load(marks + place.to(tl.int64) * words + (n >> 5), mask=used & there, other=0)
            bits = (mark & below).to(tl.uint32)
            bits = bits - ((bits >> 1) & 0x55555555)
            bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
            bits = (bits + (bits >> 4)) & 0x0F0F0F0F
            number = (mark >> 32) + ((bits * 0x01010101) >> 24).to(tl.int64)
            reached = ((mark >> (n & 31).to(tl.int64)) & 1) != 0
            factors = factors + (tl.load(weights + number, mask=reached, other=0.0),)
            values = values + (tl.load(x + place, mask=used, other=0.0),)
        for u in tl.static_range(AHEAD):
            total = total + factors[u] * values[u]
    return total
'''

PICKED = '''@triton.jit
def snn_picked(total, x, listed, held, most, weight, width, n, there, AHEAD: tl.constexpr):
    """`total` + the listed places of x @ their rows of weight (size, width)."""
    for k in range(0, most, AHEAD):
        values = ()
        weights = ()
        for u in tl.static_range(AHEAD):
            used = k + u < held
            place = tl.load(listed + (k + u), mask=used, other=0)
            values = values + (tl.load(x + place, mask=used, other=0.0),)
            row = weight + place.to(tl.int64) * width
            weights = weights + (tl.load(row + n, mask=used & there, other=0.0),)
        for u in tl.static_range(AHEAD):
            total = total + values[u] * weights[u]
    return total
'''

#: Values of a line that a program looks at together when it makes a list, at most.
_BLOCK = 1024


def listed_lines(plan: CyclePlan, listed: Iterable[bool]) -> frozenset[int]:
    """The lines of which products read lists."""
    return frozenset(p.read.line for p, it in zip(plan.products, listed, strict=True) if it)


def can_be_listed(product: Product | Conv) -> bool:
    """Whether a product can read a list of what is not zero."""
    return isinstance(product, Product) and product.part == "weight" and product.events


def print_list(w: SharedWriter, line: int) -> None:
    """Make the lists of a line's steps that were just made; and before the first step, of what came before it."""
    it = w.plan.lines[line]
    w.begin_alone(f"{it.key}: what is not zero", [("line", line)], [("list", line)])
    if w.blocks:
        w.block("for r in range(share, (end - start) * ROWS, shares):")
    else:
        w.block("for r in range(share, ROWS, shares):")
    past = w.offset(line, 0)
    now = "start + r // ROWS" if w.blocks else "t"
    for text in _one_list(w, line, f"{now}{past}"):
        w.block(text, 1)
    if past:
        w.begun.append(f"for r in range(share, ({past.removeprefix(' + ')}) * ROWS, shares):")
        w.begun += [f"    {text}" for text in _one_list(w, line, "r // ROWS")]


def _one_list(w: SharedWriter, line: int, number: str) -> list[str]:
    """The list of one sequence and step."""
    size = w.plan.lines[line].size
    x, ring = w.line_of("line", line)
    listed, held, held_ring = _lists(w, line)
    return [
        "c = tile * ROWS + r % ROWS",
        f"given_row = snn_row({x}, {number}, {ring}, B, {size}) + c * {size}",
        f"list_row = snn_row({listed}, {number}, {held_ring}, B, {size}) + c * {size}",
        f"list_held = snn_row({held}, {number}, {held_ring}, B, 1) + c",
        f"snn_list(given_row, list_row, list_held, {size}, c < B, {min(_BLOCK, 1 << (size - 1).bit_length())})",
    ]


def _lists(w: SharedWriter, line: int) -> tuple[str, str, str]:
    it, stem = w.plan.lines[line], w.stem(line)
    listed = w.address(("list", line), f"{stem}_list", f"what of {it.key} is not zero, (rows, B, {it.size})", "*i32")
    held = w.address(("held", line), f"{stem}_held", "how many these are, (rows, B)", "*i32")
    return listed, held, w.integer(("list ring", line), f"{stem}_list_ring", f"rows of {listed} less 1")


def print_listed_product(w: SharedWriter, product: Product, bias: bool) -> None:
    """One step of a product of what is not zero; ``bias``: whether it has one."""
    read, width = product.read, w.plan.lines[product.line].size
    size, key = w.plan.lines[read.line].size, (product.name, product.part)
    reads = [("line", read.line), ("list", read.line)]
    w.begin_step(f"{product.name}: the product, of what is not zero", reads, [("line", product.line)])
    made = w.row("line", Read(product.line))
    x = w.row("line", read)
    listed, held, ring = _lists(w, read.line)
    number = f"t{w.offset(read.line, read.lag)}"
    w.line(2, f"seen = snn_row({listed}, {number}, {ring}, B, {size}) + b * {size}")
    w.line(2, f"held = tl.load(snn_row({held}, {number}, {ring}, B, 1) + b, mask=present, other=0)")
    w.line(2, "most = tl.reduce(tl.reduce(held, 1, snn_larger), 0, snn_larger)")
    added = print_bias(w, product) if bias else ""
    items = [f"{x} + b * {size}", "seen", "held", "most"]
    w.tiles(width)
    if product.sparse:
        about = f"outputs of {product.name} as bits, and first synapses, (in, {words_of(width)})"
        marks = w.address(("marks", *key), f"{product.name}_marks", about, "*i64")
        about = f"weights of {product.name}, in order"
        weights = w.address(("synapse weights", *key), f"{product.name}_weights", about)
        items = [zeros(w), *items, marks, weights, str(words_of(width)), "n", "there", "AHEAD"]
        w.call(3, "total = snn_marked", items)
        if bias:
            w.line(3, f"total = total + {added}")
    else:
        weight = w.address(("weight", *key), f"{product.name}_weight", f"weight of {product.name}, (1, in, out)")
        begin = f"tl.broadcast_to({added}, {w.tile})" if added else zeros(w)
        w.call(3, "total = snn_picked", [begin, *items, weight, str(width), "n", "there", "AHEAD"])
    w.store(3, made, "total")


def words_of(width: int) -> int:
    """Words of 32 outputs."""
    return -(-width // 32)
