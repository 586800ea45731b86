"""Layers on this GPU: SpikingJelly's published LIF setting, and recurrent layers against compiled and graphed loops.

    python benchmarks/gpu_layers.py [--seconds 3] [--out benchmarks/results/gpu-layers.json]

- LIF alone, batch 64 and 65,536 neurons, T of 4 to 32, forward and backward: the setting in which SpikingJelly
  publishes its kernels. It runs in float32 and, as there, in float16; our networks compute in float32, so in the rows
  of float16 they stand for comparison only. `FlexSN` is its generator of kernels from a step function.
- A recurrent LIF layer (W4's form, at several widths): ours, the plain loop, that loop under torch.compile in pieces of
  25 steps, and its inference captured in one CUDA graph.

Spikes are compared before anything is timed. Times are minimum and median in milliseconds, until the GPU is done, taken
in turns; kernels are those that one run launches. Floor: the bytes that have to move (float32 training: 24 per neuron
and step) at the bandwidth of a copy measured in the same run. `--device cpu --tiny` shows that all of it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from gpu_timing import kernels, no_gpu
from torch import Tensor

import snncompile as snn
from benchmarks.plain_loop import DECAY_MEM
from benchmarks.workloads import loops
from benchmarks.workloads.contender import Absent, Contender, differentiable, disagreement
from benchmarks.workloads.libraries import library
from benchmarks.workloads.machine import machine
from benchmarks.workloads.ours import neuron, ours
from benchmarks.workloads.shapes import WORKLOADS, Data, Workload, make_data
from snncompile.bench.roofline import measure_rates
from snncompile.bench.timing import interleaved

BYTES = 24  # float32, forward: current, spikes, saved state; backward: state, gradient in, gradient out


def lif_ways(x: Tensor, grad: Tensor, target: str) -> dict[str, Callable[[], Contender]]:
    """The LIF alone: x is (T, B, N), current in; the gradient of x is wanted."""
    data = Data(x, grad)

    def scan() -> Contender:
        @snn.model(dt=1e-3)
        def model(x=snn.Current(x.shape[2])):  # type: ignore[no-untyped-def]
            return x >> neuron()

        net = snn.compile(model, target=target).to(x.device)
        leaf = x.float().transpose(0, 1).contiguous().requires_grad_()
        return differentiable(
            f"snncompile {target} (float32)", "ours", lambda: net(leaf), [leaf],
            replace(data, grad=grad.float()), time_axis=1,
        )  # fmt: skip

    def jelly() -> Contender:
        node = library("spikingjelly.activation_based.neuron").LIFNode(
            tau=1 / (1 - DECAY_MEM), decay_input=False, v_reset=None, step_mode="m"
        )
        reset = library("spikingjelly.activation_based.functional").reset_net
        leaf = x.clone().requires_grad_()

        def run() -> Tensor:
            reset(node)
            return node(leaf)

        return differentiable("SpikingJelly LIFNode", "library", run, [leaf], data)

    def flex() -> Contender:
        fire = library("spikingjelly.activation_based.surrogate").sigmoid  # a function: it refuses modules
        made = library("spikingjelly.activation_based.neuron").FlexSN

        def core(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            h = v * DECAY_MEM + x
            s = fire.apply(h - 1.0, 4.0)
            return s, h - s

        node = made(core, num_states=1, step_mode="m")
        reset = library("spikingjelly.activation_based.functional").reset_net
        leaf = x.clone().requires_grad_()

        def run() -> Tensor:
            reset(node)
            out = node(leaf)
            return out if isinstance(out, Tensor) else out[0]

        return differentiable("SpikingJelly FlexSN", "library", run, [leaf], data)

    def plain() -> Contender:
        leaf = x.clone().requires_grad_()
        return differentiable("plain loop", "loop", lambda: loops.lif(leaf), [leaf], data)

    return {"snncompile": scan, "SpikingJelly LIFNode": jelly, "SpikingJelly FlexSN": flex, "plain loop": plain}


def graphed(w: Workload, data: Data) -> Contender:
    """The plain loop's inference in one CUDA graph."""
    if data.x.device.type != "cuda":
        raise Absent("CUDA graphs need a GPU")
    weights = data.weights
    held: list[Tensor] = []
    stream = torch.cuda.Stream()
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(3):
            loops.network(w, data.x, weights)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        held.append(loops.network(w, data.x, weights))

    def output() -> Tensor:
        graph.replay()
        return held[0].clone()

    return Contender("plain loop in a CUDA graph", "loop", graph.replay, output=output)


def measure(
    ways: dict[str, Callable[[], Contender]], truth: Tensor, seconds: float, device: str
) -> dict[str, dict[str, Any]]:
    """Name -> figures; what is absent or fails says so."""
    rows: dict[str, dict[str, Any]] = {}
    alive: dict[str, Contender] = {}
    for name, build in ways.items():
        try:
            made = build()
            assert made.output is not None
            if (share := disagreement(made.output().float(), truth)) > 0.01:
                raise ValueError(f"{share:.2%} of its spikes differ from the loop's")
            made.both() if made.both else made.forward()
        except Absent as err:
            rows[name] = {"status": "absent", "reason": str(err)}
        except Exception as err:
            rows[name] = {"status": "failed", "reason": f"{type(err).__name__}: {err}".splitlines()[0][:200]}
        else:
            rows[name] = {"status": "ok", "spikes that differ": share}
            alive[name] = made
    for key in ("forward", "both"):
        runs = {n: run for n, c in alive.items() if (run := getattr(c, key)) is not None}
        for name, timing in interleaved(runs, seconds).items():
            rows[name][key] = asdict(timing) | {"kernels": kernels(runs[name]) if device == "cuda" else None}
    return rows


def report(title: str, rows: dict[str, dict[str, Any]], floor: float | None = None) -> None:
    """Print one table."""
    print(f"\n{title}" + (f"; floor of forward and backward {floor:.3f} ms" if floor is not None else ""))
    for name, row in rows.items():
        if row["status"] != "ok":
            print(f"  {name:<28} {row['status']}: {row['reason']}")
            continue
        told = f"  {name:<28}"
        for key in ("forward", "both"):
            if key in row:
                t = row[key]
                told += f" {key} {t['min']:9.3f} ({t['median']:9.3f}) ms, {t['kernels']} kernels;"
        print(told.rstrip(";"), flush=True)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each measurement, about (default: 3)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: whether all runs, not how fast")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    args = parser.parse_args()
    if args.device == "cuda" and no_gpu("gpu_layers"):
        return 1
    device, target = args.device, "triton" if args.device == "cuda" else "torch"
    found: dict[str, Any] = {"machine": machine(torch.get_num_threads()), "lif": {}, "recurrent": {}}
    batch, size = (2, 64) if args.tiny else (64, 65536)
    for dtype in (torch.float32, torch.float16):
        for steps in (4, 8) if args.tiny else (4, 8, 16, 32):
            torch.manual_seed(0)
            x = (torch.rand(steps, batch, size, device=device) * 0.5).to(dtype)
            grad = torch.rand(steps, batch, size, device=device).to(dtype)
            rates = measure_rates(torch.device(device), 4 * x.numel())
            floor = BYTES * x.numel() * (0.5 if dtype is torch.float16 else 1.0) / rates.bandwidth * 1e3
            # in float16 libraries round their potentials, so each is held against the loop in its own dtype
            truth = loops.lif(x.float() if target == "triton" else x).float()
            rows = measure(lif_ways(x, grad, target), truth, args.seconds, device)
            name = f"LIF, T={steps}, batch {batch}, {size} neurons, {str(dtype).removeprefix('torch.')}"
            report(name, rows, floor)
            found["lif"][name] = {"floor": floor, "rows": rows}
    for width in (32,) if args.tiny else (128, 256, 512, 1024):
        w = replace(WORKLOADS["W4"], size=width)
        w = replace(w.tiny(), size=width) if args.tiny else w
        data = make_data(w, device=device)
        torch.set_default_device(device)
        ways = {
            f"snncompile {target}": lambda w=w, d=data: ours(target)(w, d),
            "plain loop": lambda w=w, d=data: loops.plain(w, d),
            "plain loop in a CUDA graph": lambda w=w, d=data: graphed(w, d),
        }
        if not args.tiny:
            ways["torch.compile"] = lambda w=w, d=data: loops.compiled(w, d)
        with torch.no_grad():
            truth = loops.network(w, data.x, data.weights)
        rows = measure(ways, truth, args.seconds, device)
        report(w.title, rows)
        found["recurrent"][w.title] = rows
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
