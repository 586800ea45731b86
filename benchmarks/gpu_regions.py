"""Regions that learn on this GPU: one program, several that share it, and one step after the other.

    python benchmarks/gpu_regions.py [--repeat 10] [--only NAME]

The networks are those of benchmarks/plastic_regions.py. All ways must agree to the last bit before they are timed.
Times are microseconds per step, the minimum of CUDA events. Which of the first two runs, if nobody says, is reckoned
(``MEETING_WEIGHTS`` in ``targets/cycle_limits.py``); what is printed here is what counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from gpu_timing import machine, milliseconds, no_gpu
from plastic_regions import CASES, given

import snncompile as snn

WAYS = ("one", "several", "steps")

Runs = dict[str, Callable[[], object]]


def ways(made: snn.Network, batch: int, steps: int, device: str = "cuda") -> tuple[Runs, str]:
    """Way -> run, and what differs, which must be nothing."""
    net = snn.compile(made.graph, target="triton")
    net.load_state_dict(made.state_dict())
    net.to(device)
    x, state = given(net, batch, steps)
    x, state = x.to(device), {n: value.to(device) for n, value in state.items()}
    runner = net.executor(x.device).runner
    target, plans = runner._taught, runner._plans

    def run(way: str) -> dict[str, torch.Tensor]:
        runner._plans = {} if way == "steps" else plans
        target.form = way
        with torch.no_grad():
            return net.evolve(x, state=state)[1]

    found = {way: run(way) for way in WAYS}
    wrong = [f"{way}: {n}" for way in WAYS[:2] for n, v in found[way].items() if not torch.equal(v, found["steps"][n])]
    return {way: lambda way=way: run(way) for way in WAYS}, ", ".join(wrong)  # type: ignore[misc]


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    if no_gpu("gpu_regions"):
        return 1
    print(machine())
    print(f"{'':<32} {'one program':>12} {'several':>9} {'steps':>9}   microseconds per step")
    for name, (make, size, batch, steps) in CASES.items():
        if options.only in name:
            runs, wrong = ways(make(size), batch, steps)
            if wrong:
                print(f"{name:<32} NOT COMPARED: {wrong} differ", flush=True)
                continue
            taken = {}
            for way, run in runs.items():
                taken[way] = 1e3 / steps * min(milliseconds(run) for _ in range(options.repeat))
            print(f"{name:<32} {taken['one']:>12.2f} {taken['several']:>9.2f} {taken['steps']:>9.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
