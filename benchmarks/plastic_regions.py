"""Regions that learn on the C target: one function for the whole sequence against one step after the other.

    python benchmarks/plastic_regions.py [--runs 7] [--threads 2] [--only NAME]

Both run in one process, interleaved, and must agree to the last bit before they are timed. Times are milliseconds for
the whole sequence, the minimum of the runs; the last columns are microseconds a step in one function, and the ratio.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import interleaved
from torch import Tensor

import snncompile as snn
from snncompile import ms

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples" / "diehl_cook"))
from model import competition


def digits(neurons: int) -> snn.Network:
    """The network of examples/diehl_cook."""
    torch.manual_seed(0)
    return snn.compile(competition, target="c", neurons=neurons).normalize_("linear.weight", 6.4)


def pairs(neurons: int) -> snn.Network:
    """784 inputs, STDP from either side's spikes, an inhibitory population that all excite and that silences all."""
    torch.manual_seed(0)

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(784, max=1)):
        excite = snn.Linear(neurons, bias=False, init=0.3 * torch.rand(neurons, 784))
        back = snn.Feedback(neurons // 4, max=1)
        inhibited = back >> snn.Linear(neurons, bias=False, init=-0.5 * torch.rand(neurons, neurons // 4), sign=-1)
        h = (x >> excite) + inhibited >> snn.LIF(tau_mem=20 * ms, threshold=12.0, max_spikes_per_dt=1, name="exc")
        joined = snn.Linear(neurons // 4, bias=False, init=0.2 * torch.rand(neurons // 4, neurons), sign=1)
        back.close(h >> joined >> snn.LIF(threshold=1.0, max_spikes_per_dt=1, name="inh"))
        snn.learn(excite, snn.STDP(eta_plus=1e-3, eta_minus=1e-3), post=h)
        return h

    return snn.compile(model, target="c")


def assembly(neurons: int) -> snn.Network:
    """A recurrent connection that learns beside one that learns from outside; sparse inhibition, two steps late."""
    torch.manual_seed(0)

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(64, max=1)):
        outside = snn.Linear(neurons, bias=False, init=0.3 * torch.rand(neurons, 64))
        inside = snn.Linear(neurons, bias=False, init=0.01 * torch.rand(neurons, neurons))
        own, back = snn.Feedback(neurons, max=1), snn.Feedback(neurons // 4, delay=2 * ms, max=1)
        inhibited = back >> snn.Sparse(neurons, p=0.1, sign=-1, seed=1)
        h = (x >> outside) + (own >> inside) + inhibited >> snn.LIF(threshold=1.5, max_spikes_per_dt=1, name="exc")
        own.close(h)
        sensed = h >> snn.Sparse(neurons // 4, p=0.1, sign=1, seed=2)
        back.close(sensed >> snn.LIF(threshold=0.5, max_spikes_per_dt=1, name="inh"))
        snn.learn(outside, snn.STDP(eta_plus=1e-4, eta_minus=2e-4))
        snn.learn(inside, snn.STDP(eta_plus=1e-4, eta_minus=2e-4))
        return h

    return snn.compile(model, target="c")


def features(channels: int) -> snn.Network:
    """A convolution that learns 5 x 5 features of 28 x 28 pixels; at a place where one is found the others are
    silenced, by a population that a convolution of 1 x 1 reaches and one leaves."""
    torch.manual_seed(0)

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((1, 28, 28), max=1)):
        learnt = snn.Conv2d(channels, 5, bias=False, init=0.4 * torch.rand(channels, 1, 5, 5))
        back = snn.Feedback((4, 24, 24), max=1)
        inhibited = back >> snn.Conv2d(channels, 1, bias=False, init=-torch.rand(channels, 4, 1, 1), sign=-1)
        h = (x >> learnt) + inhibited >> snn.LIF(tau_mem=20 * ms, threshold=1.5, max_spikes_per_dt=1, name="exc")
        joined = snn.Conv2d(4, 3, padding=1, bias=False, init=0.3 * torch.rand(4, channels, 3, 3), sign=1)
        back.close(h >> joined >> snn.LIF(threshold=1.0, max_spikes_per_dt=1, name="inh"))
        snn.learn(learnt, snn.STDP(eta_plus=1e-3, eta_minus=1e-3), post=h)
        return h

    return snn.compile(model, target="c")


def stacked(channels: int) -> snn.Network:
    """Two convolutions that learn with a pooling between, a fixed one behind, and a dense connection whose answer is
    the reward of all three, two of them with an eligibility."""
    torch.manual_seed(0)

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((2, 34, 34), max=1)):
        low = snn.Conv2d(channels, 5, bias=False, init=0.2 * torch.rand(channels, 2, 5, 5))
        high = snn.Conv2d(2 * channels, 3, bias=False, init=0.15 * torch.rand(2 * channels, channels, 3, 3))
        first = x >> low >> snn.LIF(tau_mem=20 * ms, threshold=3.5, max_spikes_per_dt=1, name="first")
        pooled = first >> snn.MaxPool2d(2)
        second = pooled >> high >> snn.LIF(tau_mem=20 * ms, threshold=8.0, max_spikes_per_dt=1, name="second")
        less = snn.Conv2d(channels, 3, stride=2, init=0.05 * torch.rand(channels, 2 * channels, 3, 3), trainable=False)
        third = second >> snn.AvgPool2d(2) >> less >> snn.LIF(threshold=0.6, max_spikes_per_dt=1, name="third")
        answer = snn.Linear(10, bias=False, init=0.2 * torch.rand(10, 4 * channels))
        top = third >> snn.Flatten() >> answer >> snn.LIF(threshold=1.0, max_spikes_per_dt=1, name="top")
        reward = top >> snn.Linear(1, init=0.1 * torch.ones(1, 10), trainable=False) >> snn.LI(tau_mem=5 * ms)
        snn.learn(low, snn.MSTDPET(eta=1e-4), post=first, reward=reward)
        snn.learn(high, snn.STDP(eta_plus=1e-4, eta_minus=1e-4), pre=pooled, post=second)
        snn.learn(answer, snn.MSTDPET(eta=1e-4), reward=reward)
        return top

    return snn.compile(model, target="c")


#: Name -> network, its size, batch, steps.
CASES: dict[str, tuple[Callable[[int], snn.Network], int, int, int]] = {
    "digits, 100 neurons, B=1": (digits, 100, 1, 60),
    "digits, 100 neurons, B=16": (digits, 100, 16, 60),
    "digits, 400 neurons, B=1": (digits, 400, 1, 60),
    "digits, 400 neurons, B=16": (digits, 400, 16, 60),
    "pairs, 784 to 100 + 25, B=1": (pairs, 100, 1, 350),
    "pairs, 784 to 400 + 100, B=1": (pairs, 400, 1, 350),
    "pairs, 784 to 100 + 25, B=8": (pairs, 100, 8, 100),
    "assembly, 256 + 64, B=1": (assembly, 256, 1, 200),
    "assembly, 256 + 64, B=8": (assembly, 256, 8, 100),
    "features, 8 of 5 x 5, B=1": (features, 8, 1, 100),
    "features, 32 of 5 x 5, B=1": (features, 32, 1, 100),
    "features, 32 of 5 x 5, B=8": (features, 32, 8, 40),
    "stacked, 8 and 16, B=1": (stacked, 8, 1, 50),
    "stacked, 16 and 32, B=1": (stacked, 16, 1, 50),
    "stacked, 16 and 32, B=8": (stacked, 16, 8, 20),
}


def given(net: snn.Network, batch: int, steps: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Input and state."""
    torch.manual_seed(1)
    (kind,) = net.graph.input_types().values()
    image = torch.rand(batch, 1, *kind.shape).square().expand(-1, steps, *kind.shape)
    state = net.initial_state(batch)
    return image if kind.kind == "current" else (torch.rand(batch, steps, *kind.shape) < 0.05).float(), state


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="interleaved runs (default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="torch's number of threads (default: 2)")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'':<32} {'fire':>6} {'one function':>13} {'step by step':>13} {'us/step':>8} {'ratio':>6}")
    for name, (make, size, batch, steps) in CASES.items():
        if options.only not in name:
            continue
        net = make(size)
        x, state = given(net, batch, steps)
        runner: Any = net.executor(torch.device("cpu")).runner
        plans = {"one": runner._plans, "steps": {}}

        def run(way: str, net=net, x=x, state=state, runner=runner, plans=plans) -> Any:  # type: ignore[no-untyped-def]
            runner._plans = plans[way]
            with torch.no_grad():
                return net.evolve(x, state=state)

        one, other = run("one"), run("steps")
        assert all(torch.equal(one[1][n], value) for n, value in other[1].items())
        taken = interleaved({way: lambda way=way, run=run: run(way) for way in plans}, options.runs)  # type: ignore[misc]
        new, old = (min(taken[way]) * 1e3 for way in plans)
        fire = float(one[0].mean())
        print(f"{name:<32} {fire:>6.1%} {new:>13.2f} {old:>13.2f} {new / steps * 1e3:>8.1f} {old / new:>6.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
