"""The builder: turns applications of nodes into a graph, as the model function runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from snncompile.dsl.signals import Signal
from snncompile.dsl.teaching import Lesson, read_lesson, teach
from snncompile.ir.connection import HINTS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.graph import Edge, Graph, Input, Ref
from snncompile.ir.nodes.base import Node
from snncompile.ir.types import SignalType


@dataclass
class _Open:
    """A feedback signal: declared, and closed later."""

    type: SignalType
    where: Location | None
    delay: int = 1
    closed_by: Ref | None = None


class Builder:
    """Holds the graph of one model while it is being built."""

    def __init__(self, name: str, dt: float) -> None:
        self.graph = Graph(name, dt)
        self._owners: dict[int, str] = {}
        self._nodes: list[Node] = []  # keeps ids of applied nodes unique
        self._open: dict[str, _Open] = {}
        self._applied: dict[int, list[str]] = {}
        self._lessons: list[Lesson] = []
        self._densities: dict[Ref, float] = {}

    # -- signals -----------------------------------------------------------------------------------------------------

    def input(
        self, name: str, type: SignalType, where: Location | None = None, density: float | None = None
    ) -> Signal:
        """Declare an input."""
        self.graph.add(name, Input(type), where=where)
        if density is not None:
            self._densities[Ref(name)] = density
        return Signal(self, Ref(name))

    def type_of(self, ref: Ref) -> SignalType:
        """The type of a signal."""
        return self.graph.type_of(ref)

    def port(self, node: str, name: str, where: Location | None) -> Signal:
        """The signal on port ``name`` of a node."""
        op = self.graph.op(node)
        ports = [*(o.local for o in getattr(op, "outputs", ())), *(s.local for s in getattr(op, "states", ()))]
        if name not in ports:
            known = ", ".join(dict.fromkeys(ports)) or "none"
            raise ModelError(f"it has no state or output {name!r}; it has: {known}", node=node, where=where)
        return Signal(self, Ref(node, name))

    def sum(self, left: Signal, right: Any, where: Location | None) -> Signal:
        """``left + right``."""
        from snncompile.ir.nodes import Add

        if not isinstance(right, Signal):
            raise ModelError(f"a signal can be added to a signal, not to {right!r}", where=where)
        return self.apply(Add(), (left, right), {}, where)

    # -- nodes -------------------------------------------------------------------------------------------------------

    def apply(self, node: Node, signals: Sequence[Any], ports: Mapping[str, Any], where: Location | None) -> Signal:
        """Add ``node`` to the graph, fed by the given signals."""
        node = node.for_inputs(len(signals))
        name, owner = self._name(node, where)
        sources = self._sources(node, name, signals, ports, where)
        types = {port: self.type_of(ref) for port, ref in sources.items()}
        op = self._hinted(name, node.lower(name, types, self.graph.dt, where, owner), sources)
        self._agree(name, owner, op, where)
        self.graph.add(name, op, sources, where)
        self._applied.setdefault(id(node), []).append(name)
        self._remember(node, name, sources, where)
        default = op.outputs[0].local if isinstance(op, Elementwise) else "out"
        return Signal(self, Ref(name, default))

    def _hinted(self, name: str, op: Elementwise | Connection, sources: Mapping[str, Ref]) -> Elementwise | Connection:
        """``op`` with the density of the input it reads, where its kind takes the hint and it has none."""
        known = next((self._densities[ref] for ref in sources.values() if ref in self._densities), None)
        if known is None or not isinstance(op, Connection):
            return op
        if op.kind in ("Flatten", "Dropout", "Delay"):  # they leave as many zeros as they find
            self._densities[Ref(name)] = known
        if "density" not in HINTS.get(op.kind, ()):
            return op
        return replace(op, attrs={"density": known, **op.attrs})

    def _remember(self, node: Node, name: str, sources: Mapping[str, Ref], where: Location | None) -> None:
        """Add what keeps a record for a node that answers for the past."""
        past: Mapping[str, str] = getattr(node, "past", dict)()
        if not past:
            return
        from snncompile.ir.nodes.delays import record_node

        for what, port in past.items():
            source = sources.get(port, Ref(name, port))
            kept = f"{name}_{what}"
            if kept in self.graph.nx:
                raise ModelError(f"its record is called {kept!r}, as another node is", node=name, where=where)
            try:
                op = record_node(kept, self.type_of(source), node.delay, self.graph.dt)  # type: ignore[attr-defined]
            except ModelError as err:
                raise ModelError(err.message, node=name, where=where) from None
            self.graph.add(kept, op, {"x": source}, where)

    def _name(self, node: Node, where: Location | None) -> tuple[str, str | None]:
        if node.name is not None and not isinstance(node.name, str):
            raise ModelError(f"name= is text, not {node.name!r}", where=where)
        owner = self._owners.get(id(node))
        wanted = owner or node.name or node.default_name()
        if node.name is not None and owner is None and node.name in self.graph.nx:
            raise ModelError("two nodes have this name", node=node.name, where=where)
        name = self.free(wanted)
        if owner is None:
            self._owners[id(node)] = name
            self._nodes.append(node)
        return name, owner

    def free(self, wanted: str) -> str:
        """``wanted``, or ``wanted_1``, ... when taken."""
        name, k = wanted, 0
        while name in self.graph.nx:
            k += 1
            name = f"{wanted}_{k}"
        return name

    def _sources(
        self, node: Any, name: str, signals: Sequence[Any], ports: Mapping[str, Any], where: Location | None
    ) -> dict[str, Ref]:
        known = tuple(node.inputs)
        if len(signals) > len(known):
            raise ModelError(f"it has {len(known)} input port(s), not {len(signals)}", node=name, where=where)
        given = dict(zip(known, signals, strict=False))
        for port, signal in ports.items():
            if port not in known:
                raise ModelError(f"it has no port {port!r}; its ports: {', '.join(known)}", node=name, where=where)
            if port in given:
                raise ModelError(f"port {port!r} is fed twice", node=name, where=where)
            given[port] = signal
        missing = [port for port in known if port not in given]
        if missing:
            by_name = ", ".join(f"{p}=..." for p in known)
            raise ModelError(
                f"nothing is given for port {', '.join(missing)}; apply it by name: node({by_name})",
                node=name,
                where=where,
            )
        for port, signal in given.items():
            if not isinstance(signal, Signal):
                raise ModelError(f"port {port!r} takes a signal, not {signal!r}", node=name, where=where)
            if signal._builder is not self:
                raise ModelError(f"the signal on port {port!r} belongs to another model", node=name, where=where)
        return {port: signal._ref for port, signal in given.items()}

    def _agree(self, name: str, owner: str | None, op: Any, where: Location | None) -> None:
        """Parameters shared with an earlier application must have the same shapes."""
        if owner is None:
            return
        first = self.graph.op(owner)
        for role, p in op.params.items():
            if first.params[role].shape != p.shape:
                raise ModelError(
                    f"it shares {p.name} with '{owner}', where it has shape {first.params[role].shape}; here it would"
                    f" need {p.shape}. Use a second node object",
                    node=name,
                    where=where,
                )

    # -- learning ----------------------------------------------------------------------------------------------------

    def learn(
        self,
        connection: Any,
        rule: Any,
        pre: Any,
        post: Any,
        signals: Mapping[str, Any],
        where: Location | None,
    ) -> None:
        """Let ``rule`` change the weights of ``connection``; see :func:`snncompile.learn`."""

        def check(what: str, signal: Any) -> Ref:
            if not isinstance(signal, Signal):
                raise ModelError(f"snn.learn: {what} is a signal, not {signal!r}", where=where)
            if signal._builder is not self:
                raise ModelError(f"snn.learn: {what} belongs to another model", where=where)
            return signal._ref

        applied = self._applied.get(id(connection), [])
        ends = {"pre": pre, "post": post}
        self._lessons.append(read_lesson(self.graph, connection, applied, rule, ends, signals, check, where))

    # -- feedback ----------------------------------------------------------------------------------------------------

    def open(self, name: str, type: SignalType, where: Location | None, delay: Any = None) -> Signal:
        """A signal that will be closed later; until then a placeholder stands in the graph.

        Args:
            name: its name.
            type: its type.
            where: the line of the model.
            delay: how late it is, in seconds; None is one step, and 0 none: then a Delay must stand on the cycle.
        """
        name = self.free(name)
        self.graph.add(name, Input(type), where=where)
        self._open[name] = _Open(type, where, self._whole_steps(delay, name, where))
        return Signal(self, Ref(name))

    def _whole_steps(self, delay: Any, name: str, where: Location | None) -> int:
        from snncompile.ir.delay import to_steps

        if delay is None:
            return 1
        dt = self.graph.dt
        try:
            steps = to_steps(delay, dt, "delay")
        except ModelError as err:
            raise ModelError(err.message, node=name, where=where) from None
        if steps.shape:
            raise ModelError(
                "delay is one time for all. For delays of their own, give it delay=0 and put a snn.Delay on the cycle",
                node=name,
                where=where,
            )
        if steps < 0 or steps != steps.round():
            raise ModelError(
                f"delay is {float(steps * dt):g} s, {float(steps):g} steps of dt = {dt:g} s: a value comes back a whole"
                " number of steps late. For another delay, give it delay=0 and put a snn.Delay with an interpolation on"
                " the cycle",
                node=name,
                where=where,
            )
        return int(steps)

    def close(self, name: str, signal: Any, where: Location | None) -> None:
        """Say whose previous value the feedback ``name`` is."""
        held = self._open[name]
        if held.closed_by is not None:
            raise ModelError("this feedback is closed already", node=name, where=where)
        if not isinstance(signal, Signal):
            raise ModelError(f"a feedback is closed with a signal, not {signal!r}", node=name, where=where)
        if signal.shape != held.type.shape:
            raise ModelError(
                f"this feedback was declared with features {held.type.shape}, but closed with {signal.shape}",
                node=name,
                where=where,
            )
        if signal._ref.node in self._open:
            raise ModelError("a feedback cannot be closed with a feedback", node=name, where=where)
        most = signal.type.max
        if held.type.max is not None and (most is None or most > held.type.max):
            given = f"up to {most} spikes a step" if most is not None else f"a {signal.type.kind}"
            raise ModelError(
                f"this feedback was declared with max={held.type.max}, but closed with {given}", node=name, where=where
            )
        held.closed_by = signal._ref

    def finish(self, outputs: Sequence[tuple[str, Signal]]) -> Graph:
        """The graph, with the placeholders of feedbacks replaced by late edges."""
        graph = self.graph
        for lesson in self._lessons:
            name, owner = self._name(lesson.rule, lesson.where)
            teach(graph, lesson, name, owner)
        for key, signal in outputs:
            if signal._ref.node in self._open:
                raise ModelError(
                    "a feedback cannot be an output; return the signal that closes it", node=signal._ref.node
                )
            del key
        for name, held in self._open.items():
            if held.closed_by is None:
                raise ModelError(
                    f"this feedback is never closed: call {name}.close(signal)", node=name, where=held.where
                )
            for consumer, port, _ in graph.consumers(name):
                graph.connect(consumer, port, Edge(held.closed_by, held.delay, name if held.delay else ""))
            graph.nx.remove_node(name)
        graph.order()  # a cycle without delay is an error of the model, told when it is compiled
        return replace(graph, outputs=tuple((key, signal._ref) for key, signal in outputs))
