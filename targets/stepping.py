"""One time step at a time, with everything worked out beforehand that does not depend on the data.

A :class:`StepPlan` runs a graph for one step, without gradients, on tensors whose shapes it was made for: node after
node, with no region, course or autograd around. A late edge reads the state, so cycles need nothing special. It gives
what an :class:`~snncompile.targets.executor.Executor` gives for one step; products may sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from snncompile.ir.connection import DELAYS, WHOLE_SEQUENCE, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph, Input, Ref
from snncompile.targets.autograd import PreparedScan
from snncompile.targets.evaluation import Prepared
from snncompile.targets.linear_scan import LinearScan, candidates
from snncompile.targets.scan import ForwardCall, Scan, ScanTarget
from snncompile.targets.sparse import SparseTarget, apply_sparse
from snncompile.targets.torch.products import apply_connection

#: Stored results and final states of a step, ``(B, N)`` each, from inputs and states, likewise.
ScanStep = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]]
#: Parameter name -> its value now; raises :class:`Moved` where a plan can no longer take it.
Lookup = Callable[[str], Tensor]

#: A parameter's name, address and strides, a view of its memory, and the bytes that were there.
_Watched = tuple[str, int, tuple[int, ...], Any, bytes]

_CPU = torch.device("cpu")

#: Parameters of a Linear whose weight acts as it stands.
_PLAIN = {"weight", "bias", "sign"}


@dataclass(frozen=True)
class LinearStep:
    """A dense connection whose product is an input of a scan, and read by nothing else.

    Attributes:
        place: which input; in its place stands what the connection reads, ``(B, in)``.
        inputs: how many features that has.
        weight: gives the weight ``(out, in)`` of now.
        bias: gives the bias of now, where there is one.
    """

    place: int
    inputs: int
    weight: Callable[[], Tensor]
    bias: Callable[[], Tensor] | None


@runtime_checkable
class StepTarget(Protocol):
    """A target that prepares single steps itself."""

    def step(
        self,
        scan: Scan,
        coefs: tuple[Tensor, ...],
        batch: int,
        size: int,
        store: tuple[str, ...],
        linear: LinearStep | None = None,
    ) -> ScanStep:
        """A function that runs one step of ``scan``, and of the connection before it."""
        ...

    def steps_product(self, batch: int, inputs: int, outputs: int) -> bool:
        """Whether it takes a connection of that size into a step of the neurons behind it."""
        ...


def plan_step(
    graph: Graph, prepared: Prepared, target: ScanTarget, batch: int, training: bool, lookup: Lookup
) -> StepPlan | None:
    """A plan for one step of ``graph`` on the CPU, or None where it holds what only whole runs do."""
    for name in graph.names:
        op = graph.op(name)
        plain = isinstance(op, (Input, Elementwise)) or (
            isinstance(op, Connection)
            and op.kind not in DELAYS
            and not op.plastic
            and not (training and op.kind in WHOLE_SEQUENCE)
        )
        if not plain or any(e.delay > 1 for e in graph.inputs_of(name).values()):
            return None
    if any(i.shared or i.parameter or i.dtype != "float32" for i in graph.states().values()):
        return None
    return StepPlan(graph, prepared, target, batch, lookup)


class Moved(Exception):
    """A parameter is not where it was, or of another type: the plan is of no use any more."""


class StepPlan:
    """A graph ready to run single steps of ``batch`` sequences on the CPU, without gradients.

    Attributes:
        states: state name -> shape that it must have, batch included.
    """

    def __init__(self, graph: Graph, prepared: Prepared, target: ScanTarget, batch: int, lookup: Lookup) -> None:
        self.states = {name: info.full_shape(batch) for name, info in graph.states().items()}
        self._outputs = [(key, str(ref)) for key, ref in graph.outputs]
        self._inputs = [(name, str(Ref(name))) for name, _ in graph.of_type(Input)]
        self._held: list[tuple[str, str]] = []
        self._nodes: list[ProductStep | ScanNode] = []
        pairs = _pairs(graph, target, batch, lookup)
        taken = {pair.connection for pair, _ in pairs.values()}
        for name in graph.order():
            op = graph.op(name)
            edges = list(prepared.inputs[name].values())
            self._held += [(e.feedback, str(e.source)) for e in edges if e.delay]
            if name in taken:
                continue
            if isinstance(op, Connection):
                self._nodes.append(ProductStep(name, op, edges[0], lookup, prepared.sparse))
            elif isinstance(op, Elementwise):
                scan, read, linear = prepared.scans[name], tuple(prepared.read[name]), None
                if name in pairs:
                    pair, linear = pairs[name]
                    edges[pair.place] = pair.edge
                self._nodes.append(ScanNode(name, scan, edges, target, batch, read, lookup, linear))

    def __call__(self, inputs: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[dict, dict]:
        """Outputs and new state, ``(B, *features)`` each.

        Args:
            inputs: input name -> ``(B, *features)``, float32.
            state: state name -> ``(B, *features)``, float32, contiguous.
        """
        now: dict[str, Tensor] = {ref: inputs[name] for name, ref in self._inputs}
        after: dict[str, Tensor] = {}
        for node in self._nodes:
            node.run(now, state, after)
        for feedback, source in self._held:
            after[feedback] = now[source]
        outputs = {key: now[ref] for key, ref in self._outputs}
        if self._held:  # what is held must not change with an input, an output, or another state
            before = {value.data_ptr() for value in state.values()}
            outputs = {key: y.clone() if y.data_ptr() in before else y for key, y in outputs.items()}
            taken = before | {value.data_ptr() for value in (*inputs.values(), *outputs.values())}
            for name, value in after.items():
                if value.data_ptr() in taken:
                    after[name] = value.clone()
                taken.add(after[name].data_ptr())
        return outputs, {name: after[name] for name in self.states}


def _pairs(
    graph: Graph, target: ScanTarget, batch: int, lookup: Lookup
) -> dict[str, tuple[LinearScan, LinearStep]]:
    """Neurons -> the connection that is part of their step."""
    found: dict[str, tuple[LinearScan, LinearStep]] = {}
    if not isinstance(target, StepTarget):
        return found
    for neurons, pair in candidates(graph):
        roles = {role: p.name for role, p in pair.op.params.items()}
        size = pair.op.input.size
        if set(roles) <= _PLAIN and target.steps_product(batch, size, pair.op.output.size):
            bias = partial(lookup, roles["bias"]) if "bias" in roles else None
            linear = LinearStep(pair.place, size, partial(lookup, roles["weight"]), bias)
            found.setdefault(neurons, (pair, linear))
    return found


def _source(edge: Edge) -> tuple[bool, str]:
    """Whether an edge is late, and where its value stands: in the state, or among those of this step."""
    return (True, edge.feedback) if edge.delay else (False, str(edge.source))


class ProductStep:
    """A connection."""

    def __init__(
        self, name: str, op: Connection, edge: Edge, lookup: Lookup, sparse: SparseTarget | None
    ) -> None:
        self._op, self._lookup, self._sparse = op, lookup, sparse
        self._late, self._from = _source(edge)
        self._to = str(Ref(name))
        self._roles = {role: p.name for role, p in op.params.items()}
        self._plain = op.kind == "Linear" and set(self._roles) <= _PLAIN
        self._weight, self._bias = self._roles.get("weight", ""), self._roles.get("bias")

    def run(self, now: dict[str, Tensor], state: Mapping[str, Tensor], after: dict[str, Tensor]) -> None:
        """Put its output into ``now``."""
        x = (state if self._late else now)[self._from]
        lookup = self._lookup
        if self._plain:
            bias = None if self._bias is None else lookup(self._bias)
            now[self._to] = F.linear(x, lookup(self._weight), bias)
        else:
            params = {role: lookup(name) for role, name in self._roles.items()}
            if self._op.kind == "Sparse":
                now[self._to] = apply_sparse(self._op, params, x.unsqueeze(0), self._sparse)[0]
                return
            now[self._to] = apply_connection(self._op, params, x.unsqueeze(0), False)[0]


class ScanNode:
    """An elementwise node."""

    def __init__(
        self,
        name: str,
        scan: PreparedScan,
        edges: Sequence[Edge],
        target: ScanTarget,
        batch: int,
        read: tuple[str, ...],
        lookup: Lookup,
        linear: LinearStep | None = None,
    ) -> None:
        op = scan.node
        self._linear = linear
        self._prepared, self._target, self._lookup = scan, target, lookup
        self._batch, self._size, self._shape = batch, op.size, (batch, *op.shape)
        self._flat = len(op.shape) == 1
        self._sources = [_source(edge) for edge in edges]
        self._states = [s.name for s in op.states]
        self._store = tuple(r for r in scan.scan.results if r in read)
        self._stored = [str(Ref(name, r)) for r in self._store]
        self._params = [p.name for p in op.params.values()]
        self._ready = self._prepare()

    def run(self, now: dict[str, Tensor], state: Mapping[str, Tensor], after: dict[str, Tensor]) -> None:
        """Put its outputs into ``now`` and its states into ``after``."""
        lookup = self._lookup
        step, watched = self._ready
        for name, pointer, strides, view, bits in watched:
            value = lookup(name)
            if value.data_ptr() != pointer or value.stride() != strides or view.tobytes() != bits:
                step, _ = self._ready = self._prepare()
                break
        inputs = [(state if late else now)[key] for late, key in self._sources]
        states = [state[name] for name in self._states]
        if not self._flat:
            cells = (self._batch, self._size)
            inputs, states = [x.reshape(cells) for x in inputs], [s.reshape(cells) for s in states]
        stored, finals = step(inputs, states)
        for keys, into, values in ((self._stored, now, stored), (self._states, after, finals)):
            for key, value in zip(keys, values, strict=True):
                into[key] = value if self._flat else value.view(self._shape)

    def _prepare(self) -> tuple[ScanStep, list[_Watched]]:
        """A step with the coefficients of now, and what to watch: they hold until a parameter has other bits."""
        values = {name: self._lookup(name).detach() for name in self._params}
        watched = [(n, v.data_ptr(), v.stride(), v.numpy(), v.numpy().tobytes()) for n, v in values.items()]
        return self._step(self._prepared.coefficients(values, _CPU, False)[0]), watched

    def _step(self, coefs: tuple[Tensor, ...]) -> ScanStep:
        scan, target, batch, size, store = self._prepared.scan, self._target, self._batch, self._size, self._store
        if isinstance(target, StepTarget):
            return target.step(scan, coefs, batch, size, store, self._linear)
        shape = (1, batch, size)

        def run(inputs: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
            courses = tuple([x.unsqueeze(0) for x in inputs])
            made = target.forward(scan, ForwardCall(courses, coefs, tuple(states), shape, store))
            return [made.stored[r][0] for r in store], made.finals

        return run
