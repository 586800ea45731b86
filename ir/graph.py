"""The whole-network graph: nodes, and edges that carry signals between ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import Location, ModelError, VerificationError
from snncompile.ir.params import Parameter
from snncompile.ir.plasticity import Plasticity
from snncompile.ir.program import IDENTIFIER
from snncompile.ir.random import RANDOM, draws_in
from snncompile.ir.types import SignalType


@dataclass(frozen=True, order=True)
class Ref:
    """One port of one node."""

    node: str
    port: str = "out"

    def __str__(self) -> str:
        return f"{self.node}.{self.port}"


@dataclass(frozen=True)
class Input:
    """A signal that comes from outside."""

    type: SignalType

    inputs = ()


OpNode = Input | Connection | Elementwise | Plasticity


@dataclass(frozen=True)
class Edge:
    """What a port is fed by.

    Attributes:
        source: where the signal comes from.
        delay: steps it is late: 0, or at least 1 on a feedback edge.
        feedback: name of the state that holds the late value (the last ``delay`` values, oldest first, where that is
            more than 1); "" where ``delay`` is 0. A weight that learns is held under its parameter's name.
    """

    source: Ref
    delay: int = 0
    feedback: str = ""


@dataclass(frozen=True)
class Region:
    """Nodes that run together.

    Attributes:
        kind: ``"product"`` (a connection over all steps at once), ``"scan"`` (one kernel over time) or
            ``"recurrent"`` (a cycle: step by step) or ``"plastic"`` (a connection that learns, with what stands
            between its current and its learning: step by step).
        nodes: names, in the order they run within a step.
        reason: why these and no others.
    """

    kind: str
    nodes: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Note:
    """What a pass has to say about a node, usually why it declined to do something."""

    by: str
    node: str
    text: str


@dataclass(frozen=True)
class StateInfo:
    """One entry of a network's state.

    Attributes:
        shape: its shape without the batch axis.
        init: its first value.
        shared: whether the whole batch has one value: no batch axis.
        parameter: the parameter whose value it starts from, instead of ``init``.
        dtype: ``"float32"``, or ``"int64"`` for counters.
    """

    shape: tuple[int, ...]
    init: float = 0.0
    shared: bool = False
    parameter: str = ""
    dtype: str = "float32"

    def full_shape(self, batch: int) -> tuple[int, ...]:
        """Its shape in a state of ``batch`` sequences."""
        return self.shape if self.shared else (batch, *self.shape)


@dataclass
class Graph:
    """A network as a ``networkx.MultiDiGraph``.

    Each node carries ``op`` (an :class:`Input`, :class:`Connection`, :class:`Elementwise` or :class:`Plasticity`) and
    ``where``; each edge ``source_port``, ``port``, ``delay`` and ``feedback``. Passes copy a graph,
    never change one they were given.

    Attributes:
        name: the model's name.
        dt: the time step in seconds.
        nx: the networkx graph.
        outputs: pairs of output key and the port it is.
        regions: the schedule, once a pass has chosen it.
        notes: what passes had to say.
    """

    name: str
    dt: float
    nx: nx.MultiDiGraph = field(default_factory=nx.MultiDiGraph)
    outputs: tuple[tuple[str, Ref], ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[Note, ...] = ()

    # -- building ----------------------------------------------------------------------------------------------------

    def add(
        self, name: str, op: OpNode, inputs: Mapping[str, Edge | Ref] | None = None, where: Location | None = None
    ) -> None:
        """Add node ``name``; ``inputs`` says what feeds each of its ports."""
        if not IDENTIFIER.match(name):
            raise ModelError(f"{name!r} cannot name a node: use letters, digits and _", where=where)
        if name in self.nx:
            raise ModelError("two nodes have this name", node=name, where=where)
        self.nx.add_node(name, op=op, where=where)
        for port, edge in (inputs or {}).items():
            self.connect(name, port, edge)

    def connect(self, name: str, port: str, edge: Edge | Ref) -> None:
        """Feed ``port`` of ``name``, in place of whatever fed it before."""
        edge = Edge(edge) if isinstance(edge, Ref) else edge
        for src, _, key, data in list(self.nx.in_edges(name, keys=True, data=True)):
            if data["port"] == port:
                self.nx.remove_edge(src, name, key)
        self.nx.add_edge(
            edge.source.node, name, source_port=edge.source.port, port=port, delay=edge.delay, feedback=edge.feedback
        )

    def copy(self) -> Graph:
        """A graph that can be changed without changing this one (nodes themselves are immutable)."""
        return replace(self, nx=self.nx.copy())

    # -- reading -----------------------------------------------------------------------------------------------------

    def op(self, name: str) -> Any:
        """The op of node ``name``."""
        return self.nx.nodes[name]["op"]

    def where(self, name: str) -> Location | None:
        """The line of the model that applied node ``name``."""
        return self.nx.nodes[name]["where"]

    @property
    def names(self) -> tuple[str, ...]:
        """Node names in the order they were added."""
        return tuple(self.nx.nodes)

    def inputs_of(self, name: str) -> dict[str, Edge]:
        """Port -> what feeds it, in the order of the op's ports."""
        fed = {
            d["port"]: Edge(Ref(src, d["source_port"]), d["delay"], d["feedback"])
            for src, _, d in self.nx.in_edges(name, data=True)
        }
        ports = self.op(name).inputs
        return {port: fed[port] for port in ports if port in fed} | {p: e for p, e in fed.items() if p not in ports}

    def consumers(self, name: str) -> list[tuple[str, str, Edge]]:
        """``(consumer, its port, edge)`` for everything that reads node ``name``."""
        return [
            (dst, d["port"], Edge(Ref(name, d["source_port"]), d["delay"], d["feedback"]))
            for _, dst, d in self.nx.out_edges(name, data=True)
        ]

    def type_of(self, ref: Ref) -> SignalType:
        """The type of what leaves port ``ref``."""
        op = self.op(ref.node) if ref.node in self.nx else None
        if isinstance(op, Input) and ref.port == "out":
            return op.type
        if isinstance(op, Connection) and ref.port == "out":
            return op.output
        if isinstance(op, Elementwise):
            for out in op.outputs:
                if out.local == ref.port:
                    return out.type
            if any(s.local == ref.port for s in op.states):
                return SignalType("membrane", op.shape)
        if isinstance(op, Plasticity):
            if ref.port == "weight":
                return SignalType("any", op.weight.shape)
            for t in op.traces:
                if t.local == ref.port:
                    return SignalType("membrane", op.shape_of(t.side))
        raise VerificationError(f"there is no port {ref}")

    def order(self) -> list[str]:
        """Node names so that each comes after what feeds it without delay, otherwise as they were added.

        Raises:
            ModelError: where a cycle has no delay, naming the nodes on it.
        """
        index = {name: i for i, name in enumerate(self.nx.nodes)}
        instant = self.instant()
        try:
            return list(nx.lexicographical_topological_sort(instant, key=index.__getitem__))
        except nx.NetworkXUnfeasible:
            cycle = [edge[0] for edge in nx.find_cycle(instant)]
            named = " -> ".join([*cycle, cycle[0]])
            short = [name for name in cycle if (op := self.op(name)) and isinstance(op, Connection) and op.depth]
            said = f" ({', '.join(short)} may show the present step, by its shortest delay or once trained)"
            why = said if short else ""
            raise ModelError(
                f"the cycle {named} has no delay{why}: close one of its edges with snn.Feedback,"
                " or put a snn.Delay of at least one step on it",
                node=cycle[0],
                where=self.where(cycle[0]),
            ) from None

    def instant(self) -> nx.MultiDiGraph:
        """The graph of the edges without delay; those of a cycle into a Delay of at least one step are none of them."""
        waiting = self._waiting()
        late = [(u, v, k) for u, v, k, d in self.nx.edges(keys=True, data=True) if d["delay"] or (u, v) in waiting]
        graph = self.nx.copy()
        graph.remove_edges_from(late)
        return graph

    def waits(self, source: str, name: str) -> bool:
        """Whether ``name`` stands on a cycle with ``source`` and shows what that gave at least one step before."""
        return (source, name) in self._waiting()

    def _waiting(self) -> set[tuple[str, str]]:
        late = [name for name, op in self.of_type(Connection) if op.late]
        if not late:
            return set()
        parts = nx.strongly_connected_components(self.nx)
        home = {name: i for i, part in enumerate(parts) for name in part}
        return {(u, v) for v in late for u in self.nx.predecessors(v) if home[u] == home[v]}

    def coupled(self) -> nx.DiGraph:
        """Who needs whom within a sequence: all edges, and one from each connection that learns to what teaches it, so
        that both stand on one cycle."""
        graph = nx.DiGraph(self.nx)
        for u, v, data in self.nx.edges(data=True):
            if data["source_port"] == "weight" and isinstance(self.nx.nodes[u].get("op"), Plasticity):
                graph.add_edge(v, u)
        return graph

    def of_type(self, kind: type) -> Iterator[tuple[str, Any]]:
        """``(name, op)`` of the nodes whose op is a ``kind``."""
        for name, data in self.nx.nodes(data=True):
            if isinstance(data["op"], kind):
                yield name, data["op"]

    def input_types(self) -> dict[str, SignalType]:
        """Input name -> type, in order."""
        return {name: op.type for name, op in self.of_type(Input)}

    def output_types(self) -> dict[str, SignalType]:
        """Output key -> type, in order."""
        return {key: self.type_of(ref) for key, ref in self.outputs}

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by name, each once, in graph order."""
        found: dict[str, Parameter] = {}
        for name in self.names:
            for p in getattr(self.op(name), "params", {}).values():
                found.setdefault(p.name, p)
        return found

    def states(self) -> dict[str, StateInfo]:
        """Every state variable by name: those of the nodes, then what delays and feedback edges hold; where random
        numbers are drawn, also ``"random"``, the seed and the number of the next step."""
        found = {s.name: StateInfo(op.shape, s.init) for _, op in self.of_type(Elementwise) for s in op.states}
        for name, op in self.of_type(Connection):
            if op.depth:
                found[f"{name}.history"] = StateInfo((op.depth, *op.input.shape), 0.0)
        for _, rule in self.of_type(Plasticity):
            found.update({t.name: StateInfo(rule.shape_of(t.side), t.init) for t in rule.traces})
        for edge in self.feedback_edges():
            shape = self.type_of(edge.source).shape
            if isinstance(self.op(edge.source.node), Plasticity) and edge.source.port == "weight":
                found[edge.feedback] = StateInfo(shape, shared=True, parameter=edge.feedback)
            else:
                found[edge.feedback] = StateInfo(shape if edge.delay == 1 else (edge.delay, *shape), 0.0)
        if any(draws_in(op.forward) for _, op in self.of_type(Elementwise)):
            found[RANDOM] = StateInfo((2,), shared=True, dtype="int64")
        return found

    def learned(self) -> dict[str, str]:
        """Parameter that learns -> the node that teaches it."""
        return {op.weight.name: name for name, op in self.of_type(Plasticity)}

    def feedback_edges(self) -> list[Edge]:
        """Each feedback value once."""
        found: dict[str, Edge] = {}
        for name in self.names:
            for edge in self.inputs_of(name).values():
                if edge.delay:
                    found.setdefault(edge.feedback, edge)
        return list(found.values())

    def recordable(self) -> dict[str, Ref]:
        """Record name -> port, for every signal and state of every node."""
        found: dict[str, Ref] = {}
        for name in self.names:
            op = self.op(name)
            if isinstance(op, Elementwise | Plasticity):
                found.update({record: Ref(name, local) for record, local in op.recordable.items()})
            else:
                found[name if isinstance(op, Input) else f"{name}.out"] = Ref(name, "out")
        return found

    def noted(self, notes: Iterable[Note]) -> Graph:
        """This graph with more notes."""
        return replace(self, notes=(*self.notes, *notes))
