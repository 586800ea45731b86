"""Random networks in which everything meets: noise, delays, sparse and learning connections, hints, cycles, images.

Products are exact, as in :mod:`random_models`, or summed in an order that every target keeps (sparse connections, and
what learns): whole networks agree bit for bit.
"""

from __future__ import annotations

import numpy as np
import torch

import snncompile as snn
from snncompile import ms

from .random_models import delayed, delayed_linear, dyadic, linear, neuron, synapse, tau

INPUTS = 5
RULES = [
    lambda: snn.STDP(eta_plus=0.25, eta_minus=0.125),
    lambda: snn.STDP(eta_plus=0.1, eta_minus=0.1, w_max=2.0, algorithm="multiplicative_relu"),
    lambda: snn.TripletSTDP(),
]


def noisy(rng: np.random.Generator, n: int) -> snn.Node:
    """A synapse or neuron that draws."""
    return [
        lambda: snn.LIF(tau(rng, n), threshold=0.7, noise_std=2.0),
        lambda: snn.CubaLIF(noise_std=[0.5] * n, refractory=2 * ms),
        lambda: snn.ALIF(noise_std=snn.Param(1.0, trainable=True)),
        lambda: snn.IF(noise_std=3.0),
    ][rng.integers(4)]()


def population(rng: np.random.Generator, n: int) -> snn.Node:
    return noisy(rng, n) if rng.random() < 0.4 else neuron(rng, n)


def connection(rng: np.random.Generator, n_in: int, n_out: int) -> snn.Node:
    """Anything with weights and exact sums."""
    return [
        lambda: linear(rng, n_in, n_out),
        lambda: delayed_linear(rng, n_in, n_out),
        lambda: snn.Linear(n_out, bias=False, init=dyadic(rng, n_out, n_in), density=0.02),
        lambda: snn.Linear(n_out, bias=False, init=dyadic(rng, n_out, n_in), mask=rng.random((n_out, n_in)) < 0.6),
        lambda: snn.Sparse(n_out, p=0.5, seed=int(rng.integers(99))),
        lambda: snn.Sparse(n_out, indegree=int(rng.integers(1, n_in + 1)), bias=True),
    ][rng.integers(6)]()


def cycle(rng: np.random.Generator, current: snn.Signal, m: int) -> snn.Signal:
    """Recurrence: one layer, or two populations that excite each other."""
    late = float(rng.integers(1, 5)) * ms if rng.random() < 0.5 else None
    if rng.random() < 0.6:
        return current >> snn.recurrent(population(rng, m), via=connection(rng, m, m), delay=late)
    back = snn.Feedback(m, max=8, delay=late)
    first = current + (back >> connection(rng, m, m)) >> population(rng, m)
    second = first >> connection(rng, m, m) >> snn.LIF(tau(rng, m), threshold=0.6, max_spikes_per_dt=8)
    back.close(second)
    return first


def learning(rng: np.random.Generator, signal: snn.Signal, n: int, m: int) -> snn.Signal:
    """A layer whose weights change, from outside or within a cycle."""
    rule = RULES[rng.integers(len(RULES))]()
    weight = rng.uniform(0.0, 0.9, size=(m, n)).astype(np.float32)
    if rng.random() < 0.3:
        via = snn.Linear(m, bias=False, init=rng.uniform(0.0, 0.5, size=(m, m)).astype(np.float32))
        spikes = signal >> linear(rng, n, m) >> snn.recurrent(neuron(rng, m), via=via)
        snn.learn(via, rule)
        return spikes
    via = snn.Linear(m, bias=False, init=weight)
    current = signal >> via
    if rng.random() < 0.5:
        current = current >> synapse(rng, m)
    spikes = current >> population(rng, m)
    snn.learn(via, rule)
    return spikes


def mixed_model(seed: int, learns: bool = False, draws: bool = True) -> snn.Model:
    """A network of two to four layers of everything.

    Args:
        seed: what makes it this network.
        learns: whether a connection of it learns.
        draws: whether it has a source of its own.
    """

    @snn.model(dt=1 * ms)
    def network(x=snn.Spikes(INPUTS, max=3, density=[None, 0.05][seed % 2])):
        rng = np.random.default_rng(seed)
        signal, n = delayed(rng, x), INPUTS
        outputs = {}
        depths = int(rng.integers(1, 4))
        where = int(rng.integers(depths))
        for depth in range(depths):
            m = int(rng.integers(1, 9))
            if learns and depth == where:
                signal, n = learning(rng, signal, n, m), m
                continue
            current = delayed(rng, signal >> connection(rng, n, m))
            if rng.random() < 0.5:
                noise = snn.ExpSyn(tau(rng, m), noise_std=0.3)
                current = current >> (noise if rng.random() < 0.3 else synapse(rng, m))
            if draws and rng.random() < 0.3:
                current = current + (snn.Poisson(300.0, 3, max=4) >> linear(rng, 3, m))
            spikes = cycle(rng, current, m) if rng.random() < 0.5 else current >> population(rng, m)
            if rng.random() < 0.3:
                outputs[f"branch_{depth}"] = current >> snn.LI(tau(rng, m), noise_std=0.5)
            signal, n = delayed(rng, spikes), m
        return {"last": signal, **outputs}

    return network


def counts(seed: int, batch: int, steps: int) -> torch.Tensor:
    """Random spike counts from 0 to 3, ``(batch, steps, INPUTS)``."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.poisson(0.6, size=(batch, steps, INPUTS)).clip(0, 3).astype(np.float32))
