"""What the kernels of cycles may take, by key: signals, weights, tables of synapses, lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snncompile.targets.cycle_lines import Make
from snncompile.targets.cycle_plan import Conv, CyclePlan, Pool, Product
from snncompile.targets.cycle_weights import Weights
from snncompile.targets.scan import Late
from snncompile.targets.triton.cycle_events import listed_lines
from snncompile.targets.triton.cycle_images import as_product, conv_by_synapse, pool_by_synapse
from snncompile.targets.triton.cycle_tables import group_table, marks_table, neuron_table, step_offsets
from snncompile.targets.triton.cycle_writer import CycleKernel, Key


class Given:
    """What a kernel may take, by key."""

    def __init__(self, plan: CyclePlan, source: CycleKernel, shape: tuple[int, int], device: torch.device) -> None:
        self.plan, self.shape, self.device = plan, shape, device
        self.listed: Sequence[bool] = ()
        self._wanted = set(source.given)
        self.values: dict[Key, Any] = {("T",): shape[0], ("B",): shape[1]}
        for key in source.given:
            if key[0] == "offset":
                _, line, lag = key
                self.values[key] = plan.lines[int(line)].depth - int(lag)

    def inputs(self, inputs: Sequence[Tensor], late: Sequence[Late | None] = ()) -> None:
        """What comes from outside, its strides, and what makes it late."""
        for i, x in enumerate(inputs):
            if ("input", i) in self._wanted:
                flat = x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()
                self.values[("input", i)] = flat
                self.values[("input step", i)], self.values[("input row", i)], _ = flat.stride()
        for i, one in enumerate(late):
            if one is not None:
                self.values |= {("late", i): one.steps, ("past", i): one.past}
                self.values |= {("reach", i): len(one.past), ("share", i): one.share}

    def lines(self, what: str, lines: Sequence[Tensor | None]) -> None:
        """Lines, and which bits of a step's number say where it stands: all of them in a line that is no ring."""
        for i, line in enumerate(lines):
            if line is not None:
                self.values[(what, i)] = line
                rows = len(line)
                self.values[(f"{what} ring", i)] = -1 if rows & (rows - 1) else rows - 1

    def coefs(
        self, what: str, names: Mapping[str, Sequence[str]], coefs: Mapping[str, Sequence[Tensor]]
    ) -> None:
        """Coefficients of every node."""
        for node, values in coefs.items():
            self.values |= {(what, node, c): value for c, value in zip(names[node], values, strict=True)}

    def weights(self, weights: Sequence[Weights], back: bool) -> None:
        """The weights of all products, as the forward or the backward kernel takes them."""
        listed = self.listed or [False] * len(weights)
        for product, w, it in zip(self.plan.products, weights, listed, strict=True):
            if it and isinstance(product, Product) and w.synapses is not None:
                self._marks(product, w)
            elif isinstance(product, Conv):
                self._synapses(as_product(product), conv_by_synapse(product, w), back)
            elif w.synapses is not None:
                self._synapses(product, w, back)
            else:
                self._dense(product, w, back)

    def images(self, masks: Sequence[Tensor], back: bool, make: Make) -> None:
        """What poolings, and each Dropout, take besides."""
        for drop, mask in zip(self.plan.masks, masks, strict=True):
            self.values[("mask", drop.name)] = mask.contiguous()
        for step in self.plan.steps:
            if isinstance(step, Pool):
                ways = (False, True) if back and step.most else (back,)
                for way in ways:
                    self._synapses(as_product(step), pool_by_synapse(step, self.device), way)
                if back and step.most:
                    shape = (self.shape[1], self.plan.lines[step.line].size)
                    self.values[("places", step.name)] = make(shape).view(torch.int32)

    def _offsets(self, product: Product, w: Weights) -> tuple[int, ...]:
        before = self.plan.lines[product.read.line].depth - product.read.lag
        return tuple(before - lag for lag in w.lags)

    def _lags(self, product: Product, w: Weights) -> None:
        key, offsets = (product.name, product.part), self._offsets(product, w)
        self.values[("lag offsets", *key)] = step_offsets(offsets, self.device)
        self.values[("lags", *key)] = len(offsets)

    def _dense(self, product: Product, w: Weights, back: bool) -> None:
        key, values = (product.name, product.part), w.values.detach()
        self._lags(product, w)
        if back:
            self.values[("weight back", *key)] = values.contiguous()
        else:
            self.values[("weight", *key)] = values.transpose(1, 2).contiguous()
            self._bias(key, w)

    def _synapses(self, product: Product, w: Weights, back: bool) -> None:
        key, offsets, values = (product.name, product.part), self._offsets(product, w), w.values.detach()
        assert w.synapses is not None
        if back:
            groups = group_table(w.synapses, offsets)
            self.values |= {
                ("most back", *key): len(groups.ids),
                ("groups", *key): groups.ids.shape[1],
                ("weights back", *key): groups.weights(values),
                ("targets", *key): groups.reads,
                ("group sources", *key): w.synapses.sources,
                ("group offsets", *key): groups.offsets,
            }
            return
        table = neuron_table(w.synapses, self.plan.lines[product.line].size, offsets)
        self.values |= {
            ("most", *key): len(table.ids),
            ("weights", *key): table.weights(values),
            ("sources", *key): table.reads,
            ("offsets", *key): table.offsets,
        }
        self._bias(key, w)

    def _marks(self, product: Product, w: Weights) -> None:
        key, lines = (product.name, product.part), self.plan.lines
        assert w.synapses is not None
        table = marks_table(w.synapses, lines[product.read.line].size, lines[product.line].size)
        self.values |= {("marks", *key): table, ("synapse weights", *key): w.values.detach().contiguous()}
        self._bias(key, w)

    def lists(self, listed: Sequence[bool], late: int, make: Make) -> None:
        """Lists of what is not zero for the products that are ``listed``, of as many steps as are read and ``late``."""
        self.listed = listed
        for i in listed_lines(self.plan, listed) if listed else ():
            it = self.plan.lines[i]
            rows = ring_rows(it.depth, late)
            self.values[("list", i)] = make((rows, self.shape[1], it.size)).view(torch.int32)
            self.values[("held", i)] = make((rows, self.shape[1])).view(torch.int32)
            self.values[("list ring", i)] = rows - 1

    def _bias(self, key: Key, w: Weights) -> None:
        self.values[("bias", *key)] = None if w.bias is None else w.bias.detach().contiguous()


def ring_rows(depth: int, late: int = 1) -> int:
    """Rows of a ring that is looked back by ``depth`` steps, with ``late`` steps at a time: a power of two."""
    return 1 << (depth + max(late, 1) - 1).bit_length()
