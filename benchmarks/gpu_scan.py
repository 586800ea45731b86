"""Bandwidth of the generated scan kernels on this GPU, against a copy measured in the same run.

    python benchmarks/gpu_scan.py [--elements 1048576] [--steps 256] [--repeat 20]

A scan of a cheap neuron can be no faster than memory: per step and neuron, inference reads a current and writes a spike
(8 bytes), training also writes the state (12), and the backward reads current, state and gradient and writes a gradient
(16). Times are medians of CUDA events after a warm-up; kernels are counted by the profiler.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from gpu_timing import kernels, machine, median_milliseconds, no_gpu

from snncompile.ir.elementwise import Elementwise, OutPort, State
from snncompile.ir.trace import trace, trace_reverse
from snncompile.targets.scan import BackwardCall, ForwardCall, Scan, make_scan
from snncompile.targets.triton.target import TritonTarget


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0.0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return torch.where(torch.abs(v) < 0.5, grad, 0.0)


def _lif(v, x, decay):
    v = v * decay + x
    spikes = _Spike.apply(v - 1.0)
    return {"v": v - spikes, "spikes": spikes}


def lif_scan() -> Scan:
    """Leaky integrate and fire with a subtracting reset and a trainable decay."""
    names, results = ("v", "x", "decay"), ("v", "spikes")
    node = Elementwise(
        kind="LIF",
        shape=(1,),
        inputs=("x",),
        outputs=(OutPort("spikes", "lif.spikes", None),),
        states=(State("v", "lif.v"),),
        params={"decay": None},
        forward=trace(_lif, names, what="lif"),
        reverse=trace_reverse(_lif, names, results, what="lif"),
        members=("lif",),
    )
    return make_scan("lif", node)


def report(name: str, run: Callable[[], object], moved: int, copy: float, repeat: int) -> None:
    """Print one line: time, bandwidth, share of the copy's bandwidth, kernels."""
    time = median_milliseconds(run, repeat)
    rate = moved / time * 1e-6
    print(f"{name:<28} {time:9.3f} ms {rate:8.0f} GB/s {100 * rate / copy:5.0f} % of copy {kernels(run):4d} kernels")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--elements", type=int, default=2**20, help="batch * neurons")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    if no_gpu("gpu_scan"):
        return 1
    steps, size = options.steps, options.elements
    shape, cells = (steps, 1, size), steps * size
    scan, target = lif_scan(), TritonTarget()
    x = torch.rand(shape, device="cuda") * 0.3
    start = torch.zeros((1, size), device="cuda")
    coefs = {"decay": torch.tensor(0.9, device="cuda")}

    def forward(checkpoint: int):
        values = tuple(coefs[c] for c in scan.coefs)
        return target.forward(scan, ForwardCall((x,), values, (start,), shape, ("spikes",), (), checkpoint))

    def backward(checkpoint: int, saved: tuple[torch.Tensor, ...]):
        values = tuple(coefs[c] for c in scan.reverse_coefs)
        again = tuple(coefs[c] for c in scan.coefs)
        grads = {"spikes": x}
        call = BackwardCall((x,), values, again, saved, shape, checkpoint, grads, (None,), (True,), True)
        return target.backward(scan, call)

    other = torch.empty_like(x)
    time = median_milliseconds(lambda: other.copy_(x), options.repeat)
    copy = 8 * cells / time * 1e-6
    every = 32
    print(f"{machine()}; {steps} steps of {size} elements")
    print(f"{'copy':<28} {time:9.3f} ms {copy:8.0f} GB/s")
    report("forward", lambda: forward(0), 8 * cells, copy, options.repeat)
    report("forward, saving all", lambda: forward(1), 12 * cells, copy, options.repeat)
    report(f"forward, saving every {every}th", lambda: forward(every), 8 * cells, copy, options.repeat)
    saved = forward(1).saved
    report("backward", lambda: backward(1, saved), 16 * cells, copy, options.repeat)
    saved = forward(every).saved
    # the replay reads the current once more, and writes and reads the states of a chunk
    report("backward, replaying", lambda: backward(every, saved), 24 * cells, copy, options.repeat)
    return 0


if __name__ == "__main__":
    sys.exit(main())
