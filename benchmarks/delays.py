"""Delays: read at an offset against a copy, one per synapse, and cycles that are late.

    python benchmarks/delays.py [--runs 9] [--threads 1] [--only-late | --only-made | --only-layers]

First a Delay before a synapse and a neuron on the C target: with the pass ``delays-to-offsets`` the kernels read
earlier steps of the signal (and, between two steps, compute what is seen), without it the late signal is made. Then a
connection with a delay per synapse against one without, and read at an offset against a product for each number of
steps, as other targets compute it. Then products and poolings that read a Delay, a panel at a time and made first, and
what memory that takes. Then recurrent layers that read a Delay, late and made first, and one whose spikes come back 1,
5 or 15 steps later. Times are the minimum and the median in milliseconds of runs that are interleaved in one process.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from timing import interleaved

import snncompile as snn
from snncompile import ms
from snncompile.ir.graph import Graph
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.c.recurrent import RecurrentLayers
from snncompile.targets.c.target import CTarget
from snncompile.targets.executor import Executor, Run

BATCH, STEPS, SIZE = 16, 500, 512


def offset_runs(delay: object, **options: object) -> dict[str, Callable[[], object]]:
    """The same network with an offset and with a copy, forward and in training."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(SIZE)):
        return x >> snn.Delay(delay, **options) >> snn.ExpSyn() >> snn.LIF(threshold=0.5)

    net = snn.compile(model, target="c")
    offset = compile_graph(net.graph, Request())
    op = offset.op("delay")
    copy = offset.copy()
    copy.nx.nodes["delay"]["op"] = replace(op, attrs={k: v for k, v in op.attrs.items() if k != "offset"})
    values = {name: net.value(name) for name in offset.parameters()}
    x = (torch.rand(STEPS, BATCH, SIZE) < 0.1).float()
    leaf = x.clone().requires_grad_()
    grad = torch.rand(STEPS, BATCH, SIZE)

    def run(executor: Executor, data: torch.Tensor) -> torch.Tensor:
        given = Run(values, {"x": data}, net.initial_state(BATCH), STEPS, BATCH, data.device)
        return executor.run(given).outputs["out"]

    def forward(executor: Executor) -> torch.Tensor:
        with torch.no_grad():
            return run(executor, x)

    def train(executor: Executor) -> object:
        return torch.autograd.grad(run(executor, leaf), leaf, grad)

    ways = {"offset": Executor(offset, CTarget()), "copy": Executor(copy, CTarget())}
    assert torch.equal(*(forward(e) for e in ways.values())), "the two do not compute the same"
    runs: dict[str, Callable[[], object]] = {}
    for name, executor in ways.items():
        runs[f"{name}, forward"] = lambda executor=executor: forward(executor)  # type: ignore[misc]
        runs[f"{name}, forward + backward"] = lambda executor=executor: train(executor)  # type: ignore[misc]
    return runs


def synapse_runs() -> dict[str, Callable[[], object]]:
    """A dense connection without delays, with one for all, and with one per synapse."""
    delays = np.random.default_rng(0).integers(0, 20, size=(128, 128)) * ms

    def net(**options: object) -> snn.Network:
        @snn.model(dt=1 * ms)
        def model(x=snn.Spikes(128)):
            return x >> snn.Linear(128, **options) >> snn.LIF()

        return snn.compile(model, target="c")

    ways = {
        "no delay": net(),
        "5 ms for all": net(delay=5 * ms),
        "0 to 19 ms, one per synapse": net(delay=delays),
    }
    x = (torch.rand(BATCH, STEPS, 128) < 0.1).float()
    return {name: _quiet(one, x) for name, one in ways.items()}


def late_runs(
    steps: int, batch: int, inputs: int, outputs: int, longest: int, density: float, hint: bool, trained: bool = False
) -> dict[str, Callable[[], object]]:
    """A product with a delay for each synapse, with offsets and with a product for each number of steps."""
    rng = np.random.default_rng(0)
    delays = rng.integers(0, longest + 1, size=(outputs, inputs)) + (0.5 if trained else 0.0)
    options = {"interpolation": "linear", "trainable_delay": True} if trained else {}

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(inputs)):
        known = density if hint else None
        return x >> snn.Linear(outputs, delay=delays.clip(0, longest) * ms, density=known, **options)

    net = snn.compile(model, target="c")
    graph = compile_graph(net.graph, Request())
    each = CTarget()
    each.__dict__["late"] = None
    x = (torch.rand(steps, batch, inputs) < density).float()
    return _compared(net, graph, {"offset": CTarget(), "products": each}, x)


def apart(**options: object) -> CTarget:
    """The C target with other settings."""
    target = CTarget()
    for name, value in options.items():
        setattr(target, name, value)
    return target


def late_network(inputs: int | tuple[int, ...], reader: Callable[[], snn.Node], **options: object) -> snn.Network:
    """A connection that reads a Delay, or without options the signal itself."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(inputs)):
        late = x >> snn.Delay(**options) if options else x
        return (late >> snn.Flatten() if late.shape != x.shape else late) >> reader()

    return snn.compile(model, target="c")


def made_runs(
    steps: int, batch: int, inputs: int | tuple[int, ...], reader: Callable[[], snn.Node], **options: object
) -> dict[str, Callable[[], object]]:
    """A connection that reads a Delay a panel at a time, or after a kernel or torch has made its signal; and one
    without a Delay."""
    net = late_network(inputs, reader, **options)
    always = apart(panel=CTarget.panel._replace(choose=False))
    ways = {"panels": always, "kernel": apart(panel=None), "gather": apart(panel=None, offsets=False)}
    shape = (inputs,) if isinstance(inputs, int) else inputs
    x = (torch.rand(steps, batch, *shape) < 0.05).float()
    return _compared(net, compile_graph(net.graph, Request()), ways if options else {"no delay": CTarget()}, x)


def layer_runs(inputs: int, **options: object) -> dict[str, Callable[[], object]]:
    """A recurrent layer that reads a Delay late, or after a kernel has made its signal; and one without a Delay."""
    net = late_network(inputs, lambda: snn.recurrent(snn.LIF(), via=snn.Linear(256)), **options)
    made, layers = CTarget(), RecurrentLayers()
    layers.offsets = False
    made.__dict__["recurrent"] = layers
    ways = {"late": CTarget(), "made": made} if options else {"no delay": CTarget()}
    x = (torch.rand(250, 16, inputs) < 0.05).float()
    return _compared(net, compile_graph(net.graph, Request()), ways, x)


def peak(panels: bool) -> int:
    """Bytes by which a training step of (1000, 16, 700 to 256) makes a process grow, which does nothing else."""
    net = late_network(700, lambda: snn.Linear(256), delay=np.arange(700) % 61 * ms)
    target = CTarget() if panels else apart(panel=None)
    x = (torch.rand(1000, 16, 700) < 0.05).float()
    before = _most_resident()
    (run,) = [r for n, r in _compared(net, compile_graph(net.graph, Request()), {"": target}, x).items() if "back" in n]
    run()
    run()
    return _most_resident() - before


def _most_resident() -> int:
    """Bytes of memory that this process had at most so far, on Linux."""
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])


def _compared(
    net: snn.Network, graph: Graph, targets: dict[str, CTarget], x: torch.Tensor
) -> dict[str, Callable[[], object]]:
    """A network on several targets, forward and in training."""
    steps, batch = x.shape[:2]
    values = {name: net.value(name) for name in graph.parameters()}
    leaf, start = x.clone().requires_grad_(), net.initial_state(batch)

    def run(executor: Executor, data: torch.Tensor) -> torch.Tensor:
        given = Run(values, {"x": data}, start, steps, batch, data.device)
        return executor.run(given).outputs["out"]

    def forward(executor: Executor) -> torch.Tensor:
        with torch.no_grad():
            return run(executor, x)

    def train(executor: Executor) -> object:
        return torch.autograd.grad(run(executor, leaf), [leaf, *net.parameters()], grad)

    ways = {name: Executor(graph, target) for name, target in targets.items()}
    grad = torch.rand_like(forward(next(iter(ways.values()))))
    first, *others = (forward(e) for e in ways.values())
    assert all(torch.allclose(first, y, atol=1e-4) for y in others), "they do not compute the same"
    runs: dict[str, Callable[[], object]] = {}
    for name, executor in ways.items():
        runs[f"{name}, forward"] = lambda executor=executor: forward(executor)  # type: ignore[misc]
        runs[f"{name}, forward + backward"] = lambda executor=executor: train(executor)  # type: ignore[misc]
    return runs


def report_made(n: int) -> None:
    """Products and poolings that read a Delay."""
    rng = np.random.default_rng(0)
    for steps, batch, inputs, outputs, longest in ((100, 16, 256, 256, 25), (250, 8, 700, 256, 60)):
        title = f"Delay and Linear, C, ({steps}, {batch}, {inputs} to {outputs}), up to {longest} steps"
        between = rng.uniform(0, longest, inputs) * ms
        cases: dict[str, dict[str, object]] = {
            "none": {},
            "20 steps for all": {"delay": 20 * ms},
            "per channel": {"delay": between.round(3)},
            "per channel, linear, trained": {"delay": between, "interpolation": "linear", "trainable": True},
            "four per channel": {"delay": rng.integers(0, longest, (inputs, 4)) * ms},
        }
        size = (steps, batch, inputs, partial(snn.Linear, outputs))
        runs = {f"{what}: {name}": run for what, case in cases.items()
                for name, run in made_runs(*size, **case).items()}  # fmt: skip
        report(title, runs, n)
    images: dict[str, tuple[tuple[int, ...], Callable[[], snn.Node]]] = {
        "Conv2d(8, 5)": ((2, 34, 34), lambda: snn.Conv2d(8, 5)), "SumPool2d(2)": ((4, 32, 32), lambda: snn.SumPool2d(2))
    }  # fmt: skip
    for name, (shape, reader) in images.items():
        each = rng.integers(0, 20, shape) * ms
        title = f"Delay and {name}, C, (100, 8, {shape}), up to 19 steps for each pixel"
        report(title, made_runs(100, 8, shape, reader, delay=each), n)
    with get_context("spawn").Pool(1, maxtasksperchild=1) as one:
        print("\nDelay and Linear, C, (1000, 16, 700 to 256): MiB that a training step takes")
        for name, panels in (("panels", True), ("kernel", False)):
            print(f"  {name:<56} {one.map(peak, [panels])[0] / 2**20:9.0f}")


def report_layers(n: int) -> None:
    """Recurrent layers that read a Delay."""
    rng = np.random.default_rng(0)
    between = rng.uniform(0, 8, 256) * ms
    runs = {f"none: {name}": run for name, run in layer_runs(256).items()}
    cases: dict[str, tuple[int, dict[str, object]]] = {
        "8 steps for all": (256, {"delay": 8 * ms}),
        "per neuron": (256, {"delay": between.round(3)}),
        "eight per channel": (32, {"delay": rng.integers(0, 9, (32, 8)) * ms}),
        "per neuron, linear, trained": (256, {"delay": between, "interpolation": "linear", "trainable": True}),
    }
    for what, (inputs, options) in cases.items():
        runs |= {f"{what}: {name}": run for name, run in layer_runs(inputs, **options).items()}
    report("Delay and recurrent LIF, C, (250, 16, 256), up to 8 steps", runs, n)


def report_late(n: int) -> None:
    """Products with a delay for each synapse: sizes, densities, and delays that are trained."""
    for size in ((100, 16, 256, 256, 25), (250, 8, 700, 256, 60)):
        steps, batch, inputs, outputs, longest = size
        title = f"Linear, C, ({steps}, {batch}, {inputs} to {outputs}), 0 to {longest} steps for each synapse"
        report(f"{title}, dense", late_runs(*size, 0.05, hint=False), n)
        report(f"{title}, density 0.02", late_runs(*size, 0.02, hint=True), n)
        report(f"{title}, density 0.05", late_runs(*size, 0.05, hint=True), n)
        report(f"{title}, trained, dense", late_runs(*size, 0.05, hint=False, trained=True), n)
        report(f"{title}, trained, density 0.02", late_runs(*size, 0.02, hint=True, trained=True), n)


def cycle_runs() -> dict[str, Callable[[], object]]:
    """A recurrent layer, its spikes 1, 5 and 15 steps late."""

    def net(steps: int) -> snn.Network:
        @snn.model(dt=0.1 * ms)
        def model(x=snn.Spikes(256)):
            return x >> snn.Linear(256) >> snn.recurrent(snn.LIF(), via=snn.Linear(256), delay=steps * 0.1 * ms)

        return snn.compile(model, target="torch")

    x = (torch.rand(1, 1500, 256) < 0.05).float()
    return {f"{steps} steps late": _quiet(net(steps), x) for steps in (1, 5, 15)}


def _quiet(net: snn.Network, x: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return net(x)

    return run


def report(title: str, runs: dict[str, Callable[[], object]], n: int) -> None:
    """Time ``runs`` and print the result."""
    print(f"\n{title}")
    for name, taken in interleaved(runs, n, each_warm=True).items():
        print(f"  {name:<56} {min(taken) * 1e3:9.2f} ({statistics.median(taken) * 1e3:.2f})")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="interleaved runs (default: 9)")
    parser.add_argument("--only-late", action="store_true", help="only delays for each synapse, against products")
    parser.add_argument("--only-made", action="store_true", help="only delays that a product reads")
    parser.add_argument("--only-layers", action="store_true", help="only delays that a recurrent layer reads")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads; min (median) ms")
    if args.only_late:
        report_late(args.runs)
        return
    if args.only_made:
        report_made(args.runs)
        return
    if args.only_layers:
        report_layers(args.runs)
        return
    shape = f"Delay, ExpSyn, LIF, C, ({BATCH}, {STEPS}, {SIZE})"
    report(f"{shape}, 5 ms for all", offset_runs(5 * ms), args.runs)
    each = np.random.default_rng(0).integers(0, 20, size=SIZE) * ms
    report(f"{shape}, 0 to 19 ms per neuron", offset_runs(each), args.runs)
    report(f"{shape}, 5.5 ms for all, linear", offset_runs(5.5 * ms, interpolation="linear"), args.runs)
    report(f"{shape}, 0 to 20 ms per neuron, linear", offset_runs(each + ms / 2, interpolation="linear"), args.runs)
    options = {"interpolation": "linear", "trainable": True}
    report(f"{shape}, likewise, trained", offset_runs(each + ms / 2, **options), args.runs)
    report(f"Linear and LIF, C, ({BATCH}, {STEPS}, 128 to 128)", synapse_runs(), args.runs)
    report_late(max(args.runs // 3, 1))
    report_made(args.runs)
    report_layers(args.runs)
    report("Recurrent LIF, torch, (1, 1500, 256)", cycle_runs(), max(args.runs // 3, 1))


if __name__ == "__main__":
    main()
