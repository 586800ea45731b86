"""Makes the plan of a cycle: which lines there are, and what is done at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Any

from snncompile.ir.connection import DELAYS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph, Ref, Region
from snncompile.ir.regions import lateness
from snncompile.targets.cycle_plan import (
    Conv,
    Copy,
    CyclePlan,
    LateSource,
    Line,
    Mask,
    Neurons,
    Pool,
    Product,
    Read,
    Step,
)
from snncompile.targets.scan import Scan
from snncompile.targets.sliding import sliding_of

#: Connections that are no products. A Dropout outside of training only names its input anew.
_OTHERS = frozenset({"Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "MaxPool2d", "Dropout"})

#: A delay per synapse is as many dense products as it may have steps where these are at most so many and their weights
#: at most so many values; else one sparse product over all synapses.
MOST_LAGS, MOST_VALUES = 16, 2**20

NOTHING_LATE: Mapping[Ref, LateSource] = MappingProxyType({})


def plan_cycle(
    graph: Graph,
    region: Region,
    scans: Mapping[str, Scan],
    training: bool = False,
    late: Mapping[Ref, LateSource] = NOTHING_LATE,
) -> CyclePlan | str:
    """The plan of a recurrent region, or why there is none.

    Args:
        graph: the network after the passes.
        region: the region.
        scans: elementwise node -> its scan; and a delay's, which makes what it shows.
        training: whether a Dropout drops.
        late: what from outside is read late.
    """
    for name in region.nodes:
        op = graph.op(name)
        if not isinstance(op, Connection | Elementwise) or getattr(op, "plastic", False):
            return f"{name} learns"
    return Planner(graph, region, scans, training, late).plan()


def _renames(op: Connection, training: bool) -> bool:
    """Whether a connection only names its input anew."""
    return op.kind == "Flatten" or (op.kind == "Dropout" and not training)


class Planner:
    """Makes the plan of one region. What a node becomes can be added to."""

    dense = False  #: whether the products of a delay per synapse are dense, however many these are

    def __init__(
        self,
        graph: Graph,
        region: Region,
        scans: Mapping[str, Scan],
        training: bool = False,
        late: Mapping[Ref, LateSource] = NOTHING_LATE,
    ) -> None:
        self.graph, self.nodes, self.scans, self.training = graph, region.nodes, scans, training
        self.inside = set(region.nodes)
        self.lines: list[Line] = []
        self.own: dict[Ref, int] = {}
        self.held: dict[str, int] = {}  # state -> its line
        self.contents: dict[int, Edge] = {}  # line of a late edge or a delay -> what it holds
        self.outside: list[tuple[Edge, str, int]] = []  # with how late it is read, and which value of a delay it is
        self.late = late
        self.seen: dict[str, Neurons] = {}  # delay -> what makes a step of what it shows

    def plan(self) -> CyclePlan:
        for name in self.nodes:
            self._add_lines(name)
        made = {name: self._steps_of(name) for name in self.nodes}
        ports = {ref: self._where(ref) for name in self.nodes for ref in self._refs(name)}
        for feedback, edge in self._late_edges().items():
            self._holding(feedback, edge, edge.delay)
        merged, copies = self._placed()
        steps: list[Step] = [*self.seen.values()]

        def done(line: int) -> None:
            for copy in copies:
                if copy.read == Read(line):
                    steps.append(copy)
                    done(copy.line)

        for copy in copies:
            if copy.read.lag:
                steps.append(copy)
                done(copy.line)
        for name in self.nodes:
            for step in made[name]:
                steps.append(step)
                for line in self._made_by(step):
                    done(line)
        return self._compact(steps, ports, merged)

    def _made_by(self, step: Any) -> tuple[int, ...]:
        """The lines that a step makes."""
        return step.results + step.states if isinstance(step, Neurons) else (step.line,)

    def _refs(self, name: str) -> list[Ref]:
        op = self.graph.op(name)
        return [Ref(name, r) for r in op.results] if isinstance(op, Elementwise) else [Ref(name)]

    def _new(self, key: str, size: int, depth: int = 0, start: str = "", is_state: bool = False) -> int:
        self.lines.append(Line(key, size, depth, start, is_state))
        return len(self.lines) - 1

    def _add_lines(self, name: str) -> None:
        op = self.graph.op(name)
        if isinstance(op, Elementwise):
            for s in op.states:
                self.own[Ref(name, s.local)] = self._new(f"{name}.{s.local}", op.size, 1, s.name, True)
            for r in op.results[len(op.states) :]:
                self.own[Ref(name, r)] = self._new(f"{name}.{r}", op.size)
        elif not _renames(op, self.training) and not (op.kind == "Delay" and op.same_for_all is not None):
            self.own[Ref(name)] = self._new(name, op.output.size)

    def _where(self, ref: Ref) -> Read:
        """Where the values of a port are."""
        if ref in self.own:
            return Read(self.own[ref])
        op = self.graph.op(ref.node)
        if op.kind == "Delay":
            return self._before(ref.node, op.same_for_all)
        (edge,) = self.graph.inputs_of(ref.node).values()
        return self._arriving(edge)

    def _arriving(self, edge: Edge) -> Read:
        """Where the values are that arrive along an edge of the cycle."""
        if edge.delay:
            return Read(self._holding(edge.feedback, edge, edge.delay), edge.delay)
        return self._where(edge.source)

    def _holding(self, state: str, edge: Edge, depth: int) -> int:
        """The line of a late edge or a delay, whose start is ``state``; it holds what comes along ``edge``."""
        if state not in self.held:
            size = self.graph.type_of(edge.source).size
            self.held[state] = self._new(state, size, depth, state)
            # a late edge brings what it holds later: what it holds is its source
            self.contents[self.held[state]] = edge
        return self.held[state]

    def _before(self, name: str, lag: int) -> Read:
        """What arrives at a delay, ``lag`` steps ago."""
        op = self.graph.op(name)
        (edge,) = self.graph.inputs_of(name).values()
        if not op.depth:
            return self._arriving(edge)
        return Read(self._holding(f"{name}.history", edge, op.depth), lag)

    def _late_edges(self) -> dict[str, Edge]:
        edges = (e for n in self.nodes for e in self.graph.inputs_of(n).values())
        return {e.feedback: e for e in edges if e.delay and e.source.node in self.inside}

    def _steps_of(self, name: str) -> list[Step]:
        op = self.graph.op(name)
        edges = list(self.graph.inputs_of(name).values())
        if isinstance(op, Elementwise):
            results = [self.own[Ref(name, r)] for r in op.results]
            n = len(op.states)
            inputs = tuple(self._input(edge, True) for edge in edges)
            return [Neurons(name, inputs, tuple(results[:n]), tuple(results[n:]))]
        if _renames(op, self.training):
            return []
        if op.kind in DELAYS:
            return self._delay_steps(name, op)
        events = self._mostly_zero(edges[0].source)
        if op.kind in _OTHERS:
            return [self._other_step(name, op, self._arriving(edges[0]), events)]
        return [Product(name, "weight", op.kind == "Sparse", self._arriving(edges[0]), self.own[Ref(name)], events)]

    def _mostly_zero(self, ref: Ref) -> bool:
        """Whether a port has spikes, or what a Dropout leaves of them."""
        while self.graph.type_of(ref).kind != "spikes":
            if getattr(self.graph.op(ref.node), "kind", "") not in ("Dropout", "Flatten"):
                return False
            (edge,) = self.graph.inputs_of(ref.node).values()
            ref = edge.source
        return True

    def _other_step(self, name: str, op: Connection, read: Read, events: bool) -> Step:
        line = self.own[Ref(name)]
        if op.kind == "Dropout":
            return Mask(name, read, line)
        if "Conv" in op.kind:
            return Conv(name, read, line, events, sliding_of(op))
        return Pool(name, read, line, op.kind == "MaxPool2d", sliding_of(op))

    def _input(self, edge: Edge, neurons: bool) -> Read | int:
        """What arrives along an edge; an outside signal by its position. Only ``neurons`` can read one that is late by
        steps of their own."""
        if edge.source.node in self.inside:
            return self._arriving(edge)
        late = self.late.get(edge.source)
        if late is None:
            return self._outside(edge)
        if late.plain and (neurons or late.kinds == ("one",)):
            return self._outside(edge, late.kinds[0])
        return Read(self._seen(edge, late))

    def _outside(self, edge: Edge, kind: str = "", tap: int = 0) -> int:
        """The position of a signal from outside, once for every input that it feeds."""
        self.outside.append((edge, kind, tap))
        return len(self.outside) - 1

    def _seen(self, edge: Edge, late: LateSource) -> int:
        """The line of what a delay shows, a step of which is made of what the delay reads."""
        if late.delay not in self.seen:
            inputs = tuple(self._outside(edge, kind, tap) for tap, kind in enumerate(late.kinds))
            line = self._new(f"{late.delay}.seen", self.graph.type_of(edge.source).size)
            self.seen[late.delay] = Neurons(late.delay, inputs, (), (line,))
        return self.seen[late.delay].results[0]

    def _delay_steps(self, name: str, op: Connection) -> list[Step]:
        lag, events = op.same_for_all, op.input.kind == "spikes"
        here = self._before(name, lag or 0)
        if op.kind == "Delay":
            return [] if lag is not None else [Product(name, "seen", True, here, self.own[Ref(name)], events)]
        line = self.own[Ref(name)]
        if lag is not None:
            return [Product(name, "weight", False, here, line, events)]
        if op.attrs["steps"] == "given":
            lags = op.depth + 1 - op.late
            sparse = lags > MOST_LAGS or lags * op.input.size * op.output.size > MOST_VALUES
            return [Product(name, "synapses", sparse and not self.dense, here, line, events)]
        seen = self._new(f"{name}.seen", op.input.size)
        then = Product(name, "weight", False, Read(seen), line, events)
        return [Product(name, "seen", True, here, seen, events), then]

    def _placed(self) -> tuple[dict[int, int], list[Copy]]:
        """Lines of late edges and delays that are another line, which takes on their start; and copies, for those whose
        source has a start of its own."""
        merged: dict[int, int] = {}
        copies: list[Copy] = []
        feedbacks = self._late_edges()
        for state, line in self.held.items():
            edge = self.contents[line]
            read = self._where(edge.source) if state in feedbacks else self._arriving(edge)
            source = self.lines[read.line]
            if read.lag == 0 and not source.depth and read.line not in merged.values():
                merged[line] = read.line
            else:
                copies.append(Copy(read, line))
        copies = [c._replace(read=c.read._replace(line=merged.get(c.read.line, c.read.line))) for c in copies]
        for line, other in merged.items():
            held, source = self.lines[line], self.lines[other]
            self.lines[other] = Line(source.key, source.size, held.depth, held.start)
        return merged, copies

    def _compact(self, steps: list[Step], ports: Mapping[Ref, Read], merged: Mapping[int, int]) -> CyclePlan:
        """Without the lines that became another one."""
        left = [i for i in range(len(self.lines)) if i not in merged]
        index = {old: new for new, old in enumerate(left)}
        index.update({line: index[other] for line, other in merged.items()})

        def at(read: Read) -> Read:
            return Read(index[read.line], read.lag)

        return self._whole(
            [self._moved(step, at, index) for step in steps],
            {
                "nodes": self.nodes,
                "lines": tuple(self.lines[i] for i in left),
                "ports": {ref: at(read) for ref, read in ports.items()},
                "outside": tuple(edge for edge, _, _ in self.outside),
                "sizes": tuple(self.graph.type_of(edge.source).size for edge, _, _ in self.outside),
                "offsets": tuple(kind for _, kind, _ in self.outside) if self.late else (),
                "taps": tuple(tap for _, _, tap in self.outside) if self.late else (),
                "scans": {n: self.scans[n] for n in (*self.nodes, *self.seen) if n in self.scans},
                "sequence_only": tuple(n for n in self.nodes if self._drops(n)),
                "late": min(lateness(self.graph, self.nodes).values()),
                "dense": sum(self._weights(n, "Linear", "DelayedLinear") for n in self.nodes),
                "sparse": sum(self._weights(n, "Sparse") for n in self.nodes),
                "weights": sum(self._read(step) for step in steps if isinstance(step, Product | Conv | Pool)),
            },
        )

    def _moved(self, step: Any, at: Callable[[Read], Read], index: Mapping[int, int]) -> Any:
        """A step on the lines that are left."""
        if isinstance(step, Neurons):
            inputs = tuple(at(x) if isinstance(x, Read) else x for x in step.inputs)
            return Neurons(
                step.name, inputs, tuple(index[s] for s in step.states), tuple(index[r] for r in step.results)
            )
        return step._replace(read=at(step.read), line=index[step.line])

    def _whole(self, steps: list[Any], rest: Mapping[str, Any]) -> CyclePlan:
        """The plan of these steps."""
        return CyclePlan(name=f"cycle_{self.nodes[0]}", steps=tuple(steps), **rest)

    def _read(self, product: Product | Conv | Pool) -> int:
        """Weights that a product reads at a step, or values that a pooling does."""
        if isinstance(product, Conv | Pool):
            s = product.sliding
            return prod(s.outputs) * (s.inputs[0] // s.groups) * s.taps
        op = self.graph.op(product.name)
        if product.part == "seen":
            return op.output.size if op.kind == "Delay" else op.input.size
        if product.part == "synapses" and not product.sparse:
            return (op.depth + 1 - op.late) * op.input.size * op.output.size
        return prod(op.params["weight"].shape) if product.sparse else op.input.size * op.output.size

    def _drops(self, name: str) -> bool:
        """Whether a node would drop something in training, but does not here."""
        return getattr(self.graph.op(name), "kind", "") == "Dropout" and not self.training

    def _weights(self, name: str, *kinds: str) -> int:
        """Weights of a connection of these kinds; of dense ones those that meet something else than spikes."""
        op = self.graph.op(name)
        if not isinstance(op, Connection) or op.kind not in kinds:
            return 0
        return 0 if op.kind != "Sparse" and op.input.kind == "spikes" else prod(op.params["weight"].shape)
