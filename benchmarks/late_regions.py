"""Delays before a cycle and what learns, on the C target: read late, and made first.

    python benchmarks/late_regions.py [--runs 9] [--threads 1]

Each network is run without its delay, with one that its kernel reads at offsets, and with one whose signal is made
before the same kernel runs (recurrent layers: ``delays.py --only-layers``). Times are the minimum and the median in
milliseconds of runs that are interleaved in one process.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping

import numpy as np
import torch
from timing import interleaved

import snncompile as snn
from snncompile import ms
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.c.target import CTarget
from snncompile.targets.executor import Executor, Run


def cycle(x: snn.Node, size: int) -> snn.Node:
    """Two populations that drive each other."""
    back = snn.Feedback(size)
    first = (x + (back >> snn.Linear(size))) >> snn.LIF()
    second = first >> snn.Linear(size) >> snn.LIF()
    back.close(second)
    return second


def learner(x: snn.Node, size: int) -> snn.Node:
    """A layer of 100 neurons that learns."""
    linear = snn.Linear(100)
    spikes = x >> linear >> snn.LIF()
    snn.learn(linear, snn.STDP(), pre=x, post=spikes)
    return spikes


def region(x: snn.Node, size: int) -> snn.Node:
    """The same, inhibited by 25 other neurons."""
    linear, back = snn.Linear(100), snn.Feedback(25)
    spikes = ((x >> linear) - (back >> snn.Linear(100, bias=False))) >> snn.LIF()
    back.close(spikes >> snn.Linear(25) >> snn.LIF())
    snn.learn(linear, snn.STDP(), pre=x, post=spikes)
    return spikes


def made_first() -> CTarget:
    """The C target whose cycles, and what learns on it, read nothing late."""
    target = CTarget()
    for part in (target.cycles, target.plastic, target.plastic_regions):
        part.offsets = False  # type: ignore[attr-defined]
    return target


def ways(
    build: Callable[[snn.Node, int], snn.Node], shape: tuple[int, int, int], delay: Mapping[str, object], train: bool
) -> dict[str, Callable[[], object]]:
    """A network behind a delay, on both targets; without options for the delay, behind none."""
    steps, batch, size = shape

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(size)):
        return build(x >> snn.Delay(**delay) if delay else x, size)

    torch.manual_seed(0)
    net = snn.compile(model, target="c")
    graph = compile_graph(net.graph, Request())
    values = {name: net.value(name) for name in graph.parameters()}
    x, state = (torch.rand(shape) < 0.05).float(), net.initial_state(batch)

    def run(executor: Executor) -> torch.Tensor:
        return executor.run(Run(values, {"x": x}, state, steps, batch, x.device)).outputs["out"]

    def forward(executor: Executor) -> torch.Tensor:
        with torch.no_grad():
            return run(executor)

    def step(executor: Executor) -> object:
        return torch.autograd.grad(run(executor).sum(), list(net.parameters()))

    executors = {"late": Executor(graph, CTarget()), "made first": Executor(graph, made_first())}
    assert torch.equal(*(forward(e) for e in executors.values())), "they do not compute the same"
    if not delay:
        executors = {"": executors["late"]}
    runs: dict[str, Callable[[], object]] = {}
    for name, executor in executors.items():
        runs[f"{name}, forward"] = lambda executor=executor: forward(executor)  # type: ignore[misc]
        if train:
            runs[f"{name}, forward + backward"] = lambda executor=executor: step(executor)  # type: ignore[misc]
    return runs


CASES = {
    "cycle of two populations": (cycle, (100, 12, 200), True),
    "STDP, 784 to 100": (learner, (350, 1, 784), False),
    "STDP, 784 to 100, and 25 inhibitory": (region, (350, 1, 784), False),
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="interleaved runs (default: 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads; min (median) ms")
    for title, (build, shape, train) in CASES.items():
        each = np.random.default_rng(0).integers(1, 21, shape[2])
        delays: dict[str, dict[str, object]] = {
            "no delay": {},
            "20 steps for all": {"delay": 20 * ms},
            "each its own": {"delay": each * ms},
            "each its own, linear": {"delay": (each - 0.5) * ms, "interpolation": "linear"},
        }
        runs = {f"{what}: {name}": run for what, delay in delays.items()
                for name, run in ways(build, shape, delay, train).items()}  # fmt: skip
        print(f"\n{title}, {shape}")
        for name, taken in interleaved(runs, args.runs, each_warm=True).items():
            print(f"  {name:<56} {min(taken) * 1e3:9.2f} ({statistics.median(taken) * 1e3:.2f})")


if __name__ == "__main__":
    main()
