"""Turning ``snn.learn`` into nodes and edges: which connection, which spikes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from snncompile.dsl.signals import Signal
from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.graph import Edge, Graph, Ref
from snncompile.ir.nodes.base import Node
from snncompile.ir.nodes.rules import Rule
from snncompile.ir.plasticity import PLASTIC


@dataclass(frozen=True)
class Lesson:
    """One call of ``snn.learn``, carried out once the whole model is there.

    Attributes:
        connection: the connection's name in the graph.
        rule: how it learns.
        pre: where input spikes come from, or None.
        post: where output spikes come from, or None.
        signals: further ports.
        where: the line of the model.
    """

    connection: str
    rule: Rule
    pre: Ref | None
    post: Ref | None
    signals: Mapping[str, Ref]
    where: Location | None


def read_lesson(
    graph: Graph,
    connection: Any,
    applied: list[str],
    rule: Any,
    ends: Mapping[str, Any],
    signals: Mapping[str, Any],
    check: Callable[[str, Any], Ref],
    where: Location | None,
) -> Lesson:
    """What a call of ``snn.learn`` asks for.

    Args:
        graph: the graph so far.
        connection: a node object or a signal.
        applied: names under which the node object stands in the graph.
        rule: the rule.
        ends: ``pre`` and ``post`` as given.
        signals: the rest, by name.
        check: gives the port of a signal of this model, by what it is for.
        where: the line of the model.

    Raises:
        ModelError: where it makes no sense.
    """
    if isinstance(rule, type) and issubclass(rule, Rule):
        raise ModelError(f"snn.learn needs an object: write {rule.__name__}(...)", where=where)
    if not isinstance(rule, Rule):
        raise ModelError(f"snn.learn takes a rule such as snn.STDP(), not {rule!r}", where=where)
    if isinstance(connection, Signal):
        name = check("connection", connection).node
    elif len(applied) > 1:
        raise ModelError(
            f"its weights are shared: it is applied as {', '.join(applied)}. A connection that learns is applied once",
            node=applied[0],
            where=where,
        )
    elif applied:
        name = applied[0]
    elif isinstance(connection, Node):
        raise ModelError(
            f"snn.learn takes a connection of this model, and this {type(connection).__name__} was not applied to a"
            " signal so far: call snn.learn after `x >> connection`",
            where=where,
        )
    else:
        raise ModelError(
            f"snn.learn takes a connection of this model, a node that was applied or the signal that left it, not"
            f" {connection!r}",
            where=where,
        )
    _check_connection(graph, name, where)
    known = rule.signals
    for port in signals:
        if port not in known:
            listed = ", ".join(known) or "none"
            raise ModelError(f"{type(rule).__name__} has no signal {port!r}; it has: {listed}", node=name, where=where)
    missing = [port for port in known if port not in signals]
    if missing:
        raise ModelError(
            f"{type(rule).__name__} needs the signal {missing[0]}: snn.learn(..., {missing[0]}=signal)",
            node=name,
            where=where,
        )
    refs = {port: check(port, signal) for port, signal in signals.items()}
    for port, ref in refs.items():
        if graph.type_of(ref).shape != (1,):
            raise ModelError(
                f"the signal {port!r} has one value per sequence, features (1,), not {graph.type_of(ref).shape}",
                node=name,
                where=where,
            )
    pre, post = (None if signal is None else check(end, signal) for end, signal in ends.items())
    return Lesson(name, rule, pre, post, refs, where)


def _check_connection(graph: Graph, name: str, where: Location | None) -> None:
    op = graph.op(name)
    if getattr(op, "kind", "") == "DelayedLinear":
        raise ModelError(
            "a Linear with delay= cannot learn; one whose inputs are delayed can: x >> snn.Delay(...) >>"
            " snn.Linear(...)",
            node=name,
            where=where,
        )
    if not isinstance(op, Connection) or op.kind not in PLASTIC:
        kind = f"a {op.kind}" if hasattr(op, "kind") else "an input"
        raise ModelError(
            f"{kind} cannot learn; {' and '.join(PLASTIC)} can. Give snn.learn the connection, or the signal that"
            " leaves it",
            node=name,
            where=where,
        )
    if op.attrs.get("groups", 1) != 1:
        raise ModelError(
            f"a grouped convolution (groups={op.attrs['groups']}) cannot learn: use groups=1", node=name, where=where
        )


def teach(graph: Graph, lesson: Lesson, name: str, owner: str | None) -> None:
    """Put the rule into ``graph`` (in place), under ``name``.

    Args:
        graph: the whole model.
        lesson: what was asked for.
        name: a free name.
        owner: name under which the rule's parameters live, if it teaches another connection already.
    """
    target, where = lesson.connection, lesson.where
    op: Connection = graph.op(target)
    if op.plastic:
        raise ModelError("it learns by another rule already; one connection has one rule", node=target, where=where)
    weight = op.params["weight"].name
    users = [n for n, other in graph.of_type(Connection) if weight in {p.name for p in other.params.values()}]
    if len(users) > 1:
        raise ModelError(
            f"its weights are shared: it is applied as {', '.join(users)}. A connection that learns is applied once",
            node=target,
            where=where,
        )
    fed = graph.inputs_of(target)["x"]
    if lesson.pre is None and (kind := graph.type_of(fed.source).kind) in ("current", "membrane"):
        raise ModelError(
            f"what it takes is a {kind}, no spikes: say what its learning goes by, snn.learn(..., pre=signal)",
            node=target,
            where=where,
        )
    pre = fed if lesson.pre is None else Edge(lesson.pre)
    post = Edge(_population(graph, target, where) if lesson.post is None else lesson.post)
    for end, edge, shape in (("pre", pre, op.input.shape), ("post", post, op.output.shape)):
        given = graph.type_of(edge.source).shape
        if given != shape:
            side = "takes" if end == "pre" else "gives"
            raise ModelError(
                f"{end}= has features {given}, but the connection {side} {shape}", node=target, where=where
            )
    plasticity = lesson.rule.on(op, name, graph.dt, where, owner)
    graph.nx.nodes[target]["op"] = replace(op, attrs={**op.attrs, "plastic": True})
    graph.add(name, plasticity, {"pre": pre, "post": post, **{p: Edge(r) for p, r in lesson.signals.items()}}, where)
    graph.connect(target, "weight", Edge(Ref(name, "weight"), 1, weight))


def _population(graph: Graph, connection: str, where: Location | None) -> Ref:
    """The spikes of the one population that the current of ``connection`` reaches first, through synapses and sums."""
    found: dict[Ref, None] = {}
    seen = {connection}
    front = [connection]
    while front:
        for reader, _, edge in graph.consumers(front.pop()):
            op = graph.op(reader)
            if reader in seen or edge.delay or not isinstance(op, Elementwise):
                continue
            seen.add(reader)
            spikes = [Ref(reader, out.local) for out in op.outputs if out.type.kind == "spikes"]
            found.update(dict.fromkeys(spikes))
            if not spikes:
                front.append(reader)
    if len(found) == 1:
        return next(iter(found))
    said = f"several populations come next ({', '.join(map(str, found))})" if found else "no spiking population follows"
    raise ModelError(
        f"{said}: say whose spikes its learning follows, snn.learn(..., post=signal)", node=connection, where=where
    )
