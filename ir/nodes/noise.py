"""Random numbers inside a step: :func:`uniform`, :func:`normal`, and the noise that synapses and neurons add."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import ModelError
from snncompile.ir.locations import caller
from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.params import Param
from snncompile.ir.recording import active, elementary


def uniform() -> Tensor:
    """A number from 0 up to, and not including, 1: another one for every call, neuron, sequence and time step.

    It is a multiple of ``2**-24``. Use it inside a step function of your own. No gradient flows through it.

    Raises:
        ModelError: outside the step function of a node.
    """
    if not active:
        raise ModelError("random numbers are drawn inside the step function of a node only", where=caller())
    return active[-1].uniform()


def normal() -> Tensor:
    """A standard normal number, drawn as :func:`uniform` is; it lies within 5.4 of 0."""
    return elementary("normal", uniform(), lambda u: torch.erfinv(u * 2.0 - 1.0))


def increment(std: Tensor, dt: float) -> Tensor:
    """``std * sqrt(dt) * N(0, 1)``: what a Wiener process that deviates by ``std`` after one second gains in ``dt``."""
    return (std * math.sqrt(dt)) * normal()


@dataclass(frozen=True, eq=False)
class Noisy(ElementwiseNode):
    """Mixin: ``noise_std``, a parameter where it is not 0 (then no noise is drawn at all)."""

    _: KW_ONLY
    noise_std: Any = 0.0

    @property
    def noisy(self) -> bool:
        """Whether it draws."""
        is_number = isinstance(self.noise_std, (int, float)) and not isinstance(self.noise_std, bool)
        return self.noise_std is not None and not (is_number and self.noise_std == 0)

    def declared(self) -> dict[str, Param]:
        """``noise_std``: one value for all unless it is an array, and not trained unless a Param says so."""
        params = super().declared()
        if self.noisy:
            params["noise_std"] = Param(None, "scalar", "noise_stds", False, "nonnegative").overridden(self.noise_std)
        return params

    def settings(self) -> dict[str, Any]:
        """Without ``noise_std``, which is shown as a parameter."""
        return {name: value for name, value in super().settings().items() if name != "noise_std"}
