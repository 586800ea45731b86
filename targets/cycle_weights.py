"""The weights of the products in a cycle, by how many steps ago they read.

Every delay is a linear map of the past (:func:`snncompile.ir.delay.read` says which), so a product with delays is a sum
of products with earlier steps, and a delayed signal a sparse product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from snncompile.ir.connection import Connection
from snncompile.ir.delay import read
from snncompile.targets.cycle_conv import as_images
from snncompile.targets.cycle_plan import Conv, Product
from snncompile.targets.sparse import pattern_of
from snncompile.targets.torch.delays import lags_of, steps_of, synapse_kernel
from snncompile.targets.torch.products import effective_weight, folded


@dataclass(frozen=True)
class Synapses:
    """Where the synapses of a sparse product are, ordered by lag, source and target.

    Those of lag ``l`` are the groups ``first[l]`` to ``first[l + 1]``; those of group ``g`` come from ``sources[g]``,
    are ``starts[g]`` to ``starts[g + 1]``, and lead to ``targets``.

    Attributes:
        first: ``(lags + 1,)`` int64.
        sources: ``(groups,)`` int32.
        starts: ``(groups + 1,)`` int64.
        targets: ``(synapses,)`` int32.
    """

    first: Tensor
    sources: Tensor
    starts: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Weights:
    """The weights of a product.

    Attributes:
        lags: how many steps ago it reads, besides the lag of what it reads.
        values: ``(lags, out, in)`` float32, ``(synapses,)``, or of a convolution ``(O, C / groups, kh, kw)``;
            differentiable.
        bias: ``(out,)`` or None.
        synapses: where the synapses are, of a sparse product.
    """

    lags: tuple[int, ...]
    values: Tensor
    bias: Tensor | None
    synapses: Synapses | None = None


def weights_of(
    product: Product | Conv, op: Connection, params: Mapping[str, Tensor], device: torch.device
) -> Weights:
    """What ``product`` multiplies with, on ``device``, where the parameters are."""
    if isinstance(product, Conv):
        weight, bias = folded(op, params)
        return Weights((0,), as_images(weight).float(), _float(bias))
    if product.part == "seen":
        found = _seen(op, params, device)
        return Weights(found.lags, found.values(None), found.bias(), found.synapses)
    if product.part == "synapses" and product.sparse:
        found = _seen(op, params, device)
        own = params.get("bias")
        more = found.bias(effective_weight(params))
        bias = own if more is None else more if own is None else own + more
        return Weights(found.lags, found.values(effective_weight(params)), bias, found.synapses)
    if product.part == "synapses":
        kernel, bias = synapse_kernel(op, params, device)
        lags = list(range(op.late, op.depth + 1)) if op.rule.trained else lags_of(op, params, device)
        whole = len(lags) == len(kernel)
        return Weights(tuple(lags), (kernel if whole else kernel[lags]).float(), _float(bias))
    if product.sparse:
        pattern = pattern_of(op, params)
        starts, targets = pattern.packed
        sources = torch.arange(pattern.inputs, dtype=torch.int32, device=device)
        synapses = Synapses(torch.tensor([0, pattern.inputs], device=device), sources, starts, targets)
        return Weights((0,), params["weight"].float(), _float(params.get("bias")), synapses)
    weight, bias = folded(op, params)
    return Weights((0,), weight.float().unsqueeze(0), _float(bias))


def has_bias(product: Product | Conv, op: Connection) -> bool:
    """Whether :func:`weights_of` gives ``product`` a bias, as far as that does not depend on values of delays."""
    own = product.part != "seen" and "bias" in op.params
    return own or (product.part != "weight" and op.rule.overbound is not None)


def _float(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.float()


class _Seen:
    """What delays show, as synapses: of each value of the output, or of each weight."""

    def __init__(self, op: Connection, params: Mapping[str, Tensor], device: torch.device) -> None:
        self.op, self.device = op, device
        steps = steps_of(op, params, device)
        self.reading = read(steps, op.rule)
        by_weight = op.kind == "DelayedLinear" and op.attrs["steps"] == "given"
        self.shape = (op.output.size, op.input.size) if by_weight else None
        with torch.no_grad():
            self._order(by_weight)

    def _order(self, by_weight: bool) -> None:
        op, r, device = self.op, self.reading, self.device
        if by_weight:
            out, ins = op.output.size, op.input.size
            targets = torch.arange(out, device=device).repeat_interleave(ins)
            sources = torch.arange(ins, device=device).repeat(out)
            self.features: tuple[int, ...] = (out, ins)
        else:
            taps = op.kind == "Delay" and len(op.output.shape) > len(op.input.shape)
            self.features = op.output.shape if op.kind == "Delay" else op.input.shape
            targets = torch.arange(op.output.size if op.kind == "Delay" else op.input.size, device=device)
            sources = targets // op.output.shape[-1] if taps else targets
        self.valid = None if r.valid is None else r.valid.expand(self.features).reshape(-1)
        indices = [i.expand(self.features).reshape(-1) for i in (r.index, r.other) if i is not None]
        lags = torch.cat(indices)
        if not by_weight:
            lags = lags.clamp(min=op.late)  # nothing newer is known yet
        left = torch.ones_like(lags, dtype=torch.bool) if self.valid is None else self.valid.repeat(len(indices))
        left &= lags >= op.late
        kept = left.nonzero().flatten()
        n = len(targets)
        every_lag, source, target = lags[kept], sources[kept % n], targets[kept % n]
        width, height = len(targets) + 1, int(sources.max()) + 1
        self.order = kept[torch.argsort((every_lag * height + source) * width + target, stable=True)]
        group = lags[self.order] * height + sources[self.order % n]
        groups, counts = torch.unique_consecutive(group, return_counts=True)
        used, per_lag = torch.unique_consecutive(groups // height, return_counts=True)
        zero = torch.zeros(1, dtype=torch.int64, device=device)
        self.lags = tuple(used.tolist())
        self.synapses = Synapses(
            torch.cat([zero, per_lag.cumsum(0)]),
            (groups % height).int(),
            torch.cat([zero, counts.cumsum(0)]),
            targets[self.order % n].int(),
        )

    def values(self, weight: Tensor | None) -> Tensor:
        """The value of each synapse, in order; differentiable in weights and delays."""
        r, parts = self.reading, []
        for index, gain in ((r.index, r.gain), (r.other, r.other_gain)):
            if index is None:
                continue
            gain = torch.ones((), dtype=torch.float32, device=self.device) if gain is None else gain
            parts.append((gain if weight is None else weight * gain).expand(self.features).reshape(-1))
        return torch.cat(parts)[self.order].float()

    def bias(self, weight: Tensor | None = None) -> Tensor | None:
        """What stands in for what lies too far back."""
        if self.reading.valid is None or self.valid is None:
            return None
        over = self.op.rule.overbound or 0.0
        if weight is None:
            return (~self.valid).float() * over
        return (weight * ~self.reading.valid).sum(1) * over


_known: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _seen(op: Connection, params: Mapping[str, Tensor], device: torch.device) -> _Seen:
    """The synapses of delays, kept for as long as their times are the same."""
    steps = params.get("steps")
    if steps is not None and steps.requires_grad:
        return _Seen(op, params, device)
    known = _known.get(op)
    if known is None or known[1].device != device or (steps is not None and not torch.equal(known[0], steps)):
        with torch.inference_mode(False):  # kept for a run that trains, too
            known = _known[op] = None if steps is None else steps.detach().clone(), _Seen(op, params, device)
    return known[1]
