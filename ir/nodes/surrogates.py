"""Spike generation and its surrogate gradients.

A spike is a step function of the membrane, whose true gradient is zero. A surrogate replaces it in the backward pass.
Below ``g`` is the incoming gradient and ``u = v - threshold``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import ModelError


@dataclass(frozen=True)
class Surrogate:
    """Base of the surrogate gradients: :meth:`gradient` is the whole difference between them."""

    def gradient(self, g: Tensor, v: Tensor, threshold: Tensor, max_spikes: float) -> tuple[Tensor, Tensor]:
        """Gradients with respect to the membrane and to the threshold.

        Args:
            g: gradient of the spike count.
            v: membrane before the reset.
            threshold: firing threshold.
            max_spikes: cap on spikes per step.
        """
        raise TypeError(f"{type(self).__name__} does not say what its gradient is")


def _positive(surrogate: Any, *names: str) -> None:
    for name in names:
        value = getattr(surrogate, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise ModelError(f"{type(surrogate).__name__}: {name} must be a number greater than 0, not {value!r}")


@dataclass(frozen=True)
class StepPWL(Surrogate):
    """``g/threshold`` wherever ``v >= threshold - window``, else 0; for the threshold ``-v*g/threshold**2`` there.

    The default, from Rockpool (``rockpool.nn.modules.torch.lif_torch.StepPWL``).

    Attributes:
        window: how far below the threshold learning reaches, in units of the membrane.
    """

    window: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.window, (int, float)) or isinstance(self.window, bool) or not self.window >= 0:
            raise ModelError(f"StepPWL: window must be at least 0, not {self.window!r}")

    def gradient(self, g: Tensor, v: Tensor, threshold: Tensor, max_spikes: float) -> tuple[Tensor, Tensor]:
        """See the class."""
        near = v >= threshold - self.window
        return torch.where(near, g / threshold, 0.0), torch.where(near, -v * g / (threshold * threshold), 0.0)
