"""Cycles of several populations on this GPU: one kernel for the whole sequence, in both forms, against node by node.

    python benchmarks/gpu_cycles.py [--repeat 20] [--only NAME]

The cycles are those of benchmarks/cycles.py, of which the smaller ones also run with a larger batch, and one as large
as Brunel's. In the kernel one program takes a tile of sequences, or several share it. All ways must agree before they
are timed: weights are rounded to multiples of 1/1024, so that every order of summation is exact where spikes come back,
and outputs are compared bit for bit there, gradients within rounding. Times are minimum and median of CUDA events, the
ways in turn; first calls, which compile, are told apart; launches are counted by the profiler.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from cycles import CASES, brunel
from gpu_timing import kernels, machine, milliseconds, no_gpu
from torch import Tensor

import snncompile as snn
from snncompile.targets.cycle_limits import Way
from snncompile.targets.triton.cycle import Cycles

WAYS = ("one program", "several programs", "node by node")

#: Cases besides those of benchmarks/cycles.py.
LARGER = {"Brunel, 12500, 15 steps late, B=1": (brunel(12_500, 15), 1, 600, False)}

#: Cases that also run with so many sequences.
WIDER = {"E-I, dense, 128 + 32, B=16": 512, "a delay per synapse, 64, 1 to 8 steps, B=8": 256}

Run = Callable[[], object]


def rounded(net: snn.Network) -> None:
    """Make the weights multiples of 1/1024."""
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.endswith("weight"):
                if name.startswith("linear") and value.shape[-1] == 64:
                    value.mul_(4.0)
                value.copy_((value * 1024).round() / 1024)


def ways(
    model: snn.Model, batch: int, steps: int, device: str = "cuda", trained: bool = True
) -> tuple[dict[str, dict[str, Run]], str]:
    """Way -> forward and, if ``trained``, training, and in what they differ, which must be nothing."""
    torch.manual_seed(0)
    net = snn.compile(model, target="triton").to(device)
    rounded(net)
    x = (torch.rand(batch, steps, 64, device=device) < 0.05).float()
    executor = net.executor(x.device)
    found = {"one program": Cycles(form="one"), "several programs": Cycles(form="several"), "node by node": None}
    runner = executor.runner
    runner.layers = dict.fromkeys(runner.layers, "a cycle like any other here")
    runner._ways = {plan: Way() for plan in runner._ways}  # also where node by node is held to be quicker

    def run(way: str) -> Tensor:
        runner.cycles = found[way]
        y: Tensor = net(x)
        return y

    def forward(way: str) -> Tensor:
        with torch.no_grad():
            return run(way)

    def train(way: str) -> dict[str, Tensor]:
        net.zero_grad(set_to_none=True)
        run(way).sum().backward()
        return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}

    runs: dict[str, dict[str, Run]] = {
        way: {"forward": lambda way=way: forward(way)}
        | ({"training": lambda way=way: train(way)} if trained else {})
        for way in WAYS
    }
    *alike, nodes = WAYS
    other, said = forward(nodes), ""
    counts = bool((other == other.round()).all())
    grads = train(nodes) if trained else {}
    for way in alike:
        one = forward(way)
        if not (torch.equal(one, other) if counts else torch.allclose(one, other, rtol=1e-4, atol=1e-5)):
            said += f" {way}: outputs {float((one - other).abs().max()):g} apart"
        for name, grad in (train(way) if trained else {}).items():
            gap = float((grad - grads[name]).norm() / grads[name].norm().clamp(min=1e-6))
            if gap > 1e-3:
                said += f" {way}: gradient of {name} {gap:g} apart"
    return runs, said


def measure(name: str, model: snn.Model, batch: int, steps: int, repeat: int, trained: bool) -> None:
    """Print the table of one case."""
    start = time.perf_counter()
    try:
        runs, wrong = ways(model, batch, steps, trained=trained)
    except Exception as err:  # the other cases are measured
        print(f"\n{name}: failed: {type(err).__name__}: {str(err)[:200]}", flush=True)
        return
    torch.cuda.synchronize()
    print(f"\n{name}, B={batch} T={steps}; first calls, of all ways, {time.perf_counter() - start:.1f} s")
    if wrong:
        print(f"  NOT COMPARED: {wrong}", flush=True)
        return
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeat):
        for way, each in runs.items():
            for what, run in each.items():
                times.setdefault((what, way), []).append(milliseconds(run))
    for what in runs[WAYS[0]]:
        cells = []
        for way in WAYS:
            taken = times[what, way]
            launched = kernels(runs[way][what])
            said = f"{way} {min(taken):9.3f} ms ({statistics.median(taken):.3f})"
            cells.append(f"{said}, {1e3 * min(taken) / steps:.2f} us/step, {launched} launches")
        ratios = ", ".join(f"{min(times[what, WAYS[-1]]) / min(times[what, way]):.2f}" for way in WAYS[:-1])
        print(f"  {what:<9} {'   '.join(cells)}   ratios {ratios}", flush=True)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    if no_gpu("gpu_cycles"):
        return 1
    torch.backends.cuda.matmul.allow_tf32 = False  # like is compared with like
    print(machine())
    for name, (model, batch, steps, trained) in {**CASES, **LARGER}.items():
        if options.only in name:
            for sequences in dict.fromkeys((batch, WIDER.get(name, batch))):
                measure(name, model, sequences, steps, options.repeat, trained)
    return 0


if __name__ == "__main__":
    sys.exit(main())
