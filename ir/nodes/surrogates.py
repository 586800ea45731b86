"""Surrogate gradients: what stands for the derivative of a spike.

A spike is a step function of the membrane, whose true gradient is zero almost everywhere. A surrogate replaces it in
the backward pass, and changes nothing in the forward pass. Below ``g`` is the incoming gradient of the spike count,
``v`` the membrane before the reset and ``u = v - threshold``.
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
    """Base of the surrogate gradients: :meth:`gradient` is the whole difference between them.

    Derive from it for one of your own: a frozen dataclass with numbers for settings, and a ``gradient`` made of
    elementwise torch operations.
    """

    def gradient(self, g: Tensor, v: Tensor, threshold: Tensor, max_spikes: float) -> tuple[Tensor, Tensor]:
        """Gradients with respect to the membrane and to the threshold.

        Args:
            g: gradient of the spike count.
            v: membrane before the reset.
            threshold: firing threshold.
            max_spikes: cap on spikes per step.
        """
        raise TypeError(f"{type(self).__name__} does not say what its gradient is")


@dataclass(frozen=True)
class StepPWL(Surrogate):
    """``g/threshold`` where ``v >= threshold - window``, else 0; ``-v*g/threshold**2`` for the threshold there.

    The default. Source: Rockpool, ``rockpool.nn.modules.torch.lif_torch.StepPWL``.

    Attributes:
        window: how far below the threshold learning reaches, at least 0, in units of the membrane (Rockpool's
            ``learning_window``). Default 0.5.
    """

    window: float = 0.5

    def __post_init__(self) -> None:
        _number(self, "window", zero=True)

    def gradient(self, g: Tensor, v: Tensor, threshold: Tensor, max_spikes: float) -> tuple[Tensor, Tensor]:
        """See the class."""
        near = v >= threshold - self.window
        return torch.where(near, g / threshold, 0.0), torch.where(near, -v * g / (threshold * threshold), 0.0)


@dataclass(frozen=True)
class PeriodicExponential(Surrogate):
    """A bump ``p`` around every multiple of the threshold: ``g*p``, and ``-g*p*v/threshold`` for the threshold.

    ``p = exp(-abs(w - threshold/2)/window)/threshold``; with ``c = v - threshold/2``, ``w = c`` where
    ``v < threshold``, else ``c - min(floor(c/threshold), max_spikes - 1)*threshold``.
    Source: Rockpool, ``rockpool.nn.modules.torch.lif_torch.PeriodicExponential``.

    Attributes:
        window: decay length of each bump, greater than 0, in units of the membrane. Default 0.5.
    """

    window: float = 0.5

    def __post_init__(self) -> None:
        _number(self, "window")

    def gradient(self, g: Tensor, v: Tensor, threshold: Tensor, max_spikes: float) -> tuple[Tensor, Tensor]:
        """See the class."""
        half = threshold / 2
        centred = v - half
        periods = torch.clamp(torch.floor(centred / threshold), max=max_spikes - 1)
        wrapped = torch.where(v < threshold, centred, centred - periods * threshold)
        pdf = torch.exp(-torch.abs(wrapped - half) / self.window) / threshold
        grad = g * pdf
        return grad, -grad * v / threshold


class _Symmetric(Surrogate):
    """Surrogates of ``u = v - threshold`` alone: the threshold's gradient is minus the membrane's."""

    def gradient(self, g: Tensor, v: Tensor, threshold: Tensor, max_spikes: float) -> tuple[Tensor, Tensor]:
        """``g * slope(u)``, and minus that for the threshold."""
        grad = self.scaled(g, v - threshold)
        return grad, -grad

    def scaled(self, g: Tensor, u: Tensor) -> Tensor:
        """``g`` times the derivative at ``u``."""
        raise TypeError(f"{type(self).__name__} does not say what its gradient is")


@dataclass(frozen=True)
class Sigmoid(_Symmetric):
    """``g * slope * y * (1 - y)`` with ``y = sigmoid(slope*u)``.

    Source: the derivative of a logistic function, as in SpikingJelly's ``surrogate.Sigmoid``.

    Attributes:
        slope: steepness of the sigmoid, greater than 0, per unit of the membrane. Default 4.
    """

    slope: float = 4.0

    def __post_init__(self) -> None:
        _number(self, "slope")

    def scaled(self, g: Tensor, u: Tensor) -> Tensor:
        """See the class."""
        y = torch.sigmoid(self.slope * u)
        return g * self.slope * y * (1.0 - y)


@dataclass(frozen=True)
class ATan(_Symmetric):
    """``g * (alpha/2) / (1 + (pi/2*alpha*u)**2)``: the derivative of an arcus tangens.

    Source: Fang et al. 2021, "Incorporating learnable membrane time constant"; SpikingJelly's ``surrogate.ATan``.

    Attributes:
        alpha: steepness, greater than 0, per unit of the membrane. Default 2.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _number(self, "alpha")

    def scaled(self, g: Tensor, u: Tensor) -> Tensor:
        """See the class."""
        z = (math.pi / 2 * self.alpha) * u
        return g * (self.alpha / 2) / (1.0 + z * z)


@dataclass(frozen=True)
class FastSigmoid(_Symmetric):
    """``g / (1 + slope*abs(u))**2``.

    Source: Zenke and Ganguli 2018, "SuperSpike".

    Attributes:
        slope: steepness, greater than 0, per unit of the membrane. Default 25.
    """

    slope: float = 25.0

    def __post_init__(self) -> None:
        _number(self, "slope")

    def scaled(self, g: Tensor, u: Tensor) -> Tensor:
        """See the class."""
        z = 1.0 + self.slope * torch.abs(u)
        return g / (z * z)


@dataclass(frozen=True)
class Triangle(_Symmetric):
    """``g * scale * max(0, 1 - abs(u)/width)``.

    Source: Esser et al. 2016, "Convolutional networks for fast, energy-efficient neuromorphic computing"; Bellec et
    al. 2018 with ``scale=0.3``.

    Attributes:
        width: half the width of the triangle, greater than 0, in units of the membrane. Default 1.
        scale: its height, greater than 0. Default 1.
    """

    width: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _number(self, "width")
        _number(self, "scale")

    def scaled(self, g: Tensor, u: Tensor) -> Tensor:
        """See the class."""
        return g * self.scale * torch.clamp(1.0 - torch.abs(u) / self.width, min=0.0)


def _number(surrogate: Any, name: str, zero: bool = False) -> None:
    value = getattr(surrogate, name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or (value == 0 and not zero):
        bound = "of at least 0" if zero else "greater than 0"
        raise ModelError(f"{type(surrogate).__name__}: {name} must be a number {bound}, not {value!r}")
