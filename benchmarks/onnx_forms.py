"""The exported scan form in ONNX Runtime against the torch reference, and against a loop with the product inside.

    python benchmarks/onnx_forms.py [--runs 7] [--threads 2]

All compute the same network. "loop" is the usual export of a model that steps through time: an ONNX Loop whose body
takes one time step of the input, multiplies it by the weights and updates the neurons, with the step's own arithmetic
(the step form's nodes). "unrolled" is our unrolled form, with functions inlined. Runs are interleaved; times are the
minimum of the runs, ratios are over the torch reference of the same round (below 1: faster than the reference). Load
time is that of an ONNX Runtime session from a file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from timing import interleaved

import snncompile as snn
from snncompile import ms


@dataclass(frozen=True)
class Workload:
    """Shapes: batch, steps, neurons; and whether the layer is recurrent."""

    name: str
    batch: int
    steps: int
    size: int
    recurrent: bool = False


WORKLOADS = (
    Workload("Linear(256)+ExpSyn+LIF    B=16 T=100", 16, 100, 256),
    Workload("Linear(128)+ExpSyn+LIF    B=1  T=200", 1, 200, 128),
    Workload("recurrent LIF(128)        B=16 T=100", 16, 100, 128, True),
)


def network(w: Workload) -> snn.Network:
    """The network of a workload."""

    @snn.model(dt=1 * ms)
    def layer(x=snn.Spikes(w.size)):
        current = x >> snn.Linear(w.size, bias=False) >> snn.ExpSyn(tau=5 * ms)
        if w.recurrent:
            return current >> snn.recurrent(snn.LIF(tau_mem=20 * ms), via=snn.Linear(w.size, bias=False))
        return current >> snn.LIF(tau_mem=20 * ms)

    return snn.compile(layer, target="torch").eval()


def write_loop(step_file: Path, path: Path, states: dict[str, str]) -> None:
    """An ONNX Loop over time around the step form of ``step_file``, written to ``path``."""
    model = onnx.load(step_file)
    graph = model.graph
    features = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim][1:]
    held = {i.name: i for i in graph.input if i.name in states}

    def info(name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    axis = helper.make_tensor("time_axis", TensorProto.INT64, [], [1])
    body = [
        helper.make_node("Gather", ["sequence", "iteration"], ["x"], axis=1),
        helper.make_node("Identity", ["go_on"], ["go_on_out"]),
        *graph.node,
    ]
    outs = [o for o in graph.output if o.name in states.values()]
    kept = [o for o in graph.output if o.name not in states.values()]
    inner = helper.make_graph(
        body, "step",
        [info("iteration", TensorProto.INT64, []), info("go_on", TensorProto.BOOL, []), *held.values()],
        [info("go_on_out", TensorProto.BOOL, []), *outs, *kept],
    )  # fmt: skip
    starts = [f"{name}.start" for name in held]
    nodes = [
        helper.make_node("Shape", ["sequence"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "time_axis"], ["steps"], axis=0),
        helper.make_node("Loop", ["steps", "", *starts], [*(o.name for o in outs), "course"], body=inner),
        helper.make_node("Transpose", ["course"], ["out"], perm=[1, 0, *range(2, len(features) + 2)]),
    ]
    inputs = [info("sequence", TensorProto.FLOAT, ["batch", "time", *features])]
    for start, (_, value) in zip(starts, held.items(), strict=True):
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(value)
        copy.name = start
        inputs.append(copy)
    outer = helper.make_graph(
        nodes, "loop", inputs, [info("out", TensorProto.FLOAT, ["batch", "time", *features])],
        [*graph.initializer, axis],
    )  # fmt: skip
    whole = helper.make_model(
        outer, functions=model.functions, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    onnx.checker.check_model(whole)
    onnx.save(whole, path)


def open_session(path: Path, threads: int) -> tuple[ort.InferenceSession, float]:
    """A session, and how long it took to load."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would slow torch down
    start = time.perf_counter()
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, time.perf_counter() - start


@torch.no_grad()
def compare(w: Workload, runs: int, threads: int, folder: Path) -> None:
    """Measure one workload and print it."""
    torch.manual_seed(0)
    net = network(w)
    x = (torch.rand(w.batch, w.steps, w.size) < 0.05).float()
    made = {
        form: net.to_onnx(folder / f"{form}.onnx", form, steps=w.steps if form == "unrolled" else None, check=False)
        for form in ("scan", "step", "unrolled")
    }
    states = made["step"].states
    write_loop(folder / "step.onnx", folder / "loop.onnx", states)
    sessions, loads = {}, {}
    for form in ("scan", "loop", "unrolled"):
        sessions[form], loads[form] = open_session(folder / f"{form}.onnx", threads)
    start = {f"{n}.start": s.numpy() for n, s in net.initial_state(w.batch).items()}
    feeds = {"scan": {"x": x.numpy()}, "unrolled": {"x": x.numpy()}, "loop": {"sequence": x.numpy(), **start}}
    want = net(x).numpy()
    contenders: dict[str, Callable[[], object]] = {"torch": lambda: net(x)}
    for form, session in sessions.items():
        got = session.run(["out"], feeds[form])[0]
        differ = float(np.mean(got != want))
        assert differ < 0.01, f"{form}: {differ:.1%} of the spikes differ"
        contenders[form] = lambda s=session, f=feeds[form]: s.run(["out"], f)
    best = {name: min(taken) for name, taken in interleaved(contenders, runs).items()}
    print(f"{w.name}   torch reference {best['torch'] * 1e3:.2f} ms")
    for form in sessions:
        path = folder / f"{form}.onnx"
        print(
            f"    {form:<9} {best[form] * 1e3:9.2f} ms   {best[form] / best['torch']:6.2f} x reference"
            f"   {best[form] / best['scan']:6.2f} x scan   {path.stat().st_size / 1024:9.1f} KiB"
            f"   loads in {loads[form] * 1e3:8.1f} ms"
        )


def main() -> None:
    """Run every workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"onnxruntime {ort.__version__}, torch {torch.__version__}, {options.threads} threads, CPU")
    with tempfile.TemporaryDirectory() as folder:
        for w in WORKLOADS:
            compare(w, options.runs, options.threads, Path(folder))


if __name__ == "__main__":
    main()
