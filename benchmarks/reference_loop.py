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
import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from plain_loop import TAU_MEM, TAU_SYN, Workload, plain_loop
from timing import interleaved
from torch import Tensor

import snncompile as snn
from snncompile import ms

WORKLOADS = (
    Workload("Linear(512)+LIF          B=16 T=500", 16, 500, 512),
    Workload("Linear(256)+LIF          B=16 T=100", 16, 100, 256),
    Workload("Linear(128)+LIF          B=1  T=1000", 1, 1000, 128),
    Workload("Linear(256)+ExpSyn+LIF   B=16 T=250", 16, 250, 256, True),
    Workload("Linear(128)+ExpSyn+LIF   B=1  T=1000", 1, 1000, 128, True),
)


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
    """Run without gradients."""
    with torch.no_grad():
        run()


def both(run: Callable[[], Tensor]) -> None:
    """Run, and backward from the sum of the outputs."""
    run().sum().backward()


def main() -> None:
    """Time every workload both ways and print two tables."""
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
            plain = plain_loop(F.linear(x, weight, bias), 1, w.synapse)
            agree = float((frozen(x) == plain).float().mean())
            assert plain.any() and agree > 0.999, f"the two do not compute the same: {agree:.2%} of the spikes agree"
            runs = {
                "plain": lambda x=x, a=weight, b=bias, s=w.synapse: plain_loop(F.linear(x, a, b), 1, s),
                "frozen": lambda x=x, net=frozen: net(x),
                "trained": lambda x=x, net=trained: net(x),
            }
            times = interleaved({name: partial(way, run) for name, run in runs.items()}, args.runs)
            row = f"{w.name:38}"
            for name, seconds in times.items():
                row += f"{min(seconds) * 1e3:9.2f} ({statistics.median(seconds) * 1e3:6.1f})"
                if name != "plain":
                    row += f"{min(seconds) / min(times['plain']):6.2f}x"
            print(row, flush=True)


if __name__ == "__main__":
    main()
