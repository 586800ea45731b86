"""Event-driven dense connections in C."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snncompile.targets.c.availability import check_runnable
from snncompile.targets.c.compiler import function
from snncompile.targets.c.events_source import (
    BLOCK,
    FORWARD,
    FORWARD_NAME,
    FORWARD_TYPES,
    WEIGHT,
    WEIGHT_NAME,
    WEIGHT_TYPES,
)

#: Inputs (over all rows) that a thread must have to be worth waking.
_WORTH = 16_384


class EventProducts:
    """Products of mostly zero inputs.

    Args:
        threads: how many threads to use for every call, instead of up to torch's number, by size.
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        self._threads = threads
        self._empty = empty

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x (rows, in)`` times the transpose of ``weight (out, in)``, plus ``bias (out,)``: ``(rows, out)``."""
        (rows, inputs), outputs = x.shape, weight.shape[0]
        check_runnable(x)
        out = self._empty((rows, outputs), dtype=torch.float32)
        if rows * inputs:
            team = self._team(x, rows)
            places, factors = torch.empty(team * (inputs + 1), dtype=torch.int32), torch.empty(team * (inputs + 1))
            held = (x.contiguous(), weight.t().contiguous(), places, factors)
            fixed = None if bias is None else bias.contiguous()
            held_x, across, *scratch = (t.data_ptr() for t in held)
            bias_at = 0 if fixed is None else fixed.data_ptr()
            run = function(FORWARD_NAME, FORWARD, FORWARD_TYPES)
            run(held_x, across, bias_at, *scratch, out.data_ptr(), rows, inputs, outputs, team)
        return out

    def weight_gradient(self, grad: Tensor, x: Tensor) -> Tensor:
        """The transpose of ``grad (rows, out)`` times ``x (rows, in)``: ``(out, in)``."""
        (rows, inputs), outputs = x.shape, grad.shape[1]
        check_runnable(x)
        across = self._empty((inputs, outputs), dtype=torch.float32)
        team = self._team(x, inputs)
        lists, values = torch.empty(inputs * (BLOCK + 1), dtype=torch.int32), torch.empty(inputs * BLOCK)
        held = (x.contiguous(), grad.contiguous(), across, lists, values)
        run = function(WEIGHT_NAME, WEIGHT, WEIGHT_TYPES)
        run(*(t.data_ptr() for t in held), rows, inputs, outputs, team, team)
        return across.t()

    def _team(self, x: Tensor, parts: int) -> int:
        """How many threads to use; what comes out does not depend on it."""
        if self._threads is not None:
            return self._threads
        return max(1, min(torch.get_num_threads(), parts, x.numel() // _WORTH))
