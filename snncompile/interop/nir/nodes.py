"""Nodes that NIR has and the library has not: Euler steps, an integrator, a synapse seen one step late, a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.nodes.neurons import LI, LIF
from snncompile.ir.nodes.spiking import spike
from snncompile.ir.nodes.synapses import ExpSyn, decay
from snncompile.ir.params import param
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class EulerLIF(LIF):
    """:class:`LIF` with a leak by Euler's method: ``v = v + (dt/tau_mem) * (v_leak - v)`` in place of its step 1."""

    def leak(self, v: Tensor, p: SimpleNamespace, dt: float) -> Tensor:
        """The membrane after one step without input."""
        return euler_leak(self.v_leak, v, p, dt)


@dataclass(frozen=True, eq=False)
class EulerLI(LI):
    """:class:`LI` with a leak by Euler's method: ``v = v + (dt/tau_mem) * (v_leak - v)``."""

    def leak(self, v: Tensor, p: SimpleNamespace, dt: float) -> Tensor:
        """The membrane after one step without input."""
        return euler_leak(self.v_leak, v, p, dt)


def euler_leak(v_leak: Any, v: Tensor, p: SimpleNamespace, dt: float) -> Tensor:
    """``v + (dt/tau_mem) * (v_leak - v)``, without the subtraction where there is no ``v_leak``."""
    return v - (dt / p.tau_mem) * v if v_leak is None else v + (dt / p.tau_mem) * (p.v_leak - v)


@dataclass(frozen=True, eq=False)
class Synapse(ExpSyn):
    """Exponential synapse whose input is not decayed in its first step: ``isyn' = leak(isyn) + x``.

    Attributes:
        tau: time constant in seconds, greater than 0; family ``taus``.
        euler: ``leak(i) = i - (dt/tau) * i`` instead of ``i * exp(-dt/tau)``. Default False.
        late: the output ``current`` is ``isyn`` before the step. Default False: after it.
    """

    euler: bool = False
    late: bool = False

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The synaptic current that the membrane sees."""
        return {"current": SignalType("current", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        kept = s.isyn - (dt / p.tau) * s.isyn if self.euler else s.isyn * decay(p.tau, dt)
        isyn = kept + x.x
        return {"isyn": isyn, "current": s.isyn if self.late else isyn}


@dataclass(frozen=True, eq=False)
class Integrator(ElementwiseNode):
    """Sums what comes in: ``v' = v + x``. State and output ``v``, from 0."""

    def states(self) -> Mapping[str, float]:
        """``v``, from 0."""
        return {"v": 0.0}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The membrane."""
        return {"v": SignalType("membrane", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"v": s.v + x.x}


@dataclass(frozen=True, eq=False)
class Threshold(ElementwiseNode):
    """A spike where ``x > threshold``; no state, no reset.

    Attributes:
        threshold: family ``thresholds``, one per channel. Default 1.
    """

    threshold: Any = param(1.0, "thresholds")

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spikes, 0 or 1."""
        return {"spikes": SignalType("spikes", inputs["x"].shape, 1)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"spikes": spike(x.x, p.threshold, strict=True)}


__all__ = ["EulerLI", "EulerLIF", "Integrator", "Synapse", "Threshold"]
