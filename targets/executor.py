"""Runs a graph: region after region, scans on a target, products in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import ModelError
from snncompile.ir.graph import Edge, Graph, Input, Ref, Region
from snncompile.ir.regions import choose_regions
from snncompile.targets.autograd import BoundScan, PreparedScan
from snncompile.targets.recurrent import run_recurrent
from snncompile.targets.recurrent_call import RecurrentTarget
from snncompile.targets.recurrent_layer import Layer, match, run_layer
from snncompile.targets.scan import ScanTarget
from snncompile.targets.torch.products import apply_connection
from snncompile.targets.transfer import move


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
        checkpoint: save states every so many steps for the backward pass.
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
    checkpoint: int = 1


@dataclass(frozen=True)
class RunResult:
    """What came out; every tensor ``(T, B, *features)``, sums and states ``(B, *features)``."""

    outputs: dict[str, Tensor]
    state: dict[str, Tensor]
    courses: dict[str, Tensor]
    sums: dict[str, Tensor]


class Executor:
    """A graph made ready to run on one target. It holds no values: those come with each run."""

    def __init__(self, graph: Graph, target: ScanTarget) -> None:
        self.graph = graph
        self.regions = graph.regions or choose_regions(graph)
        self.record = graph.recordable()
        self.inputs = {name: graph.inputs_of(name) for name in graph.names}
        self.scans = {name: PreparedScan(name, op, target) for name, op in graph.of_type(Elementwise)}
        self.read = self._ports_read()
        ops = [op for _, op in graph.of_type(Elementwise)]
        self.recurrent: RecurrentTarget | None = getattr(target, "recurrent", None)
        self.layers = {r: match(graph, r) for r in self.regions if r.kind == "recurrent"}
        self.step_parameters = tuple(dict.fromkeys(p.name for op in ops for p in op.params.values()))

    def _ports_read(self) -> dict[str, list[str]]:
        """Node -> its ports that another node or an output reads."""
        read: dict[str, list[str]] = {name: [] for name in self.graph.names}
        refs = [edge.source for edges in self.inputs.values() for edge in edges.values()]
        for ref in [*refs, *(ref for _, ref in self.graph.outputs)]:
            if ref.port not in read[ref.node]:
                read[ref.node].append(ref.port)
        return read

    def run(self, run: Run) -> RunResult:
        """Evolve the network over ``run.steps`` steps."""
        return Evaluation(self, run).evaluate()


class Evaluation:
    """One run in progress."""

    def __init__(self, executor: Executor, run: Run) -> None:
        self.x = executor
        self.graph = executor.graph
        self.r = run
        self.courses: dict[Ref, Tensor] = {}
        self.sums: dict[Ref, Tensor] = {}
        self.state: dict[str, Tensor] = {}
        self.bound: dict[str, BoundScan] = {}
        self._on_host = move(
            {n: run.values[n].detach().float() for n in executor.step_parameters}, torch.device("cpu")
        )
        self.want_course = {executor.record[name] for name in run.courses}
        self.want_sum = {executor.record[name] for name in run.sums}

    def evaluate(self) -> RunResult:
        for name, op in self.graph.of_type(Input):
            self.courses[Ref(name)] = self.r.inputs[name].expand(self.r.steps, self.r.batch, *op.type.shape)
        for region in self.x.regions:
            if region.kind == "recurrent":
                self._cycle(region)
            elif region.kind == "product":
                self._product(region.nodes[0])
            else:
                self._scan(region.nodes[0])
        return RunResult(
            {key: self.courses[ref] for key, ref in self.graph.outputs},
            self.state,
            {name: self.courses[self.x.record[name]] for name in self.r.courses},
            {name: self._sum(self.x.record[name]) for name in self.r.sums},
        )

    def course(self, edge: Edge) -> Tensor:
        """What arrives along ``edge`` at every step; a late edge starts with the value held in the state."""
        course = self.courses[edge.source]
        if not edge.delay:
            return course
        late = torch.cat([self.r.state[edge.feedback].unsqueeze(0), course])
        self.state[edge.feedback] = late[-1]
        return late[:-1]

    def _sum(self, ref: Ref) -> Tensor:
        return self.sums[ref] if ref in self.sums else self.courses[ref].sum(0)

    def params(self, name: str) -> dict[str, Tensor]:
        return {role: self.r.values[p.name] for role, p in self.graph.op(name).params.items()}

    def sources(self, name: str) -> list[Edge]:
        return list(self.x.inputs[name].values())

    # -- over all steps at once --------------------------------------------------------------------------------------

    def _product(self, name: str) -> None:
        op: Connection = self.graph.op(name)
        (edge,) = self.sources(name)
        x = self.course(edge)
        if op.kind == "BatchNorm" and self.r.training and x.numel() < 2 * x.shape[2]:
            raise ModelError(
                f"BatchNorm in training needs at least two values per channel, but batch {x.shape[1]} of"
                f" {x.shape[0]} steps has {x.numel() // x.shape[2]}. In eval() it takes any",
                node=name,
            )
        self.courses[Ref(name)] = apply_connection(op, self.params(name), x, self.r.training)

    def bind(self, name: str) -> BoundScan:
        if name not in self.bound:
            grad = torch.is_grad_enabled()
            self.bound[name] = self.x.scans[name].bind(self.r.values, self._on_host, self.r.device, grad)
        return self.bound[name]

    def wanted(self, name: str, always: Sequence[str]) -> tuple[list[str], list[str]]:
        """Results of ``name`` whose course is needed, and those of which only the sum is."""
        results = self.x.scans[name].scan.results
        store = [r for r in results if r in always or Ref(name, r) in self.want_course]
        return store, [r for r in results if Ref(name, r) in self.want_sum and r not in store]

    def _scan(self, name: str) -> None:
        op: Elementwise = self.graph.op(name)
        store, sums = self.wanted(name, self.x.read[name])
        shape = (self.r.steps, self.r.batch, op.size)
        courses, totals, finals = self.bind(name).run(
            [_flat(self.course(e), shape) for e in self.sources(name)],
            [self.r.state[s.name].reshape(shape[1:]) for s in op.states],
            shape,
            store,
            sums,
            self.r.checkpoint,
        )
        for result, course in courses.items():
            self.courses[Ref(name, result)] = course.unflatten(2, op.shape)
        for result, total in totals.items():
            self.sums[Ref(name, result)] = total.unflatten(1, op.shape)
        for state, final in zip(op.states, finals, strict=True):
            self.state[state.name] = final.unflatten(1, op.shape)

    # -- step by step ------------------------------------------------------------------------------------------------

    def _cycle(self, region: Region) -> None:
        layer = self.x.layers[region]
        if self.x.recurrent is not None and isinstance(layer, Layer):
            run_layer(self, layer, self.x.recurrent)
        else:
            run_recurrent(self, region)


def _flat(course: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """``(T, B, N)`` with features in one axis; a view where memory allows."""
    return course if course.dim() == 3 else course.reshape(shape)
