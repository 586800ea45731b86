"""Event-driven dense connections in C."""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.targets.c.availability import check_runnable
from snncompile.targets.c.calling import Caller
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


class EventProducts(Caller):
    """Products of mostly zero inputs."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x (rows, in)`` times the transpose of ``weight (out, in)``, plus ``bias (out,)``: ``(rows, out)``."""
        (rows, inputs), outputs = x.shape, weight.shape[0]
        check_runnable(x)
        out = self._make((rows, outputs))
        if rows * inputs:
            team = self._team(x.numel(), rows)
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
        across = self._make((inputs, outputs))
        team = self._team(x.numel(), inputs)
        lists, values = torch.empty(inputs * (BLOCK + 1), dtype=torch.int32), torch.empty(inputs * BLOCK)
        held = (x.contiguous(), grad.contiguous(), across, lists, values)
        run = function(WEIGHT_NAME, WEIGHT, WEIGHT_TYPES)
        run(*(t.data_ptr() for t in held), rows, inputs, outputs, team, team)
        return across.t()
