"""Prints the kernel that runs a convolution that learns, with its neurons and its rule, over a whole sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping

from snncompile.ir.ordered import POSITION_LANES
from snncompile.targets.plastic_fields import Fields
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.triton.plastic_memory import InMemory
from snncompile.targets.triton.plastic_parts import PlasticSource, PlasticVariant, full, key

_LAYOUT = f"""One program owns POSTS output channels with all their positions: its weights, states and traces are no
other's. Traces and factors of the inputs each program computes for itself. A step goes over the sequences, for the
inputs and then the neurons, PLACES positions at a time; then over the weights, TAPS at a time. An output adds its taps
by channel, row and column; what changes a weight is added up position by position in {POSITION_LANES} partial sums,
then neighbours."""

# by side of the rule: where a value of one sequence lies behind its pointer, and what of it is there
_PLACES = {
    "pre": ("own * M + pixel", "there"),
    "post": ("b * N + post", "mine"),
    "synapse": ("b * weights + rows", "here"),
}


def print_conv(scan: Scan, rule: PlasticRule, variant: PlasticVariant, fields: Fields) -> PlasticSource:
    """The module of the kernel."""
    return _Conv(scan, rule, variant, fields).print()


class _Conv(InMemory):
    """The kernel being printed."""

    places = _PLACES
    of_posts, of_inputs, of_weights, depth = "(POSTS, PLACES)", "(PIXELS,)", "(POSTS, TAPS)", 4
    posts_stay = False

    def __init__(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant, fields: Fields) -> None:
        super().__init__(scan, rule, variant, "plastic_conv")
        self.fields = fields

    @property
    def padded(self) -> bool:
        """Whether anything is padded."""
        return self.fields.padding != (0, 0)

    @property
    def copied(self) -> bool:
        """Whether what the connection takes is copied first: into its padding, or since it is computed."""
        return self.padded or not self.x.by_row

    def print(self) -> PlasticSource:
        """The module."""
        self._arguments()
        line = self.w.line
        line(1, "for t in range(T):")
        line(2, "for b in range(B):")
        line(3, "own = (program * B + b).to(tl.int64)")
        self._inputs()
        if self.copied:
            where = "its padding" if self.padded else "memory"
            line(3, f"tl.debug_barrier()  # what the connection takes is in {where}")
        self._neurons()
        line(2, "tl.debug_barrier()  # factors and traces are in memory")
        self._learning()
        line(2, "tl.debug_barrier()  # and so are the weights")
        constants = ("POSTS", "PLACES", "TAPS", "PIXELS")
        return self.module("in memory", _LAYOUT, constants, [_meet(self.fields)])

    def _arguments(self) -> None:
        p, line, outs, taps = self.parts, self.w.line, self.fields.outs, self.fields.taps
        line(1, "program = tl.program_id(0)")
        line(1, "channel = program * POSTS + tl.arange(0, POSTS)  # the output channels of this program")
        line(1, f"real = channel < {outs}")
        line(1, f"weights = {outs * taps}")
        line(1, "cells = N.to(tl.int64) * B  # time offsets exceed 32 bits")
        line(1, "pre_cells = M.to(tl.int64) * B")
        self.weight = p.pointer("weight_end", "weight", f"weights, ({outs}, {taps}), read and written")
        self.fixed = p.of_weights(f"({outs}, {taps})")
        self.take_input()
        if self.variant.bias:
            bias = p.pointer("bias", "bias_of_product", f"bias of the product, ({outs},)")
            self.bias = self.w.names.new("bias_of_product")
            line(1, f"{self.bias} = tl.load({bias} + channel, mask=real, other=0.0)")
        self.take_signals()
        self.of_step, self.of_rule = p.coefficients(later=True)
        self.take_running(f"(B, {outs}, {taps})")
        self.inner = self.fields.channels * math.prod(self.fields.inner)
        about = f"padded, 0 at first, (programs, B, {self.inner})"
        self.before = {f: p.pointer(f"before.{f}", f"pre_{f}", f"the input's factor, {about}") for f in p.factors}
        self.image = p.pointer("before.x", "image", f"what the connection takes, {about}") if self.copied else ""
        self.take_results()
        for name, about in (("T", "time steps"), ("B", "sequences"), ("N", "outputs"), ("M", "inputs")):
            p.number(name, name, about)

    def _blocks(self, depth: int, count: int, block: str, name: str) -> None:
        """Open a loop over ``count`` values, ``block`` at a time; ``name`` are those of this turn."""
        self.w.line(depth, f"for k in range(({count} + {block} - 1) // {block}):")
        self.w.line(depth + 1, f"{name} = k * {block} + tl.arange(0, {block})")

    def _inputs(self) -> None:
        """The input's side of the rule."""
        p, line, names = self.parts, self.w.line, self.w.names
        (_, width), (height, wide), (above, aside) = self.fields.image, self.fields.inner, self.fields.padding
        self._blocks(3, self.fields.channels * self.fields.pixels, "PIXELS", "pixel")
        line(4, "there = pixel < M")
        inner = "pixel"
        if self.padded:
            inner, size = "inner", self.fields.pixels
            line(4, f"row = pixel // {size} * {height} + pixel % {size} // {width} + {above}")
            line(4, f"inner = row * {wide} + pixel % {width} + {aside}")
        (self.watched or self.x).load(4, "z", "t", "b", "pixel", "there")
        taken = "z"
        if self.watched and self.copied:
            taken = "x"
            self.x.load(4, "x", "t", "b", "pixel", "there")
        traces = {t: names.new(t) for t in p.side["pre"]}
        for t, name in traces.items():
            line(4, f"{name} = tl.load({self.running[key(t)]} + own * M + pixel, mask=there, other=0.0)")
        made = {n: names.new(f"{n}_made") for n in (*p.side["pre"], *p.factors)}
        p.call(4, p.learn["before"], {**self.of_rule["before"], "z": "z", **traces}, made, self.of_inputs)
        for t in p.side["pre"]:
            self.keep(4, "pre", key(t), made[t])
            if t in self.variant.store_traces:
                at = f"{self.stores[key(t)]} + t * pre_cells + b * M + pixel"
                line(4, f"tl.store({at}, {made[t]}, mask=there & (program == 0))")
        for f in p.factors:
            line(4, f"tl.store({self.before[f]} + own * {self.inner} + {inner}, {made[f]}, mask=there)")
        if self.copied:
            line(4, f"tl.store({self.image} + own * {self.inner} + {inner}, {taken}, mask=there)")

    def _neurons(self) -> None:
        """The product, the neurons, and the output's side of the rule."""
        p, line, places, taps = self.parts, self.w.line, self.fields.positions, self.fields.taps
        image = f"{self.image} + own * {self.inner}" if self.copied else self.x.row("t", "b")
        line(3, f"taken = {image}")
        self._blocks(3, places, "PLACES", "place")
        line(4, f"post = channel[:, None] * {places} + place[None, :]")
        line(4, f"mine = real[:, None] & (place < {places})[None, :]")
        for statement in p.later:
            line(4, statement)
        line(4, f"product = {full(0.0, self.of_posts)}")
        line(4, f"for tap in range({taps}):")
        line(5, f"w = tl.load({self.weight} + channel * {taps} + tap, mask=real, other=0.0)")
        for mask in self.load_fixed(5, ["mask"], f"channel * {taps} + tap", "real").values():
            line(5, f"w = w * {mask}")
        line(5, "product = product + w[:, None] * snn_meet(taken, place, tap)[None, :]")
        if self.variant.bias:
            line(4, f"product = product + {self.bias}[:, None]")
        line(4, "at = t * cells + b * N + post")
        if self.variant.store_product:
            line(4, f"tl.store({self.product} + at, product, mask=mine)")
        values = self.outputs_now(4)
        self.print_neurons(values)

    def _learning(self) -> None:
        line, taps = self.w.line, self.fields.taps
        self._blocks(2, taps, "TAPS", "tap")
        line(3, f"rows = channel[:, None] * {taps} + tap[None, :]")
        line(3, f"here = real[:, None] & (tap < {taps})[None, :]")
        line(3, f"w = tl.load({self.weight} + rows, mask=here, other=0.0)")
        self.start_sums()
        if self.parts.factors or "synapse" in self.parts.learn:
            line(3, "for b in range(B):")
            line(4, f"own = (program * B + b).to(tl.int64) * {self.inner}")
            products = self._over_positions() if self.parts.factors else {}
            if "synapse" in self.parts.learn:
                self.print_synapses(products, "w")
            for f, product in products.items() if "synapse" not in self.parts.learn else ():
                line(4, f"{f} = {f} + {product}")
        self.print_update("w", self.load_fixed(3, ["mask", "sign"], "rows", "here"))
        line(3, f"tl.store({self.weight} + rows, w_made, mask=here)")

    def _over_positions(self) -> Mapping[str, str]:
        """Print the partial sums of one sequence; by factor the expression of what they add up to."""
        p, line, places = self.parts, self.w.line, self.fields.positions
        lanes = {f: [self.w.names.new(f"{f}_{i}") for i in range(POSITION_LANES)] for f in p.factors}
        for sums in lanes.values():
            for name in sums:
                line(4, f"{name} = {full(0.0, self.of_weights)}")
        line(4, f"for place in range(0, {places}, {POSITION_LANES}):")
        for i in range(POSITION_LANES):  # of both factors at once: where they meet is found out for both
            at = f"place + {i}" if i else "place"
            for f, sums in lanes.items():
                line(5, f"after = snn_after({self.factors[f]} + b * N, channel, {at})")
                met = f"snn_meet({self.before[f]} + own, {at}, tap)"
                line(5, f"{sums[i]} = {sums[i]} + after[:, None] * {met}[None, :]")
        while any(len(sums) > 1 for sums in lanes.values()):
            for sums in lanes.values():
                for left, right in zip(sums[::2], sums[1::2], strict=True):
                    line(4, f"{left} = {left} + {right}")
                del sums[1::2]
        return {f: sums[0] for f, sums in lanes.items()}


def _meet(fields: Fields) -> str:
    """Source of the functions that read what a tap meets, and the factor of the output there."""
    (height, width), (_, columns), kernel = fields.inner, fields.places, fields.kernel[0] * fields.kernel[1]
    rows, along = (
        f"{at}{f' * {s}' if s > 1 else ''} + {tap}{f' * {d}' if d > 1 else ''}"
        for at, tap, s, d in zip(
            (f"place // {columns}", f"place % {columns}"),
            (f"tap % {kernel} // {fields.kernel[1]}", f"tap % {fields.kernel[1]}"),
            fields.stride, fields.dilation, strict=True,
        )
    )  # fmt: skip
    return f'''@triton.jit
def snn_meet(taken, place, tap):
    """What tap meets at place, one of them a block; 0 where there is no such tap or place."""
    row = tap // {kernel} * {height} + {rows}
    column = {along}
    inside = (place < {fields.positions}) & (tap < {fields.taps})
    return tl.load(taken + row * {width} + column, mask=inside, other=0.0)


@triton.jit
def snn_after(factor, channel, place):
    """An output's factor at place; 0 where there is no such channel or place."""
    inside = (channel < {fields.outs}) & (place < {fields.positions})
    return tl.load(factor + channel * {fields.positions} + place, mask=inside, other=0.0)
'''
