"""Synapses: from spikes to currents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.params import param
from snncompile.ir.types import SignalType

MS = 1e-3


@dataclass(frozen=True, eq=False)
class ExpSyn(ElementwiseNode):
    """Exponential synapse (Rockpool's ``ExpSynTorch``).

    ``isyn' = (isyn + x) * exp(-dt/tau)``; the output is ``isyn'``.

    Shapes: input and output ``(batch, time, *features)``; state ``isyn``, initially 0.

    Attributes:
        tau: time constant in seconds; trainable, family ``taus``, greater than 0.
    """

    tau: Any = param(10 * MS, "taus", constraint="positive")

    def states(self) -> Mapping[str, float]:
        """``isyn``, from 0."""
        return {"isyn": 0.0}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The synaptic current."""
        return {"isyn": SignalType("current", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step: input first, then decay."""
        return {"isyn": (s.isyn + x.x) * torch.exp(-dt / p.tau)}
