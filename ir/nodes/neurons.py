"""Integrate-and-fire neurons and the leaky readout: from currents to spikes, or to a membrane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from snncompile.ir.nodes.membrane import Leaky, Resettable, SpikingNeuron, check_number
from snncompile.ir.nodes.synapses import MS, decay, exponential
from snncompile.ir.params import param
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class IF(Resettable):
    """Integrate-and-fire neuron: :class:`LIF` without the leak.

    Each step: ``v = v + x``; ``v = (v + noise) + bias``; ``s = spike(v, threshold)``; reset. Everything else, with all
    options but ``tau_mem`` and ``v_leak``, is as in :class:`LIF`.

    Shapes: input and output ``(batch, time, *features)``. State ``v``, initially ``v0``.
    """


@dataclass(frozen=True, eq=False)
class LIF(Resettable, Leaky):
    """Leaky integrate-and-fire neuron.

    Each step, in this order:

    1. ``v = v * exp(-dt/tau_mem)``; with ``v_leak``, ``v = (v - v_leak) * exp(-dt/tau_mem) + v_leak``
    2. ``v = v + x``
    3. ``v = (v + noise) + bias``, ``noise = noise_std * sqrt(dt) * N(0, 1)``; without noise where ``noise_std`` is 0
    4. ``s = floor(v/threshold)`` where ``v >= threshold``, else 0, and at most ``max_spikes_per_dt``: several spikes in
       one step are normal
    5. ``v = v - s * threshold``, or ``v = reset`` where ``s > 0``

    Source: Rockpool, ``rockpool.nn.modules.LIFNeuronTorch``; its ``learning_window`` is ``StepPWL(window)`` here.

    Shapes: input and output ``(batch, time, *features)``. State ``v``, initially ``v0``, recorded after the reset; with
    a refractory time also ``refractory``, the steps left of it. The output ``spikes`` is a count.

    Attributes:
        tau_mem: membrane time constant in seconds, greater than 0; family ``taus``, one per channel. Default 20 ms.
        v_leak: what the membrane decays towards; family ``leaks``. None, the default, is 0, without the parameter.
        threshold: firing threshold, greater than 0; family ``thresholds``, one per channel. Default 1.
        bias: added to the membrane at every step; family ``biases``, one for all. Default 0.
        noise_std: what the noise alone would have the membrane deviate by after one second; at least 0, family
            ``noise_stds``, one for all, not trained unless a Param says so. Default 0: no noise, and no parameter.
        reset: ``"subtract"`` (the default; it takes part in the gradient), ``"zero"``, or the value to go to. With the
            latter two spikes are 0 or 1. An array or a Param is a parameter ``reset`` (family ``resets``, not trainable
            unless the Param says so).
        max_spikes_per_dt: the most spikes in one step. Default 65536.
        v0: membrane before the first step. Default 0.
        refractory: time after a spike, a whole number of steps, for which ``v`` stays at what the reset made it and the
            input is ignored. Default 0.
        surrogate: what stands for the derivative of a spike. Default ``StepPWL(window=0.5)``.
        strict: fire where ``v > threshold`` instead of ``v >= threshold``. Default False.
        detach_reset: let no gradient through the spikes that the reset subtracts. Default False. (A reset to a value
            never lets one through.)
    """


@dataclass(frozen=True, eq=False)
class CubaLIF(LIF):
    """Current-based LIF neuron: :class:`~snncompile.ir.nodes.synapses.ExpSyn` followed by :class:`LIF`.

    Each step, ``isyn = (isyn + x) * exp(-dt/tau_syn)``, then the step of :class:`LIF` with ``isyn`` as its input. A
    refractory membrane ignores the current, which goes on. Source: Rockpool, ``rockpool.nn.modules.LIFTorch`` with one
    synapse per neuron and no recurrence.

    Shapes: input and output ``(batch, time, *features)``. States ``isyn``, initially 0, and those of :class:`LIF`.

    Attributes:
        tau_syn: time constant of the current in seconds, greater than 0; family ``taus``, one per channel. Default
            10 ms. All others are those of :class:`LIF`.
    """

    tau_syn: Any = param(10 * MS, "taus", constraint="positive")

    def states(self) -> Mapping[str, float]:
        """``isyn``, then those of the membrane."""
        return {"isyn": 0.0, **super().states()}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step: the current, then the membrane."""
        isyn = exponential(s.isyn, x.x, p.tau_syn, dt)
        return {"isyn": isyn, **super().step(s, SimpleNamespace(x=isyn), p, dt)}


@dataclass(frozen=True, eq=False)
class ALIF(SpikingNeuron, Leaky):
    """LIF neuron whose threshold rises with its own activity.

    With ``A = threshold + beta * a`` for its threshold, ``a`` of the step before, it runs the steps of :class:`LIF`:
    ``s`` is 0 or 1, the reset is ``v = v - s * A``. Then ``a' = rho * a + (1 - rho) * s`` with
    ``rho = exp(-dt/tau_adapt)``. Source: Bellec et al. 2018, "Long short-term memory and learning-to-learn in networks
    of spiking neurons".

    Shapes: input and output ``(batch, time, *features)``. States ``v``, initially ``v0``, and ``a``, initially 0; with
    a refractory time also ``refractory``. ``a`` goes on adapting while the membrane is refractory.

    Attributes:
        tau_mem: as in :class:`LIF`. Default 20 ms.
        tau_adapt: time constant of the adaptation in seconds, greater than 0; family ``taus``, one per channel.
            Default 200 ms.
        beta: how far full activity raises the threshold, at least 0; family ``betas``, one per channel. Default 1.8.
        threshold: threshold at rest, greater than 0; family ``thresholds``, one per channel. Default 1.

    ``v_leak``, ``bias``, ``noise_std``, ``v0``, ``refractory``, ``surrogate``, ``strict`` and ``detach_reset`` are as
    in :class:`LIF`.
    """

    tau_adapt: Any = param(200 * MS, "taus", constraint="positive")
    _: KW_ONLY
    beta: Any = param(1.8, "betas", constraint="nonnegative")

    def states(self) -> Mapping[str, float]:
        """Those of the membrane, and ``a`` from 0."""
        return {**super().states(), "a": 0.0}

    def level(self, s: SimpleNamespace, p: SimpleNamespace) -> Tensor:
        """The adapted threshold."""
        return p.threshold + p.beta * s.a

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step: the membrane, then the adaptation."""
        new = super().step(s, x, p, dt)
        rho = decay(p.tau_adapt, dt)
        a = rho * s.a + (1.0 - rho) * new["spikes"]
        return {**new, "a": a}


@dataclass(frozen=True, eq=False)
class LI(Leaky):
    """Leaky integrator without spikes, for readouts.

    Each step, ``v = ((v * exp(-dt/tau_mem) + x) + noise) + bias``; the output is ``v``. With ``v_leak`` the decay is
    towards it, and the noise is that of ``noise_std``, both as in :class:`~snncompile.ir.nodes.neurons.LIF`.

    Shapes: input and output ``(batch, time, *features)``. State ``v``, initially ``v0``.

    Attributes:
        tau_mem: time constant in seconds, greater than 0; family ``taus``, one per channel. Default 20 ms.
        v_leak: what it decays towards; family ``leaks``. None, the default, is 0, without the parameter.
        bias: added at every step; family ``biases``, one for all. Default 0.
        v0: value before the first step. Default 0.
    """

    _: KW_ONLY
    bias: Any = param(0.0, "biases", layout="scalar")
    v0: float = 0.0

    def check(self) -> None:
        """Settings that make no sense."""
        check_number("v0", self.v0)

    def states(self) -> Mapping[str, float]:
        """``v``."""
        return {"v": float(self.v0)}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The membrane."""
        return {"v": SignalType("membrane", inputs["x"].shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        v = self.leak(s.v, p, dt)
        v = self.driven(v, x.x, p, dt)
        return {"v": v}
