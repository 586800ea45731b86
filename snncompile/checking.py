"""Checks of a network: parameters, finite values, passes, and every target against the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import ModelError, SnnError
from snncompile.ir.graph import Graph
from snncompile.ir.types import SignalType
from snncompile.network import Network
from snncompile.passes.pipeline import Request, compile_graph, pass_names
from snncompile.targets.executor import Executor, Run
from snncompile.targets.registry import availability, make_target
from snncompile.targets.shadow import GRADIENT_TOLERANCE, ShadowTarget
from snncompile.targets.torch.loop import LoopTarget

#: How far (norm-relative) a pass may move values where it changes the rounding of a product ...
ROUNDED = 1e-4
#: ... and which share of spikes may move as a consequence.
MOVED = 0.01
#: Passes that change it.
ROUNDING_PASSES = frozenset({"fold-norm", "fold-scale"})


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        status: ``"ok"``, ``"failed"`` or ``"skipped"``.
        detail: what was found, in words.
    """

    name: str
    status: str
    detail: str


@dataclass(frozen=True)
class NonFinite:
    """Where a network first leaves the finite numbers.

    Attributes:
        signal: record name, e.g. ``"lif.v"``.
        step: the time step.
        index: batch and features.
        value: what is there.
        where: file and line of the node in the model, if known.
    """

    signal: str
    step: int
    index: tuple[int, ...]
    value: float
    where: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"signal": self.signal, "step": self.step, "index": list(self.index), "value": str(self.value),
                "where": self.where}  # fmt: skip

    def __str__(self) -> str:
        at = f" ({self.where})" if self.where else ""
        return (
            f"the first value that is not finite is {self.value} in {self.signal}{at}, at step {self.step}, element"
            f" {list(self.index)}: look at the weights and time constants that lead there, and at the size of the input"
        )


@dataclass(frozen=True)
class Sample:
    """A random input, ``(T, B, *features)`` by name."""

    inputs: dict[str, Tensor]
    steps: int
    batch: int


def random_sample(types: Mapping[str, SignalType], steps: int, batch: int, seed: int) -> Sample:
    """Random input: spikes with probability 0.3 (counts where the type allows them), normal currents."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for name, t in types.items():
        shape = (steps, batch, *t.shape)
        if t.kind == "spikes":
            counts = torch.poisson(torch.full(shape, 0.36), generator=generator)
            inputs[name] = counts.clamp_(max=float(t.max or 1))
        else:
            inputs[name] = torch.randn(shape, generator=generator)
    return Sample(inputs, steps, batch)


def check_network(
    net: Network,
    targets: Sequence[str],
    *,
    steps: int = 32,
    batch: int = 2,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Check ``net`` on random input.

    Args:
        net: the network; it is moved to the CPU and set to evaluation.
        targets: targets to compare with the reference.
        steps: length of the input.
        batch: its batch.
        seed: its seed.
        say: called with what is being done.
    """
    net = net.to("cpu").eval()
    try:
        net.check_parameters()
        checks = [Check("parameters", "ok", "finite, and every constraint holds")]
    except ModelError as err:
        return [Check("parameters", "failed", str(err))]
    sample = random_sample(net.graph.input_types(), steps, batch, seed)
    say("running the reference")
    plain = Executor(net.graph, LoopTarget())
    want = _outcome(net, plain, sample, tuple(net.graph.recordable()))
    bad = _first_in(net.graph, want.courses)
    if bad is not None:
        return [*checks, Check("finite values", "failed", str(bad))]
    checks.append(Check("finite values", "ok", _coverage(net.graph, want.courses, sample)))
    say("checking the passes")
    checks.append(_check_passes(net, sample))
    for target in targets:
        say(f"checking target {target}")
        checks += _check_target(net, target, sample)
    return checks


def first_non_finite(
    net: Network, given: Mapping[str, Tensor], state: Mapping[str, Tensor] | None, steps: int | None, batch: int | None
) -> NonFinite | None:
    """Where a run of ``net`` first leaves the finite numbers; every signal is recorded to find it.

    Args:
        net: the network.
        given: its inputs, as for a call.
        state: the state before the first step.
        steps: for a network without inputs.
        batch: likewise.
    """
    _, _, records = net.evolve(state=state, record=True, steps=steps, batch=batch, **given)
    names = net.graph.recordable()
    features = {name: len(net.graph.type_of(ref).shape) for name, ref in names.items()}
    courses = {}
    for name, course in records.items():
        batched = course.dim() == features[name] + 2
        courses[name] = course.transpose(0, 1) if batched else course.unsqueeze(1)
    return _first_in(net.graph, courses)


def _first_in(graph: Graph, courses: Mapping[str, Tensor]) -> NonFinite | None:
    """The first value that is not finite: by step, then in the order in which nodes run."""
    rank = {name: i for i, name in enumerate(graph.order())}
    found: tuple[tuple[int, int], NonFinite] | None = None
    refs = graph.recordable()
    for name in (n for n in courses if n in refs):
        course = courses[name]
        bad = ~torch.isfinite(course.flatten(1)) if course.numel() else torch.zeros(0, 1, dtype=torch.bool)
        steps = bad.any(1).nonzero()
        if not len(steps):
            continue
        step = int(steps[0])
        key = (step, rank[refs[name].node])
        if found is None or key < found[0]:
            at = torch.unravel_index((~torch.isfinite(course[step])).flatten().nonzero()[0, 0], course.shape[1:])
            index = tuple(int(i) for i in at)
            place = graph.where(refs[name].node)
            found = key, NonFinite(name, step, index, float(course[step][index]), str(place) if place else None)
    return found[1] if found else None


@dataclass(frozen=True)
class _Outcome:
    """What a run leaves: courses and outputs by name, final state, and gradients of a loss over all of them."""

    courses: dict[str, Tensor]
    state: dict[str, Tensor]
    gradients: dict[str, Tensor]


def _outcome(net: Network, executor: Executor, sample: Sample, record: Sequence[str]) -> _Outcome:
    declared = net.graph.parameters()
    values = {n: v.detach().requires_grad_(declared[n].trainable) for n, v in net.state_dict().items()}
    inputs = {n: x.clone().requires_grad_() for n, x in sample.inputs.items()}
    state = {n: torch.full((sample.batch, *i.shape), i.init) for n, i in net.graph.states().items()}
    run = Run(
        values,
        inputs,
        state,
        sample.steps,
        sample.batch,
        torch.device("cpu"),
        courses=record,
        checkpoint=net.checkpoint,
    )
    with torch.enable_grad():
        result = executor.run(run)
        courses = {**{f"output {k}": v for k, v in result.outputs.items()}, **result.courses}
        terms = [(v * _weighting(v)).sum() for v in (*courses.values(), *result.state.values()) if v.requires_grad]
        gradients: dict[str, Tensor] = {}
        if terms:
            leaves = {
                **{f"input {n}": x for n, x in inputs.items()},
                **{n: v for n, v in values.items() if v.requires_grad},
            }
            grads = torch.autograd.grad(sum(terms[1:], terms[0]), list(leaves.values()), allow_unused=True)
            gradients = {n: g for n, g in zip(leaves, grads, strict=True) if g is not None}
    return _Outcome(
        {n: v.detach() for n, v in courses.items()}, {n: v.detach() for n, v in result.state.items()}, gradients
    )


def _weighting(v: Tensor) -> Tensor:
    return torch.linspace(-1.0, 1.3, max(v.numel(), 1))[: v.numel()].reshape(v.shape)


def _coverage(graph: Graph, courses: Mapping[str, Tensor], sample: Sample) -> str:
    spikes, silent = 0, []
    for name, ref in graph.recordable().items():
        if name in courses and graph.type_of(ref).kind == "spikes" and ref.node not in graph.input_types():
            count = int(courses[name].sum())
            spikes += count
            silent += [name] if not count else []
    text = f"{sample.steps} steps, batch {sample.batch}: {spikes:,} spikes"
    return text + (f"; none in {', '.join(silent)}, which is thereby checked less well" if silent else "")


# -- passes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Distance:
    """How far two outcomes are apart.

    Attributes:
        total: values compared.
        different: how many of them differ at all.
        values: the largest norm-relative distance of a signal or state.
        gradients: the largest norm-relative distance of a gradient.
        moved: the share of spikes that differ, of all places where there could be one.
    """

    total: int
    different: int
    values: float
    gradients: float
    moved: float

    @property
    def same(self) -> bool:
        return self.different == 0 and self.gradients <= GRADIENT_TOLERANCE


def _check_passes(net: Network, sample: Sample) -> Check:
    """The reference on the optimised graph against the reference on the graph as written."""
    name = "passes"
    try:
        whole = _apart(net, net.graph, compile_graph(net.graph, Request()), sample)
        if whole.same:
            detail = f"{whole.total:,} values bit-identical before and after; gradients {whole.gradients:.1g} apart"
            return Check(name, "ok", detail)
        said, before = [], net.graph
        for upto in pass_names():  # find out which
            after = compile_graph(net.graph, Request(), upto)
            d = _apart(net, before, after, sample)
            before = after
            if d.same:
                continue
            by = f"by {d.values:.1g}, gradients by {d.gradients:.1g}"
            detail = f"{upto} changes {d.different:,} of {d.total:,} values {by}"
            rounded = d.values <= ROUNDED and d.gradients <= ROUNDED
            if upto not in ROUNDING_PASSES or not (rounded or 0 < d.moved <= MOVED):
                return Check(name, "failed", f"{detail} (norm-relative)")
            said.append(detail + ("" if rounded else f", since {d.moved:.2%} of the spikes moved"))
    except SnnError as err:
        return Check(name, "failed", str(err))
    return Check(name, "ok", "; ".join(said) + ": a product is rounded differently")


def _apart(net: Network, before: Graph, after: Graph, sample: Sample) -> _Distance:
    """How far the results of two graphs of a network are apart; what is recorded is what both have."""
    record = [n for n in after.recordable() if n in before.recordable()]
    want, got = (_outcome(net, Executor(g, LoopTarget()), sample, record) for g in (before, after))
    kinds = {name: before.type_of(ref).kind for name, ref in before.recordable().items()}
    pairs = [(kinds.get(n, ""), want.courses[n], v) for n, v in got.courses.items()]
    pairs += [("", want.state[n], v) for n, v in got.state.items() if n in want.state]
    spikes = [(a, b) for kind, a, b in pairs if kind == "spikes"]
    places = sum(a.numel() for a, _ in spikes)
    return _Distance(
        total=sum(a.numel() for _, a, _ in pairs),
        different=sum(int((a != b).sum()) for _, a, b in pairs),
        values=max((_relative(a, b) for _, a, b in pairs), default=0.0),
        gradients=max((_relative(want.gradients.get(n), g) for n, g in got.gradients.items()), default=0.0),
        moved=sum(int((a != b).sum()) for a, b in spikes) / max(1, places),
    )


def _relative(want: Tensor | None, got: Tensor) -> float:
    """The norm-relative distance of two tensors."""
    if want is None:
        return math.inf if float(got.norm()) else 0.0
    return float((got - want).norm()) / max(float(want.norm()), 1e-6)


# -- targets -------------------------------------------------------------------------------------------------------


def _check_target(net: Network, target: str, sample: Sample) -> list[Check]:
    usable = availability(target)
    if not usable.ok:
        return [Check(f"target {target}", "skipped", usable.reason)]
    device = torch.device("cuda" if target == "triton" and torch.cuda.is_available() else "cpu")
    graph = compile_graph(net.graph, Request())
    shadow = ShadowTarget(LoopTarget(), make_target(target), device)
    labels = {name: _labels(op) for name, op in graph.of_type(Elementwise)}
    try:
        _outcome(net, Executor(graph, shadow), sample, tuple(graph.recordable()))
        whole = _check_whole(net, target, sample, device)
    except SnnError as err:
        return [Check(f"target {target}", "failed", str(err))]
    where = f"{device}" if device.type == "cuda" else usable.reason if target != "torch" else "cpu"
    f, b = shadow.first_difference, shadow.worst_gradient
    forward = Check(f"{target}: spikes and states", "ok", f"{shadow.values:,} values bit-identical on {where}")
    if f is not None:
        label = labels.get(f.scan, {}).get(f.result, f.result)
        detail = (
            f"{label} in {f.scan} first differs at step {f.step}, element {list(f.index)}: reference {f.want!r},"
            f" {target} {f.got!r}; {shadow.different:,} of {shadow.values:,} values differ"
        )
        forward = Check(f"{target}: spikes and states", "failed", detail)
    backward = Check(f"{target}: gradients", "ok", f"norm-relative distance {b[0]:.1g} at most")
    if b[0] > GRADIENT_TOLERANCE or math.isnan(b[0]):
        detail = f"{b[1]} is {b[0]:.2g} from the reference (norm-relative); {GRADIENT_TOLERANCE:g} is allowed"
        backward = replace(backward, status="failed", detail=detail)
    if not shadow.backwards:
        backward = replace(backward, status="skipped", detail="nothing in this network has a gradient")
    return [forward, backward, whole]


def _check_whole(net: Network, target: str, sample: Sample, device: torch.device) -> Check:
    """The network as a user runs it, on the target and on the reference."""
    name = f"{target}: whole network"
    given = {n: x.transpose(0, 1) for n, x in sample.inputs.items()}
    sizes = {} if given else {"steps": sample.steps, "batch": sample.batch}
    results = []
    for runner, place in ((target, device), ("torch", torch.device("cpu"))):
        twin = Network(net.graph, runner, checkpoint=net.checkpoint, values=_copied(net)).to(place).eval()
        with torch.no_grad():
            out = twin(**{n: x.to(place) for n, x in given.items()}, **sizes)
        results.append([y.cpu() for y in _flat(out)])
    total = sum(y.numel() for y in results[0])
    same = sum(int((a == b).sum()) for a, b in zip(*results, strict=True))
    if not all(bool(torch.isfinite(y).all()) for y in results[0]):
        return Check(name, "failed", "its outputs are not finite")
    if same == total:
        return Check(name, "ok", f"{total:,} output values bit-identical")
    if device.type == "cuda":  # products sum in another order there, and a spike may move
        return Check(name, "ok", f"{same / total:.2%} of {total:,} output values equal (products round differently)")
    return Check(name, "failed", f"only {same:,} of {total:,} output values are equal")


def _copied(net: Network) -> dict[str, Tensor]:
    return {n: v.detach().clone() for n, v in net.state_dict().items()}


def _flat(out: Any) -> list[Tensor]:
    return list(out.values()) if isinstance(out, dict) else list(out) if isinstance(out, tuple) else [out]


def _labels(op: Elementwise) -> dict[str, str]:
    return {local: name for name, local in op.recordable.items()}
