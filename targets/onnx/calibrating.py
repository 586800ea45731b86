"""What calibration data shows of a network in float32, and what a quantised file makes of the same data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto

from snncompile.ir.errors import InterchangeError
from snncompile.ir.graph import Graph, Ref
from snncompile.ir.plasticity import Plasticity
from snncompile.targets.executor import Executor, Run, RunResult
from snncompile.targets.onnx.cutting import observed
from snncompile.targets.onnx.parts import Built, Request
from snncompile.targets.onnx.quantizing import products
from snncompile.targets.onnx.running import drive, evaluator, onnx_runtime
from snncompile.targets.onnx.writing import save
from snncompile.targets.torch.loop import LoopTarget

_TOGETHER = 32  # sequences run at once: the course of every signal of interest is held meanwhile

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Seen:
    """What the network in float32 made of the calibration data.

    Attributes:
        extents: port that feeds a product outside cycles -> its largest size.
        spikes: port of spikes -> how many there were.
        outputs: output -> its sum over time, ``(sequences, *features)``.
    """

    extents: dict[Ref, float]
    spikes: dict[Ref, float]
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Quantization:
    """What quantising changed, on the calibration data.

    Attributes:
        runtime: what ran the file.
        sequences: how many sequences there were.
        steps: how many steps of each.
        bytes_before: size of the file in float32.
        bytes_after: size of the quantised file.
        inputs: product -> how its input is stored, in words.
        spikes: name of a signal of spikes -> how many in float32, and how many quantised.
        agreement: output with one score per class -> share of sequences in which the highest is the same.
        changes: output -> size of the change of its sum over time, relative to the sum (norms).
        accuracy: share of sequences whose label has the highest score, in float32 and quantised; None without labels.
    """

    runtime: str
    sequences: int
    steps: int
    bytes_before: int
    bytes_after: int
    inputs: dict[str, str]
    spikes: dict[str, tuple[float, float]]
    agreement: dict[str, float]
    changes: dict[str, float]
    accuracy: tuple[float, float] | None

    def __str__(self) -> str:
        count = f"{self.sequences} sequence{'' if self.sequences == 1 else 's'} of {self.steps} steps"
        lines = [f"{count} in {self.runtime}, against float32:"]
        lines.append(f"size {self.bytes_before:,} -> {self.bytes_after:,} bytes")
        if self.accuracy is not None:
            before, after = self.accuracy
            lines.append(f"accuracy {before:.2%} -> {after:.2%} ({after - before:+.2%})")
        for name, (before, after) in self.spikes.items():
            relative = f"{after / before - 1:+.2%}" if before else "there were none"
            lines.append(f"spikes of {name} {before:,.0f} -> {after:,.0f} ({relative})")
        for key, change in self.changes.items():
            same = f"the same class in {self.agreement[key]:.2%}, " if key in self.agreement else ""
            lines.append(f"output {key}: {same}sums over time change by {change:.2%}")
        lines += [f"input of {name}: {text}" for name, text in self.inputs.items()]
        return "\n".join(lines)


def look(request: Request, inputs: Arrays) -> Seen:
    """Run the network in float32 on ``inputs``, ``(batch, time, ...)`` each."""
    graph = request.graph
    for name, _ in graph.of_type(Plasticity):
        raise InterchangeError("what learns is not quantised: export net.frozen(), the network without it", node=name)
    names = {ref: name for name, ref in graph.recordable().items()}
    fed = {
        edge.source for n, free in products(graph).items() if free for edge in graph.inputs_of(n).values()
    }  # fmt: skip
    fires = [ref for ref in names if _counts(graph, ref)]
    executor = Executor(graph, LoopTarget())
    extents: dict[Ref, float] = dict.fromkeys(sorted(fed), 0.0)
    spikes: dict[Ref, float] = dict.fromkeys(fires, 0.0)
    outputs: dict[str, list[np.ndarray]] = {key: [] for key, _ in graph.outputs}
    for part in _parts(inputs, request.steps):
        found = _run(executor, request, part, [names[r] for r in fed], [names[r] for r in fires])
        for ref in extents:
            extents[ref] = max(extents[ref], float(found.courses[names[ref]].abs().max()))
        for ref in spikes:
            spikes[ref] += float(found.sums[names[ref]].double().sum())
        for out, course in found.outputs.items():
            outputs[out].append(course.double().sum(0).numpy())
    return Seen(extents, spikes, {key: np.concatenate(rows) for key, rows in outputs.items()})


def compare(
    model: ModelProto,
    request: Request,
    built: Built,
    seen: Seen,
    inputs: Arrays,
    labels: np.ndarray | None,
    sizes: tuple[int, int],
    stored: dict[str, str],
    folder: Path,
) -> Quantization:
    """Run the quantised file on the calibration data.

    Args:
        model: what the file holds.
        request: the quantised network.
        built: its parts.
        seen: what the network in float32 made of the data.
        inputs: the data, ``(batch, time, ...)`` each.
        labels: the right class of each sequence.
        sizes: of the file in float32, and of this one.
        stored: product -> how its input is stored.
        folder: where a file may be written.
    """
    graph = request.graph
    watched = {v: ref for v, ref in built.results.items() if ref in seen.spikes}
    path = folder / "observed.onnx"
    lead = ["batch"] if request.form == "step" else ["time", "batch"]
    save(observed(model, {v: graph.type_of(ref).shape for v, ref in watched.items()}, lead), built.initializers, path)
    in_runtime = onnx_runtime(path)
    session = evaluator(path) if in_runtime is None else in_runtime
    runtime = "onnx's reference evaluator" if in_runtime is None else "ONNX Runtime"
    later = {k.removeprefix("state:"): out for k, out in built.names.items() if k.startswith("state:")}
    counts = dict.fromkeys(watched.values(), 0.0)
    sums: dict[str, list[np.ndarray]] = {key: [] for key, _ in graph.outputs}
    for part in _parts(inputs, request.steps):
        batch = next(iter(part.values())).shape[1]
        start = {n: np.full((batch, *i.shape), i.init, np.float32) for n, i in graph.states().items()}
        feeds = {label: part[name] for label, name in built.given.items() if name is not None}
        state = start if request.form == "step" else {}
        courses, _ = drive(session, request.form, feeds, {}, state, later, frozenset(watched))
        for value, ref in watched.items():
            counts[ref] += float(courses[value].sum(dtype=np.float64))
        for key in sums:
            sums[key].append(courses[built.names[key]].sum(0, dtype=np.float64))
    got = {key: np.concatenate(rows) for key, rows in sums.items()}
    names = {ref: name for name, ref in graph.recordable().items()}
    spikes = {names[ref]: (seen.spikes[ref], count) for ref, count in counts.items()}
    agreement = {k: _same(got[k], want) for k, want in seen.outputs.items() if want.ndim == 2 and want.shape[1] > 1}
    changes = {k: _change(got[k], want) for k, want in seen.outputs.items()}
    accuracy = None
    if labels is not None:
        (key,) = got
        right = [float(np.mean(y[key].argmax(1) == labels)) for y in (seen.outputs, got)]
        accuracy = right[0], right[1]
    first = next(iter(inputs.values()))
    steps = request.steps or first.shape[1]
    return Quantization(runtime, len(first), steps, *sizes, stored, spikes, agreement, changes, accuracy)


def _counts(graph: Graph, ref: Ref) -> bool:
    """Whether a port gives spikes of a neuron."""
    return ref.node not in graph.input_types() and graph.type_of(ref).kind == "spikes"


def _parts(inputs: Arrays, steps: int | None) -> Iterator[dict[str, np.ndarray]]:
    """The data, some sequences at a time, ``(time, batch, ...)``."""
    total = len(next(iter(inputs.values())))
    for start in range(0, total, _TOGETHER):
        cut = {name: x[start : start + _TOGETHER, :steps] for name, x in inputs.items()}
        yield {name: np.ascontiguousarray(np.swapaxes(x, 0, 1)) for name, x in cut.items()}


@torch.no_grad()
def _run(executor: Executor, request: Request, part: Arrays, courses: list[str], sums: list[str]) -> RunResult:
    steps, batch = next(iter(part.values())).shape[:2]
    tensors = {n: torch.from_numpy(x) for n, x in part.items()}
    values = {n: v.detach().cpu().float() for n, v in request.values.items()}
    state = {n: torch.full((batch, *i.shape), i.init, dtype=torch.float32) for n, i in executor.graph.states().items()}
    device = torch.device("cpu")
    return executor.run(Run(values, tensors, state, steps, batch, device, courses=courses, sums=sums))


def _same(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(a.argmax(1) == b.argmax(1)))


def _change(have: np.ndarray, want: np.ndarray) -> float:
    size = float(np.linalg.norm(want))
    apart = float(np.linalg.norm(have - want))
    return apart / size if size else apart
