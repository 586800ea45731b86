"""Recurrent layers on this GPU: every form of kernel against torch.compile and a CUDA-graphed loop.

    python benchmarks/gpu_recurrent.py [--sizes 128,192,256,512,1024,2048] [--batch 16] [--steps 100] [--repeat 20]
                                       [--only snncompile,graph]

A layer of LIF neurons with a dense feedback, forward, and forward with backward. The contenders compute the same:
outputs are compared before anything is timed (weights are multiples of 1/64, so that every order of summation is
exact), and so is the gradient of the weight. Times are minimum and median of CUDA events, contenders in turn; first
calls, which compile and capture, are timed in a column of their own. Launches are counted by the profiler. A contender
that fails is reported with its error. torch.compile unrolls the loop: it takes minutes for long ones.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from gpu_timing import kernels, machine, milliseconds, no_gpu
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.targets.precision import LOWER
from snncompile.targets.triton.recurrent import RecurrentLayers

#: What a membrane keeps in a step, as the network computes it.
DECAY = float(torch.exp(-1e-3 / torch.tensor(20e-3)))

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Contender:
    """One way to run the layer.

    Attributes:
        name: what it is called.
        forward: current -> spikes, without gradients.
        both: current -> spikes and the gradient of the weight of their sum.
        exact: whether its outputs must equal the reference's.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    both: Callable[[Tensor], Pair]
    exact: bool = True


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 1.0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad * torch.clamp(1.0 - torch.abs(v - 1.0), min=0.0)


def loop(x: Tensor, weight: Tensor) -> Tensor:
    """The layer as one writes it in torch; ``(T, B, N)``."""
    v = torch.zeros_like(x[0])
    s = torch.zeros_like(v)
    out = []
    for current in x.unbind(0):
        v = v * DECAY + (current + s @ weight.T)
        s = _Spike.apply(v)
        v = torch.where(s > 0.0, 0.0, v)
        out.append(s)
    return torch.stack(out)


def by_autograd(run: Callable[[Tensor], Tensor], weight: Tensor) -> Callable[[Tensor], Pair]:
    """``run`` and the gradient of ``weight``."""

    def both(x: Tensor) -> Pair:
        spikes = run(x)
        (grad,) = torch.autograd.grad(spikes.sum(), weight)
        return spikes.detach(), grad

    return both


def plain(name: str, step: Callable[[Tensor, Tensor], Tensor], weight: Tensor) -> Contender:
    """A function of current and weight."""

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            return step(x, weight)

    return Contender(name, forward, by_autograd(lambda x: step(x, weight), weight))


def graphed(weight: Tensor, x: Tensor) -> Contender:
    """The loop in a CUDA graph, forward, and forward with backward."""
    held = x.clone()

    def capture(run: Callable[[], object]) -> tuple[torch.cuda.CUDAGraph, object]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            made = run()
        return graph, made

    made: dict[str, tuple[torch.cuda.CUDAGraph, object]] = {}

    def forward(x: Tensor) -> Tensor:
        held.copy_(x)
        with torch.no_grad():
            if "forward" not in made:
                made["forward"] = capture(lambda: loop(held, weight))
        graph, spikes = made["forward"]
        graph.replay()
        return spikes  # type: ignore[return-value]

    def both(x: Tensor) -> Pair:
        held.copy_(x)
        if "both" not in made:
            made["both"] = capture(lambda: by_autograd(lambda x: loop(x, weight), weight)(held))
        graph, pair = made["both"]
        graph.replay()
        return pair  # type: ignore[return-value]

    return Contender("loop in a CUDA graph", forward, both)


def ours(name: str, weight: Tensor, form: str | None, precision: str) -> Contender:
    """The layer compiled by snncompile."""
    size = weight.shape[0]

    @snn.model(dt=1 * ms)
    def layer(x=snn.Current(size)):
        neurons = snn.LIF(tau_mem=20 * ms, bias=0.0, reset="zero", surrogate=snn.Triangle(), name="cell")
        return x >> snn.recurrent(neurons, via=snn.Linear(size, bias=False, name="back"))

    net = snn.compile(layer, target="triton", precision=precision).to(weight.device)
    with torch.no_grad():
        net.get_parameter("back.weight").copy_(weight)
    for training in (True, False):  # every executor made for this network gets the form
        net.train(training)
        net.executor(weight.device).runner.recurrent = RecurrentLayers(precision=precision, form=form)
    own = net.get_parameter("back.weight")

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            return net(x.transpose(0, 1)).transpose(0, 1)

    both = by_autograd(lambda x: net(x.transpose(0, 1)).transpose(0, 1), own)
    return Contender(name, forward, both, exact=precision not in LOWER)


def differences(contender: Contender, x: Tensor, want: Pair) -> str:
    """What is wrong with a contender's results; "" where nothing is."""
    for what, spikes in (("forward", contender.forward(x)), ("training forward", contender.both(x)[0])):
        apart = float((spikes != want[0]).float().mean())
        if apart > (0.0 if contender.exact else 0.01):
            return f"{what}: {apart:.2%} of the spikes differ"
    grad = contender.both(x)[1]
    gap = float((grad - want[1]).norm() / want[1].norm().clamp_min(1e-12))
    return f"the weight's gradient is {gap:.1e} away" if gap > (1e-5 if contender.exact else 5e-2) else ""


def contenders(size: int, weight: Tensor, x: Tensor) -> dict[str, Callable[[], Contender]]:
    """Name -> maker of everything that is compared at ``size``."""
    forms = ["resident"] if size <= 128 else []
    forms += ["streamed", "steps", "together"]
    return {
        "snncompile": lambda: ours("snncompile", weight, None, "auto"),
        **{f"snncompile, {f}": lambda f=f: ours(f"snncompile, {f}", weight, f, "auto") for f in forms},
        "snncompile, fp16 weights": lambda: ours("snncompile, fp16 weights", weight, None, "fp16"),
        "loop": lambda: plain("loop", loop, weight),
        "loop in a CUDA graph": lambda: graphed(weight, x),
        "torch.compile": lambda: plain("torch.compile", torch.compile(loop, dynamic=False), weight),
        "torch.compile, reduce-overhead": lambda: plain(
            "torch.compile, reduce-overhead", torch.compile(loop, dynamic=False, mode="reduce-overhead"), weight
        ),
    }


def prepared(make: Callable[[], Contender], x: Tensor, want: Pair) -> tuple[Contender, float] | str:
    """A contender that is ready and right, with the seconds that its first calls took; or why there is none."""
    start = time.perf_counter()
    try:
        contender = make()
        for _ in range(3):
            contender.forward(x)
            contender.both(x)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        wrong = differences(contender, x, want)
    except Exception as err:  # whatever one contender does, the others are measured
        return f"failed: {type(err).__name__}: {str(err)[:200]}"
    return f"NOT COMPARED, since {contender.name} is wrong: {wrong}" if wrong else (contender, seconds)


def measure(size: int, batch: int, steps: int, repeat: int, only: list[str]) -> None:
    """Print the table for one size, of contenders whose names hold one of ``only``."""
    g = torch.Generator().manual_seed(size)
    scale = max(1, round(64 / size**0.5))
    weight = (torch.randint(-scale, scale + 1, (size, size), generator=g) / 64).cuda().requires_grad_()
    x = (torch.randint(0, 32, (steps, batch, size), generator=g) / 64).cuda()
    want = by_autograd(lambda x: loop(x, weight), weight)(x)
    print(f"\nN={size} B={batch} T={steps}: {float(want[0].mean()):.1%} of the neurons fire in a step")
    head = ("", "forward", "us/step", "median", "fwd+bwd", "us/step", "median", "launches", "first calls")
    print(f"{head[0]:<32}" + "".join(f"{h:>12}" for h in head[1:]))
    ready: list[tuple[Contender, float]] = []
    for name, make in contenders(size, weight, x).items():
        if not any(part in name for part in only):
            continue
        found = prepared(make, x, want)
        if isinstance(found, str):
            print(f"{name:<32}  {found}", flush=True)
        else:
            ready.append(found)
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeat):
        for contender, _ in ready:
            for way, run in (("forward", contender.forward), ("both", contender.both)):
                times.setdefault((contender.name, way), []).append(milliseconds(lambda run=run: run(x)))
    for contender, seconds in ready:
        cells = []
        for way in ("forward", "both"):
            found_times = times[contender.name, way]
            best = min(found_times)
            cells += [f"{best:.3f} ms", f"{1e3 * best / steps:.2f}", f"{statistics.median(found_times):.3f}"]
        launched = f"{kernels(lambda c=contender: c.forward(x))}/{kernels(lambda c=contender: c.both(x))}"
        row = (*cells, launched, f"{seconds:.1f} s")
        print(f"{contender.name:<32}" + "".join(f"{c:>12}" for c in row), flush=True)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="128,192,256,512,1024,2048", help="neurons, separated by commas")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--only", default="", help="parts of the names of the contenders wanted, separated by commas")
    options = parser.parse_args()
    if no_gpu("gpu_recurrent"):
        return 1
    torch.backends.cuda.matmul.allow_tf32 = False  # like is compared with like
    print(machine())
    for size in options.sizes.split(","):
        measure(int(size), options.batch, options.steps, options.repeat, options.only.split(","))
    return 0


if __name__ == "__main__":
    sys.exit(main())
