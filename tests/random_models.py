"""Random networks whose products are exact, so that whole networks must agree bit for bit.

Weights and biases are multiples of 1/8 and a product only ever sees spike counts: every sum is exact in float32 in any
order. What synapses and neurons do in between is arbitrary.
"""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

import snncompile as snn
from snncompile import ms

SURROGATES = [
    snn.StepPWL(0.4),
    snn.PeriodicExponential(0.5),
    snn.Sigmoid(3.0),
    snn.ATan(2.0),
    snn.FastSigmoid(10.0),
    snn.Triangle(1.5, 0.7),
]


def dyadic(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Multiples of 1/8 between -1 and 1.25."""
    return rng.integers(-8, 11, size=shape).astype(np.float32) / 8


def linear(rng: np.random.Generator, n_in: int, n_out: int) -> snn.Linear:
    """A dense connection with exact products."""
    return snn.Linear(n_out, bias=False, init=dyadic(rng, n_out, n_in))


def tau(rng: np.random.Generator, n: int) -> np.ndarray:
    """One time constant per neuron."""
    return rng.uniform(2e-3, 40e-3, size=n).astype(np.float32)


def neuron(rng: np.random.Generator, n: int):
    """Any neuron of the library, with random parameters and options."""
    surrogate = SURROGATES[rng.integers(len(SURROGATES))]
    threshold = rng.uniform(0.5, 1.5, size=n).astype(np.float32)
    return [
        lambda: snn.LIF(tau(rng, n), threshold=threshold, surrogate=surrogate),
        lambda: snn.LIF(tau(rng, n), threshold=0.8, surrogate=surrogate, max_spikes_per_dt=3, strict=True),
        lambda: snn.LIF(tau(rng, n), reset="zero", surrogate=surrogate, refractory=2 * ms),
        lambda: snn.LIF(tau(rng, n), reset=-0.25, v_leak=0.125, surrogate=surrogate, detach_reset=True),
        lambda: snn.IF(threshold=threshold, surrogate=surrogate),
        lambda: snn.CubaLIF(surrogate=surrogate),
        lambda: snn.ALIF(surrogate=surrogate),
    ][rng.integers(7)]()


def synapse(rng: np.random.Generator, n: int):
    """Any synapse of the library."""
    return [
        lambda: snn.ExpSyn(tau(rng, n)),
        lambda: snn.AlphaSyn(tau(rng, n)),
        lambda: snn.ExpCurrent(tau(rng, n), charge=5.0),
        lambda: snn.DoubleExpCurrent(tau_decay=20 * ms, tau_rise=5 * ms, charge=20.0),
        lambda: snn.Scale(0.5),
    ][rng.integers(5)]()


def delayed(rng: np.random.Generator, signal: snn.Signal) -> snn.Signal:
    """A signal some whole steps later, or as it is."""
    (n,) = signal.shape
    each = rng.integers(0, 6, size=n) * ms
    options = [{}, {"max_delay": 7 * ms}, {"max_delay": 3 * ms, "overbound": 0.0}]
    nodes = [
        lambda: snn.Delay(float(rng.integers(1, 9)) * ms),
        lambda: snn.Delay(each, **options[rng.integers(3)]),
        lambda: snn.Delay((each + 0.4 * ms), interpolation=["previous", "nearest"][rng.integers(2)]),
    ]
    pick = int(rng.integers(6))
    return signal >> nodes[pick]() if pick < 3 else signal


def delayed_linear(rng: np.random.Generator, n_in: int, n_out: int) -> snn.Linear:
    """A dense connection with exact products and delays."""
    delays = rng.integers(0, 5, size=(n_out, n_in)) * ms
    given = delays if rng.random() < 0.6 else 3 * ms
    return snn.Linear(n_out, bias=False, init=dyadic(rng, n_out, n_in), delay=given)


def random_model(seed: int, delays: bool = False) -> snn.Model:
    """A network of one to three layers with branches, sums, recurrence and several outputs.

    Args:
        seed: what makes it this network.
        delays: whether some signals, synapses and feedbacks are late.
    """

    @snn.model(dt=1 * ms)
    def network(x=snn.Spikes(5, max=3)):
        rng = np.random.default_rng(seed)
        late = np.random.default_rng(seed + 1)
        signal, n = x, 5
        outputs = {}
        for depth in range(int(rng.integers(1, 4))):
            m = int(rng.integers(1, 9))
            if delays:
                signal = delayed(late, signal)
            through = delayed_linear(late, n, m) if delays and late.random() < 0.3 else linear(rng, n, m)
            current = signal >> through
            if delays:
                current = delayed(late, current)
            if rng.random() < 0.6:
                current = current >> synapse(rng, m)
            if rng.random() < 0.3:
                current = current + (signal >> linear(rng, n, m))
            if rng.random() < 0.35:
                back = float(late.integers(1, 6)) * ms if delays else None
                spikes = current >> snn.recurrent(neuron(rng, m), via=linear(rng, m, m), delay=back)
            else:
                spikes = current >> neuron(rng, m)
            if rng.random() < 0.3:
                outputs[f"branch_{depth}"] = current >> snn.LI(tau(rng, m))
            if rng.random() < 0.2:
                twin = current >> neuron(rng, m)
                spikes = spikes + twin
            signal, n = spikes, m
        return {"last": signal, **outputs}

    return network


def spikes(seed: int, batch: int, steps: int, n: int = 5) -> torch.Tensor:
    """Random spike counts from 0 to 3, ``(batch, steps, n)``."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.poisson(0.5, size=(batch, steps, n)).clip(0, 3).astype(np.float32))


seeds = st.integers(0, 2**31)
shapes = st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([0, 1, 2, 7, 13]))
