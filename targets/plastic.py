"""A plastic region: a connection that learns and what its current reaches, one step after the other.

This loop is what learning means, on every target; a kernel that runs a whole layer (``targets/plastic_layer.py``) gives
the same bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.errors import InputError
from snncompile.ir.graph import Ref, Region
from snncompile.ir.ordered import (
    not_zero,
    ordered_positions,
    ordered_product,
    ordered_taps,
    ordered_windows,
    summed_over_batch,
)
from snncompile.ir.plasticity import FACTORS, PLASTIC, Plasticity
from snncompile.targets.cycle_conv import as_images
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.event_conv import window_of
from snncompile.targets.pooling import divisor_of
from snncompile.targets.recurrent import Loop
from snncompile.targets.torch.delays import Past
from snncompile.targets.torch.products import folded


def run_plastic(ev: Evaluation, region: Region) -> None:
    """Run ``region`` over all steps of ``ev``, leaving courses, sums and final states there.

    Raises:
        InputError: where a gradient would have to pass through the learning, and nobody asked for that.
    """
    if not ev.r.differentiable:
        refuse_gradient(ev, region)
    with contextlib.nullcontext() if ev.r.differentiable else torch.no_grad():
        PlasticLoop(ev, region).run()


def refuse_gradient(ev: Evaluation, region: Region) -> None:
    """Raise :class:`InputError` where autograd records, and something in ``region`` has a gradient."""
    if not torch.is_grad_enabled():
        return
    inside = set(region.nodes)
    given: dict[str, Tensor] = {}
    for name in region.nodes:
        params = getattr(ev.graph.op(name), "params", {})
        given.update({p.name: ev.r.values[p.name] for p in params.values()})
        for edge in ev.sources(name):
            if edge.source.node not in inside and edge.source in ev.courses:
                given[f"the signal {edge.source}"] = ev.courses[edge.source]
    given.update({f"the state {name}": value for name, value in ev.r.state.items()})
    first = next((name for name, value in given.items() if value.requires_grad), None)
    if first is not None:
        learned = ", ".join(n for n in region.nodes if isinstance(ev.graph.op(n), Plasticity))
        raise InputError(
            f"no gradient flows through learning ({learned}), but {first} requires one. To learn, use net.learn(...) or"
            " run under torch.no_grad(); to train by gradient, use net.frozen(), the same network without learning; to"
            " differentiate through the learning itself, say differentiable=True (target \"torch\")"
        )


#: Connections whose sums have a defined order in a region that learns (:mod:`snncompile.ir.ordered`), whether they
#: learn or not; those of a sparse one have it everywhere.
ORDERED = frozenset({"Linear", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d"})


class PlasticLoop(Loop):
    """A plastic region in progress."""

    def __init__(self, ev: Evaluation, region: Region) -> None:
        super().__init__(ev, region)
        ops = {name: ev.graph.op(name) for name in region.nodes}
        self.rules = {name: ev.bind_rule(name) for name, op in ops.items() if isinstance(op, Plasticity)}
        late = [name for name in self.pasts if ops[name].kind == "DelayedLinear"]
        self.pasts.update({name: _OrderedPast(ops[name], self.params[name], ev.r.device) for name in late})

    def step(self, name: str, steps: int, kept: set[Ref]) -> None:
        """Run node ``name`` for one step: a block is never longer here, since the weights are one step late."""
        op = self.ev.graph.op(name)
        if isinstance(op, Plasticity):
            self._learn(name, op, [x[0] for x in self.arriving(name, steps)])
        elif isinstance(op, Connection) and (op.plastic or op.kind in ORDERED):
            x, *weight = (values[0] for values in self.arriving(name, steps))
            params = {**self.params[name], "weight": weight[0]} if weight else self.params[name]
            self.now[Ref(name)] = current(op, params, x).unsqueeze(0)
        else:
            super().step(name, steps, kept)

    def _learn(self, name: str, op: Plasticity, inputs: list[Tensor]) -> None:
        rule = self.rules[name]
        arrived = dict(zip(op.inputs, (x.float() for x in inputs), strict=True))
        factors = {}
        for side, part in (("pre", "before"), ("post", "after")):
            made = rule.run(part, {"z": arrived[side], **self._held(op, side)}, arrived[side])
            factors[side] = {name: made.pop(name) for name in FACTORS}
            self._keep(name, op, made)
        w = self.previous[op.weight.name].rows(1)[0]
        if op.synapse is None:
            given = dict.fromkeys(FACTORS, w)  # what no program reads need not be computed
            read = rule.prepared.read
            given.update({f: summed_outer(op, factors["post"][f], factors["pre"][f]) for f in read})
        else:
            products = {f: outer(op, factors["post"][f], factors["pre"][f]) for f in FACTORS}
            axes = (-1,) + (1,) * w.dim()
            signals = {port: arrived[port].reshape(axes) for port in op.signals}
            like = products["potentiation"]
            made = rule.run("synapse", {"w": w, **products, **self._held(op, "synapse"), **signals}, like)
            given = {"change": summed_over_batch(made.pop("change"))}
            self._keep(name, op, made)
        fixed = {role: self.ev.r.values[p.name] for role, p in op.fixed.items()}
        self.now[Ref(name, "weight")] = rule.run("update", {"w": w, **given, **fixed}, w)["w"].unsqueeze(0)

    def _held(self, op: Plasticity, side: str) -> dict[str, Tensor]:
        return {t.local: self.states[t.name] for t in op.of_side(side)}

    def _keep(self, name: str, op: Plasticity, traces: Mapping[str, Tensor]) -> None:
        for t in op.traces:
            if t.local in traces:
                self.states[t.name] = traces[t.local]
                self.now[Ref(name, t.local)] = traces[t.local].unsqueeze(0)


class _OrderedPast(Past):
    """A product of the past that sums in order: that of each lag, added up from the latest to the earliest."""

    def __call__(self, record: Tensor, steps: int) -> Tensor:
        """The output of one step."""
        assert steps == 1
        if not self._by_synapse:
            return current(self.op, self._params, self.seen(record, 1)[0]).unsqueeze(0)
        lags = range(self.op.late, self.depth + 1) if self.op.rule.trained else self._lags
        y = record.new_zeros(record.shape[1], self.op.output.size)
        for i, k in enumerate(lags):
            one = ordered_product(self._kernel[k].float(), record[self.depth - k].float())
            y = y + one if i else one
        return (y if self._bias is None else y + self._bias.float()).unsqueeze(0)


def current(op: Connection, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What a connection among :data:`ORDERED` gives at one step, ``(B, *features)``."""
    if op.kind in ("SumPool2d", "AvgPool2d"):
        a = op.attrs
        return ordered_windows(x.float(), a["kernel_size"], a["stride"], a["padding"]) / divisor_of(op)
    weight, bias = folded(op, params)
    if op.kind in ("Conv1d", "Conv2d"):
        y = _convolved(op, as_images(weight).float(), as_images(x.float()))
        y = y.unflatten(2, op.output.shape[1:])
        return y if bias is None else y + bias.float().reshape(-1, *(1,) * (y.dim() - 2))
    y = ordered_product(weight.float(), x.float())
    return y if bias is None else y + bias.float()


def _convolved(op: Connection, weight: Tensor, x: Tensor) -> Tensor:
    """``x (B, C, H, W)`` with ``weight (O, C / groups, kh, kw)``: ``(B, O, positions)``, each group by itself."""
    window, groups = window_of(op), op.attrs["groups"]
    settings = {"stride": window.stride, "padding": window.padding, "dilation": window.dilation}
    fields, taps = unfolded(settings, weight.shape, x), weight.flatten(1)
    if groups == 1:
        return ordered_taps(taps, fields)
    pairs = zip(taps.chunk(groups), fields.chunk(groups, 1), strict=True)
    return torch.cat([ordered_taps(w, f) for w, f in pairs], 1)


def outer(op: Plasticity, after: Tensor, before: Tensor) -> Tensor:
    """The product of two factors for each sequence, ``(B, *weight)``.

    Args:
        op: the rule's node.
        after: the output's factor, ``(B, *post)``.
        before: the input's factor, ``(B, *pre)``.
    """
    if op.connection == "Linear":
        return after.unsqueeze(2) * before.unsqueeze(1)
    fields = unfolded(op.settings, op.weight.shape, before)
    return ordered_positions(after.flatten(2), fields).reshape(-1, *op.weight.shape)


def unfolded(settings: Mapping[str, Any], shape: Sequence[int], x: Tensor) -> Tensor:
    """What each tap of a convolution meets at each position: ``(B, taps, positions)``, 0 where ``x`` is padded.

    Args:
        settings: stride, padding and dilation.
        shape: of the weight.
        x: ``(B, channels, height, width)``.
    """
    return F.unfold(x, shape[2:], **{name: settings[name] for name in PLASTIC["Conv2d"]})


def summed_outer(op: Plasticity, after: Tensor, before: Tensor) -> Tensor:
    """:func:`outer`, summed over the batch: ``weight``-shaped. Sequences whose output has no factor add nothing."""
    busy = not_zero(after)
    if busy is None or not before.isfinite().all():  # 0 times infinity is not 0
        return summed_over_batch(outer(op, after, before))
    return summed_over_batch(outer(op, after[busy], before[busy]))
