"""Holds an exported file against the torch reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto

from snncompile.ir.connection import Connection
from snncompile.ir.errors import InterchangeError
from snncompile.ir.graph import Graph, Ref
from snncompile.ir.regions import choose_regions
from snncompile.ir.types import SignalType
from snncompile.targets.evaluation import Run, RunResult
from snncompile.targets.executor import Executor
from snncompile.targets.onnx.cutting import PREFIX, cut
from snncompile.targets.onnx.parts import Built, Request, first_value
from snncompile.targets.onnx.running import Session, drive, evaluator, onnx_runtime
from snncompile.targets.onnx.writing import save
from snncompile.targets.torch.plain import PlainTarget

STEPS, BATCH = 8, 2

#: Products may differ by this much of their largest value.
ROUNDING = 1e-4

_SHAPES_ONLY = frozenset({"Flatten", "Dropout", "MaxPool2d", "Delay"})


class MismatchError(InterchangeError):
    """An exported file does not compute what the reference does."""


@dataclass(frozen=True)
class Finding:
    """What a check found: in which runtime, and in words."""

    runtime: str
    text: str


Remake = Callable[[Request], tuple[ModelProto, Built]]


def check_file(path: Path, model: ModelProto, request: Request, built: Built, remake: Remake) -> list[Finding]:
    """Check the file at ``path``.

    Args:
        path: the file.
        model: what it holds.
        request: what it was made from.
        built: its parts.
        remake: makes the model of another request, and its parts.

    Returns:
        what was found, for the user to read.

    Raises:
        InterchangeError: where it is no valid ONNX, or computes something else than the reference.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as err:  # ValidationError and InferenceError have no common base
        raise MismatchError(f"onnx.checker refuses the file, a defect of snncompile: {err}") from None
    findings = [Finding("onnx.checker", "valid, with full shape inference")]
    exact = rounded_cycles(request)
    if exact is not None:
        model, built = remake(exact)
    inner = path.with_name("regions.onnx")
    refs = built.results
    shapes = {value: request.graph.type_of(ref).shape for value, ref in refs.items()}
    lead = ["batch"] if request.form == "step" else ["time", "batch"]
    pieces = cut(model, shapes, lead)
    save(pieces, built.initializers, inner)
    whole = Reference(request)
    parts = whole if exact is None else Reference(exact)
    for runtime, load in (("ONNX Runtime", onnx_runtime), ("reference evaluator", evaluator)):
        session = load(path)
        if session is None:
            findings.append(Finding(runtime, "not installed, so not checked with it: pip install onnxruntime"))
            continue
        cut_session = load(inner)
        assert cut_session is not None
        text = _check_regions(runtime, cut_session, parts, built, exact is not None)
        findings.append(Finding(runtime, f"{text}; {_check_whole(session, whole, built)}"))
    return findings


class Reference:
    """What the torch reference makes of random input."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.graph = request.graph
        self.steps = request.steps or STEPS
        rng = np.random.default_rng(0)
        self.inputs = {n: _random(rng, self.steps, t) for n, t in self.graph.input_types().items()}
        self.state = {
            n: first_value(i, request.values, BATCH) for n, i in self.graph.states().items()
        }  # fmt: skip

    @cached_property
    def run(self) -> RunResult:
        """Outputs, states, and the course of every signal."""
        executor = Executor(self.graph, PlainTarget())
        tensors = {n: torch.from_numpy(x) for n, x in self.inputs.items()}
        state = {n: torch.from_numpy(s) for n, s in self.state.items()}
        values = {n: v.detach().cpu().float() for n, v in self.request.values.items()}
        names = list(self.graph.recordable())
        with torch.no_grad():
            return executor.run(
                Run(values, tensors, state, self.steps, BATCH, torch.device("cpu"), courses=names)
            )  # fmt: skip

    @cached_property
    def courses(self) -> dict[Ref, np.ndarray]:
        """The course of every port."""
        return {ref: self.run.courses[name].numpy() for name, ref in self.graph.recordable().items()}

    def feeds(self, built: Built) -> dict[str, np.ndarray]:
        """Inputs under the names of the file."""
        clock = np.zeros((self.steps, BATCH), dtype=np.float32)
        return {label: clock if name is None else self.inputs[name] for label, name in built.given.items()}


def _random(rng: np.random.Generator, steps: int, type: SignalType) -> np.ndarray:
    shape = (steps, BATCH, *type.shape)
    if type.kind == "spikes":
        return rng.poisson(0.4, size=shape).clip(0, type.max).astype(np.float32)
    return (rng.integers(-8, 17, size=shape) / 8).astype(np.float32)


def _later(built: Built) -> dict[str, str]:
    return {k.removeprefix("state:"): out for k, out in built.names.items() if k.startswith("state:")}


def _check_regions(runtime: str, session: Session, ref: Reference, built: Built, rounded: bool) -> str:
    """Every region on the reference's values."""
    given = {PREFIX + value: ref.courses[port] for value, port in built.results.items()}
    later = _later(built)
    inner = frozenset(built.results)
    got, finals = drive(session, ref.request.form, ref.feeds(built), given, ref.state, later, inner)
    loose = _inexact_nodes(ref.graph)
    tally = _Tally()
    for value, port in built.results.items():
        tally.add(runtime, port, got[value], ref.courses[port], loose.get(port.node), ref.graph.type_of(port).kind)
    for state, final in finals.items():
        node = _owner(ref.graph, state)
        want = ref.run.state[state].numpy() if state in ref.run.state else ref.state[state]
        if not np.array_equal(final, want, equal_nan=True) and node not in loose:
            raise _mismatch(runtime, node, f"state {state} differs from the reference by up to {_gap(final, want):g}")
    return tally.text(rounded)


class _Tally:
    """How many signals agree, and how."""

    def __init__(self) -> None:
        self.exact = self.products = self.cycles = 0
        self.worst = 0.0

    def add(
        self, runtime: str, port: Ref, have: np.ndarray, want: np.ndarray, looseness: str | None, kind: str
    ) -> None:
        """Compare one signal.

        Args:
            runtime: where it was computed.
            port: whose course it is.
            have: what was computed.
            want: the reference's.
            looseness: as :func:`_inexact_nodes` says.
            kind: the kind of signal.
        """
        if np.array_equal(have, want, equal_nan=True):
            self.exact += 1
            return
        first = looseness == "cycle"  # behind a rounding in a cycle, only the first step is comparable
        apart, scale = _gap(have[:1] if first else have, want), float(np.nanmax(np.abs(want), initial=0.0))
        if looseness is None or not (apart <= ROUNDING * scale or (first and kind == "spikes")):
            raise _mismatch(runtime, port.node, f"{port} differs from the reference by up to {apart:g}")
        self.cycles += first
        self.products += not first
        self.worst = max(self.worst, 0.0 if first else apart / max(scale, 1e-30))

    def text(self, rounded: bool) -> str:
        """In words."""
        parts = [f"region by region, {_count(self.exact, 'signal')} bit-identical"]
        if self.products:
            parts.append(f"{_count(self.products, 'product')} within {self.worst:.1g} of the largest value")
        if self.cycles:
            parts.append(f"{self.cycles} in a cycle whose sums are not exact, within rounding at the first step")
        return ", ".join(parts) + (" (weights inside cycles rounded for this check)" if rounded else "")


def _check_whole(session: Session, ref: Reference, built: Built) -> str:
    """From the inputs to the outputs; in the scan form in two halves, the state handed over."""
    form, later, feeds = ref.request.form, _later(built), ref.feeds(built)
    if form == "scan":
        half = ref.steps // 2
        one, state = drive(session, form, {n: x[:half] for n, x in feeds.items()}, {}, {}, later)
        two, state = drive(session, form, {n: x[half:] for n, x in feeds.items()}, {}, state, later)
        got = {n: np.concatenate([one[n], two[n]]) for n in one}
    else:
        got, state = drive(session, form, feeds, {}, ref.state if form == "step" else {}, later)
    pairs = [(got[built.names[key]], y.numpy()) for key, y in ref.run.outputs.items()]
    pairs += [(state[n], ref.run.state[n].numpy()) for n in state if n in ref.run.state]
    for have, want in pairs:
        if have.shape != want.shape:
            raise MismatchError(f"an output has shape {have.shape}, the reference's {want.shape}")
    total = sum(want.size for _, want in pairs)
    differ = sum(int((~((h == w) | (np.isnan(h) & np.isnan(w)))).sum()) for h, w in pairs)
    if not differ:
        return f"whole network bit-identical over {ref.steps} steps"
    worst = max(_gap(h, w) for h, w in pairs)
    return (
        f"whole network: {differ} of {total} values differ after {ref.steps} steps, by up to {worst:.2g}, since"
        " products round differently"
    )


def _gap(have: np.ndarray, want: np.ndarray) -> float:
    if have.shape != want.shape and have.shape[1:] != want.shape[1:]:
        return float("inf")
    difference = np.abs(have.astype(np.float64) - want[: len(have)].astype(np.float64))
    return float(np.max(difference, initial=0.0))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _mismatch(runtime: str, node: str, text: str) -> MismatchError:
    return MismatchError(f"in {runtime}, {text}. The file was not written", node=node)


def _owner(graph: Graph, state: str) -> str:
    for name in graph.names:
        op = graph.op(name)
        if any(s.name == state for s in getattr(op, "states", getattr(op, "traces", ()))):
            return name
    if state.removesuffix(".history") in graph.nx:
        return state.removesuffix(".history")
    return next(e.source.node for e in graph.feedback_edges() if e.feedback == state)


def _inexact_nodes(graph: Graph) -> dict[str, str]:
    """Nodes that may differ by rounding: "product", or "cycle" for those in one with a product that is not exact."""
    found: dict[str, str] = {}
    for region in graph.regions or choose_regions(graph):
        ops = {n: graph.op(n) for n in region.nodes}
        products = {n for n, op in ops.items() if isinstance(op, Connection) and op.kind not in _SHAPES_ONLY}
        if region.kind == "plastic":  # its Linears sum in order
            found.update(dict.fromkeys(ops, "cycle") if any(ops[n].kind != "Linear" for n in products) else {})
        elif region.kind != "recurrent":
            found.update(dict.fromkeys(products, "product"))
        elif any(ops[n].input.kind != "spikes" or "norm_running_var" in ops[n].params for n in products):
            found.update(dict.fromkeys(ops, "cycle"))
    return found


def rounded_cycles(request: Request) -> Request | None:
    """``request`` with the products inside cycles made exact: their weights whole multiples of 1/64.

    None where no cycle has a product. The file is the same but for these numbers.
    """
    values, int8 = dict(request.values), dict(request.int8)
    for region in request.graph.regions or choose_regions(request.graph):
        if region.kind != "recurrent":
            continue
        for name in region.nodes:
            op = request.graph.op(name)
            if isinstance(op, Connection):
                for role, p in op.params.items():
                    if role in ("weight", "bias", "scale_factor"):
                        size = 2.0 ** max(0, 14 - int(np.ceil(np.log2(max(2, prod(op.input.shape))))))
                        grid = min(64.0, size)
                        if role == "weight" and name in int8:
                            int8[name] = int8[name].on_grid(grid)
                            values[p.name] = int8[name].value
                            continue
                        values[p.name] = (values[p.name].detach() * grid).round().clamp(-8 * grid, 8 * grid) / grid
    changed = any(values[n] is not request.values[n] for n in values)
    return replace(request, values=values, int8=int8) if changed else None
