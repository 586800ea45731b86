"""The C target against the torch target, and against the loop over time that one would write by hand.

    python benchmarks/c_scan.py [--runs 15] [--threads 1] [--every 32]

Scans alone, without products. The plain loop is the usual one: inputs unbound over time, fixed decays and threshold,
spikes from an autograd function. The targets run the same step as compiled scans, through their contract and without
autograd; "every K" keeps the states of every K-th step and replays the rest in the backward pass. Gradients are those
of the input and of the initial states. Runs are interleaved in one process, each after one of the same kind that does
not count (the first run after another way finds that one's data in the caches); times are the minimum and the median
in milliseconds, and the ratios are the plain loop's minimum over the target's.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from plain_loop import Workload, plain_loop, step
from timing import interleaved
from torch import Tensor

from snncompile.ir.elementwise import Elementwise, OutPort, State
from snncompile.ir.trace import trace, trace_reverse
from snncompile.targets.c.target import CTarget
from snncompile.targets.scan import BackwardCall, ForwardCall, Scan, ScanTarget, make_scan
from snncompile.targets.torch.loop import LoopTarget

WORKLOADS = (
    Workload("ExpSyn+LIF (16, 500, 512)", 16, 500, 512, True),
    Workload("LIF        (1, 1000, 128)", 1, 1000, 128, False),
)


def make(w: Workload) -> Scan:
    """The same step as a scan."""

    def with_synapse(i: Tensor, v: Tensor, x: Tensor) -> dict[str, Tensor | None]:
        return dict(zip(("i", "v", "spikes"), step(i, v, x), strict=True))

    def without(v: Tensor, x: Tensor) -> dict[str, Tensor | None]:
        return dict(zip(("v", "spikes"), step(None, v, x)[1:], strict=True))

    states = ("i", "v") if w.synapse else ("v",)
    fn: Callable = with_synapse if w.synapse else without
    arguments, results = (*states, "x"), (*states, "spikes")
    node = Elementwise(
        "lif",
        (w.size,),
        ("x",),
        (OutPort("spikes", "lif.spikes", None),),
        tuple(State(s, f"lif.{s}") for s in states),
        {},
        trace(fn, arguments, what="lif"),
        trace_reverse(fn, arguments, results, what="lif"),
        ("lif",),
    )
    return make_scan("lif", node)


def target_runs(w: Workload, target: ScanTarget, x: Tensor, grad: Tensor, every: int) -> list[Callable[[], object]]:
    """Forward, and forward with backward."""
    scan, shape = make(w), (w.steps, w.batch, w.size)
    states = tuple(torch.zeros(shape[1:]) for _ in scan.states)

    def forward(checkpoint: int = 0):  # type: ignore[no-untyped-def]
        return target.forward(scan, ForwardCall((x,), (), states, shape, ("spikes",), (), checkpoint))

    def both():  # type: ignore[no-untyped-def]
        saved, none = forward(every).saved, (None,) * len(states)
        call = BackwardCall((x,), (), (), saved, shape, every, {"spikes": grad}, none, (True,), False)
        return target.backward(scan, call)

    return [forward, both]


def plain_runs(w: Workload, x: Tensor, grad: Tensor) -> list[Callable[[], object]]:
    """Forward, and forward with backward."""

    def forward() -> Tensor:
        with torch.no_grad():
            return plain_loop(x, 0, w.synapse)

    def both() -> None:
        leaf = x.detach().requires_grad_()
        plain_loop(leaf, 0, w.synapse).backward(grad)

    return [forward, both]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="interleaved runs (default: 15)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    parser.add_argument("--every", type=int, default=32, help="steps between saved states (default: 32)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads; min (median) ms, plain loop's minimum over it")
    for w in WORKLOADS:
        torch.manual_seed(0)
        x, grad = torch.rand(w.steps, w.batch, w.size) * 0.3, torch.rand(w.steps, w.batch, w.size)
        ways = {
            "plain loop": plain_runs(w, x, grad),
            "torch target": target_runs(w, LoopTarget(), x, grad, 1),
            "c": target_runs(w, CTarget(), x, grad, 1),
            f"c, every {args.every}": target_runs(w, CTarget(), x, grad, args.every),
        }
        spikes = plain_loop(x, 0, w.synapse)
        got = CTarget().forward(
            make(w),
            ForwardCall(
                (x,), (), tuple(torch.zeros(w.batch, w.size) for _ in make(w).states), tuple(x.shape), ("spikes",)
            ),
        )
        assert spikes.any() and torch.equal(got.stored["spikes"], spikes), "the two do not compute the same"
        for k, title in enumerate(("forward", "forward + backward")):
            print(f"\n{w.name}, {title}")
            times = interleaved({name: runs[k] for name, runs in ways.items()}, args.runs, each_warm=True)
            for name, taken in times.items():
                ratio = min(times["plain loop"]) / min(taken)
                least, median = min(taken) * 1e3, statistics.median(taken) * 1e3
                print(f"  {name:16} {least:9.3f} ({median:9.3f}) {ratio:8.1f}x", flush=True)


if __name__ == "__main__":
    main()
