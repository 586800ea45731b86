"""Composition: several elementwise nodes as one, forward and reverse."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from snncompile.ir.elementwise import Elementwise, OutPort, State
from snncompile.ir.graph import Edge, Graph, Ref
from snncompile.ir.params import Parameter
from snncompile.ir.program import Arg, Op, Program, simplify, substitute

#: Names are cut to leave room for a number and ``grad_`` within the 120 characters of an identifier.
_LONGEST = 100

_TEMPORARY = re.compile(r"(t|sum)[0-9_]*\Z")


@dataclass(frozen=True)
class Composite:
    """One node in place of several.

    Attributes:
        node: the fused node.
        feeds: port -> what feeds it from outside.
        moved: old port -> its name on the fused node.
    """

    node: Elementwise
    feeds: dict[str, Edge]
    moved: dict[Ref, str]


def compose(graph: Graph, names: Sequence[str]) -> Composite:
    """The nodes ``names`` of ``graph``, all elementwise and of one shape, as a single node.

    A late edge between them becomes a state of the fused node. Local names become ``<node>_<name>``.
    """
    return _Composer(graph, [n for n in graph.order() if n in set(names)]).result()


@dataclass
class _Composer:
    graph: Graph
    members: list[str]
    taken: set[str] = field(default_factory=set)
    ops: list[Op] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inside = set(self.members)
        self.nodes: dict[str, Elementwise] = {n: self.graph.op(n) for n in self.members}
        self.locals: dict[Ref, str] = {}
        self.params: dict[str, tuple[str, Parameter]] = {}
        self.ports: dict[Edge, str] = {}
        self.held: dict[str, tuple[str, Ref]] = {}
        for name in self.members:
            self._name_everything(name)

    # -- names -------------------------------------------------------------------------------------------------------

    def _fresh(self, wanted: str) -> str:
        wanted = wanted[:_LONGEST]
        name, k = wanted, 0
        while name in self.taken or f"grad_{name}" in self.taken:
            k += 1
            name = f"{wanted}_{k}"
        self.taken.update((name, f"grad_{name}"))
        return name

    def _mangled(self, name: str, local: str) -> str:
        return self._fresh(local if self.nodes[name].kind == "Fused" else f"{name}_{local}")

    def _name_everything(self, name: str) -> None:
        node = self.nodes[name]
        for result in node.results:
            self.locals[Ref(name, result)] = self._mangled(name, result)
        for role, p in node.params.items():
            if p.name not in self.params:
                self.params[p.name] = (self._mangled(name, role), p)
        for edge in self.graph.inputs_of(name).values():
            if self._outer(edge):
                if edge not in self.ports:
                    late = f"{edge.source.node}_late" if edge.delay else edge.source.node
                    self.ports[edge] = self._fresh(late if edge.source.port == "out" else f"{late}_{edge.source.port}")
            elif edge.delay and edge.feedback not in self.held:
                self.held[edge.feedback] = (self._fresh(edge.feedback), edge.source)

    # -- programs ----------------------------------------------------------------------------------------------------

    def result(self) -> Composite:
        values = self._forward()
        forward = simplify(Program(self._inputs(), tuple(self.ops), self._forward_outputs(values)))
        reverse = simplify(self._reverse(values))
        moved = {ref: local for ref, local in self.locals.items()}
        node = Elementwise(
            kind="Fused",
            shape=self.nodes[self.members[0]].shape,
            inputs=tuple(self.ports.values()),
            outputs=tuple(self._outputs()),
            states=tuple(self._states()),
            params={local: p for local, p in self.params.values()},
            forward=forward,
            reverse=reverse,
            members=tuple(m for n in self.members for m in self.nodes[n].members),
            ordered=tuple(self._ordered()),
        )
        return Composite(node, {port: edge for edge, port in self.ports.items()}, moved)

    def _states(self) -> list[State]:
        own = [
            replace(s, local=self.locals[Ref(name, s.local)]) for name in self.members for s in self.nodes[name].states
        ]
        return own + [State(local, feedback) for feedback, (local, _) in self.held.items()]

    def _outputs(self) -> list[OutPort]:
        return [
            replace(o, local=self.locals[Ref(name, o.local)]) for name in self.members for o in self.nodes[name].outputs
        ]

    def _ordered(self) -> list[tuple[str, str]]:
        pairs = []
        for name in self.members:
            node = self.nodes[name]
            local = {role: self.params[p.name][0] for role, p in node.params.items()}
            pairs += [(local[low], local[high]) for low, high in node.ordered]
        return pairs

    def _results(self) -> list[str]:
        return [*self.locals.values(), *(local for local, _ in self.held.values())]

    def _inputs(self) -> tuple[str, ...]:
        states = [s.local for s in self._states()]
        return (*states, *self.ports.values(), *(local for local, _ in self.params.values()))

    def _outer(self, edge: Edge) -> bool:
        """Whether what ``edge`` brings comes from outside: a value more than one step old is no state of the node."""
        return edge.source.node not in self.inside or edge.delay > 1

    def _source(self, edge: Edge, values: dict[Ref, Arg]) -> Arg:
        if self._outer(edge):
            return self.ports[edge]
        return self.held[edge.feedback][0] if edge.delay else values[edge.source]

    def _given(self, name: str, values: dict[Ref, Arg]) -> dict[str, Arg]:
        """What the programs of member ``name`` read: states, inputs and parameters."""
        node = self.nodes[name]
        given: dict[str, Arg] = {s.local: self.locals[Ref(name, s.local)] for s in node.states}
        given.update({port: self._source(e, values) for port, e in self.graph.inputs_of(name).items()})
        given.update({role: self.params[p.name][0] for role, p in node.params.items()})
        return given

    def _inline(self, name: str, program: Program, given: dict[str, Arg]) -> dict[str, Arg]:
        """Append ``program`` of member ``name`` with its inputs replaced; its outputs by name.

        Values that have a name in the source keep it, after the member's: ``lif_v_1``.
        """
        table: dict[str, str] = {}
        fused = self.nodes[name].kind == "Fused"

        def rename(value: str) -> str:
            if value not in table:
                plain = fused or _TEMPORARY.match(value)
                table[value] = self._fresh(value if plain else f"{name}_{value}")
            return table[value]

        inlined = substitute(program, {n: given[n] for n in program.inputs}, rename)
        self.ops.extend(inlined.ops)
        return dict(inlined.outputs)

    def _forward(self) -> dict[Ref, Arg]:
        values: dict[Ref, Arg] = {}
        for name in self.members:
            results = self._inline(name, self.nodes[name].forward, self._given(name, values))
            values.update({Ref(name, local): arg for local, arg in results.items()})
        return values

    def _forward_outputs(self, values: dict[Ref, Arg]) -> tuple[tuple[str, Arg], ...]:
        own = [(local, values[ref]) for ref, local in self.locals.items()]
        return (*own, *((local, values[source]) for local, source in self.held.values()))

    def _reverse(self, values: dict[Ref, Arg]) -> Program:
        """Each member's reverse after those of its consumers; their gradients of its results are added up first."""
        grads: dict[Ref, list[Arg]] = {ref: [f"grad_{local}"] for ref, local in self.locals.items()}
        for local, source in self.held.values():
            grads[source].append(f"grad_{local}")
        outer: dict[str, list[Arg]] = defaultdict(list)
        for name in reversed(self.members):
            node = self.nodes[name]
            given = self._given(name, values)
            given.update({f"grad_{r}": self._sum(grads[Ref(name, r)]) for r in node.results})
            results = self._inline(name, node.reverse, given)
            for s in node.states:
                outer[self.locals[Ref(name, s.local)]].append(results[f"grad_{s.local}"])
            for role, p in node.params.items():
                outer[self.params[p.name][0]].append(results[f"grad_{role}"])
            for port, edge in self.graph.inputs_of(name).items():
                grad = results[f"grad_{port}"]
                if edge.source.node in self.inside and not edge.delay:
                    grads[edge.source].append(grad)
                else:
                    outer[str(self._source(edge, values))].append(grad)
        outputs = tuple((f"grad_{n}", self._sum(outer[n])) for n in self._inputs())
        inputs = (*self._inputs(), *(f"grad_{r}" for r in self._results()))
        return Program(inputs, tuple(self.ops), outputs)

    def _sum(self, terms: list[Arg]) -> Arg:
        terms = [t for t in terms if t != 0.0] or [0.0]
        total = terms[0]
        for term in terms[1:]:
            name = self._fresh("sum")
            self.ops.append(Op(name, "add", (total, term)))
            total = name
        return total
