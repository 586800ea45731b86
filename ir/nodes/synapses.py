"""Synapses: from spikes to currents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.nodes.noise import Noisy, increment
from snncompile.ir.nodes.remembering import Remembering
from snncompile.ir.params import param
from snncompile.ir.types import SignalType

MS = 1e-3


def decay(tau: Tensor, dt: float) -> Tensor:
    """``exp(-dt/tau)``: the factor by which what decays with ``tau`` shrinks in one step.

    Made of parameters alone, so that it is computed once outside the loop, by torch's float32 ``exp`` on the CPU.
    """
    return torch.exp(-dt / tau)


def in_ms(tau: Tensor) -> Tensor:
    """``tau/ms``. A product with 1000 is exact where a float32 division by 0.001 is not: 5 ms give 5."""
    return tau * (1.0 / MS)


def exponential(isyn: Tensor, x: Tensor, tau: Tensor, dt: float) -> Tensor:
    """One step of an exponential synapse: the input first, then the decay."""
    return (isyn + x) * decay(tau, dt)


@dataclass(frozen=True, eq=False)
class ExpSyn(Noisy):
    """Exponential synapse.

    Each step, ``isyn' = (isyn + (x + noise)) * exp(-dt/tau)``; the output is ``isyn'``. A spike's effect is thus
    already decayed by one step when it is first seen. Source: Rockpool, ``rockpool.nn.modules.ExpSynTorch`` (the order
    is its code's).

    Shapes: input and output ``(batch, time, *features)``. State ``isyn``, initially 0.

    Attributes:
        tau: time constant in seconds, greater than 0; family ``taus``, one per channel. Default 10 ms.
        noise_std: ``noise`` is ``noise_std * sqrt(dt) * N(0, 1)``: its sum deviates by ``noise_std`` after one second.
            At least 0; family ``noise_stds``, one for all, not trained unless a Param says so. Default 0: no noise, and
            no parameter.
    """

    tau: Any = param(10 * MS, "taus", constraint="positive")

    def states(self) -> Mapping[str, float]:
        """``isyn``, from 0."""
        return {"isyn": 0.0}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The synaptic current."""
        return {"isyn": SignalType("current", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        current = x.x + increment(p.noise_std, dt) if self.noisy else x.x
        return {"isyn": exponential(s.isyn, current, p.tau, dt)}


@dataclass(frozen=True, eq=False)
class ExpCurrent(Remembering):
    """Exponential synapse that carries a charge: each spike adds ``charge/tau`` to the current.

    Each step, ``current' = current * exp(-dt/tau) + (charge/(tau/ms)) * x``; the output is ``current'``. A charge in pC
    and a time in ms give a current in nA. Source: Inferno, ``inferno.neural.SingleExponentialCurrent``.

    Both factors come from float32 parameters, where Inferno takes them from Python's float64 and rounds once. For whole
    milliseconds the increment is the same bit for bit and the decay within 1 unit in the last place; for any ``tau`` of
    at least ``dt`` they are within 3 and 2 units. Over a sequence these add up for as long as the synapse remembers:
    a few units, and one more for each ``dt`` in ``tau``, of the largest current.

    Shapes: input and output ``(batch, time, *features)``. State ``current``, initially 0.

    Attributes:
        tau: time constant in seconds, greater than 0; family ``taus``, one per channel. Default 10 ms.
        charge: charge of one spike in pC, not 0 (below 0 it inhibits); family ``charges``, one for all. Default 1.
        delay: the longest time that ``net.current_at`` and ``net.spike_at`` can look back; with it, and the options
            after it, see :class:`~snncompile.ir.nodes.remembering.Remembering`.
    """

    tau: Any = param(10 * MS, "taus", constraint="positive")
    charge: Any = param(1.0, "charges", layout="scalar", constraint="nonzero")

    def states(self) -> Mapping[str, float]:
        """``current``, from 0."""
        return {"current": 0.0}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The synaptic current."""
        return {"current": SignalType("current", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"current": s.current * decay(p.tau, dt) + (p.charge / in_ms(p.tau)) * x.x}


@dataclass(frozen=True, eq=False)
class DoubleExpCurrent(Remembering):
    """Synapse with a rise and a decay: the difference of two exponentials, carrying a charge.

    Each step both states follow ``s' = s * exp(-dt/tau_s) + (charge/(tau_decay/ms - tau_rise/ms)) * x``, with
    ``tau_decay`` for ``decay`` and ``tau_rise`` for ``rise``; the output ``current`` is ``decay' - rise'``, in nA for a
    charge in pC. Source: Inferno, ``inferno.neural.DoubleExponentialCurrent``. The note on rounding at
    :class:`ExpCurrent` holds; the difference is taken in milliseconds, as Inferno does: exact for whole ones.

    Shapes: input and output ``(batch, time, *features)``. States ``decay`` and ``rise``, initially 0.

    Attributes:
        tau_decay: time constant of the decay in seconds, greater than ``tau_rise``; family ``taus``, one per channel.
            Default 10 ms.
        tau_rise: time constant of the rise in seconds, greater than 0; family ``taus``, one per channel. Default 2 ms.
        charge: charge of one spike in pC, not 0; family ``charges``, one for all. Default 1.
        delay: the longest time that ``net.current_at`` and ``net.spike_at`` can look back; with it, and the options
            after it, see :class:`~snncompile.ir.nodes.remembering.Remembering`.
    """

    ordered = (("tau_rise", "tau_decay"),)

    tau_decay: Any = param(10 * MS, "taus", constraint="positive")
    tau_rise: Any = param(2 * MS, "taus", constraint="positive")
    _: KW_ONLY
    charge: Any = param(1.0, "charges", layout="scalar", constraint="nonzero")

    def states(self) -> Mapping[str, float]:
        """``decay`` and ``rise``, from 0."""
        return {"decay": 0.0, "rise": 0.0}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The synaptic current."""
        return {"current": SignalType("current", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        increment = (p.charge / (in_ms(p.tau_decay) - in_ms(p.tau_rise))) * x.x
        falling = s.decay * decay(p.tau_decay, dt) + increment
        rising = s.rise * decay(p.tau_rise, dt) + increment
        return {"decay": falling, "rise": rising, "current": falling - rising}


@dataclass(frozen=True, eq=False)
class AlphaSyn(ElementwiseNode):
    """Alpha synapse: answers a spike with ``t/tau * exp(1 - t/tau)``, which is 1 at its peak ``t = tau``.

    Each step, ``i' = (i + (e*dt/tau)*h) * exp(-dt/tau)`` and ``h' = h * exp(-dt/tau) + x``; the output is ``i'``. This
    is exact at the grid points, ``t`` counting from the step in which the spike arrives. Source: the alpha function of
    Rall 1967, integrated exactly (Rotter and Diesmann 1999).

    Shapes: input and output ``(batch, time, *features)``. States ``h`` and ``i``, initially 0.

    Attributes:
        tau: time constant in seconds, greater than 0; family ``taus``, one per channel. Default 10 ms.
    """

    tau: Any = param(10 * MS, "taus", constraint="positive")

    def states(self) -> Mapping[str, float]:
        """``h`` and ``i``, from 0."""
        return {"h": 0.0, "i": 0.0}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The synaptic current."""
        return {"i": SignalType("current", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        shrink = decay(p.tau, dt)
        i = (s.i + (math.e * dt / p.tau) * s.h) * shrink
        h = s.h * shrink + x.x
        return {"h": h, "i": i}
