"""A connection whose synapses have few different delays: a dense product for each, of the signal where it lies."""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.targets.evaluation import Evaluation, Shown
from snncompile.targets.late_chain import joined
from snncompile.targets.late_panels import Panels, read_panels
from snncompile.targets.panel_readers import LinearReader
from snncompile.targets.torch.delays import lags_of, synapse_kernel


class _One(LinearReader):
    """The synapses of one delay."""

    def __init__(self, op: Connection, weight: Tensor) -> None:
        self.op = op
        self.tensors: tuple[Tensor | None, ...] = (weight, None)


def run_few(
    ev: Evaluation, name: str, op: Connection, history: Tensor, x: Tensor, first: Shown | None
) -> Tensor | None:
    """The connection on ``x (T, B, in)``, by views of its history and of that; None where that does not fit.

    Args:
        ev: the run.
        name: the connection.
        op: it.
        history: what came before ``x``, ``(depth, B, in)``.
        x: what it reads.
        first: a delay before it, which delays ``x`` for it, all of it by as many steps.
    """
    params, back = ev.params(name), 0 if first is None else first.lags[0][0]
    alone = ev.r.batch and not torch.is_autocast_enabled(ev.r.device.type) and ev.prepared.panel is not None
    if not alone or not isinstance(back, int) or ev.r.steps < op.depth + back:
        return None
    lags = range(op.late, op.depth + 1) if op.rule.trained else lags_of(op, params, ev.r.device)
    if ev.prepared.late is None or len(lags) > ev.prepared.late.worth * (2 if op.rule.interpolation == "linear" else 1):
        return None
    before = history if first is None else joined(first, history, op.depth)
    kernel, bias = synapse_kernel(op, params, ev.r.device)
    features, size = (op.input.size,), (ev.r.steps, ev.r.batch)
    y: Tensor | None = None
    for lag in lags:
        late = ((lag + back, lag + back),)
        one = read_panels(Panels(late, None, x.shape, features, size), _One(op, kernel[lag].float()), x.float(), before)
        y = one if y is None else y + one
    return y if y is None or bias is None else y + bias
