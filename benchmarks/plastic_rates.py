"""How long a step of a layer that learns takes on target ``c``, by how often its neurons fire, against the plain loop.

    python benchmarks/plastic_rates.py [--threads 2] [--runs 10]

The layer is that of workload W5 (784 inputs at 5 %, 100 neurons, additive STDP, one sequence), its weights multiplied
by a gain. An output's spike costs a row of the weight, an input's a column; where most weights are reached, all are.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from timing import interleaved

from benchmarks.workloads.ours import compiled
from benchmarks.workloads.plastic import loop
from benchmarks.workloads.shapes import WORKLOADS, make_data

GAINS = (0.0, 0.1, 0.3, 1.0, 3.0, 30.0)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    w = WORKLOADS["W5"]
    data = make_data(w)
    x = data.x.transpose(0, 1).contiguous()
    print(f"{w.title}, {options.threads} threads; minimum over {options.runs} runs, microseconds per step")
    print(f"{'gain':>5} {'fire':>8} {'c':>8} {'plain loop':>11} {'ratio':>7}")
    for gain in GAINS:
        scaled = replace(data, weights={n: t * gain for n, t in data.weights.items()})
        net = compiled(w, scaled, "c")
        with torch.no_grad():
            fire = float(net.evolve(x)[0].mean())
            times = interleaved(
                {"c": lambda net=net: net.evolve(x), "loop": lambda scaled=scaled: loop(scaled)}, options.runs
            )  # fmt: skip
        ours, plain = (min(times[name]) / w.steps * 1e6 for name in ("c", "loop"))
        print(f"{gain:>5} {fire:>7.1%} {ours:>8.2f} {plain:>11.1f} {plain / ours:>6.1f}x")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
