"""Neurons: from currents to spikes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.nodes.spiking import spike
from snncompile.ir.nodes.surrogates import StepPWL, Surrogate
from snncompile.ir.params import param
from snncompile.ir.types import DEFAULT_MAX_SPIKES, SignalType

MS = 1e-3


@dataclass(frozen=True, eq=False)
class LIF(ElementwiseNode):
    """Leaky integrate-and-fire neuron (Rockpool's ``LIFNeuronTorch``)."""

    tau_mem: Any = param(20 * MS, "taus", constraint="positive")
    threshold: Any = param(1.0, "thresholds", constraint="positive")
    bias: Any = param(0.0, "biases", layout="scalar")
    surrogate: Surrogate = StepPWL()
    max_spikes_per_dt: int = DEFAULT_MAX_SPIKES

    def states(self) -> Mapping[str, float]:
        """``v``, from 0."""
        return {"v": 0.0}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spike counts."""
        return {"spikes": SignalType("spikes", inputs["x"].shape, self.max_spikes_per_dt)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step: decay, input, bias, spikes, reset."""
        v = s.v * torch.exp(-dt / p.tau_mem)
        v = v + x.x
        v = v + p.bias
        spikes = spike(v, p.threshold, self.surrogate, self.max_spikes_per_dt)
        v = v - spikes * p.threshold
        return {"v": v, "spikes": spikes}
