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
    moved = 4 * w.steps * w.batch * (w.inputs + w.size)
    return {"title": w.title, "input and output": moved, "ways": rows}


def main() -> None:
    """Print the peak of one way, its input and output included, and its seconds."""
    name, size, device = sys.argv[1:]
    w = workload(size == "tiny")
    torch.set_default_device(device)
    build(name, replace(w, steps=max(1, w.steps // 50)), device)()  # machinery that loads at the first run
    run = build(name, w, device)
    taken: list[float] = []
    peak = peak_memory(lambda: taken.append(timed(run)))
    assert peak is not None, "this system does not tell what memory a process takes"
    print(peak + 4 * w.steps * w.batch * w.inputs, taken[-1])


def build(name: str, w: Workload, device: str) -> Callable[[], Any]:
    """The way called ``name``, forward and backward; it alone holds the input."""
    data = make_data(w, device=device)
    # a loss on the mean over time, as a classifier has it: its gradient is one value for all steps
    data = replace(data, grad=(torch.rand(1, w.batch, w.size) / w.steps).expand(w.steps, -1, -1))
    both = WAYS[name](w, data).both
    assert both is not None
    return both


if __name__ == "__main__":
    main()
