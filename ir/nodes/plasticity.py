"""The learning rules that come with the library, made with the same :func:`plasticity` that a user has."""

from __future__ import annotations

import math
from typing import Any

import torch

from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.rule_decorator import plasticity
from snncompile.ir.nodes.rules import Rule
from snncompile.ir.nodes.user import Const
from snncompile.ir.params import Param
from snncompile.ir.power import power

ALGORITHMS = ("additive", "additive_step", "multiplicative_pow", "multiplicative_relu")


def _tau(milliseconds: float) -> Param:
    return Param(milliseconds * 1e-3, family="taus", constraint="positive")


_LOW, _HIGH = (Param(value, family="bounds") for value in (0.0, 1.0))
_TAU_50, _TAU_20, _TAU_25 = _tau(50), _tau(20), _tau(25)
_TAU_PLUS, _TAU_X, _TAU_MINUS, _TAU_Y = _tau(16.8), _tau(101), _tau(33.7), _tau(125)
_RATE, _REWARD_RATE = (Param(value, family="rates") for value in (1e-3, 1e-2))
_A2_PLUS, _A3_PLUS, _A2_MINUS, _A3_MINUS = (Param(v, family="rates") for v in (5e-10, 6.2e-3, 7e-3, 2.3e-4))
_MU = Const(0.0)


@plasticity(pre={"t_pre": 0.0}, post={"t_post": 0.0})
class STDP:
    """Spike-timing-dependent plasticity with one trace on either side.

    Each step, ``z`` being the spikes of this step: ``t_pre = t_pre + (dt/tau_pre) * (-t_pre + a_pre*z_pre)`` and
    ``t_post`` alike, then with the new traces ``dw = A_plus(w) * sum_b(z_post t_pre) - A_minus(w) * sum_b(t_post
    z_pre)`` and ``w = w + dw``, clamped to ``[w_min, w_max]`` where ``hardbound``.

    ============================  ===============================  ================================
    algorithm                     ``A_plus(w)``                    ``A_minus(w)``
    ============================  ===============================  ================================
    ``"additive"``                ``eta_plus``                     ``eta_minus``
    ``"additive_step"``           ``eta_plus * (w_max - w > 0)``   ``eta_minus * (w - w_min > 0)``
    ``"multiplicative_pow"``      ``eta_plus * (w_max - w)**mu``   ``eta_minus * (w - w_min)**mu``
    ``"multiplicative_relu"``     ``eta_plus * relu(w_max - w)``   ``eta_minus * relu(w - w_min)``
    ============================  ===============================  ================================

    Source: Norse's ``stdp_step_linear`` and ``stdp_step_conv2d``, which it equals step by step.

    Attributes:
        algorithm: how potentiation and depression depend on the weight. Default ``"additive"``.
        a_pre: what a spike adds to the trace of its input. Default 1.
        a_post: likewise of its output. Default 1.
        tau_pre: time constant of the input's trace in seconds. Default 50 ms.
        tau_post: likewise of the output's. Default 50 ms.
        w_min: least weight. Default 0.
        w_max: greatest weight. Default 1.
        eta_plus: rate of potentiation. Default 1e-3.
        eta_minus: rate of depression. Default 1e-3.
        mu: exponent of ``"multiplicative_pow"``, at least 0. Default 0.
        hardbound: whether weights are clamped. Default True.
    """

    ordered = (("w_min", "w_max"),)

    def check(self: Any) -> None:
        """Settings that make no sense."""
        if self.algorithm not in ALGORITHMS:
            raise ModelError(f"algorithm {self.algorithm!r} is unknown; use one of {', '.join(ALGORITHMS)}")
        if not isinstance(self.hardbound, bool):
            raise ModelError(f"hardbound is True or False, not {self.hardbound!r}")
        number = isinstance(self.mu, (int, float)) and not isinstance(self.mu, bool)
        if not number or not math.isfinite(self.mu) or self.mu < 0:
            raise ModelError(f"mu is a plain number of at least 0, not {self.mu!r}")
        if self.algorithm == "multiplicative_pow" and not self.hardbound:
            raise ModelError(
                "multiplicative_pow needs hardbound=True: a weight beyond its bounds would make a power of a negative"
                " number, NaN"
            )

    def bounds(self: Any) -> tuple[str, ...]:
        """A power needs weights within the bounds from the start."""
        return ("w_min", "w_max") if self.algorithm == "multiplicative_pow" else ()

    def pre(z, t_pre, *, a_pre=1.0, tau_pre=_TAU_50, dt):  # type: ignore[no-untyped-def]
        """The trace of the inputs; a spike of the output potentiates by it."""
        t_pre = t_pre + (dt * (1.0 / tau_pre)) * (-t_pre + a_pre * z)
        return {"t_pre": t_pre, "potentiation": t_pre, "depression": z}

    def post(z, t_post, *, a_post=1.0, tau_post=_TAU_50, dt):  # type: ignore[no-untyped-def]
        """The trace of the outputs; a spike of the input depresses by it."""
        t_post = t_post + (dt * (1.0 / tau_post)) * (-t_post + a_post * z)
        return {"t_post": t_post, "potentiation": z, "depression": t_post}

    def update(  # type: ignore[no-untyped-def]
        w,
        potentiation,
        depression,
        *,
        algorithm="additive",
        w_min=_LOW,
        w_max=_HIGH,
        eta_plus=_RATE,
        eta_minus=_RATE,
        mu=_MU,
        hardbound=True,
    ):
        """The weight after a step, from both sums over the batch."""
        above, below = w_max - w, w - w_min
        if algorithm == "additive":
            plus, minus = eta_plus, eta_minus
        elif algorithm == "additive_step":
            plus, minus = eta_plus * (above > 0.0), eta_minus * (below > 0.0)
        elif algorithm == "multiplicative_pow":
            plus, minus = eta_plus * power(above, mu), eta_minus * power(below, mu)
        else:
            plus, minus = eta_plus * torch.relu(above), eta_minus * torch.relu(below)
        w = w + (plus * potentiation - minus * depression)
        return {"w": torch.minimum(torch.maximum(w, w_min), w_max) if hardbound else w}


@plasticity(pre={"p_pre": 0.0}, post={"p_post": 0.0}, synapse={"eligibility": 0.0}, signals=("reward",))
class MSTDPET:
    """Spike-timing-dependent plasticity that waits for a reward: R. V. Florian, Neural Computation 19 (2007), 1468.

    ``p_pre = p_pre * exp(-dt/tau_pre) + a_pre*z_pre`` and ``p_post`` alike; every sequence of the batch has for each
    synapse ``eligibility = eligibility * exp(-dt/tau_eligibility) + (dt/tau_eligibility) * (z_post p_pre - p_post
    z_pre)``, and ``w = clamp(w + sum_b(eta * reward * eligibility), w_min, w_max)``. The reward is a signal with one
    value per sequence: ``snn.learn(connection, MSTDPET(), reward=signal)``.

    Attributes:
        a_pre: what a spike adds to the trace of its input. Default 1.
        a_post: likewise of its output. Default 1.
        tau_pre: time constant of the input's trace in seconds. Default 20 ms.
        tau_post: likewise of the output's. Default 20 ms.
        tau_eligibility: time constant of the eligibility in seconds. Default 25 ms.
        eta: learning rate. Default 1e-2.
        w_min: least weight. Default 0.
        w_max: greatest weight. Default 1.
    """

    ordered = (("w_min", "w_max"),)

    def pre(z, p_pre, *, a_pre=1.0, tau_pre=_TAU_20, dt):  # type: ignore[no-untyped-def]
        """The trace of the inputs; a spike of the output potentiates by it."""
        p_pre = p_pre * torch.exp(-dt / tau_pre) + a_pre * z
        return {"p_pre": p_pre, "potentiation": p_pre, "depression": z}

    def post(z, p_post, *, a_post=1.0, tau_post=_TAU_20, dt):  # type: ignore[no-untyped-def]
        """The trace of the outputs; a spike of the input depresses by it."""
        p_post = p_post * torch.exp(-dt / tau_post) + a_post * z
        return {"p_post": p_post, "potentiation": z, "depression": p_post}

    def synapse(  # type: ignore[no-untyped-def]
        potentiation, depression, eligibility, reward, *, tau_eligibility=_TAU_25, eta=_REWARD_RATE, dt
    ):
        """The eligibility of every synapse of every sequence, and what the reward makes of it."""
        decay = torch.exp(-dt / tau_eligibility)
        eligibility = eligibility * decay + (dt / tau_eligibility) * (potentiation - depression)
        return {"eligibility": eligibility, "change": eta * reward * eligibility}

    def update(w, change, *, w_min=_LOW, w_max=_HIGH):  # type: ignore[no-untyped-def]
        """The weight after a step, from the sum of the changes over the batch."""
        return {"w": torch.minimum(torch.maximum(w + change, w_min), w_max)}


@plasticity(pre={"r1": 0.0, "r2": 0.0}, post={"o1": 0.0, "o2": 0.0})
class TripletSTDP:
    """The triplet rule, all spikes interacting: J.-P. Pfister and W. Gerstner, J. Neuroscience 26 (2006), 9673.

    Two traces on either side decay with ``exp(-dt/tau)`` and gain 1 with each spike. ``dw = sum_b(z_post r1 (a2_plus +
    a3_plus o2)) - sum_b(z_pre o1 (a2_minus + a3_minus r2))``, where ``r1`` and ``o1`` hold the spikes of this step, and
    ``r2`` and ``o2`` do not (the paper's ``t - epsilon``); ``w = clamp(w + dw, w_min, w_max)``. The defaults are the
    paper's fit to visual cortex (full model, all-to-all).

    Attributes:
        tau_plus: time constant of ``r1`` in seconds. Default 16.8 ms.
        tau_x: of ``r2``. Default 101 ms.
        tau_minus: of ``o1``. Default 33.7 ms.
        tau_y: of ``o2``. Default 125 ms.
        a2_plus: potentiation of a pair. Default 5e-10.
        a3_plus: of a triplet. Default 6.2e-3.
        a2_minus: depression of a pair. Default 7e-3.
        a3_minus: of a triplet. Default 2.3e-4.
        w_min: least weight. Default 0.
        w_max: greatest weight. Default 1.
    """

    ordered = (("w_min", "w_max"),)

    def pre(  # type: ignore[no-untyped-def]
        z, r1, r2, *, tau_plus=_TAU_PLUS, tau_x=_TAU_X, a2_minus=_A2_MINUS, a3_minus=_A3_MINUS, dt
    ):
        """Both traces of the inputs; ``r2`` is read before its spike of this step."""
        r1 = r1 * torch.exp(-dt / tau_plus) + z
        before = r2 * torch.exp(-dt / tau_x)
        return {"r1": r1, "r2": before + z, "potentiation": r1, "depression": z * (a2_minus + a3_minus * before)}

    def post(  # type: ignore[no-untyped-def]
        z, o1, o2, *, tau_minus=_TAU_MINUS, tau_y=_TAU_Y, a2_plus=_A2_PLUS, a3_plus=_A3_PLUS, dt
    ):
        """Both traces of the outputs; ``o2`` is read before its spike of this step."""
        o1 = o1 * torch.exp(-dt / tau_minus) + z
        before = o2 * torch.exp(-dt / tau_y)
        return {"o1": o1, "o2": before + z, "potentiation": z * (a2_plus + a3_plus * before), "depression": o1}

    def update(w, potentiation, depression, *, w_min=_LOW, w_max=_HIGH):  # type: ignore[no-untyped-def]
        """The weight after a step, from both sums over the batch."""
        w = w + (potentiation - depression)
        return {"w": torch.minimum(torch.maximum(w, w_min), w_max)}


__all__ = ["ALGORITHMS", "MSTDPET", "STDP", "Rule", "TripletSTDP", "plasticity"]
