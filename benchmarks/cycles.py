"""Cycles of several populations on the C target: one function for the whole sequence against node by node.

    python benchmarks/cycles.py [--runs 7] [--threads 2] [--only NAME]

Both run in one process, interleaved; they must agree before they are timed. Times are the minimum and the median in
milliseconds, the last column the ratio of the minima.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch
from timing import interleaved

import snncompile as snn
from snncompile import ms

RNG = np.random.default_rng(0)


def balanced(n: int, via: Callable[..., snn.Node], late: float) -> snn.Model:
    """An excitatory and an inhibitory population, each acting on both."""
    i = n // 4

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(64, max=1)):
        e_back, i_back = snn.Feedback(n, delay=late), snn.Feedback(i, delay=late)
        current = {"e": n, "i": i}
        arriving = {
            key: (x >> snn.Linear(m)) + (e_back >> via(m, n, 1)) + (i_back >> via(m, i, -1))
            for key, m in current.items()
        }
        e = arriving["e"] >> snn.LIF(tau_mem=20 * ms, threshold=0.5)
        inhibitory = arriving["i"] >> snn.LIF(tau_mem=10 * ms, threshold=0.5)
        e_back.close(e)
        i_back.close(inhibitory)
        return e

    return model


def dense(out: int, inputs: int, sign: int) -> snn.Node:
    """All to all."""
    return snn.Linear(out, bias=False, init=np.abs(RNG.normal(size=(out, inputs))) / inputs, sign=sign)


def sparse(out: int, inputs: int, sign: int) -> snn.Node:
    """A tenth of the pairs."""
    weight = sign * 10 / inputs
    return snn.Sparse(
        out, indegree=max(1, inputs // 10), sign=sign, seed=out, init=lambda shape: np.full(shape, weight)
    )


def brunel(n: int, steps: int) -> snn.Model:
    """As the network of examples/brunel, smaller: sparse, driven from outside, so many steps late."""
    excitatory = n * 4 // 5

    @snn.model(dt=0.1 * ms)
    def model(x=snn.Spikes(64, max=1)):
        sign = [1] * excitatory + [-1] * (n - excitatory)
        via = snn.Sparse(n, indegree=n // 10, sign=sign, init=lambda shape: np.full(shape, 0.02))
        h = snn.recurrent(snn.LIF(refractory=2 * ms, reset=0.5), via=via, delay=steps * 0.1 * ms)
        return x >> snn.Linear(n) >> h

    return model


def heterogeneous(n: int, longest: int) -> snn.Model:
    """One population, each synapse with a delay of its own."""
    delays = RNG.integers(1, longest + 1, size=(n, n)) * ms
    weights = 0.2 * RNG.normal(size=(n, n)) / n**0.5

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(64, max=1)):
        back = snn.Feedback(n, delay=0)
        late = back >> snn.Linear(n, delay=delays, bias=False, init=weights)
        h = (x >> snn.Linear(n)) + late >> snn.LIF(threshold=0.5)
        back.close(h)
        return h

    return model


def late_layer(n: int, steps: int, spikes: bool = True) -> snn.Model:
    """One population whose spikes, or membranes, come back so many steps late."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(64, max=1)):
        node = snn.LIF(threshold=0.5) if spikes else snn.LI()
        return x >> snn.Linear(n) >> snn.recurrent(node, via=snn.Linear(n), delay=steps * ms)

    return model


def images(channels: int, side: int, spikes: bool = True, dropout: bool = False) -> snn.Model:
    """A population of images, recurrent over a convolution: as spikes or membranes come back."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((channels, side, side), max=1)):
        via: snn.Node = snn.Conv2d(channels, 3, padding=1)
        if dropout:
            via = snn.Dropout(0.25) >> via
        node = snn.LIF(threshold=0.5) if spikes else snn.LI()
        return x >> snn.Conv2d(channels, 3, padding=1) >> snn.recurrent(node, via=via)

    return model


def image_pair(channels: int, side: int) -> snn.Model:
    """An excitatory population of images, and an inhibitory one of fewer channels, which acts on the neighbourhood."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((channels, side, side), max=1)):
        e_back, i_back = snn.Feedback((channels, side, side)), snn.Feedback((channels // 4, side, side))
        current = (x >> snn.Conv2d(channels, 3, padding=1)) + (e_back >> snn.Conv2d(channels, 3, padding=1))
        inhibition = i_back >> snn.SumPool2d(3, 1, 1) >> snn.Conv2d(channels, 1, sign=-1)
        e = current + inhibition >> snn.LIF(tau_mem=20 * ms, threshold=0.5)
        i_back.close(e >> snn.Conv2d(channels // 4, 3, padding=1) >> snn.LIF(tau_mem=10 * ms, threshold=0.5))
        e_back.close(e)
        return e

    return model


def dropping(n: int) -> snn.Model:
    """Two populations in a ring, with Dropout on both ways."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(64, max=1)):
        back = snn.Feedback(n)
        first = (x >> snn.Linear(n)) + (back >> snn.Dropout(0.2) >> snn.Linear(n)) >> snn.LIF(threshold=0.5)
        back.close(first >> snn.Dropout(0.2) >> snn.Linear(n) >> snn.LIF(threshold=0.5))
        return first

    return model


#: Name -> model, batch, steps, whether it is trained too.
CASES: dict[str, tuple[snn.Model, int, int, bool]] = {
    "E-I, dense, 128 + 32, B=16": (balanced(128, dense, 1 * ms), 16, 100, True),
    "E-I, dense, 128 + 32, B=1": (balanced(128, dense, 1 * ms), 1, 100, True),
    "E-I, sparse, 400 + 100, B=4": (balanced(400, sparse, 1 * ms), 4, 100, True),
    "Brunel, 2000, 15 steps late, B=1": (brunel(2000, 15), 1, 600, False),
    "Brunel, 8000, 15 steps late, B=1": (brunel(8000, 15), 1, 150, False),
    "a delay per synapse, 64, 1 to 8 steps, B=8": (heterogeneous(64, 8), 8, 100, True),
    "a delay per synapse, 128, 1 to 40 steps, B=4": (heterogeneous(128, 40), 4, 100, True),
    "layer 256, 5 steps late, B=16": (late_layer(256, 5), 16, 100, True),
    "layer 256, 15 steps late, B=1": (late_layer(256, 15), 1, 600, True),
    "layer 256, membranes, 15 steps late, B=16": (late_layer(256, 15, False), 16, 150, True),
    "layer 1024, 15 steps late, B=1": (late_layer(1024, 15), 1, 300, True),
    "layer 1024, 50 steps late, B=1": (late_layer(1024, 50), 1, 300, True),
    "layer 512, membranes, 15 steps late, B=1": (late_layer(512, 15, False), 1, 300, True),
    "layer 512, membranes, 50 steps late, B=1": (late_layer(512, 50, False), 1, 300, True),
    "layer 1024, membranes, 50 steps late, B=1": (late_layer(1024, 50, False), 1, 300, True),
    "layer 512, membranes, 50 steps late, B=8": (late_layer(512, 50, False), 8, 200, True),
    "Conv2d, 16 channels of 14 x 14, B=8": (images(16, 14), 8, 50, True),
    "Conv2d, 16 channels of 14 x 14, B=1": (images(16, 14), 1, 50, True),
    "Conv2d, 16 channels of 14 x 14, membranes, B=8": (images(16, 14, spikes=False), 8, 50, True),
    "Conv2d, 64 channels of 16 x 16, membranes, B=8": (images(64, 16, spikes=False), 8, 20, True),
    "Conv2d after Dropout, 16 channels of 14 x 14, B=8": (images(16, 14, dropout=True), 8, 50, True),
    "E-I of images, 16 and 4 of 14 x 14, B=8": (image_pair(16, 14), 8, 50, True),
    "ring of 128 + 128 with Dropout, B=16": (dropping(128), 16, 100, True),
}


def ways(model: snn.Model, batch: int, steps: int, trained: bool) -> dict[str, Callable[[], object]]:
    """Both ways, forward and in training."""
    torch.manual_seed(0)
    net = snn.compile(model, target="c")
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.startswith("linear") and value.shape[-1] == 64:
                value.mul_(4.0)
    (shape,) = (t.shape for t in net.graph.input_types().values())
    x = (torch.rand(batch, steps, *shape) < 0.05).float()
    executor = net.executor(torch.device("cpu"))
    targets = {"one function": executor.runner.cycles, "node by node": None}

    def run(way: str) -> torch.Tensor:
        torch.manual_seed(0)
        executor.runner.cycles = targets[way]
        return net(x)

    def forward(way: str) -> torch.Tensor:
        with torch.no_grad():
            return run(way)

    def train(way: str) -> None:
        net.zero_grad(set_to_none=True)
        run(way).sum().backward()

    y, z = forward("one function"), forward("node by node")
    print(f"  mean {float(y.mean()):.4f}, apart {float((y != z).float().mean()):.4f}")
    runs: dict[str, Callable[[], object]] = {}
    for way in targets:
        runs[f"forward, {way}"] = lambda way=way: forward(way)  # type: ignore[misc]
        if trained:
            runs[f"training, {way}"] = lambda way=way: train(way)  # type: ignore[misc]
    return runs


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="interleaved runs (default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="torch's number of threads (default: 2)")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, (model, batch, steps, trained) in CASES.items():
        if options.only not in name:
            continue
        print(f"\n{name}, T={steps}")
        taken = interleaved(ways(model, batch, steps, trained), options.runs, each_warm=True)
        for what in ("forward", "training"):
            pair = {way: taken.get(f"{what}, {way}") for way in ("one function", "node by node")}
            if all(pair.values()):
                told = [f"{min(t) * 1e3:9.2f} ({statistics.median(t) * 1e3:.2f})" for t in pair.values() if t]
                new, old = (min(t) for t in pair.values() if t)
                print(f"  {what:<9}  one function {told[0]}   node by node {told[1]}   ratio {old / new:.2f}")


if __name__ == "__main__":
    main()
