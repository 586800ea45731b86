"""Prints the convolutions of a plastic region: those that learn, and those that do not."""

from __future__ import annotations

from math import prod

from torch import Tensor
from torch.nn.functional import pad

from snncompile.ir.plasticity import FACTORS
from snncompile.targets.c.cycle_writer import CycleWriter
from snncompile.targets.c.plastic_conv_parts import print_conv_learning, print_conv_synapses
from snncompile.targets.c.plastic_conv_source import CHANGE, CHANNEL_PAD, MASKED, PRODUCT, constants, room_of
from snncompile.targets.c.plastic_region_conv_source import IMAGE, MASKED_TAPS, NAMES, PART, STEP, TAPS, own_names
from snncompile.targets.c.plastic_region_learning import Learning
from snncompile.targets.c.printer import call_lines, safe
from snncompile.targets.cycle_plan import Conv
from snncompile.targets.plastic_fields import Fields, fields_of
from snncompile.targets.plastic_plan import PlasticPlan, PlasticProduct
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.sliding import Sliding


def fields_of_group(s: Sliding) -> Fields:
    """Which input meets which output in one group of a convolution."""
    outs, channels = s.outputs[0] // s.groups, s.inputs[0] // s.groups
    sizes = s.kernel, s.stride, s.padding, s.dilation
    return Fields(channels, s.inputs[1:], outs, s.outputs[1:], *sizes)


def wide_of(outs: int) -> tuple[int, int]:
    """What the output channels of a group that does not learn are padded to a multiple of, and so to how many."""
    least = min(CHANNEL_PAD, 1 << (outs - 1).bit_length())
    return least, -(-outs // least) * least


def taps_of(step: Conv, weight: Tensor) -> Tensor:
    """A weight that stays, ``(O, C / groups, kh, kw)``, as its function takes it: ``(groups, taps, wide)``."""
    outs = step.sliding.outputs[0] // step.sliding.groups
    taps = weight.flatten(1).unflatten(0, (-1, outs)).transpose(1, 2)
    return pad(taps, (0, wide_of(outs)[1] - outs)).contiguous()


def fixed_room(step: Conv) -> int:
    """Numbers that the function of a convolution that stays works in."""
    s = step.sliding
    return prod(s.outputs[1:]) * wide_of(s.outputs[0] // s.groups)[1]


def learning_room(rule: PlasticRule) -> int:
    """Numbers that each thread works in for a convolution that learns; 0 where the connection is none.

    It suffices for all output channels: OpenMP may start fewer threads than are asked for, and each then has more.
    """
    fields = fields_of(rule.node)
    return 0 if fields is None else room_of(fields, -(-fields.outs // CHANNEL_PAD) * CHANNEL_PAD)


def _end(w: CycleWriter, name: str) -> str:
    """What the names of a convolution end in."""
    wanted = name
    while True:
        end = w.new(f"{wanted}_image")
        if all(w.names.new(f"{n}_{end}") == f"{n}_{end}" for n in NAMES.split()):
            return end
        wanted += "_"


def fixed_conv(w: CycleWriter, step: Conv) -> None:
    """Print a convolution that does not learn."""
    fields = fields_of_group(step.sliding)
    least, wide = wide_of(fields.outs)
    key, end = (step.name, step.part), _end(w, step.name)
    about = f"weight of {step.name}, ({step.sliding.groups}, {fields.taps}, {wide})"
    weight = w.pointer(("weight", *key), f"{step.name}_weight", about)
    about = f"whether a weight of {step.name} is infinite or none"
    wild = w.number(("wild", *key), f"{step.name}_wild", about)
    bias = w.pointer(("bias", *key), f"{step.name}_bias", f"bias of {step.name}, or nothing")
    image = IMAGE.format(groups=step.sliding.groups, outs=fields.outs, wide=wide)
    head = f"/* {safe(step.name)}: a convolution that does not learn. */\n"
    w.rows.append(head + own_names("\n".join([constants(fields, least), PRODUCT, image]), end))
    items = [w.row("line", *step.read), weight, f"(int){wild}", bias, w.work(), w.row("line", step.line)]
    w.each_sequence(3, f"snn_image_{end}", items)


class ConvLearning(Learning):
    """A rule of a convolution."""

    def __init__(self, w: CycleWriter, plan: PlasticPlan, place: int) -> None:
        super().__init__(w, plan, place)
        fields = fields_of(self.rule.node)
        assert fields is not None
        self.fields, self.end_of_names = fields, _end(w, self.learn.name)
        masked = "mask" in self.fixed
        step = STEP.format(
            mask=", const float *restrict mask" if masked else "", taps=MASKED_TAPS if masked else TAPS
        )
        parts = [constants(fields), PRODUCT, MASKED if masked else "", CHANGE, self._change(), PART, step]
        about = f"/* {safe(self.learn.name)}: a convolution that learns. */\n"
        self.texts = [about + own_names("\n".join(p for p in parts if p), self.end_of_names)]

    def _change(self) -> str:
        """The function of the update."""
        own, update = self.parts.get("synapse"), self.update_function
        coefs, fixed = self._coefs("update", update), self._fixed_read
        if own is None:
            return print_conv_learning(self.name, update, coefs, fixed)
        both, signals = (self._coefs("synapse", own), coefs), list(self.signals)
        return print_conv_synapses(self.name, own, update, self.held, signals, both, self.fields.outs, fixed)

    def _rows(self, what: str, batch: str = "") -> str:
        """The weights, or what has their shape."""
        kind = "float" if batch or what == "weight" else "const float"
        shape = f"({batch}{self.fields.outs}, {self.fields.taps}){', read and written' if kind == 'float' else ''}"
        return self._pointer(what, f"{what} of {self.learn.name}, {shape}", kind)

    def product(self, step: PlasticProduct) -> None:
        """The product of a step, a thread's output channels for all sequences."""
        x, row, bias, to = self._ends(step)
        mask = [self._rows("mask")] if "mask" in self.fixed else []
        items = [f"&{self.block}", x, row, "B", bias, to, str(self.outs), *mask]
        self.w.call(3, f"snn_every_sequence_{self.end_of_names}", items)

    def begin(self) -> list[str]:
        """A thread's output channels."""
        room = self._pointer("room", "scratch: what threads work in")
        size = self.w.number(("room size", self.learn.name), f"{self.learn.name}_room_size", "values in it, for each")
        items = ["rank", "team", str(self.fields.outs), self._rows("weight"), room, size]
        head = f"struct snn_channels {self.block} = snn_channels_of_{self.end_of_names}"
        return call_lines(head, items, 2, ";")

    def update(self) -> None:
        """The change of a thread's output channels."""
        w, own, taps = self.w, self.block, self.fields.taps
        factors = [self.factor("before", f) for f in FACTORS]
        factors += [f"{self.factor('after', f)} + {own}.first * {self.fields.positions}" for f in FACTORS]
        items = [f"{own}.weight", str(self.outs), "B", f"{own}.m", f"{own}.wide", *factors]
        items += [f"{own}.sums", f"{own}.room", f"{own}.learnt"]
        fixed = [f"{self._rows(r)} + {own}.first * {taps}" for r in self._fixed_read]
        update = self._passed("update", self.update_function)
        w.line(3, f"if ({own}.m > 0)")
        if "synapse" not in self.parts:
            w.call(4, f"{own}.still = {self.name}", [*items, f"{own}.still", *fixed, *update])
            return
        items += [f"{self._rows(f'{t} trace', 'B, ')} + {own}.first * {taps}" for t in self.held]
        w.call(4, self.name, [*items, *self._told, *self._passed("synapse", self.parts["synapse"]), *fixed, *update])
