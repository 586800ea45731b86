"""Izhikevich's neuron: two equations, many firing patterns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from types import SimpleNamespace
from typing import Any

import torch

from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.nodes.membrane import check_number, check_surrogate
from snncompile.ir.nodes.spiking import spike
from snncompile.ir.nodes.surrogates import StepPWL, Surrogate
from snncompile.ir.nodes.synapses import MS
from snncompile.ir.params import param
from snncompile.ir.types import SignalType

#: Where a spike is cut off, in mV.
PEAK = 30.0


@dataclass(frozen=True, eq=False)
class Izhikevich(ElementwiseNode):
    """Izhikevich's neuron, with ``v`` in mV and ``dt`` in ms inside the equations.

    Each step:

    1. twice, ``v = v + 0.5*dt * (((0.04*v*v + 5*v) + 140) - u + x)``
    2. ``u = u + dt*a * (b*v - u)``
    3. ``s = 1`` where ``v >= 30``
    4. ``v = c`` and ``u = u + d`` where ``s``

    Source: Izhikevich 2003, "Simple model of spiking neurons", and its published code; it is meant for steps of about
    1 ms and less. The default surrogate's window of 0.5 is half a millivolt here: for training,
    ``StepPWL(window=15)`` or wider reaches the membranes that are about to fire.

    Shapes: input and output ``(batch, time, *features)``; spikes are 0 or 1. States ``v``, initially ``v0``, and ``u``,
    initially ``u0``; both are recorded after the reset.

    Attributes:
        a: rate of the recovery ``u``, per ms; default 0.02. ``a``, ``b``, ``c`` and ``d`` are of family ``izhikevich``,
            one value for all unless an array is given. The defaults are a regular spiking cell.
        b: sensitivity of ``u`` to ``v``; default 0.2.
        c: membrane after a spike, in mV; default -65.
        d: what a spike adds to ``u``; default 8.
        v0: membrane before the first step, in mV; default -65.
        u0: recovery before the first step. None, the default, is ``b * v0``.
        surrogate: what stands for the derivative of a spike. Default ``StepPWL(window=0.5)``.
    """

    a: Any = param(0.02, "izhikevich", layout="scalar")
    b: Any = param(0.2, "izhikevich", layout="scalar")
    c: Any = param(-65.0, "izhikevich", layout="scalar")
    d: Any = param(8.0, "izhikevich", layout="scalar")
    _: KW_ONLY
    v0: float = -65.0
    u0: float | None = None
    surrogate: Surrogate = StepPWL()

    def check(self) -> None:
        """Settings that make no sense."""
        check_surrogate(self.surrogate)
        check_number("v0", self.v0)
        if self.u0 is not None:
            check_number("u0", self.u0)
        elif self._common_b() is None:
            raise ModelError("with a value of b for each neuron there is no one start for u: give u0=")

    def _common_b(self) -> float | None:
        b = self.declared()["b"].value
        return float(b) if isinstance(b, (int, float)) else None

    def states(self) -> Mapping[str, float]:
        """``v`` and ``u``."""
        u0 = self.u0 if self.u0 is not None else (self._common_b() or 0.0) * self.v0
        return {"v": float(self.v0), "u": float(u0)}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spikes, 0 or 1."""
        return {"spikes": SignalType("spikes", inputs["x"].shape, 1)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        dt = dt / MS
        v, u = s.v, s.u
        for _ in range(2):
            v = v + 0.5 * dt * (((0.04 * v * v + 5.0 * v) + 140.0) - u + x.x)
        u = u + dt * p.a * (p.b * v - u)
        spikes = spike(v, PEAK, self.surrogate)
        fired = spikes > 0.0
        v = torch.where(fired, p.c, v)
        u = torch.where(fired, u + p.d, u)
        return {"v": v, "u": u, "spikes": spikes}
