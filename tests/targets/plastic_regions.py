"""Plastic regions of many forms, for every target that runs them as one: models, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import snncompile as snn
from snncompile import ms

IN, OUT = 19, 21


def drawn(*shape: int, seed: int = 0, share: float = 1.0) -> torch.Tensor:
    """Random numbers up to 1, so many of them not zero."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(*shape, generator=draw)
    return values * (torch.rand(*shape, generator=draw) < share)


@snn.neuron(states={"v": 0.0, "theta": 0.0}, outputs={"spikes": 1})
def Adaptive(v, theta, x, inh, *, decay=0.9, gain=0.05):
    """Its threshold rises with every spike."""
    v = v * decay + x - inh
    s = snn.spike(v, 1.0 + theta)
    return {"v": torch.where(s > 0.0, 0.0, v), "theta": theta + gain * s, "spikes": s}


@snn.plasticity(pre={"t": 0.0}, post={"u": 0.25})
class Decaying:
    """Weights move at every step, and a factor is never 0."""

    def pre(z, t, *, tau=snn.Param(5 * ms, family="taus", constraint="positive"), dt):
        t = t * torch.exp(-dt / tau) + z
        return {"t": t, "potentiation": t, "depression": 1.0}

    def post(z, u):
        u = 0.5 * u + z
        return {"u": u, "potentiation": z, "depression": u}

    def update(w, potentiation, depression, *, rate=1e-2):
        return {"w": w + rate * (potentiation - w * depression)}


def competing(rule: Any, rate: float = 1.0, noise: float = 0.0) -> Any:
    """Excitatory neurons, each with a partner that silences the others one step later, as in Diehl and Cook."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(IN, max=1), reward=snn.Current(1)):
        excite = snn.Linear(OUT, bias=rate > 1.0, init=rate * drawn(OUT, IN))
        others = snn.Linear(OUT, bias=False, init=2.0 * (1.0 - torch.eye(OUT)), trainable=False)
        back = snn.Feedback(OUT, max=1)
        spikes = Adaptive(name="exc")(x=x >> excite, inh=back >> others)
        back.close(spikes >> snn.IF(threshold=0.5, max_spikes_per_dt=1, reset="zero", name="inh", noise_std=noise))
        snn.learn(excite, rule, post=spikes, **({"reward": reward} if rule.signals else {}))
        return spikes

    return model


@snn.model(dt=1 * ms)
def two_ways(x=snn.Spikes(IN, max=1), y=snn.Current(7)):
    """Two connections that learn into one population, and one from it to itself; a delay, a sparse inhibition."""
    first, second, third = (
        snn.Linear(OUT, init=0.4 * drawn(OUT, IN, seed=1)),
        snn.Linear(OUT, bias=False, init=0.3 * drawn(OUT, 7, seed=2)),
        snn.Linear(OUT, bias=False, init=0.2 * drawn(OUT, OUT, seed=3)),
    )
    back = snn.Feedback(OUT, delay=2 * ms)
    quiet = snn.Feedback(6)
    recurrent = back >> third
    inhibited = quiet >> snn.Sparse(OUT, p=0.4, seed=3, sign=-1)
    shown = y >> snn.LIF(threshold=0.4, max_spikes_per_dt=1, name="shown")
    h = (x >> first) + (shown >> second) + recurrent + inhibited >> snn.ExpSyn(tau=3 * ms)
    h = h >> snn.LIF(threshold=1.2, max_spikes_per_dt=1, name="exc")
    back.close(h)
    quiet.close(h >> snn.Delay(1e-3 * (torch.arange(OUT) % 4)) >> snn.Linear(6) >> snn.LIF(name="inh"))
    snn.learn(first, snn.STDP(eta_plus=0.05, eta_minus=0.06))
    snn.learn(second, snn.TripletSTDP())
    snn.learn(third, Decaying())
    return {"h": h, "v": h.state("v"), "current": recurrent}


@snn.model(dt=1 * ms)
def chained(x=snn.Spikes(IN, max=1), teacher=snn.Spikes(OUT, max=1)):
    """Layer after layer, both of which learn, masked and signed; the second is rewarded by what it does itself."""
    mask = (drawn(OUT, IN, seed=4) < 0.7).float()
    first = snn.Linear(OUT, init=drawn(OUT, IN, seed=5), mask=mask)
    second = snn.Linear(5, init=drawn(5, OUT, seed=6), sign=1, mask=(drawn(5, OUT, seed=7) < 0.8).float())
    third = snn.Linear(OUT, bias=False, init=-drawn(OUT, 5, seed=8), sign=-1)
    down = snn.Feedback(5)
    h = (x >> first) + (down >> third) >> snn.LIF(threshold=1.5, name="low")
    top = h >> snn.Dropout(0.3) >> second >> snn.LIF(threshold=1.5, name="top")
    down.close(top)
    reward = top >> snn.Linear(1, init=0.1 * torch.ones(1, 5), trainable=False) >> snn.LI(tau_mem=3 * ms)
    snn.learn(first, snn.STDP(eta_plus=0.05, eta_minus=0.06), post=teacher)
    snn.learn(second, snn.MSTDPET(eta=0.3), pre=h, reward=reward)
    snn.learn(third, snn.STDP(w_min=-1.0, w_max=0.0, eta_plus=0.03, eta_minus=0.03))
    return {"top": top, "h": h}


@snn.model(dt=1 * ms)
def delayed(x=snn.Spikes(IN, max=1)):
    """What comes back is late by synapse, and between two steps; what learns takes a delayed signal."""
    connection = snn.Linear(OUT, init=0.5 * drawn(OUT, IN, seed=1))
    back = snn.Feedback(OUT)
    times = 1e-3 * (1 + 5 * drawn(OUT, OUT, seed=9))
    each = back >> snn.Linear(OUT, delay=times, init=-0.1 * drawn(OUT, OUT, seed=2), interpolation="linear")
    whole = back >> snn.Linear(OUT, delay=2 * ms, bias=False, init=0.05 * drawn(OUT, OUT, seed=3))
    h = (x >> connection) + each + whole >> snn.LIF(threshold=1.0, name="lif")
    back.close(h)
    snn.learn(connection, snn.STDP(eta_plus=0.03, eta_minus=0.02), pre=x >> snn.Delay(2 * ms), post=h)
    return h


@snn.model(dt=1 * ms)
def taught(x=snn.Spikes(IN, max=1), teacher=snn.Spikes(OUT, max=1)):
    """A teacher says who should have fired, and what comes out rewards itself: no neuron takes part."""
    connection = snn.Linear(OUT, init=drawn(OUT, IN))
    h = x >> connection
    reward = h >> snn.Linear(1, init=0.1 * torch.ones(1, OUT), trainable=False)
    snn.learn(connection, snn.MSTDPET(), post=teacher, reward=reward)
    return h


RULES: dict[str, Callable[[], Any]] = {
    "additive": lambda: snn.STDP(eta_plus=0.05, eta_minus=0.06),
    "free": lambda: snn.STDP(hardbound=False, eta_plus=0.02, eta_minus=0.01),
    "step": lambda: snn.STDP(algorithm="additive_step", eta_plus=0.02, eta_minus=0.03),
    "relu": lambda: snn.STDP(algorithm="multiplicative_relu", eta_plus=0.05, eta_minus=0.03),
    "power": lambda: snn.STDP(algorithm="multiplicative_pow", mu=0.3, eta_plus=0.05, eta_minus=0.03),
    "triplet": snn.TripletSTDP,
    "reward": lambda: snn.MSTDPET(eta=0.5),
    "decaying": Decaying,
}
