"""The verifier: everything about a graph that a pass, or a file, could break. One rule a function."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import networkx as nx

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import ModelError, VerificationError
from snncompile.ir.graph import Edge, Graph, Input, Ref
from snncompile.ir.params import Parameter
from snncompile.ir.plasticity import Plasticity
from snncompile.ir.program import IDENTIFIER
from snncompile.ir.types import SignalType
from snncompile.ir.verify_connections import check_connection
from snncompile.ir.verify_nodes import LIMITS, Fault, check_elementwise, check_type
from snncompile.ir.verify_plasticity import check_plasticity, check_teaching

REGION_KINDS = ("product", "scan", "recurrent", "plastic")


def verify(graph: Graph) -> None:
    """Check every rule of the IR.

    Raises:
        VerificationError: for the first rule broken, naming the node.
        ModelError: for what a model asks for but no schedule can do: BatchNorm inside a cycle.
    """
    _header(graph)
    for name, data in graph.nx.nodes(data=True):
        _node(graph, name, data)
    for name in graph.names:
        _ports(graph, name)
    _feedbacks(graph)
    check_teaching(graph)
    _unique_names(graph)
    _parameters(graph)
    _outputs(graph)
    _no_instant_cycle(graph)
    _no_norm_in_a_cycle(graph)
    if graph.regions:
        _regions(graph)


def _header(graph: Graph) -> None:
    if not IDENTIFIER.match(graph.name):
        raise VerificationError(f"{graph.name!r} cannot name a graph: use letters, digits and _")
    if not math.isfinite(graph.dt) or graph.dt <= 0:
        raise VerificationError(f"dt is a time in seconds greater than 0, not {graph.dt!r}")
    count = graph.nx.number_of_nodes()
    if count > LIMITS.nodes:
        raise VerificationError(f"a graph of {count} nodes is over the limit of {LIMITS.nodes}")


def _node(graph: Graph, name: Any, data: dict[str, Any]) -> None:
    if "op" not in data:
        reader = next(iter(graph.nx.successors(name)), None)
        raise VerificationError(f"it reads from {name!r}, which is no node", node=reader)
    if not isinstance(name, str) or not IDENTIFIER.match(name):
        raise VerificationError(f"{name!r} cannot name a node: use letters, digits and _")
    op = data["op"]
    try:
        if isinstance(op, Input):
            check_type(op.type, "the input")
        elif isinstance(op, Connection):
            check_connection(op)
        elif isinstance(op, Elementwise):
            check_elementwise(op)
        elif isinstance(op, Plasticity):
            check_plasticity(op)
        else:
            raise Fault(f"its op is a {type(op).__name__}, no input, connection, elementwise node or plasticity")
    except (Fault, VerificationError) as err:
        raise VerificationError(str(err), node=name, where=data.get("where")) from None


# -- edges ---------------------------------------------------------------------------------------------------------


def _ports(graph: Graph, name: str) -> None:
    """Each port is fed once, by a port that exists, with the features it expects."""
    op, where = graph.op(name), graph.where(name)
    fed = Counter(data["port"] for _, _, data in graph.nx.in_edges(name, data=True))
    for port, times in fed.items():
        if port not in op.inputs:
            known = ", ".join(op.inputs) or "none"
            raise VerificationError(f"it has no port {port!r}; its ports: {known}", node=name, where=where)
        if times > 1:
            raise VerificationError(f"port {port!r} is fed {times} times", node=name, where=where)
    for port in op.inputs:
        if port not in fed:
            raise VerificationError(f"nothing feeds port {port!r}", node=name, where=where)
    for port, edge in graph.inputs_of(name).items():
        if isinstance(edge.delay, bool) or not isinstance(edge.delay, int) or not 0 <= edge.delay <= LIMITS.steps:
            raise VerificationError(
                f"port {port!r} is fed {edge.delay!r} steps late, not a whole number of steps up to {LIMITS.steps:,}",
                node=name,
            )
        if edge.delay and not IDENTIFIER.match(edge.feedback) and not _is_weight(op, port, edge):
            raise VerificationError(f"port {port!r} is fed late by {edge.source} without a valid name", node=name)
        if not edge.delay and edge.feedback:
            raise VerificationError(f"port {port!r} has a feedback name but no delay", node=name)
        given = _source_type(graph, edge.source, name)
        wanted = op.shape if isinstance(op, Elementwise) else op.port_shape(port)
        if given.shape != wanted:
            raise VerificationError(
                f"port {port!r} expects features {wanted}, but {edge.source} has {given.shape}", node=name, where=where
            )
        if isinstance(op, Connection) and port == "x" and not edge.delay:
            _counts(op.input, given, edge.source, name)


def _is_weight(op: Any, port: str, edge: Edge) -> bool:
    """Whether this is a weight that learns: its state has the parameter's name."""
    return isinstance(op, Connection) and port == "weight" and edge.feedback == op.params["weight"].name


def _source_type(graph: Graph, ref: Ref, reader: str | None) -> SignalType:
    try:
        return graph.type_of(ref)
    except VerificationError as err:
        raise VerificationError(err.message, node=reader) from None


def _counts(declared: SignalType, given: SignalType, source: Ref, name: str) -> None:
    """A connection that counts on spikes gets spikes, and no more of them."""
    if declared.max is not None and (given.max is None or given.max > declared.max):
        raise VerificationError(f"it is declared to read {declared}, but {source} is {given}", node=name)


def _feedbacks(graph: Graph) -> None:
    """A feedback's name belongs to one source and delay, and to no state of a node."""
    held: dict[str, Ref] = {}
    delays: dict[str, int] = {}
    states = {s.name: name for name, op in graph.of_type(Elementwise) for s in op.states}
    states |= {t.name: name for name, op in graph.of_type(Plasticity) for t in op.traces}
    for name in graph.names:
        for edge in graph.inputs_of(name).values():
            if edge.delay and held.setdefault(edge.feedback, edge.source) != edge.source:
                raise VerificationError(
                    f"the feedback {edge.feedback!r} is the late value of both {held[edge.feedback]} and {edge.source}",
                    node=name,
                )
            if edge.delay and delays.setdefault(edge.feedback, edge.delay) != edge.delay:
                both = f"both {delays[edge.feedback]} and {edge.delay} steps late"
                raise VerificationError(f"the feedback {edge.feedback!r} is {both}", node=name)
            if edge.delay and edge.feedback in states:
                raise VerificationError(
                    f"the feedback {edge.feedback!r} has the name of a state of '{states[edge.feedback]}'", node=name
                )


# -- names ---------------------------------------------------------------------------------------------------------


def _unique_names(graph: Graph) -> None:
    """No two records, and so no two states, have one name."""
    owners: dict[str, str] = {}
    for name in graph.names:
        op = graph.op(name)
        if isinstance(op, Elementwise):
            records = list(op.recordable)
        elif isinstance(op, Plasticity):
            records = [t.name for t in op.traces]
        else:
            records = [name if isinstance(op, Input) else f"{name}.out"]
        for record in records:
            other = owners.setdefault(record, name)
            if other != name:
                raise VerificationError(f"the record {record!r} exists in '{other}' too", node=name)


def _parameters(graph: Graph) -> None:
    """One name is one parameter."""
    found: dict[str, tuple[str, Parameter]] = {}
    for name in graph.names:
        for p in getattr(graph.op(name), "params", {}).values():
            first, known = found.setdefault(p.name, (name, p))
            if known != p:
                raise VerificationError(f"its parameter {p.name!r} is not the same as in '{first}'", node=name)


def _outputs(graph: Graph) -> None:
    if not graph.outputs:
        raise VerificationError(f"the graph {graph.name!r} has no output")
    for key, times in Counter(key for key, _ in graph.outputs).items():
        if times > 1:
            raise VerificationError(f"the output {key!r} is named twice")
    for key, ref in graph.outputs:
        if not IDENTIFIER.match(key):
            raise VerificationError(f"{key!r} cannot name an output: use letters, digits and _")
        try:
            graph.type_of(ref)
        except VerificationError as err:
            raise VerificationError(f"the output {key!r}: {err.message}") from None


# -- cycles and schedule -------------------------------------------------------------------------------------------


def _no_instant_cycle(graph: Graph) -> None:
    try:
        graph.order()
    except ModelError as err:
        raise VerificationError(err.message, node=err.node, where=err.where) from None


def _no_norm_in_a_cycle(graph: Graph) -> None:
    """BatchNorm looks at all steps at once, a cycle has only the present one."""
    coupled = graph.coupled()
    for component in nx.strongly_connected_components(coupled):
        first = next(iter(component))
        if len(component) == 1 and not coupled.has_edge(first, first):
            continue
        names = [n for n in graph.names if n in component]
        for name in names:
            if isinstance(graph.op(name), Connection) and graph.op(name).kind == "BatchNorm":
                raise ModelError(
                    f"BatchNorm needs all steps at once, but stands on the cycle {', '.join(names)}: move it out of"
                    " the cycle",
                    node=name,
                    where=graph.where(name),
                )


def _regions(graph: Graph) -> None:
    """Every node but the inputs runs in one region, after what it reads."""
    home: dict[str, int] = {}
    for i, region in enumerate(graph.regions):
        if region.kind not in REGION_KINDS:
            raise VerificationError(f"region {i} is of kind {region.kind!r}, not one of {', '.join(REGION_KINDS)}")
        for name in region.nodes:
            if name not in graph.nx or isinstance(graph.op(name), Input):
                raise VerificationError(f"region {i} runs {name!r}, which is no node to run")
            if name in home:
                raise VerificationError(f"it runs twice, in regions {home[name]} and {i}", node=name)
            home[name] = i
        _region_kind(graph, i)
    for name in graph.names:
        if name not in home and not isinstance(graph.op(name), Input):
            raise VerificationError("it is in no region", node=name)
    for i, region in enumerate(graph.regions):
        _runnable(graph, i, region.kind, region.nodes, home)


def _region_kind(graph: Graph, i: int) -> None:
    region = graph.regions[i]
    wanted = {"product": Connection, "scan": Elementwise}.get(region.kind)
    if not region.nodes:
        raise VerificationError(f"region {i} is empty")
    if wanted and (len(region.nodes) > 1 or not isinstance(graph.op(region.nodes[0]), wanted)):
        raise VerificationError(
            f"region {i} is a {region.kind}: it runs one {wanted.__name__.lower()} node, not {', '.join(region.nodes)}"
        )


def _runnable(graph: Graph, i: int, kind: str, nodes: Iterable[str], home: dict[str, int]) -> None:
    done: set[str] = set()
    for name in nodes:
        for edge in graph.inputs_of(name).values():
            source = edge.source.node
            at = home.get(source, -1)  # -1: an input
            if at > i:
                raise VerificationError(f"it runs in region {i}, but reads {edge.source} of region {at}", node=name)
            if at == i and not edge.delay and source not in done and not graph.waits(source, name):
                raise VerificationError(f"it runs before {edge.source}, which it reads", node=name)
            if at == i and kind not in ("recurrent", "plastic"):
                raise VerificationError(f"it reads {edge.source} of its own region, a {kind}", node=name)
        done.add(name)


__all__ = ["REGION_KINDS", "verify"]
