"""Random cycles: populations that feed each other through any connection, some steps late or through delays.

Products are exact, as in :mod:`random_models`, or summed in an order that every target keeps.
"""

from __future__ import annotations

import numpy as np

import snncompile as snn
from snncompile import ms

from .mixed_models import population
from .random_models import dyadic, linear, synapse, tau

INPUTS = 5


@snn.neuron(states={"v": 0.0, "w": 0.0}, outputs={"spikes": 4, "pull": "current"})
def Adapting(v, w, exc, inh, *, gain=0.25):
    v = v * 0.75 + exc - inh - w
    s = snn.spike(v, 1.0)
    return {"v": v - s, "w": w * 0.5 + gain * s, "spikes": s, "pull": v * w}


def via(rng: np.random.Generator, n_in: int, n_out: int, least: int = 0) -> snn.Node:
    """A connection of spikes with exact sums; its delays are of at least so many steps."""
    weight = dyadic(rng, n_out, n_in)
    each = rng.integers(least, 6, size=(n_out, n_in))
    delays = [
        lambda: snn.Linear(n_out, bias=False, init=weight, delay=each * ms),
        lambda: snn.Linear(n_out, bias=False, init=weight, delay=each * 4 * ms),  # more steps than are dense
        lambda: snn.Linear(n_out, bias=False, init=weight, delay=(each + 0.5) * ms, interpolation="linear"),
        lambda: snn.Linear(n_out, bias=False, init=weight, delay=(each * 5 + 0.25) * ms, interpolation="previous"),
        lambda: snn.Linear(n_out, bias=False, init=weight, delay=(each + 1) * ms, max_delay=3 * ms, overbound=0.5),
        lambda: snn.Linear(n_out, bias=False, init=weight, delay=(least + 2) * ms),
        lambda: snn.Linear(n_out, bias=False, init=weight, delay=(least + 1.5) * ms, interpolation="nearest"),
        lambda: snn.Linear(
            n_out,
            bias=False,
            init=weight,
            delay=(each * 4 + 0.5) * ms,
            interpolation="linear",
            trainable_delay=not least,
        ),
    ]
    others = [
        lambda: snn.Linear(n_out, bias=False, init=weight, density=0.02),
        lambda: snn.Linear(n_out, bias=False, init=weight, mask=rng.random((n_out, n_in)) < 0.6),
        lambda: snn.Sparse(n_out, p=0.5, seed=int(rng.integers(99)), bias=bool(rng.random() < 0.5)),
    ]
    if least:
        return delays[rng.integers(len(delays))]()
    return (others + delays)[rng.integers(11)]() if rng.random() < 0.6 else others[rng.integers(3)]()


def shown(rng: np.random.Generator, signal: snn.Signal, least: int = 0) -> snn.Signal:
    """A signal as a delay of at least so many steps shows it, with one value for each neuron."""
    (n,) = signal.shape
    each = rng.integers(least, 6, size=n)
    nodes = [
        lambda: signal >> snn.Delay(each * ms),
        lambda: signal >> snn.Delay((least + 2) * ms, max_delay=9 * ms),
        lambda: signal >> snn.Delay((each + 0.4) * ms, interpolation=["previous", "nearest"][rng.integers(2)]),
        lambda: signal >> snn.Delay((each + 0.5) * ms, interpolation="linear", trainable=not least),
        lambda: signal >> snn.Delay((each + 1) * ms, max_delay=3 * ms, overbound=0.25),
        lambda: signal
        >> snn.Delay(rng.integers(least, 5, size=(n, 2)) * ms)
        >> snn.Flatten()
        >> linear(rng, 2 * n, n),
    ]
    return nodes[rng.integers(len(nodes))]()


def late(rng: np.random.Generator, back: snn.Feedback, n: int, m: int, at_once: bool) -> snn.Signal:
    """What comes back, as a current of ``m`` neurons; ``at_once``: with no delay of its own."""
    least = 1 if at_once else 0
    pick = rng.random()
    if pick < 0.6 or n != m:
        return back >> via(rng, n, m, least)
    if pick < 0.8 or at_once:
        return shown(rng, back, least) * 0.5
    return back * 0.25


def cyclic_model(seed: int) -> snn.Model:
    """A cycle of one to four populations with feedforward parts around it."""

    @snn.model(dt=1 * ms)
    def network(x=snn.Spikes(INPUTS, max=3)):
        rng = np.random.default_rng(seed)
        sizes = [int(rng.integers(1, 9)) for _ in range(rng.integers(1, 5))]
        last = len(sizes) - 1
        backs: list[tuple[int, int, snn.Feedback, bool]] = []
        for _ in range(rng.integers(1, 4)):
            source = int(rng.integers(len(sizes)))
            steps = int(rng.integers(0, 6))
            back = snn.Feedback(sizes[source], delay=steps * ms)
            backs.append((source, int(rng.integers(source + 1)), back, steps == 0))
        made: list[snn.Signal] = []
        outputs = {}
        for i, m in enumerate(sizes):
            current = x >> linear(rng, INPUTS, m)
            for j in {i - 1, int(rng.integers(i + 1)) - 1} - {-1}:
                current = current + (made[j] >> via(rng, sizes[j], m))
            for source, reader, back, at_once in backs:
                if reader == i:
                    current = current + late(rng, back, sizes[source], m, at_once)
            if rng.random() < 0.3:
                current = current >> synapse(rng, m)
            if rng.random() < 0.2:
                node = Adapting()(exc=current, inh=x >> linear(rng, INPUTS, m))
                outputs[f"pull_{i}"] = node["pull"]
            else:
                node = current >> population(rng, m)
            if rng.random() < 0.3:
                outputs[f"v_{i}"] = node.state("v") >> snn.LI(tau(rng, m))
            made.append(node)
        for source, _, back, _ in backs:
            back.close(made[source])
        return {"last": made[last], **outputs}

    return network
