"""Memory of training W1 over a long sequence, each way in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.workloads import libraries, loops
from benchmarks.workloads.contender import Builder
from benchmarks.workloads.ours import ours
from benchmarks.workloads.shapes import WORKLOADS, Workload, make_data
from snncompile.bench.memory import peak_memory
from snncompile.bench.timing import timed

STEPS = 5000
EVERY = 50

WAYS: dict[str, Builder] = {
    f"snncompile c, checkpoint={EVERY}": ours("c", checkpoint=EVERY),
    f"snncompile torch, checkpoint={EVERY}": ours("torch", checkpoint=EVERY),
    "snncompile c": ours("c"),
    "plain loop": loops.plain,
    "SpikingJelly": libraries.spikingjelly,
    "Norse": libraries.norse,
}


def workload(tiny: bool) -> Workload:
    """W1, ten times as long."""
    w = WORKLOADS["W1"]
    return replace(w.tiny(), steps=100) if tiny else replace(w, steps=STEPS)


def measure(*, tiny: bool, seconds: float, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Peak memory of a forward and backward pass, with the memory of input and output."""
    w = workload(tiny)
    rows: dict[str, Any] = {}
    for name in WAYS:
        say(f"memory: {name}")
        words = [sys.executable, "-m", "benchmarks.workloads.memory", name, "tiny" if tiny else "full", device]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            rows[name] = {"status": "failed", "reason": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
            continue
        peak, taken = done.stdout.split()
        rows[name] = {"status": "ok", "bytes": int(peak), "seconds": float(taken)}
    both = 4 * w.steps * w.batch * (w.inputs + w.size)
    return {"title": w.title, "input and output": both, "ways": rows}


def main() -> None:
    """Print the peak of one way, with its input and output, and its seconds."""
    name, size, device = sys.argv[1:]
    w = workload(size == "tiny")
    short = replace(w, steps=max(1, w.steps // 50))
    torch.set_default_device(device)

    def run(w: Workload) -> list[Any]:
        torch.manual_seed(0)
        data = make_data(w, device=device)
        # the mean over time, as of a classifier: its gradient is one value for all steps
        data = replace(data, grad=torch.rand(1, w.batch, w.size).expand(w.steps, -1, -1) / w.steps)
        made = WAYS[name](w, data)
        assert made.both is not None
        taken.append(timed(made.both))
        return [made]

    taken: list[float] = []
    run(short)  # libraries load their own machinery at the first run
    peak = peak_memory(lambda: run(w))
    print(peak, taken[-1])


if __name__ == "__main__":
    main()
