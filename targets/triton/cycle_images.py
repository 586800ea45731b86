"""The steps of a cycle that know images, as its kernels take them: by synapse; and Dropout.

A convolution is a product over synapses whose weights are taps of its kernel, and so is a sum over windows, whose
weights are all 1. The largest value of a window comes over the same synapses; backward, what a window's value was
taken from is noted first, and then asked by everything that it could have been.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from snncompile.targets.cycle_plan import Conv, CyclePlan, Mask, Pool, Product, Read
from snncompile.targets.cycle_weights import Synapses, Weights
from snncompile.targets.sliding import Sliding
from snncompile.targets.triton.cycle_products import print_product, print_product_back, synapse_table
from snncompile.targets.triton.cycle_writer import CycleWriter

MOST = '''@triton.jit
def snn_most(total, x, size, most, sources, width, b, n, there, present):
    """The largest value of each window, begun with `total`, and the place in x of the first that is so large."""
    place = tl.full(total.shape, -1, tl.int32)
    for k in range(0, most):
        source = tl.load(sources + k * width + n, mask=there, other=-1)
        used = present & (source >= 0)
        value = tl.load(x + b * size + source, mask=used, other=float("-inf"))
        larger = used & ((value > total) | (value != value))
        total = tl.where(larger, value, total)
        place = tl.where(larger, source, place)
    return total, place
'''

PICK = '''@triton.jit
def snn_pick(total, grad, places, size, most, targets, width, source, b, n, there, present):
    """`total` + the gradient of those windows whose value was taken from `source`."""
    for k in range(0, most):
        target = tl.load(targets + k * width + n, mask=there, other=-1)
        used = present & (target >= 0)
        place = tl.load(places + b * size + target, mask=used, other=-1)
        total = total + tl.load(grad + b * size + target, mask=used & (place == source), other=0.0)
    return total
'''


def image_helpers(plan: CyclePlan) -> list[str]:
    """The device functions that poolings of ``plan`` call."""
    return [MOST, PICK] if any(isinstance(s, Pool) and s.most for s in plan.steps) else []


def sliding_synapses(sliding: Sliding, device: torch.device) -> tuple[Synapses, Tensor]:
    """The synapses of a convolution or pooling, and the number of each one's weight ``(O, C / groups, kh, kw)``."""
    with torch.inference_mode(False):  # kept for a run that trains, too
        return _synapses(sliding, device)


@lru_cache(maxsize=64)
def _synapses(s: Sliding, device: torch.device) -> tuple[Synapses, Tensor]:
    (channels, height, width), (outputs, rows, columns) = s.inputs, s.outputs
    each, made = channels // s.groups, outputs // s.groups

    def reached(count: int, axis: int) -> Tensor:
        places = torch.arange(count, device=device).unsqueeze(1) * s.stride[axis] - s.padding[axis]
        return places + torch.arange(s.kernel[axis], device=device) * s.dilation[axis]

    out = torch.arange(outputs, device=device)
    channel = (out // max(made, 1) * each).unsqueeze(1) + torch.arange(each, device=device)
    y, x = reached(rows, 0)[:, None, None, :, None], reached(columns, 1)[:, None, None, :]
    source = (channel[:, None, None, :, None, None] * height + y) * width + x  # (O, rows, columns, C, kh, kw)
    inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).expand(source.shape)
    taps = torch.arange(each * s.taps, device=device).reshape(each, *s.kernel)
    number = out.reshape(-1, 1, 1, 1, 1, 1) * (each * s.taps) + taps
    target = torch.arange(outputs * rows * columns, device=device).reshape(outputs, rows, columns, 1, 1, 1)
    source, number, target = (v.expand(inside.shape)[inside] for v in (source, number, target))
    order = torch.argsort(source * (outputs * rows * columns) + target)
    groups, counts = torch.unique_consecutive(source[order], return_counts=True)
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    first = torch.tensor([0, len(groups)], device=device)
    starts = torch.cat([zero, counts.cumsum(0)])
    return Synapses(first, groups.int(), starts, target[order].int()), number[order]


def conv_by_synapse(step: Conv, w: Weights) -> Weights:
    """The weights of a convolution as those of its synapses."""
    synapses, number = sliding_synapses(step.sliding, w.values.device)
    size = step.sliding.outputs[1] * step.sliding.outputs[2]
    bias = None if w.bias is None else w.bias.detach().repeat_interleave(size)
    return Weights(w.lags, w.values.detach().flatten()[number], bias, synapses)


def pool_by_synapse(step: Pool, device: torch.device) -> Weights:
    """The weights of a pooling as those of its synapses."""
    synapses, number = sliding_synapses(step.sliding, device)
    return Weights((0,), torch.ones(len(number), device=device), None, synapses)


def as_product(step: Conv | Pool) -> Product:
    """The same as a product over synapses."""
    return Product(step.name, "weight", True, step.read, step.line, events=False)


def print_image_step(w: CycleWriter, step: Conv | Pool | Mask, bias: bool) -> None:
    """One step of a convolution (``bias``: whether it has one), a pooling or a Dropout."""
    if isinstance(step, Mask):
        _mask(w, step, "line")
    elif isinstance(step, Pool) and step.most:
        w.begin_step(f"{step.name}: the largest values", [("line", step.read.line)], [("line", step.line)])
        made = w.row("line", Read(step.line))
        _most(w, step)
        w.store(3, made, "total")
    else:
        print_product(w, as_product(step), bias, _divisor(step))


def print_image_step_back(w: CycleWriter, step: Conv | Pool | Mask) -> None:
    """Its gradient, for what it reads."""
    if isinstance(step, Mask):
        _mask(w, step, "grad")
    elif isinstance(step, Pool) and step.most:
        _most_back(w, step)
    else:
        print_product_back(w, as_product(step), _divisor(step))


def _divisor(step: Conv | Pool) -> int:
    return step.sliding.divisor if isinstance(step, Pool) else 1


def _mask(w: CycleWriter, step: Mask, what: str) -> None:
    size = w.plan.lines[step.line].size
    about = f"what {step.name} multiplies with, (B, {size})"
    mask = w.address(("mask", step.name), f"{step.name}_mask", about)
    source, to = (step.read, Read(step.line)) if what == "line" else (Read(step.line), step.read)
    w.begin_step(f"{step.name}: what it leaves", [(what, source.line)], [(what, to.line)])
    given, made = w.row(what, source), w.row(what, to)
    w.tiles(size)
    w.load(3, "value", given)
    w.load(3, "total", mask)
    (w.store if what == "line" else w.add)(3, made, "total * value")


def _most(w: CycleWriter, step: Pool) -> None:
    """Open the tiles of windows; the largest values are ``total``, and where they stood ``place``."""
    product, width = as_product(step), w.plan.lines[step.line].size
    x, size = w.row("line", step.read), w.plan.lines[step.read.line].size
    most = w.integer(("most", step.name, "weight"), f"{step.name}_most", f"most values of a window of {step.name}")
    sources = synapse_table(w, product, "sources")
    w.tiles(width)
    begun = f'tl.full({w.tile}, float("-inf"), tl.float32)'
    items = [begun, x, str(size), most, sources, str(width), "b", "n", "there", "present"]
    w.call(3, "total, place = snn_most", items)


def _most_back(w: CycleWriter, step: Pool) -> None:
    key, name = (step.name, "weight"), step.name
    width = w.plan.lines[step.line].size
    about = f"where the values of {name} stood, (B, {width})"
    places = w.address(("places", name), f"{name}_places", about, "*i32")
    w.begin_step(f"{name}: where the largest values stood", [("line", step.read.line)], [])
    _most(w, step)
    w.store(3, places, "place")
    w.barrier("places are read")
    w.begin_step(f"{name}: the gradient of the largest values", [("grad", step.line)], [("grad", step.read.line)])
    given, to = w.row("grad", Read(step.line)), w.row("grad", step.read)
    groups = w.integer(("groups", *key), f"{name}_groups", f"values that windows of {name} have")
    most = w.integer(("most back", *key), f"{name}_most", f"most windows of {name} that have a value")
    targets = w.address(("targets", *key), f"{name}_targets", "the windows that have each, (most, groups)", "*i32")
    sources = w.address(("group sources", *key), f"{name}_sources", "which value each is, (groups,)", "*i32")
    w.tiles(groups)
    w.line(3, f"source = tl.load({sources} + n, mask=there, other=-1)")
    w.line(3, f"to = {to} + b * {w.plan.lines[step.read.line].size} + source")
    begun = "tl.load(to, mask=active, other=0.0)"
    items = [begun, given, places, str(width), most, targets, groups, "source", "b", "n", "there", "present"]
    w.call(3, "total = snn_pick", items)
    w.line(3, "tl.store(to, total, mask=active)")
