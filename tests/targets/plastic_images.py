"""Plastic regions with images, for every target that runs them as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import snncompile as snn
from snncompile import ms

from ..image_cycles import INPUT, back, conv, there, window
from .plastic_regions import RULES, drawn

IMAGE = (2, 7, 6)


@snn.model(dt=1 * ms)
def rivals(x=snn.Spikes(IMAGE, max=1)):
    """A convolution that learns, and for each of its neurons one that silences all at that place one step later."""
    learnt = snn.Conv2d(3, 3, init=0.4 * drawn(3, 2, 3, 3))
    back = snn.Feedback((3, 4, 3), max=1)
    quiet = back >> snn.Conv2d(3, 1, bias=False, init=-0.4 * drawn(3, 3, 1, 1, seed=1), trainable=False)
    current = x >> learnt
    h = (current >> snn.SumPool2d(2, 1)) + quiet >> snn.LIF(threshold=2.0, max_spikes_per_dt=1, name="exc")
    back.close(h >> snn.IF(threshold=0.9, max_spikes_per_dt=1, reset="zero", name="inh"))
    up = h >> snn.Conv2d(3, 2, padding=1, init=0.7 * drawn(3, 3, 2, 2, seed=7)) >> snn.LIF(threshold=1.0, name="up")
    snn.learn(learnt, RULES["additive"](), post=up)
    return {"h": h, "current": current}


def layered(rule: Any, other: Any) -> Any:
    """Two convolutions that learn, with all settings, a mask, signs; a grouped one, poolings, and a Linear that is
    rewarded by what it does."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(IMAGE, max=1), reward=snn.Current(1)):
        mask = (drawn(10, 2, 3, 2, seed=4) < 0.8).float()
        first = snn.Conv2d(10, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), mask=mask,
                           init=0.6 * drawn(10, 2, 3, 2, seed=5))  # fmt: skip
        second = snn.Conv2d(5, 2, bias=False, init=0.3 * drawn(5, 10, 2, 2, seed=6), sign=1)
        across = snn.Conv2d(6, (2, 3), groups=2, padding=(0, 1), init=0.4 * drawn(6, 5, 2, 3, seed=7) - 0.05)
        down = snn.Feedback((5, 2, 6))
        back = down >> snn.Conv2d(10, 3, padding=2, bias=False, init=-0.1 * drawn(10, 5, 3, 3, seed=8))
        h = (x >> first) + back >> snn.LIF(threshold=1.0, max_spikes_per_dt=1, name="low")  # (10, 4, 8)
        most = h >> snn.MaxPool2d(2, 1)
        high = most >> second >> snn.LIF(threshold=1.0, max_spikes_per_dt=1, name="high")
        down.close(high)
        side = h >> snn.AvgPool2d((1, 2), (1, 2), (0, 1)) >> across >> snn.LIF(threshold=0.4, name="side")
        last, more = snn.Linear(4, init=0.2 * drawn(4, 60, seed=9)), snn.Linear(4, init=0.1 * drawn(4, 90, seed=10))
        flat = high >> snn.Flatten()
        top = (flat >> last) + (side >> snn.Flatten() >> more) >> snn.LIF(threshold=1.0, name="top")
        own = top >> snn.Linear(1, init=0.1 * torch.ones(1, 4), trainable=False) >> snn.LI(tau_mem=3 * ms)
        snn.learn(first, rule, post=h, **({"reward": reward} if rule.signals else {}))
        snn.learn(second, other, pre=most, post=high, **({"reward": own} if other.signals else {}))
        snn.learn(last, snn.MSTDPET(eta=0.3), post=top, reward=own)
        return {"top": top, "back": back, "side": side}

    return model


@snn.model(dt=1 * ms)
def lines(x=snn.Spikes(19, max=1)):
    """Convolutions of one dimension that do not learn, over what one that does made in the last steps."""
    learnt = snn.Linear(6, init=0.3 * drawn(6, 19))
    back = snn.Feedback(8)
    h = (x >> learnt) + (back >> snn.Linear(6, init=-0.02 * drawn(6, 8, seed=1))) >> snn.LIF(threshold=0.8, name="low")
    past = h >> snn.Delay(1e-3 * (torch.arange(24).reshape(6, 4) % 5))
    wide = past >> snn.Conv1d(4, 3, stride=2, padding=2, dilation=2, groups=2, init=drawn(4, 3, 3, seed=3))
    top = wide >> snn.LIF(threshold=0.5, name="top") >> snn.Conv1d(4, 2, padding=1, init=drawn(4, 4, 2, seed=4))
    back.close(top >> snn.Conv1d(4, 2, init=drawn(4, 4, 2, seed=5)) >> snn.Flatten() >> snn.LIF(name="last"))
    snn.learn(learnt, snn.STDP(eta_plus=0.05, eta_minus=0.06))
    return h


def some_region(seed: int) -> snn.Model:
    """A ring of populations: any connection of images between them, two of which learn by any rule."""

    @snn.model(dt=1 * ms)
    def network(x=snn.Spikes(INPUT, max=2), reward=snn.Current(1)):
        rng = np.random.default_rng(seed)
        names = [name for name in RULES if name != "power"]  # which needs other weights
        learnt = x >> conv(rng, INPUT, int(rng.integers(1, 12)), window(rng, INPUT[1:]))
        ring = snn.Feedback((int(rng.integers(1, 4)), *learnt.shape[1:]), delay=int(rng.integers(1, 4)) * ms)
        late = back(rng, ring, learnt.shape)
        first = learnt + late >> snn.LIF(tau_mem=5 * ms, threshold=0.6, max_spikes_per_dt=2)
        second = there(rng, first) >> snn.LIF(tau_mem=8 * ms, threshold=0.4)
        returned = back(rng, second, ring.shape)
        ring.close(returned >> snn.CubaLIF(threshold=0.3))
        for signal, pre in ((learnt, x), [(late, ring), (returned, second)][rng.integers(2)]):
            rule = RULES[names[rng.integers(len(names))]]()
            snn.learn(signal, rule, pre=pre, **({"reward": reward} if rule.signals else {}))
        return {"first": first, "second": second}

    return network
