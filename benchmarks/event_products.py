"""Event-driven dense connections against torch's, forward and for the weight's gradient, over the input's density.

    python benchmarks/event_products.py [--threads 1] [--runs 12]

Prints milliseconds, event-driven / dense, the minimum of interleaved runs: the table in docs/c-target.md.
"""

from __future__ import annotations

import argparse

import torch
from timing import interleaved

from snncompile.targets.c.events import EventProducts

DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.3)
#: Rows (steps * batch), inputs, outputs.
CASES = ((8000, 512, 512), (4000, 256, 256), (1000, 128, 128))


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    events = EventProducts()
    print(f"rows, inputs, outputs | densities {DENSITIES}")
    for case in CASES:
        n, inputs, outputs = case
        rows: dict[str, list[str]] = {"forward": [], "weight's gradient": []}
        for density in DENSITIES:
            torch.manual_seed(0)
            x = (torch.rand(n, inputs) < density).float()
            weight, grad = torch.randn(outputs, inputs), torch.randn(n, outputs)
            runs = {
                "event": lambda x=x, w=weight: events.forward(x, w, None),
                "dense": lambda x=x, w=weight: x @ w.t(),
                "event back": lambda g=grad, x=x: events.gradients(g, x, False),
                "dense back": lambda g=grad, x=x: g.t() @ x,
            }
            best = {name: min(times) * 1e3 for name, times in interleaved(runs, args.runs, each_warm=True).items()}
            rows["forward"].append(f"{best['event']:.3g} / {best['dense']:.3g}")
            rows["weight's gradient"].append(f"{best['event back']:.3g} / {best['dense back']:.3g}")
        for what, cells in rows.items():
            print(f"{case!s:18} {what:18} | {' | '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
