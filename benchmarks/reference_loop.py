"""The torch reference against the loop over time that one would write by hand.

    python benchmarks/reference_loop.py [--runs 9] [--threads 2]

Both take the product of all steps at once and then loop. The plain loop is the usual one: inputs unbound over time,
decay and threshold as fixed numbers, spikes from an autograd function. The reference runs ``target="torch"``, once with
its neurons' parameters frozen, as in the plain loop, and once with all of them trained, which the plain loop does not
do. Runs are interleaved; times are the minimum and the median, ratios are reference over plain loop (below 1: the
reference is faster), each of the minima.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import snncompile as snn
from snncompile import ms

TAU_SYN, TAU_MEM = 5 * ms, 20 * ms
WINDOW = 0.5


@dataclass(frozen=True)
class Workload:
    """Shapes: batch, steps, neurons; and whether a synapse stands before the neuron."""

    name: str
    batch: int
    steps: int
    size: int
    synapse: bool = False


WORKLOADS = (
    Workload("Linear(512)+LIF          B=16 T=500", 16, 500, 512),
    Workload("Linear(256)+LIF          B=16 T=100", 16, 100, 256),
    Workload("Linear(128)+LIF          B=1  T=1000", 1, 1000, 128),
    Workload("Linear(256)+ExpSyn+LIF   B=16 T=250", 16, 250, 256, True),
    Workload("Linear(128)+ExpSyn+LIF   B=1  T=1000", 1, 1000, 128, True),
)


class Spike(torch.autograd.Function):
    """The step function, with the surrogate that ``snn.StepPWL`` is."""

    @staticmethod
    def forward(ctx, v):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(v)
        return (v >= 1.0).float()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (v,) = ctx.saved_tensors
        return torch.where(v >= 1.0 - WINDOW, grad, 0.0)


def plain_loop(x: Tensor, weight: Tensor, bias: Tensor, synapse: bool) -> Tensor:
    """``(batch, time, N)`` spikes to spikes."""
    currents = F.linear(x, weight, bias).unbind(1)
    decay_syn, decay_mem = math.exp(-1 * ms / TAU_SYN), math.exp(-1 * ms / TAU_MEM)
    i = v = torch.zeros_like(currents[0])
    spikes = []
    for current in currents:
        if synapse:
            i = (i + current) * decay_syn
            current = i
        v = v * decay_mem + current
        s = Spike.apply(v)
        v = v - s
        spikes.append(s)
    return torch.stack(spikes, 1)


def network(w: Workload, trained: bool) -> snn.Network:
    """The same as a compiled network on the reference."""

    def fixed(value: float) -> snn.Param:
        return snn.Param(value, layout="scalar", trainable=trained)

    @snn.model(dt=1 * ms)
    def layer(x=snn.Spikes(w.size, max=1)):  # type: ignore[no-untyped-def]
        h = x >> snn.Linear(w.size)
        if w.synapse:
            h = h >> snn.ExpSyn(tau=fixed(TAU_SYN))
        lif = snn.LIF(tau_mem=fixed(TAU_MEM), threshold=fixed(1.0), bias=fixed(0.0), max_spikes_per_dt=1)
        return h >> lif

    torch.manual_seed(0)
    net = snn.compile(layer, target="torch")
    with torch.no_grad():
        net.get_parameter("linear.weight").mul_(4.0)  # so that neurons fire
    return net


def forward(run: Callable[[], Tensor]) -> None:
    with torch.no_grad():
        run()


def both(run: Callable[[], Tensor]) -> None:
    run().sum().backward()


def measure(way: Callable[[Callable[[], Tensor]], None], runs: dict[str, Callable[[], Tensor]], n: int) -> dict:
    """Name -> seconds of ``n`` interleaved runs, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(n + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            way(run)
            if k:
                times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="interleaved runs (default: 9)")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default: 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads; min (median) ms, and the ratio of minima")
    header = f"{'':38}{'plain loop':>18}{'reference':>24}{'all trained':>24}"
    for title, way in (("forward", forward), ("forward and backward", both)):
        print(f"\n{title}\n{header}")
        for w in WORKLOADS:
            x = (torch.rand(w.batch, w.steps, w.size, generator=torch.Generator().manual_seed(0)) < 0.05).float()
            frozen, trained = network(w, False), network(w, True)
            weight, bias = frozen.get_parameter("linear.weight"), frozen.get_parameter("linear.bias")
            plain = plain_loop(x, weight, bias, w.synapse)
            agree = float((frozen(x) == plain).float().mean())
            assert plain.any() and agree > 0.999, f"the two do not compute the same: {agree:.2%} of the spikes agree"
            runs = {
                "plain": lambda x=x, a=weight, b=bias, s=w.synapse: plain_loop(x, a, b, s),
                "frozen": lambda x=x, net=frozen: net(x),
                "trained": lambda x=x, net=trained: net(x),
            }
            times = measure(way, runs, args.runs)
            row = f"{w.name:38}"
            for name, seconds in times.items():
                row += f"{min(seconds) * 1e3:9.2f} ({statistics.median(seconds) * 1e3:6.1f})"
                if name != "plain":
                    row += f"{min(seconds) / min(times['plain']):6.2f}x"
            print(row, flush=True)


if __name__ == "__main__":
    main()
