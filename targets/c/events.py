"""Event-driven products in C: those of dense connections here, convolutions in ``events_conv``."""

from __future__ import annotations

from torch import Tensor

from snncompile.targets.c.availability import check_runnable
from snncompile.targets.c.calling import scratch
from snncompile.targets.c.compiler import ahead, function
from snncompile.targets.c.events_conv import EventConvs
from snncompile.targets.c.events_source import (
    BLOCK,
    FORWARD,
    FORWARD_NAME,
    FORWARD_TYPES,
    WEIGHT,
    WEIGHT_NAME,
    WEIGHT_TYPES,
)


class EventProducts(EventConvs):
    """Products of mostly zero inputs. A course ``(T, B, features)`` may be given for rows, in any memory order."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x (..., in)`` times the transpose of ``weight (out, in)``, plus ``bias (out,)``: ``(..., out)``, in the
        memory order of ``x``."""
        check_runnable(x)
        outputs, inputs = weight.shape
        x, swapped = ordered(x)
        out = self._like(x, outputs, swapped)
        rows = x.numel() // max(inputs, 1)
        if rows:
            team = self._team(x.numel(), rows)
            room = scratch(inputs * outputs + 2 * team * (inputs + 1))
            held = weight.contiguous(), None if bias is None else bias.contiguous()
            across, fixed = held
            at = x.data_ptr(), across.data_ptr(), 0 if fixed is None else fixed.data_ptr(), room.data_ptr()
            run = function(FORWARD_NAME, FORWARD, FORWARD_TYPES)
            run(*at, out.data_ptr(), rows, inputs, outputs, team)
        return out

    def expect_gradients(self) -> None:
        """A call of :meth:`gradients` is to follow."""
        ahead(WEIGHT_NAME, WEIGHT)

    def gradients(self, grad: Tensor, x: Tensor, with_bias: bool) -> tuple[Tensor, Tensor | None]:
        """Gradients of the weight, ``(out, in)``, and of a bias, ``(out,)``; ``grad (..., out)`` is the product's."""
        check_runnable(x)
        inputs, outputs = x.shape[-1], grad.shape[-1]
        x, swapped = ordered(x)
        grad = (grad.transpose(0, 1) if swapped else grad).contiguous()
        rows = x.numel() // max(inputs, 1)
        weight = self._make((outputs, inputs))
        bias = self._make((outputs,)) if with_bias else None
        team = self._team(x.numel(), inputs)
        room = scratch(inputs * (outputs + 2 * BLOCK + 1) + outputs)
        at = x.data_ptr(), grad.data_ptr(), room.data_ptr(), weight.data_ptr()
        run = function(WEIGHT_NAME, WEIGHT, WEIGHT_TYPES)
        run(*at, 0 if bias is None else bias.data_ptr(), rows, inputs, outputs, team, team)
        return weight, bias

    def _like(self, x: Tensor, outputs: int, swapped: bool) -> Tensor:
        """Room for ``outputs`` features in place of those of ``x``, which lies in order."""
        out = self._make((*x.shape[:-1], outputs))
        return out.transpose(0, 1) if swapped else out


def ordered(x: Tensor) -> tuple[Tensor, bool]:
    """``x`` without gaps, and whether its first two axes were swapped for that: batch first is as good an order."""
    if x.is_contiguous():
        return x, False
    if x.dim() == 3 and (turned := x.transpose(0, 1)).is_contiguous():
        return turned, True
    return x.contiguous(), False
