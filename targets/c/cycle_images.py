"""Prints the steps of a cycle that know images, a convolution or a pooling, forward and backward; and Dropout.

Each gets a function of its own for one sequence, with all sizes in it. Convolutions of spikes go from event to event,
as those of whole courses do (:mod:`snncompile.targets.c.events_conv_source`); all else are sums over planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from snncompile.targets.c.cycle_images_source import CONV, IMAGES, MASKS, PLACES, POOLS
from snncompile.targets.c.cycle_writer import CycleWriter
from snncompile.targets.c.events_conv import turned
from snncompile.targets.c.events_conv_source import IMAGE, TURN, Taps, fixed
from snncompile.targets.c.printer import call_lines, safe
from snncompile.targets.cycle_plan import Conv, CyclePlan, Mask, Pool
from snncompile.targets.sliding import Packing, Pass, Sliding

_MACROS = ("OUTPUTS", "KH", "KW", "SH", "SW", "PH", "PW", "DH", "DW", "snn_spread", "snn_conv_image")


def helpers(plan: CyclePlan, forward: bool) -> list[str]:
    """The functions that the steps of ``plan`` call."""
    convs = [s for s in plan.steps if isinstance(s, Conv)]
    pools = [s for s in plan.steps if isinstance(s, Pool)]
    events = forward and any(s.events for s in convs)
    dense = any(not (forward and s.events) for s in convs)
    needed = {
        TURN: events,
        IMAGES: dense or bool(pools),
        CONV: dense,
        POOLS: bool(pools),
        MASKS: bool(plan.masks),
    }
    return [text for text, need in needed.items() if need]


def work_size(plan: CyclePlan, forward: bool) -> int:
    """Values that a thread needs to work in."""
    return max([0, *(_room(s, forward) for s in plan.steps if isinstance(s, Conv | Pool))])


def pool_room(step: Pool) -> int:
    """Values that a thread needs to pool."""
    return _room(step, forward=True)


def _room(step: Conv | Pool, forward: bool) -> int:
    s = step.sliding
    ins, outs = (s.inputs, s.outputs) if forward else (s.outputs, s.inputs)
    if forward and isinstance(step, Conv) and step.events:
        return 2 * (ins[1] * ins[2] + 1) + outs[0] // s.groups * outs[1] * outs[2]
    packing, passes = _ways(s, forward)
    sums = outs[0] // s.groups if isinstance(step, Conv) else 1
    return ins[0] * packing.channel + PLACES + sums * max([0, *(_places(packing, p) for p in passes)])


def conv_table(step: Conv, weight: Tensor, forward: bool) -> Tensor:
    """The weight ``(O, C / groups, kh, kw)`` as the function of ``step`` takes it."""
    s = step.sliding
    if forward:
        return turned(weight, s.groups) if step.events else weight.contiguous()
    taps = weight.unflatten(0, (s.groups, -1)).flatten(3).transpose(1, 2)  # group, input, output, tap
    parts = [taps[..., list(p.taps)].reshape(-1) for p in s.backward()[1]]
    return torch.cat(parts) if parts else weight.new_zeros(0)


def _ways(s: Sliding, forward: bool) -> tuple[Packing, Sequence[Pass]]:
    if forward:
        packing, whole = s.forward()
        return packing, (whole,)
    return s.backward()


def _places(packing: Packing, part: Pass) -> int:
    """Values of a plane of results: from the first to the last, and some more."""
    return -(-((part.size[0] - 1) * packing.plane[1] + part.size[1]) // PLACES) * PLACES


def conv_forward(w: CycleWriter, step: Conv) -> None:
    """Print a convolution."""
    weight = w.pointer(("weight", step.name, step.part), f"{step.name}_weight", f"weight of {step.name}")
    bias = w.pointer(("bias", step.name, step.part), f"{step.name}_bias", f"bias of {step.name}, or nothing")
    name = w.new(f"{step.name}_image")
    w.rows.append((_event_image if step.events else _dense_image)(w, name, step))
    w.each_sequence(3, name, [w.row("line", *step.read), weight, bias, w.work(), w.row("line", step.line)])


def _function(name: str, about: str, inputs: Iterable[str], lines: Iterable[str]) -> str:
    declared = [*(f"const float *restrict {x}" for x in inputs), "float *restrict work", "float *restrict to"]
    return "\n".join([f"/* {safe(about)} */", *call_lines(f"SNN_APART void {name}", declared), "{", *lines, "}", ""])


def _event_image(w: CycleWriter, name: str, step: Conv) -> str:
    """A convolution from its events."""
    s = step.sliding
    taps = Taps(s.outputs[0] // s.groups, s.kernel, s.stride, s.padding, s.dilation)
    spread, image = w.new(f"{name}_spread"), w.new(f"{name}_one")
    plane = s.inputs[1] * s.inputs[2] + 1
    sizes = (s.groups, s.inputs[0] // s.groups, *s.inputs[1:], *s.outputs[1:])
    items = ["x", "weight", "bias", "(int32_t *)work", f"work + {plane}", f"work + {2 * plane}", "to"]
    call = call_lines(image, [*items, *map(str, sizes)], 1, ";")
    return "\n".join([
        fixed(taps) + f"#define snn_spread {spread}",
        f"#define snn_conv_image {image}",
        IMAGE + "\n".join(f"#undef {macro}" for macro in _MACROS),
        "",
        _function(name, f"The convolution {step.name} of one sequence.", ("x", "weight", "bias"), call),
    ])


def _dense_image(w: CycleWriter, name: str, step: Conv) -> str:
    """A convolution of what may be anything."""
    s = step.sliding
    (packing, whole), outs = s.forward(), s.outputs[0] // s.groups
    count, places, size = s.inputs[0] // s.groups * s.taps, _places(packing, whole), s.outputs[1] * s.outputs[2]
    lines = [
        *_packed("x", s.inputs, packing, "0.0f"),
        _offsets(0, whole),
        f"    float *sums = work + {s.inputs[0] * packing.channel + PLACES};",
        f"    for (int64_t g = 0; g < {s.groups}; g++) {{",
        f"        for (int64_t o = 0; o < {outs}; o++)",
        f"            snn_fill(sums + o * {places}, bias ? bias[g * {outs} + o] : 0.0f, {places});",
        *call_lines(
            "snn_conv_planes",
            [
                f"work + g * {s.inputs[0] // s.groups * packing.channel}", "offsets_0", str(s.taps),
                str(packing.channel), str(count), f"weight + g * {outs * count}", str(outs), str(places), "sums",
            ],
            2,
            ";",
        ),
        *_unpacked(outs, packing, whole, 1, f"to + g * {outs * size}"),
        "    }",
    ]  # fmt: skip
    return _function(name, f"The convolution {step.name} of one sequence.", ("x", "weight", "bias"), lines)


def conv_backward(w: CycleWriter, step: Conv) -> None:
    """Print what a convolution adds to the gradient of what it reads."""
    key = ("weight back", step.name, step.part)
    weight = w.pointer(key, f"{step.name}_weight", f"weight of {step.name}, for each pass (in, out, taps)")
    s = step.sliding
    packing, passes = s.backward()
    ins, outs = s.inputs[0] // s.groups, s.outputs[0] // s.groups
    lines = _packed("grad", s.outputs, packing, "0.0f")
    lines.append(f"    float *sums = work + {s.outputs[0] * packing.channel + PLACES};")
    lines += [_offsets(i, part) for i, part in enumerate(passes)]
    lines.append(f"    for (int64_t g = 0; g < {s.groups}; g++) {{")
    at = 0
    for i, part in enumerate(passes):
        count, places = outs * len(part.taps), _places(packing, part)
        items = [
            f"work + g * {outs * packing.channel}", f"offsets_{i}", str(len(part.taps)), str(packing.channel),
            str(count), f"weight + {at} + g * {ins * count}", str(ins), str(places), "sums",
        ]  # fmt: skip
        lines.append(f"        snn_fill(sums, 0.0f, {ins * places});")
        lines += call_lines("snn_conv_planes", items, 2, ";")
        lines += _added(ins, packing, part, 1, s, f"to + g * {ins * s.inputs[1] * s.inputs[2]}")
        at += s.inputs[0] * count
    lines.append("    }")
    name = w.new(f"{step.name}_back")
    w.rows.append(_function(name, f"The gradient of {step.name} of one sequence.", ("grad", "weight"), lines))
    w.each_sequence(3, name, [w.row("grad", step.line), weight, w.work(), w.row("grad", *step.read)])


def pool_forward(w: CycleWriter, step: Pool) -> None:
    """Print a pooling."""
    s = step.sliding
    packing, whole = s.forward()
    channels, places, size = s.inputs[0], _places(packing, whole), s.outputs[1] * s.outputs[2]
    head = "snn_most_planes" if step.most else "snn_pool_planes"
    lines = [
        *_packed("x", s.inputs, packing, "-INFINITY" if step.most else "0.0f"),
        _offsets(0, whole),
        f"    float *sums = work + {channels * packing.channel + PLACES};",
        f"    for (int64_t c = 0; c < {channels}; c++) {{",
        f"        {head}(work + c * {packing.channel}, offsets_0, {s.taps}, {places}, sums);",
        *_unpacked(1, packing, whole, s.divisor, f"to + c * {size}"),
        "    }",
    ]
    name = w.new(f"{step.name}_image")
    w.rows.append(_function(name, f"The pooling {step.name} of one sequence.", ("x",), lines))
    w.each_sequence(3, name, [w.row("line", *step.read), w.work(), w.row("line", step.line)])


def pool_backward(w: CycleWriter, step: Pool) -> None:
    """Print what a pooling adds to the gradient of what it reads."""
    s = step.sliding
    given, to = w.row("grad", step.line), w.row("grad", *step.read)
    if step.most:
        sizes = (*s.inputs, *s.outputs[1:], *s.kernel, *s.stride, *s.padding)
        w.each_sequence(3, "snn_most_back", [w.row("line", *step.read), given, *map(str, sizes), to])
        return
    packing, passes = s.backward()
    lines = _packed("grad", s.outputs, packing, "0.0f")
    lines.append(f"    float *sums = work + {s.outputs[0] * packing.channel + PLACES};")
    lines += [_offsets(i, part) for i, part in enumerate(passes)]
    lines.append(f"    for (int64_t c = 0; c < {s.inputs[0]}; c++) {{")
    for i, part in enumerate(passes):
        places = _places(packing, part)
        lines.append(
            f"        snn_pool_planes(work + c * {packing.channel}, offsets_{i}, {len(part.taps)}, {places}, sums);"
        )
        lines += _added(1, packing, part, s.divisor, s, f"to + c * {s.inputs[1] * s.inputs[2]}")
    lines.append("    }")
    name = w.new(f"{step.name}_back")
    w.rows.append(_function(name, f"The gradient of {step.name} of one sequence.", ("grad",), lines))
    w.each_sequence(3, name, [given, w.work(), to])


def mask_forward(w: CycleWriter, step: Mask) -> None:
    """Print a Dropout."""
    items = [w.row("line", step.line), w.row("line", *step.read), *_mask(w, step)]
    w.each_sequence(3, "snn_masked", items)


def mask_backward(w: CycleWriter, step: Mask) -> None:
    """Print what a Dropout adds to the gradient of what it reads."""
    items = [w.row("grad", *step.read), w.row("grad", step.line), *_mask(w, step)]
    w.each_sequence(3, "snn_masked_back", items)


def _mask(w: CycleWriter, step: Mask) -> list[str]:
    size = w.plan.lines[step.line].size
    mask = w.pointer(("mask", step.name), f"{step.name}_mask", f"what {step.name} multiplies with, (B, N)")
    return [f"{mask} + b * {size}", str(size)]


def _offsets(index: int, part: Pass) -> str:
    return f"    static const int32_t offsets_{index}[] = {{{', '.join(map(str, part.offsets))}}};"


def _packed(x: str, image: tuple[int, int, int], packing: Packing, outside: str) -> list[str]:
    sizes = (*image, *packing.first, *packing.apart, *packing.plane)
    return call_lines("snn_pack", [x, *map(str, sizes), outside, "work"], 1, ";")


def _unpacked(channels: int, packing: Packing, part: Pass, divisor: int, to: str) -> list[str]:
    sizes = (channels, _places(packing, part), *part.size, packing.plane[1])
    return call_lines("snn_unpack", ["sums", *map(str, sizes), f"{divisor}.0f", to], 2, ";")


def _added(channels: int, packing: Packing, part: Pass, divisor: int, s: Sliding, to: str) -> list[str]:
    sizes = (channels, _places(packing, part), *part.size, packing.plane[1])
    where = (*part.start, *part.apart, *s.inputs[1:])
    items = ["sums", *map(str, sizes), f"{divisor}.0f", *map(str, where), to]
    return call_lines("snn_unpack_add", items, 2, ";")
