"""Event-driven convolutions against torch's, forward and for the weight's gradient, over the input's density.

    python benchmarks/event_convs.py [--threads 2] [--images 400] [--runs 15]

Prints milliseconds, event-driven / dense, the minimum of interleaved runs: the table in docs/c-target.md.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from timing import interleaved

from snncompile.targets.c.events import EventProducts
from snncompile.targets.event_conv import Window

DENSITIES = (0.02, 0.05, 0.1, 0.2)
#: Channels, size of an image, outputs, size of the kernel, stride, padding.
CASES = ((1, 28, 16, 5, 1, 0), (16, 12, 32, 5, 1, 0), (32, 8, 64, 3, 1, 1), (2, 34, 16, 5, 2, 1))


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--runs", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    events = EventProducts()
    print(f"channels, size, outputs, kernel, stride, padding | densities {DENSITIES}")
    for case in CASES:
        channels, size, outputs, kernel, stride, padding = case
        rows: dict[str, list[str]] = {"forward": [], "weight's gradient": []}
        for density in DENSITIES:
            torch.manual_seed(0)
            x = (torch.rand(args.images, channels, size, size) < density).float()
            weight = torch.randn(outputs, channels, kernel, kernel)
            window = Window((stride, stride), (padding, padding), (1, 1), 1)
            grad = torch.randn_like(F.conv2d(x, weight, None, stride, padding))
            ways = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, (False, True, True))
            runs = {
                "event": lambda x=x, w=weight, n=window: events.conv(x, w, None, n),
                "dense": lambda x=x, w=weight, s=stride, p=padding: F.conv2d(x, w, None, s, p),
                "event back": lambda g=grad, x=x, k=kernel, n=window: events.conv_gradients(g, x, (k, k), n),
                "dense back": lambda g=grad, x=x, w=weight, a=ways, o=outputs: (
                    torch.ops.aten.convolution_backward(g, x, w, [o], *a)
                ),
            }
            best = {name: min(times) * 1e3 for name, times in interleaved(runs, args.runs).items()}
            rows["forward"].append(f"{best['event']:.2f} / {best['dense']:.2f}")
            rows["weight's gradient"].append(f"{best['event back']:.2f} / {best['dense back']:.2f}")
        for what, cells in rows.items():
            print(f"{case!s:28} {what:18} | {' | '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
