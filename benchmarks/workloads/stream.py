"""Streaming: W3 one call for each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.plain_loop import DECAY_MEM
from benchmarks.workloads.contender import disagreement
from benchmarks.workloads.loops import Spike, network
from benchmarks.workloads.ours import compiled
from benchmarks.workloads.shapes import WORKLOADS, make_data
from snncompile.bench.timing import interleaved


def measure(*, tiny: bool, seconds: float, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Microseconds of a step, ours against three lines of torch."""
    w = WORKLOADS["W3"].tiny() if tiny else WORKLOADS["W3"]
    data = make_data(w, device=device)
    steps = data.x.unbind(0)
    weight, bias = data.weights["weight"], data.weights["bias"]

    @torch.no_grad()
    def by_hand() -> torch.Tensor:
        v = torch.zeros(w.batch, w.size, device=device)
        out = []
        for x in steps:
            v = v * DECAY_MEM + torch.nn.functional.linear(x, weight, bias)
            s = Spike.apply(v)
            v = v - s
            out.append(s)
        return torch.stack(out)

    def ours(target: str) -> Callable[[], torch.Tensor]:
        net = compiled(w, data, target).eval()

        @torch.no_grad()
        def run() -> torch.Tensor:
            state, out = None, []
            for x in steps:
                y, state = net.step(x, state)
                out.append(y)
            return torch.stack(out)

        return run

    say("stream")
    targets = ("c", "torch") if device == "cpu" else ("triton", "torch")
    runs = {f"snncompile {t}": ours(t) for t in targets} | {"torch by hand": by_hand}
    truth = network(w, data.x, data.weights)
    for name, run in runs.items():
        share = disagreement(run(), truth)
        assert share < 0.01, f"{name}: {share:.2%} of its spikes differ from the loop's"
    found = interleaved(runs, seconds, (3, 20))
    scale = 1e3 / w.steps
    each = {n: {"min": t.min * scale, "median": t.median * scale, "runs": t.runs} for n, t in found.items()}
    return {"title": f"{w.title}, one call for each step", "microseconds a step": each}
