"""How long a step of a convolution that learns takes on target ``c``, in one function, against step by step.

    python benchmarks/plastic_conv.py [--threads 2] [--runs 5]

One sequence at 5 %, additive STDP, LIF neurons. The plain loop is ``conv2d`` and a product over unfolded fields. In the
last columns half of the weights are masked, and all have a sign; there, both must agree to the last bit first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from timing import interleaved
from torch import Tensor

import snncompile as snn
from snncompile import ms

#: Channels and width of the image, width of the kernel, output channels, threshold.
SHAPES = ((1, 28, 5, 32, 6.0), (2, 34, 5, 16, 10.0), (32, 14, 3, 64, 40.0))

STEPS, ETA, LEAK, DECAY = 50, 1e-3, 0.02, 0.95


def network(shape: tuple[int, int, int, int, float], fixed: bool = False) -> snn.Model:
    """A layer of that shape; ``fixed`` where it has a mask and signs."""
    channels, width, kernel, outs, threshold = shape

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes((channels, width, width), max=1)):  # type: ignore[no-untyped-def]
        draw = torch.Generator().manual_seed(0)
        start = torch.rand(outs, channels, kernel, kernel, generator=draw)
        held = {"mask": (torch.rand(start.shape, generator=draw) < 0.5).float(), "sign": 1} if fixed else {}
        connection = snn.Conv2d(outs, kernel, bias=False, init=start, **held)
        reached = threshold / 2 if fixed else threshold
        h = x >> connection >> snn.LIF(tau_mem=20 * ms, threshold=reached, max_spikes_per_dt=1)
        snn.learn(connection, snn.STDP(eta_plus=ETA, eta_minus=ETA))
        return h

    return net


def loop(x: Tensor, w: Tensor, threshold: float) -> Tensor:
    """The plain loop over the steps of ``x (1, T, C, H, W)``; the weights it ends with."""
    v = post = torch.zeros_like(F.conv2d(x[:, 0], w))
    pre = torch.zeros_like(x[:, 0])
    for z in x.unbind(1):
        v = v * DECAY + F.conv2d(z, w)
        s = (v >= threshold).float()
        v = v - s * threshold
        pre, post = pre + LEAK * (z - pre), post + LEAK * (s - post)
        fields, traces = (F.unfold(t, w.shape[2:])[0].t() for t in (z, pre))
        change = s[0].flatten(1) @ traces - post[0].flatten(1) @ fields
        w = (w + ETA * change.reshape(w.shape)).clamp(0.0, 1.0)
    return w


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads; minimum over {options.runs} runs, microseconds per step")
    head = f"{'c':>8} {'plain loop':>11} {'reference':>10} {'masked: c':>11} {'reference':>10}"
    print(f"{'layer':>24} {'fire':>7} {head}")
    for shape in SHAPES:
        channels, width, kernel, outs, threshold = shape
        one, plain, held, same = (
            snn.compile(network(shape, fixed), target=target) for fixed in (False, True) for target in ("c", "torch")
        )
        x = (torch.rand(1, STEPS, channels, width, width, generator=torch.Generator().manual_seed(1)) < 0.05).float()
        w = one.value("conv2d.weight").detach()
        with torch.no_grad():
            fire = float(one.evolve(x)[0].mean())
            ways = {
                "c": lambda one=one, x=x: one.evolve(x),
                "loop": lambda x=x, w=w, threshold=threshold: loop(x, w, threshold),
                "torch": lambda plain=plain, x=x: plain.evolve(x),
                "masked": lambda held=held, x=x: held.evolve(x),
                "masked torch": lambda same=same, x=x: same.evolve(x),
            }
            got, want = (net.evolve(x)[1]["conv2d.weight"] for net in (held, same))
            if not torch.equal(got, want):
                raise SystemExit(f"{shape}: the weights differ")
            times = interleaved(ways, options.runs)
        best = {name: min(t) / STEPS * 1e6 for name, t in times.items()}
        name = f"{channels}x{width}x{width}, {outs} of {kernel}x{kernel}"
        said = f"{best['c']:>8.0f} {best['loop']:>11.0f} {best['torch']:>10.0f}"
        print(f"{name:>24} {fire:>6.1%} {said} {best['masked']:>11.0f} {best['masked torch']:>10.0f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
