"""Sparse connections on torch: products and gradients from the synapses alone.

A sum goes through the sources in order, each product rounded before it is added. Inputs that are spikes are taken event
by event; others output by output, over the first synapse of each, the second, and so on: the same sums, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakIdKeyDictionary

from snncompile.ir.connection import Connection
from snncompile.ir.errors import InputError

_AT_ONCE = 2**22  # synapses whose products are made together


class SparseTarget(Protocol):
    """A target with kernels for sparse connections."""

    def forward(self, pattern: Pattern, weight: Tensor, x: Tensor) -> Tensor:
        """``(rows, out)`` of ``x (rows, in)``."""
        ...

    def input_gradient(self, pattern: Pattern, weight: Tensor, grad: Tensor) -> Tensor:
        """``(rows, in)`` of ``grad (rows, out)``."""
        ...

    def weight_gradient(self, pattern: Pattern, grad: Tensor, x: Tensor) -> Tensor:
        """``(synapses,)``."""
        ...


class Pattern:
    """Which synapses there are, ordered by source and then by target, and what is worked out from that.

    Attributes:
        inputs: number of sources.
        outputs: number of targets.
        targets: target of each synapse, int64.
        counts: synapses of each source, int64.
        starts: the first synapse of each source, and the number of all, int64.
    """

    def __init__(self, targets: Tensor, counts: Tensor, outputs: int) -> None:
        self.targets, self.counts = targets.detach().long(), counts.detach().long()
        self.inputs, self.outputs, self.synapses = len(counts), outputs, len(targets)
        whole = bool((self.targets == targets).all()) and bool((self.counts == counts).all())
        in_range = not len(targets) or (int(self.targets.min()) >= 0 and int(self.targets.max()) < outputs)
        if not whole or not in_range or int(self.counts.min()) < 0 or int(self.counts.sum()) != self.synapses:
            raise InputError(
                f"targets and counts of a sparse connection are damaged: {self.synapses} synapses must lead to outputs"
                f" 0 to {outputs - 1}, and counts must add up to their number"
            )
        self.starts = torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    @cached_property
    def sources(self) -> Tensor:
        """Source of each synapse."""
        return torch.repeat_interleave(torch.arange(self.inputs, device=self.counts.device), self.counts)

    @cached_property
    def by_target(self) -> Tensor:
        """The k-th synapse of each target, ``(most, out)``; the number of synapses where it has fewer."""
        return by_owner(self.targets, self.outputs)

    @cached_property
    def by_source(self) -> Tensor:
        """The k-th synapse of each source, ``(most, in)``, likewise."""
        return by_owner(self.sources, self.inputs)

    @cached_property
    def packed(self) -> tuple[Tensor, Tensor]:
        """``starts`` and ``targets``, the latter in 32 bits, for kernels."""
        return self.starts.contiguous(), self.targets.int().contiguous()

    @cached_property
    def packed_sources(self) -> Tensor:
        """``sources`` in 32 bits, for kernels."""
        return self.sources.int().contiguous()

    @cached_property
    def read_by_target(self) -> tuple[Tensor, Tensor]:
        """``by_target``, and the source that each of these synapses reads, in 32 bits, for kernels."""
        return _reading(self.by_target, self.sources)

    @cached_property
    def read_by_source(self) -> tuple[Tensor, Tensor]:
        """``by_source``, and the target that each of these synapses leads to, likewise."""
        return _reading(self.by_source, self.targets)


def _reading(table: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    reads = torch.cat([read, read.new_zeros(1)])[table]
    return table.int().contiguous(), reads.int().contiguous()


def by_owner(owner: Tensor, size: int) -> Tensor:
    """``(most, size)``: the k-th of those whose owner is the same, for each owner; their number where it has fewer."""
    order = torch.argsort(owner, stable=True)
    counts = torch.bincount(owner, minlength=size)
    first = counts.cumsum(0) - counts
    slot = torch.arange(len(owner), device=owner.device) - first[owner[order]]
    table = owner.new_full((int(counts.max()) if size else 0, size), len(owner))
    table[slot, owner[order]] = order
    return table


_patterns: WeakIdKeyDictionary = WeakIdKeyDictionary()


def pattern_of(op: Connection, params: Mapping[str, Tensor]) -> Pattern:
    """The pattern of a sparse connection, kept for as long as its parameters are the same."""
    targets, counts = params["targets"], params["counts"]
    known = _patterns.get(targets)
    key = (_version(targets), id(counts), _version(counts), op.attrs["out"])
    if known is None or known[0] != key:
        known = _patterns[targets] = key, Pattern(targets, counts, op.attrs["out"]), counts
    return known[1]


def _version(tensor: Tensor) -> int:
    """How often a tensor has changed; one made in inference mode does not count that."""
    return -1 if tensor.is_inference() else tensor._version


def apply_sparse(
    op: Connection, params: Mapping[str, Tensor], x: Tensor, target: SparseTarget | None = None
) -> Tensor:
    """A sparse connection on ``x (T, B, in)``: ``(T, B, out)``."""
    pattern, runner = pattern_of(op, params), runner_of(op, x, target)
    y = _Sparse.apply(runner, pattern, params["weight"].float(), x.flatten(0, 1).float())
    if "bias" in params:
        y = y + params["bias"].float()
    return y.unflatten(0, x.shape[:2])


def runner_of(op: Connection, x: Tensor, target: SparseTarget | None = None) -> SparseTarget:
    """What computes a sparse connection on signals like ``x``."""
    return target or (_Events() if op.input.kind == "spikes" and not x.is_cuda else _Tables())


class _Sparse(torch.autograd.Function):
    """The product, and its gradients."""

    @staticmethod
    def forward(ctx: Any, runner: SparseTarget, pattern: Pattern, weight: Tensor, x: Tensor) -> Tensor:
        ctx.runner, ctx.pattern = runner, pattern
        ctx.save_for_backward(weight, x)
        return runner.forward(pattern, weight, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        weight, x = ctx.saved_tensors
        _, _, need_weight, need_x = ctx.needs_input_grad
        return (
            None,
            None,
            ctx.runner.weight_gradient(ctx.pattern, grad, x) if need_weight else None,
            ctx.runner.input_gradient(ctx.pattern, weight, grad) if need_x else None,
        )


class _Tables:
    """Any input: the k-th synapse of all outputs together."""

    def forward(self, pattern: Pattern, weight: Tensor, x: Tensor) -> Tensor:
        sources = torch.cat([pattern.sources, pattern.sources.new_full((1,), pattern.inputs)])
        return _gather(weight, x, pattern.by_target, sources)

    def input_gradient(self, pattern: Pattern, weight: Tensor, grad: Tensor) -> Tensor:
        targets = torch.cat([pattern.targets, pattern.targets.new_full((1,), pattern.outputs)])
        return _gather(weight, grad, pattern.by_source, targets)

    def weight_gradient(self, pattern: Pattern, grad: Tensor, x: Tensor) -> Tensor:
        step = max(1, _AT_ONCE // max(1, len(x)))
        pairs = zip(pattern.targets.split(step), pattern.sources.split(step), strict=True)
        return torch.cat([(grad.index_select(1, t) * x.index_select(1, s)).sum(0) for t, s in pairs])


def _gather(weight: Tensor, x: Tensor, table: Tensor, reads: Tensor) -> Tensor:
    """Sum over the rows of ``table``, one after the other; what a row does not have reads a zero."""
    wide = torch.cat([x, x.new_zeros(len(x), 1)], 1)
    weights = torch.cat([weight, weight.new_zeros(1)])
    y = x.new_zeros(len(x), table.shape[1])
    for row in table.unbind(0):
        y = y + weights[row] * wide.index_select(1, reads[row])
    return y


class _Events(_Tables):
    """Inputs of which most are zero, on the CPU: the synapses of those that are not."""

    def forward(self, pattern: Pattern, weight: Tensor, x: Tensor) -> Tensor:
        y = x.new_zeros(len(x) * pattern.outputs)
        for rows, values, synapses in _events(pattern, x):
            y.index_add_(0, rows * pattern.outputs + pattern.targets[synapses], weight[synapses] * values)
        return y.reshape(len(x), pattern.outputs)

    def weight_gradient(self, pattern: Pattern, grad: Tensor, x: Tensor) -> Tensor:
        total = x.new_zeros(pattern.synapses)
        for rows, values, synapses in _events(pattern, x):
            total.index_add_(0, synapses, values * grad[rows, pattern.targets[synapses]])
        return total


def _events(pattern: Pattern, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Row, value and synapse, for the synapses of each input that is not zero, in order; so many at a time."""
    rows, sources = x.nonzero(as_tuple=True)
    values, degrees, starts = x[rows, sources], pattern.counts[sources], pattern.starts[sources]
    ends = degrees.cumsum(0)
    first = 0
    while first < len(rows):
        done = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(torch.searchsorted(ends, done + _AT_ONCE, right=True)))
        part = slice(first, last)
        repeat = degrees[part]
        total = int(ends[last - 1]) - done
        within = torch.arange(total) - torch.repeat_interleave(ends[part] - repeat - done, repeat)
        synapses = torch.repeat_interleave(starts[part], repeat) + within
        yield torch.repeat_interleave(rows[part], repeat), torch.repeat_interleave(values[part], repeat), synapses
        first = last


#: Elements of a matrix beyond which a sparse connection is not written as a dense one.
DENSE_LIMIT = 2**22


def as_dense(op: Connection, params: Mapping[str, Tensor]) -> Tensor | None:
    """The weight as a matrix ``(out, in)``, for formats that know no other; None where that is too large."""
    if op.input.size * op.output.size > DENSE_LIMIT:
        return None
    pattern = pattern_of(op, params)
    full = torch.zeros(pattern.outputs, pattern.inputs, dtype=torch.float32, device="cpu")
    full[pattern.targets.cpu(), pattern.sources.cpu()] = params["weight"].detach().cpu().float()
    return full
