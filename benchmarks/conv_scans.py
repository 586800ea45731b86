"""Event-driven convolutions that run as one function with their neurons, against the two apart.

    python benchmarks/conv_scans.py [--threads 2] [--runs 12]

Prints milliseconds, the minimum of interleaved runs: one function / apart, and in training also with the current kept
instead of made again. Each network is the convolution, `LIF` and `AvgPool2d(2)`; in training its input takes gradients
where it says so, as that of a hidden layer. The table is in docs/c-target.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from unittest import mock

import torch
from timing import interleaved

import snncompile as snn
from snncompile.targets import conv_scan

#: Channels, size of an image, outputs, size of the kernel, density, sequences, steps, whether it is a hidden layer.
CASES = (
    (1, 28, 16, 5, 0.05, 16, 25, False),
    (1, 28, 16, 5, 0.05, 80, 25, False),
    (2, 34, 32, 5, 0.02, 16, 40, False),
    (2, 34, 32, 5, 0.02, 16, 200, False),
    (4, 24, 16, 5, 0.05, 16, 25, False),
    (8, 16, 16, 3, 0.1, 32, 50, False),
    (16, 12, 32, 5, 0.05, 16, 25, True),
    (16, 12, 32, 5, 0.15, 16, 25, True),
    (16, 24, 32, 5, 0.05, 56, 25, True),
    (8, 16, 16, 3, 0.1, 32, 50, True),
)
APART, AGAIN, KEPT = (2**60, 0.0), (2, 1e9), (2, 0.0)


def run(way: tuple[float, float], call: Callable[[], object]) -> Callable[[], object]:
    """``call`` with the limits of a way."""

    def limited() -> object:
        with mock.patch.multiple(conv_scan, LEAST_SEQUENCES=way[0], FROM=2**60, AGAIN=way[1]):
            return call()

    return limited


def network(shape: tuple[int, ...], outputs: int, kernel: int, density: float) -> snn.Network:
    """The convolution with its neurons and their pooling."""

    @snn.model(dt=1e-3)
    def model(x=snn.Spikes(shape, max=1, density=density)):  # type: ignore[no-untyped-def]
        return x >> snn.Conv2d(outputs, kernel) >> snn.LIF(tau_mem=20e-3, threshold=0.4) >> snn.AvgPool2d(2)

    return snn.compile(model, target="c")


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for case in CASES:
        channels, size, outputs, kernel, density, batch, steps, hidden = case
        shape = (channels, size, size)

        torch.manual_seed(0)
        net = network(shape, outputs, kernel, density)
        x = (torch.rand(batch, steps, *shape) < density).float().requires_grad_(hidden)
        grad = torch.rand_like(net(x))

        def forward(net=net, x=x) -> None:
            with torch.no_grad():
                net(x)

        def both(net=net, x=x, grad=grad) -> None:
            x.grad = None
            net.zero_grad(set_to_none=True)
            net(x).backward(grad)

        runs = {"forward": run(AGAIN, forward), "forward apart": run(APART, forward), "again": run(AGAIN, both)}
        runs |= {"kept": run(KEPT, both), "both apart": run(APART, both)}
        best = {name: min(times) * 1e3 for name, times in interleaved(runs, args.runs, each_warm=True).items()}
        products = f"density {density} ({channels * kernel * kernel * density:.2f} products)"
        print(
            f"{channels} x {size} x {size} to {outputs}, {kernel} x {kernel}, {products},"
            f" {batch} sequences, {steps} steps{', hidden' if hidden else ''} |"
            f" {best['forward']:.2f} / {best['forward apart']:.2f} |"
            f" {best['again']:.2f}, {best['kept']:.2f} / {best['both apart']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
