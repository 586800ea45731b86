"""Synapses as kernels of cycles read them: by what they lead to, and by what they come from.

In a table ``(most, owners)`` row k holds the k-th synapse of each owner, in the order of lags, sources and targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from snncompile.targets.cycle_weights import Synapses
from snncompile.targets.sparse import by_owner


@dataclass(frozen=True)
class Table:
    """Synapses by owner.

    Attributes:
        ids: ``(most, owners)`` int64, the number of synapses where an owner has fewer.
        reads: what each synapse reads, int32; -1 where there is none.
        offsets: what to add to a step for the row that is read, int32: for each synapse, or each owner.
    """

    ids: Tensor
    reads: Tensor
    offsets: Tensor

    def weights(self, values: Tensor) -> Tensor:
        """Weights in this order."""
        return torch.cat([values, values.new_zeros(1)])[self.ids]


_tables: WeakIdKeyDictionary = WeakIdKeyDictionary()


def neuron_table(synapses: Synapses, outputs: int, offsets: tuple[int, ...]) -> Table:
    """The synapses that lead to each neuron, and the sources that they read; kept for as long as the synapses are.

    Args:
        synapses: where they are.
        outputs: neurons.
        offsets: for each lag, what to add to a step.
    """
    known = _tables.setdefault(synapses.targets, {})
    if ("neurons", offsets) not in known:
        ids = by_owner(synapses.targets.long(), outputs)
        group = torch.repeat_interleave(torch.arange(len(synapses.sources), device=ids.device), _sizes(synapses))
        sources = _and_none(synapses.sources.int()[group])[ids].contiguous()
        late = _and_none(_each_lag(synapses, offsets)[group])[ids].contiguous()
        known["neurons", offsets] = Table(ids, sources, late)
    return known["neurons", offsets]


def group_table(synapses: Synapses, offsets: tuple[int, ...]) -> Table:
    """The synapses of each group, which has one source and one lag, and the targets that they lead to; likewise."""
    known = _tables.setdefault(synapses.targets, {})
    if ("groups", offsets) not in known:
        sizes = _sizes(synapses)
        owners = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
        ids = by_owner(owners, len(sizes))
        targets = _and_none(synapses.targets)[ids].contiguous()
        known["groups", offsets] = Table(ids, targets, _each_lag(synapses, offsets).contiguous())
    return known["groups", offsets]


def pairs(synapses: Synapses) -> tuple[Tensor, list[int]]:
    """The source of each synapse, int32, and where the synapses of each lag begin and end; likewise."""
    known = _tables.setdefault(synapses.targets, {})
    if "pairs" not in known:
        sources = torch.repeat_interleave(synapses.sources, _sizes(synapses)).contiguous()
        known["pairs"] = sources, synapses.starts[synapses.first].tolist()
    return known["pairs"]


def _sizes(synapses: Synapses) -> Tensor:
    return synapses.starts.diff()


def _each_lag(synapses: Synapses, offsets: tuple[int, ...]) -> Tensor:
    """For each group, what to add to a step."""
    each = torch.tensor(offsets, dtype=torch.int32, device=synapses.sources.device)
    return torch.repeat_interleave(each, synapses.first.diff())


def _and_none(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_full((1,), -1)])


@lru_cache(maxsize=1024)
def step_offsets(offsets: tuple[int, ...], device: torch.device) -> Tensor:
    """Numbers of rows as a tensor, kept."""
    with torch.inference_mode(False):
        return torch.tensor(offsets, dtype=torch.int32, device=device)


def in_order(synapses: Synapses, outputs: int) -> bool:
    """Whether no two synapses of a source lead to the same target, and all are in the order of their targets."""
    known = _tables.setdefault(synapses.targets, {})
    if "in order" not in known:
        sources = torch.repeat_interleave(synapses.sources.long(), _sizes(synapses))
        known["in order"] = bool((sources * outputs + synapses.targets).diff().gt(0).all())
    return known["in order"]


def marks_table(synapses: Synapses, inputs: int, outputs: int) -> Tensor:
    """The outputs that each input reaches, ``(inputs, words)`` int64; kept for as long as the synapses are.

    A word has 32 outputs as bits, and above these the number of the first of their synapses, which are in order.
    """
    known = _tables.setdefault(synapses.targets, {})
    if ("marks", outputs) not in known:
        words, targets = -(-outputs // 32), synapses.targets.long()
        place = torch.repeat_interleave(synapses.sources.long() * words, _sizes(synapses)) + targets // 32
        counts = torch.bincount(place, minlength=inputs * words)
        first = counts.cumsum(0) - counts
        bits = torch.zeros_like(first).index_add_(0, place, 1 << targets % 32)
        known["marks", outputs] = (first << 32 | bits).reshape(inputs, words)
    return known["marks", outputs]
