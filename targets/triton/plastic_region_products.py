"""Prints the products inside a region that learns, whose sums have a defined order (``ir/ordered.py``)."""

from __future__ import annotations

from snncompile.ir.ordered import LANES
from snncompile.targets.cycle_plan import Conv, Product, Read
from snncompile.targets.plastic_plan import PlasticProduct
from snncompile.targets.triton.plastic_region_conv import print_taps, taps_of
from snncompile.targets.triton.plastic_region_learning import Teacher
from snncompile.targets.triton.plastic_region_writer import RegionWriter

#: Names that mean something in what is printed here.
LOCALS = "each out lane lanes rows inside z w x here snn_ordered SEQUENCES OUTS"

ORDERED = f'''@triton.jit
def snn_ordered(
    x, each, size, weight, mask, out, width, B, MASKED: tl.constexpr, SEQUENCES: tl.constexpr, OUTS: tl.constexpr
):
    """What the outputs `out` of the sequences `each`, whose values stand at `x` (size), get: (SEQUENCES, OUTS).

    Input k adds to lane k % {LANES}; then neighbouring lanes are added.
    """
    lane = tl.arange(0, {LANES})
    lanes = tl.full((SEQUENCES, OUTS, {LANES}), 0.0, tl.float32)
    rows = out.to(tl.int64)[:, None] * size + lane[None, :]
    for k in range(0, size, {LANES}):
        there = k + lane < size
        inside = (out < width)[:, None] & there[None, :]
        w = tl.load(weight + rows + k, mask=inside, other=0.0)
        if MASKED:
            w = w * tl.load(mask + rows + k, mask=inside, other=0.0)
        z = tl.load(x[:, None] + k + lane[None, :], mask=(each < B)[:, None] & there[None, :], other=0.0)
        lanes = lanes + w[None, :, :] * z[:, None, :]
    return tl.reshape(snn_tree(tl.reshape(lanes, (SEQUENCES * OUTS, {LANES})), SEQUENCES * OUTS), (SEQUENCES, OUTS))
'''


def print_taught_product(w: RegionWriter, step: PlasticProduct, teacher: Teacher, bias: bool) -> None:
    """A product with a weight that changes; ``bias``: whether it has one."""
    reads = [("line", step.read.line)] if isinstance(step.read, Read) else []
    w.begin_step(f"{step.name}: the product, with the weights before they change", reads, [("line", step.line)])
    made = w.row("line", Read(step.line))
    about = f"bias of {step.name}, ({teacher.shape[0]},)"
    pointer = w.address(("plastic bias", step.name), f"{step.name}_bias", about) if bias else ""
    mask = teacher.fixed.get("mask", "")
    outs, ins = teacher.outs, teacher.ins
    if teacher.sliding is not None:
        x = w.values_of(step.read, ins, "b")
        print_taps(w, teacher.sliding, x, made, teacher.weight, mask, pointer)
        return
    x = w.values_of(step.read, ins, "each")
    w.sequences(outs)
    w.line(3, f"x = {x}")
    w.line(3, f"total = {_sum_up(ins, teacher.weight, outs, mask)}")
    _finish(w, made, outs, pointer)


def print_fixed_conv(w: RegionWriter, step: Conv, bias: bool) -> None:
    """A convolution whose weight stays."""
    key, name, s = (step.name, step.part), step.name, step.sliding
    w.begin_step(f"{name}: the product", [("line", step.read.line)], [("line", step.line)])
    weight = w.address(("ordered weight", *key), f"{name}_weight", f"weight of {name}, ({s.outputs[0]}, {taps_of(s)})")
    pointer = w.address(("bias", *key), f"{name}_bias", f"bias of {name}, ({s.outputs[0]},)") if bias else ""
    made = w.row("line", Read(step.line))
    size = w.plan.lines[step.read.line].size
    print_taps(w, s, w.values_of(step.read, size, "b"), made, weight, "", pointer)


def print_fixed_product(w: RegionWriter, product: Product, bias: bool) -> None:
    """A dense product with a weight that stays: of each lag, added up in their order."""
    key, name = (product.name, product.part), product.name
    size, width = w.plan.lines[product.read.line].size, w.plan.lines[product.line].size
    w.begin_step(f"{name}: the product", [("line", product.read.line)], [("line", product.line)])
    about = f"weight of {name}, (lags, {width}, {size})"
    weight = w.address(("ordered weight", *key), f"{name}_weight", about)
    pointer = w.address(("bias", *key), f"{name}_bias", f"bias of {name}, ({width},)") if bias else ""
    made = w.row("line", Read(product.line))
    if product.part == "weight":
        values = w.values_of(product.read, size, "each")
        w.sequences(width)
        w.line(3, f"x = {values}")
        w.line(3, f"total = {_sum_up(size, weight, width)}")
    else:
        line, ring = w.line_of("line", product.read.line)
        about = f"what to add to a step for each lag of {name}, (lags,)"
        lags = w.address(("lag offsets", *key), f"{name}_lags", about, "*i32")
        count = w.integer(("lags", *key), f"{name}_lag_count", f"lags of {name}")
        w.sequences(width)
        w.line(3, "total = tl.full((SEQUENCES, OUTS), 0.0, tl.float32)")
        w.line(3, f"part = {weight}")
        w.line(3, f"for l in range(0, {count}):")
        w.line(4, f"x = snn_row({line}, t + tl.load({lags} + l), {ring}, B, {size}) + each * {size}")
        w.line(4, f"total = total + {_sum_up(size, 'part', width)}")
        w.line(4, f"part += {width * size}")
    _finish(w, made, width, pointer)


def _sum_up(size: int, weight: str, width: int, mask: str = "") -> str:
    """The expression of an ordered product of the sequences ``each``, whose values stand at ``x``."""
    given = f"x, each, {size}, {weight}, {mask or weight}, out, {width}, B, {bool(mask)}"
    return f"snn_ordered({given}, SEQUENCES, OUTS)"


def _finish(w: RegionWriter, made: str, width: int, bias: str) -> None:
    if bias:
        w.line(3, f"total = total + tl.load({bias} + out, mask=out < {width}, other=0.0)[None, :]")
    w.line(3, f"here = (each < B)[:, None] & (out < {width})[None, :]")
    w.line(3, f"tl.store({made} + each[:, None] * {width} + out[None, :], total, mask=here)")
