"""Which products and poolings read a late signal from one that is made first, on a target where that was quicker."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.density import event_driven

#: of these what is computed for each panel costs more than what stays in the cache saves
ALWAYS = ("Sparse", "MaxPool2d", "SumPool2d", "AvgPool2d")


def quicker_made(op: Connection, params: Mapping[str, Tensor], signal: bool) -> bool:
    """Whether ``op`` is quicker where what it reads late is made first, rather than a panel at a time.

    Args:
        op: what reads it.
        params: its parameters.
        signal: whether a gradient of the late signal is wanted.
    """
    if op.kind in ALWAYS:
        return True
    if signal:
        return False
    if op.kind in ("Conv1d", "Conv2d"):
        return event_driven(op)
    # for the weight's gradient alone, panels are filled for a second time
    trained = torch.is_grad_enabled() and any([p.requires_grad for p in params.values()])
    return trained and op.kind in ("Linear", "DelayedLinear")


def when_made(op: Connection) -> str:
    """When :func:`quicker_made` says so, in words; empty where it never does."""
    if op.kind in ALWAYS:
        return "always"
    if op.kind in ("Conv1d", "Conv2d"):
        return "where no gradient of it is wanted" if event_driven(op) else ""
    return "where only gradients of weights are wanted" if op.kind in ("Linear", "DelayedLinear") else ""
