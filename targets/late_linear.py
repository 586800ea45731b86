"""A connection with a delay for each synapse, on a target that has products for it (``targets/late_product.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from snncompile.ir.connection import Connection
from snncompile.ir.delay import Reading, read
from snncompile.ir.density import event_driven
from snncompile.ir.graph import Graph
from snncompile.targets.evaluation import Shown
from snncompile.targets.late_chain import joined
from snncompile.targets.late_product import Lags, LateTarget, apply_late
from snncompile.targets.torch.delays import steps_of, synapse_terms


def late_products(graph: Graph) -> list[str]:
    """The connections of ``graph`` that targets with such products run by them, where they are worth it."""
    runs = [region.nodes[0] for region in graph.regions if region.kind == "product"]
    return [n for n in runs if isinstance(op := graph.op(n), Connection) and op.by_synapse and op.depth]


@dataclass(frozen=True)
class Seen:
    """What the delays of a connection read.

    Attributes:
        reading: it.
        lags: how many steps ago, of each term.
    """

    reading: Reading
    lags: Lags

    @cached_property
    def different(self) -> int:
        """How many different numbers of steps ago are read."""
        return int((torch.bincount(self.lags.index.flatten()) > 0).sum())


def seen_by(op: Connection, params: Mapping[str, Tensor]) -> Seen:
    """What the delays of ``op`` read; kept for as long as they are the same, unless they are being trained."""
    steps = params["steps"]
    if steps.requires_grad and torch.is_grad_enabled():
        return _seen(op, params)
    known = _known.get(op)
    if known is None or known[0].device != steps.device or not torch.equal(known[0], steps):
        with torch.inference_mode(False), torch.no_grad():  # kept for a run that trains, too
            known = _known[op] = steps.detach().clone(), _seen(op, params)
    return known[1]


def _seen(op: Connection, params: Mapping[str, Tensor]) -> Seen:
    reading = read(steps_of(op, params, params["steps"].device), op.rule)
    found = [index for index in (reading.index, reading.other) if index is not None]
    return Seen(reading, Lags(torch.stack(found, -1).int(), op.depth))


_known: WeakIdKeyDictionary = WeakIdKeyDictionary()
_behind: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _through(op: Connection, seen: Seen, first: Shown) -> Seen:
    """What the delays of ``op`` read of the signal that another delay shows it; kept likewise."""
    ((steps, reach),) = first.lags
    known = _behind.get(op)
    if known is not None and known[0] is seen and _same(known[1], steps):
        found: Seen = known[2]
        return found
    each = steps if isinstance(steps, int) else steps[:, None]
    found = Seen(seen.reading, Lags((seen.lags.index + each).contiguous(), seen.lags.depth + reach))
    _behind[op] = seen, steps, found
    return found


def _same(a: int | Tensor, b: int | Tensor) -> bool:
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int) and isinstance(b, int) and a == b
    return a.device == b.device and torch.equal(a, b)


def run_late_linear(
    op: Connection,
    params: Mapping[str, Tensor],
    x: Tensor,
    past: Tensor,
    target: LateTarget,
    first: Shown | None = None,
) -> Tensor | None:
    """The connection on ``x (T, B, in)``: ``(T, B, out)``; None where a product for each different delay is quicker,
    or the target cannot.

    Args:
        op: the connection.
        params: role -> value.
        x: its input.
        past: what came before it, ``(depth, B, in)``.
        target: computes it.
        first: a delay before it, which delays ``x`` for it.
    """
    seen, sparse = seen_by(op, params), event_driven(op)
    if first is not None:
        seen, past = _through(op, seen, first), joined(first, past, op.depth)
    each = first is not None and not isinstance(first.lags[0][0], int)  # then no product reads another view
    if not target.fits(seen.lags, *x.shape[:2]) or (not sparse and not each and _apart(op, seen, target)):
        return None
    terms, bias = synapse_terms(op, params, seen.reading)
    values = terms[0][1].unsqueeze(-1) if len(terms) == 1 else torch.stack([each for _, each in terms], -1)
    return apply_late(target.sparse if sparse else target, seen.lags, x, past, values, bias)


def _apart(op: Connection, seen: Seen, target: LateTarget) -> bool:
    """Whether a product for each number of steps ago takes less time. Trained delays may become any of them."""
    return (op.depth + 1 if op.rule.trained else seen.different) <= target.worth * seen.lags.taps
