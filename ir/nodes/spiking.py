"""How a membrane becomes spikes: one autograd function for every neuron and every surrogate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snncompile.ir.nodes.surrogates import StepPWL, Surrogate


class _Spike(torch.autograd.Function):
    """Counts spikes forward; asks the surrogate backward. It only ever runs while a step is traced."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor, surrogate: Surrogate, cap: float, strict: bool) -> Tensor:
        ctx.save_for_backward(v, threshold)
        ctx.surrogate, ctx.cap = surrogate, cap
        over = v > threshold if strict else v >= threshold
        if cap == 1:
            return over.to(v.dtype)  # floor(v / threshold), at most 1, without the division
        count = torch.where(over, torch.floor(v / threshold), 0.0)
        return torch.clamp(count, max=cap)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        v, threshold = ctx.saved_tensors
        grad_v, grad_threshold = ctx.surrogate.gradient(grads[0], v, threshold, ctx.cap)
        return grad_v, grad_threshold, None, None, None


def spike(
    v: Tensor,
    threshold: Tensor | float,
    surrogate: Surrogate | None = None,
    max_spikes: int = 1,
    strict: bool = False,
) -> Tensor:
    """Number of spikes: ``floor(v/threshold)`` where ``v >= threshold``, else 0, and at most ``max_spikes``.

    Use it in a step function of your own; the gradient is the surrogate's.

    Args:
        v: membrane before the reset.
        threshold: firing threshold, greater than 0 where ``max_spikes`` is more than 1.
        surrogate: what stands for the derivative; ``StepPWL()`` by default.
        max_spikes: cap per step; 1 makes spikes binary.
        strict: fire where ``v > threshold`` instead of ``>=``.
    """
    if not isinstance(threshold, Tensor):
        threshold = torch.full_like(v, threshold)
    return _Spike.apply(v, threshold, surrogate or StepPWL(), float(max_spikes), strict)
