"""One run of a graph in progress: what has been computed so far, and what its regions need to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph, Input, Ref
from snncompile.ir.interpolated import Reader, showing, with_delays
from snncompile.ir.plasticity import Plasticity
from snncompile.ir.random import RANDOM
from snncompile.targets.autograd import BoundScan, PreparedScan
from snncompile.targets.late_product import LateTarget
from snncompile.targets.plastic_rule import BoundRule, PreparedRule
from snncompile.targets.scan import Late, PanelSize, ScanTarget
from snncompile.targets.sparse import SparseTarget
from snncompile.targets.transfer import move

if TYPE_CHECKING:
    from snncompile.targets.linear_scan import LinearScan


@dataclass(frozen=True)
class Run:
    """What to run on.

    Attributes:
        values: parameter name -> value.
        inputs: input name -> ``(T, B, *features)``.
        state: state name -> ``(B, *features)``.
        steps: T.
        batch: B.
        device: where.
        training: the module's mode.
        courses: record names whose course over time is wanted.
        sums: record names whose sum over time is wanted.
        checkpoint: save states every so many steps for the backward pass; None leaves it to the target, for each scan.
        differentiable: whether gradients flow through what learns.
    """

    values: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    steps: int
    batch: int
    device: torch.device
    training: bool = False
    courses: Sequence[str] = ()
    sums: Sequence[str] = ()
    checkpoint: int | None = None
    differentiable: bool = False


@dataclass(frozen=True)
class RunResult:
    """What came out; every tensor ``(T, B, *features)``, sums and states ``(B, *features)``; a weight
    that learned without batch."""

    outputs: dict[str, Tensor]
    state: dict[str, Tensor]
    courses: dict[str, Tensor]
    sums: dict[str, Tensor]


def rows_of(edge: Edge, state: Tensor) -> Tensor:
    """What a late edge holds, oldest first: ``(delay, B, *features)``."""
    return state.unsqueeze(0) if edge.delay == 1 else state.transpose(0, 1)


def state_of(edge: Edge, rows: Tensor) -> Tensor:
    """The state that :func:`rows_of` turns into ``rows``; float32, also under autocast."""
    return rows[0].float() if edge.delay == 1 else rows.transpose(0, 1).float().contiguous()


@dataclass(frozen=True)
class Shown:
    """What a delay shows, for those that read the signal late themselves.

    Attributes:
        name: the delay.
        op: it.
        features: of what is shown.
        before: what came before the signal, ``(depth, B, channels)`` of any strides, oldest first.
        lags: for each value that it reads of the past: how many steps ago, and the most that any is.
        factors: parameter name -> what these are combined with (``ir/interpolated.py``); empty where nothing is.
    """

    name: str
    op: Connection
    features: tuple[int, ...]
    before: Tensor
    lags: tuple[tuple[int | Tensor, int], ...]
    factors: Mapping[str, Tensor]

    @property
    def share(self) -> int:
        """How many values of each channel are shown."""
        return self.op.output.size // self.op.input.size

    @cached_property
    def late(self) -> tuple[Late | None, ...]:
        """For each of these values, what makes the signal late for a scan; None for the present value."""
        rows, depth, share = self.before.contiguous(), len(self.before), self.share
        return tuple([Late(rows[depth - reach :], steps, share) if reach else None for steps, reach in self.lags])


class Prepared:
    """What is worked out about a graph once, for every run of it on one target.

    Attributes (some):
        offsets: whether scans read late what they read.
        panel: how much of a late signal is at hand at a time; None where the target has no panels.
        most_shared: neurons that may read one signal, late by steps of their own.
        by_sequence: convolutions that may run sequence by sequence together with neurons.
        reads_late: for a node of a cycle, or of what learns, and one of its ports: whether it reads late in a run what
            comes there from outside; None for any other node.
        readers: node -> the nodes that read it, each with the port where it does.
    """

    def __init__(self, graph: Graph, target: ScanTarget) -> None:
        self.graph = graph
        self._target = target
        self._readers: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Reader, PreparedScan]] = {}
        self._showers: dict[str, PreparedScan] = {}
        self._stand_ins: dict[str, PreparedScan] = {}
        self.record = graph.recordable()
        self.offsets: bool = getattr(target, "offsets", False)
        self.panel: PanelSize | None = getattr(target, "panel", None)
        self.most_shared: int = getattr(target, "most_shared", 1)
        self.by_sequence: dict[str, LinearScan] = {}
        self.reads_late: Callable[[Evaluation, str, str], bool | None] = lambda ev, node, port: None
        self.readers = {name: [(reader, port) for reader, port, _ in graph.consumers(name)] for name in graph.names}
        self.sparse: SparseTarget | None = getattr(target, "sparse", None)
        self.late: LateTarget | None = getattr(target, "late", None)
        self.inputs = {name: graph.inputs_of(name) for name in graph.names}
        self.elementwise: dict[str, Elementwise] = dict(graph.of_type(Elementwise))
        self.scans = {name: PreparedScan(name, op, target) for name, op in self.elementwise.items()}
        self.given = [(name, Ref(name), op.type.shape) for name, op in graph.of_type(Input)]
        self.sources = {name: list(edges.values()) for name, edges in self.inputs.items()}
        given = {name: getattr(graph.op(name), "params", {}) for name in graph.names}
        self.params = {name: {role: p.name for role, p in params.items()} for name, params in given.items()}
        self.rules = {name: PreparedRule(name, op) for name, op in graph.of_type(Plasticity)}
        self.read = self._ports_read()
        held = [op.params for _, op in graph.of_type(Elementwise)] + [op.own for _, op in graph.of_type(Plasticity)]
        self.step_parameters = tuple(dict.fromkeys(p.name for params in held for p in params.values()))

    def reader(
        self, name: str, op: Elementwise, delays: tuple[tuple[str, str], ...]
    ) -> tuple[Reader, PreparedScan]:
        """A node that computes, at ports each of which a delay feeds, what these make of what they read; its scan.
        ``op`` is the node ``name``, or stands for neurons behind it that there are not."""
        if (name, delays) not in self._readers:
            made = with_delays(op, {port: (d, self.graph.op(d)) for port, d in delays})
            self._readers[name, delays] = made, PreparedScan(name, made.node, self._target)
        return self._readers[name, delays]

    def standing_in(self, name: str, op: Elementwise) -> PreparedScan:
        """The scan of ``op``, which stands for neurons behind the connection ``name`` that there are not."""
        if name not in self._stand_ins:
            self._stand_ins[name] = PreparedScan(name, op, self._target)
        return self._stand_ins[name]

    def shower(self, name: str, op: Connection) -> PreparedScan:
        """The scan that makes what a Delay shows; ``op`` is the Delay, or one that shows the same of more neurons."""
        if name not in self._showers:
            self._showers[name] = PreparedScan(name, showing(name, op), self._target)
        return self._showers[name]

    def _ports_read(self) -> dict[str, list[str]]:
        """Node -> its ports that another node or an output reads."""
        read: dict[str, list[str]] = {name: [] for name in self.graph.names}
        refs = [edge.source for edges in self.inputs.values() for edge in edges.values()]
        for ref in [*refs, *(ref for _, ref in self.graph.outputs)]:
            if ref.port not in read[ref.node]:
                read[ref.node].append(ref.port)
        return read


class Evaluation:
    """One run in progress.

    Attributes:
        prepared: what is known about the graph.
        graph: the graph.
        r: what to run on.
        courses: port -> ``(T, B, *features)``, for what has been computed.
        late: port of a delay -> what it shows, where those that read it read the course that it delays: then that is
            its course, with one axis of features.
        sums: port -> sum over time, where nothing but that is wanted.
        state: state name -> its value after the last step, for what has been computed.
        want_course: ports whose course is recorded.
        want_sum: ports whose sum over time is recorded.
    """

    def __init__(self, prepared: Prepared, run: Run) -> None:
        self.prepared = prepared
        self.graph = prepared.graph
        self.r = run
        self.courses: dict[Ref, Tensor] = {}
        self.sums: dict[Ref, Tensor] = {}
        self.late: dict[Ref, Shown] = {}
        self.state: dict[str, Tensor] = {}
        self.want_course = {prepared.record[name] for name in run.courses}
        self.want_sum = {prepared.record[name] for name in run.sums}
        self._bound: dict[str, BoundScan] = {}
        self._on_host = move({n: run.values[n].detach().float() for n in prepared.step_parameters}, torch.device("cpu"))
        for name, ref, shape in prepared.given:
            x, full = run.inputs[name], (run.steps, run.batch, *shape)
            self.courses[ref] = x if x.shape == full else x.expand(full)

    def result(self) -> RunResult:
        """What came out, once every region has run."""
        record = self.prepared.record
        if RANDOM in self.r.state:
            self.state[RANDOM] = self._random_at(self.r.steps)
        return RunResult(
            {key: self.courses[ref] for key, ref in self.graph.outputs},
            self.state,
            {name: self.courses[record[name]] for name in self.r.courses},
            {name: self._sum(record[name]) for name in self.r.sums},
        )

    def _sum(self, ref: Ref) -> Tensor:
        return self.sums[ref] if ref in self.sums else self.courses[ref].sum(0)

    def course(self, edge: Edge) -> Tensor:
        """What arrives along ``edge`` at every step; a late edge starts with the value held in the state."""
        course = self.courses[edge.source]
        if not edge.delay:
            return course
        late = torch.cat([rows_of(edge, self.r.state[edge.feedback]), course])
        self.state[edge.feedback] = state_of(edge, late[self.r.steps :])
        return late[: self.r.steps]

    def random(self, step: int = 0) -> Tensor | None:
        """Seed and number of a step of this run, for a scan that begins there; None where nothing is drawn."""
        return self._random_at(step) if RANDOM in self.r.state else None

    def _random_at(self, step: int) -> Tensor:
        seed, first = self.r.state[RANDOM].detach().unbind()
        return torch.stack([seed, first + step])

    def params(self, name: str) -> dict[str, Tensor]:
        """Role -> value, for the parameters of a node."""
        values = self.r.values
        return {role: values[parameter] for role, parameter in self.prepared.params[name].items()}

    def sources(self, name: str) -> list[Edge]:
        """What feeds a node, in the order of its ports."""
        return self.prepared.sources[name]

    def bind(self, name: str) -> BoundScan:
        """The scan of an elementwise node with this run's coefficients."""
        if name not in self._bound:
            scan = self.prepared.scans[name]
            self._bound[name] = scan.bind(self.r.values, self._on_host, self.r.device, torch.is_grad_enabled())
        return self._bound[name]

    def bind_reader(self, scan: PreparedScan, factors: Mapping[str, Tensor]) -> BoundScan:
        """A scan with this run's coefficients, and values of parameters that the network has not."""
        host = {n: v.detach().cpu() for n, v in factors.items()}
        values, on_host = {**self.r.values, **factors}, {**self._on_host, **host}
        return scan.bind(values, on_host, self.r.device, torch.is_grad_enabled())

    def bind_rule(self, name: str) -> BoundRule:
        """The rule of a plasticity node with this run's coefficients."""
        rule = self.prepared.rules[name]
        return rule.bind(self.r.values, self._on_host, self.r.device, self.r.differentiable)

    def wanted(self, name: str) -> tuple[list[str], list[str]]:
        """Results of an elementwise node whose course is needed, and those of which only the sum is."""
        read = self.prepared.read[name]
        results = self.prepared.scans[name].scan.results
        store = [r for r in results if r in read or Ref(name, r) in self.want_course]
        return store, [r for r in results if Ref(name, r) in self.want_sum and r not in store]

    def keep(
        self, name: str, courses: Mapping[str, Tensor], sums: Mapping[str, Tensor], finals: Sequence[Tensor]
    ) -> None:
        """Take what an elementwise node gave: flat courses and sums by result, and its final states."""
        op = self.prepared.elementwise[name]
        flat = len(op.shape) == 1
        for result, course in courses.items():
            self.courses[Ref(name, result)] = course if flat else course.unflatten(2, op.shape)
        for result, total in sums.items():
            self.sums[Ref(name, result)] = total if flat else total.unflatten(1, op.shape)
        for state, final in zip(op.states, finals, strict=True):
            self.state[state.name] = final if flat else final.unflatten(1, op.shape)
