"""What the integrate-and-fire neurons share: leak, threshold, reset and refractory time, each written once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.noise import Noisy, increment
from snncompile.ir.nodes.spiking import spike
from snncompile.ir.nodes.surrogates import StepPWL, Surrogate
from snncompile.ir.nodes.synapses import MS, decay
from snncompile.ir.params import Param, param
from snncompile.ir.types import DEFAULT_MAX_SPIKES, SignalType

#: Whole numbers are exact in float32 up to here: the largest spike count and the longest refractory time in steps.
MAX_COUNT = 2**24


class Membrane(Noisy):
    """Base of everything with a membrane ``v``."""

    def leak(self, v: Tensor, p: SimpleNamespace, dt: float) -> Tensor:
        """The membrane after one step without input: no leak."""
        return v

    def driven(self, v: Tensor, x: Tensor, p: SimpleNamespace, dt: float) -> Tensor:
        """The membrane after the leak, moved by input, noise and bias, in this order."""
        v = v + x
        if self.noisy:
            v = v + increment(p.noise_std, dt)
        v = v + p.bias
        return v


@dataclass(frozen=True, eq=False)
class Leaky(Membrane):
    """Mixin: a membrane that decays, towards 0 or towards ``v_leak``."""

    tau_mem: Any = param(20 * MS, "taus", constraint="positive")
    _: KW_ONLY
    v_leak: Any = param(None, "leaks")

    def leak(self, v: Tensor, p: SimpleNamespace, dt: float) -> Tensor:
        """The membrane after one step without input."""
        if self.v_leak is None:
            return v * decay(p.tau_mem, dt)
        return (v - p.v_leak) * decay(p.tau_mem, dt) + p.v_leak


@dataclass(frozen=True, eq=False)
class SpikingNeuron(Membrane):
    """Base: leak, input, noise, bias, spikes, reset, in this order. A neuron has its own leak and :meth:`level`."""

    _: KW_ONLY
    threshold: Any = param(1.0, "thresholds", constraint="positive")
    bias: Any = param(0.0, "biases", layout="scalar")
    v0: float = 0.0
    refractory: float = 0.0
    surrogate: Surrogate = StepPWL()
    strict: bool = False
    detach_reset: bool = False

    @property
    def cap(self) -> int:
        """The most spikes in one step."""
        return 1

    def check(self) -> None:
        """Settings that make no sense."""
        check_surrogate(self.surrogate)
        check_number("v0", self.v0)
        check_number("refractory", self.refractory)
        if self.refractory < 0:
            raise ModelError(f"refractory is a time of at least 0, not {self.refractory!r}")

    def states(self) -> Mapping[str, float]:
        """``v``, and the steps left of the refractory time where there is one."""
        return {"v": float(self.v0), **({"refractory": 0.0} if self.refractory else {})}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spike counts."""
        return {"spikes": SignalType("spikes", inputs["x"].shape, self.cap)}

    def level(self, s: SimpleNamespace, p: SimpleNamespace) -> Tensor:
        """The threshold of this step."""
        return p.threshold

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step: leak, input, noise, bias, spikes, reset."""
        v = self.leak(s.v, p, dt)
        v = self.driven(v, x.x, p, dt)
        return self.fire(s, v, self.level(s, p), p, dt)

    def fire(
        self, s: SimpleNamespace, v: Tensor, threshold: Tensor, p: SimpleNamespace, dt: float
    ) -> dict[str, Any]:
        """Spikes and reset of the membrane ``v``, unless the neuron is refractory: then it stays as it was."""
        steps = whole_steps("refractory", self.refractory, dt)
        if not steps:
            spikes = spike(v, threshold, self.surrogate, self.cap, self.strict)
            return {"v": self.after_reset(v, spikes, threshold, p), "spikes": spikes}
        ready = s.refractory <= 0.0
        v = torch.where(ready, v, s.v)
        spikes = torch.where(ready, spike(v, threshold, self.surrogate, self.cap, self.strict), 0.0)
        left = torch.clamp(s.refractory.detach() - 1.0, min=0.0)
        refractory = torch.where(spikes > 0.0, float(steps), left)
        return {"v": self.after_reset(v, spikes, threshold, p), "spikes": spikes, "refractory": refractory}

    def after_reset(self, v: Tensor, spikes: Tensor, threshold: Tensor, p: SimpleNamespace) -> Tensor:
        """The membrane after the reset, which subtracts the threshold for each spike."""
        counted = spikes.detach() if self.detach_reset else spikes
        return v - counted * threshold


@dataclass(frozen=True, eq=False)
class Resettable(SpikingNeuron):
    """Base of the neurons whose reset and spike cap are the user's choice."""

    _: KW_ONLY
    reset: Any = "subtract"
    max_spikes_per_dt: int = DEFAULT_MAX_SPIKES

    @property
    def cap(self) -> int:
        """The most spikes in one step: 1 unless the reset subtracts."""
        return self.max_spikes_per_dt if self._subtracts else 1

    @property
    def _subtracts(self) -> bool:
        return isinstance(self.reset, str) and self.reset == "subtract"

    def declared(self) -> dict[str, Param]:
        """A reset value per channel, or a Param, is a parameter too."""
        params = super().declared()
        if not isinstance(self.reset, (str, int, float)):
            params["reset"] = Param(None, "channel", "resets", False).overridden(self.reset)
        return params

    def check(self) -> None:
        """Settings that make no sense."""
        super().check()
        cap = self.max_spikes_per_dt
        if isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MAX_COUNT:
            raise ModelError(f"max_spikes_per_dt must be a whole number from 1 to {MAX_COUNT}, not {cap!r}")
        if isinstance(self.reset, str):
            if self.reset not in ("subtract", "zero"):
                raise ModelError(f"reset must be 'subtract', 'zero' or a value, not {self.reset!r}")
        elif isinstance(self.reset, (bool, int, float)):
            check_number("reset", self.reset)
        elif self.reset is None:
            raise ModelError("reset must be 'subtract', 'zero' or a value, not None")
        if not self._subtracts and cap not in (1, DEFAULT_MAX_SPIKES):
            raise ModelError(
                f"max_spikes_per_dt={cap} needs reset='subtract': a neuron that is reset to a value fires at most once"
                " in a step"
            )

    def after_reset(self, v: Tensor, spikes: Tensor, threshold: Tensor, p: SimpleNamespace) -> Tensor:
        """The membrane after the reset of the user's choice."""
        if self._subtracts:
            return super().after_reset(v, spikes, threshold, p)
        if hasattr(p, "reset"):
            return torch.where(spikes > 0.0, p.reset, v)
        return torch.where(spikes > 0.0, 0.0 if self.reset == "zero" else float(self.reset), v)


def check_surrogate(surrogate: Any) -> None:
    """Raise :class:`ModelError` unless ``surrogate`` is one."""
    if isinstance(surrogate, Surrogate):
        return
    is_class = isinstance(surrogate, type) and issubclass(surrogate, Surrogate)
    hint = f": write {surrogate.__name__}()" if is_class else ""
    raise ModelError(f"surrogate must be a surrogate such as StepPWL(window=0.5), not {surrogate!r}{hint}")


def check_number(name: str, value: Any) -> None:
    """Raise :class:`ModelError` unless ``value`` is one finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ModelError(f"{name} must be a finite number, not {value!r}")


def whole_steps(name: str, time: float, dt: float) -> int:
    """``time`` in steps of ``dt``.

    Raises:
        ModelError: where it is not a whole number of steps, to 1e-6 of a step.
    """
    steps = time / dt
    if abs(steps - round(steps)) > 1e-6 or (time != 0 and round(steps) < 1):
        raise ModelError(
            f"{name} must be a whole number of steps, but {time:g} s is {steps:g} steps of dt = {dt:g} s"
        )
    if steps > MAX_COUNT:
        raise ModelError(f"{name} is {steps:g} steps; at most {MAX_COUNT} can be counted")
    return round(steps)
