"""A plastic layer as one operation: a connection that learns, and the neurons it feeds.

A target that offers ``plastic`` runs such a region with its own kernels; any other goes step by step
(``targets/plastic.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph, Ref, Region
from snncompile.ir.plasticity import Plasticity, Trace
from snncompile.targets.drawn import reading
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.plastic import refuse_gradient
from snncompile.targets.plastic_call import PlasticForwardCall, PlasticTarget
from snncompile.targets.plastic_rule import make_rule
from snncompile.targets.recurrent_layer import drawn
from snncompile.targets.registry import make_target
from snncompile.targets.scan import make_scan


@dataclass(frozen=True)
class PlasticLayer:
    """A plastic region of the simple form.

    Attributes:
        connection: the connection's name.
        neurons: the elementwise node's name.
        rule: the plasticity node's name.
        port: the neurons' input that the connection feeds.
        source: the neurons' result that the rule watches.
    """

    connection: str
    neurons: str
    rule: str
    port: str
    source: str


def match(graph: Graph, region: Region) -> PlasticLayer | str:
    """The layer that ``region`` is, or why it is none."""
    kinds = (Connection, Elementwise, Plasticity)
    by_kind = [[n for n in region.nodes if isinstance(graph.op(n), kind)] for kind in kinds]
    if [len(names) for names in by_kind] != [1, 1, 1]:
        return f"{len(region.nodes)} nodes learn or run together, not one connection, one population and one rule"
    (connection,), (neurons,), (rule,) = by_kind
    inside = set(region.nodes)
    fed, watched = graph.inputs_of(connection)["x"], graph.inputs_of(rule)
    if watched["pre"] != fed:
        return f"{rule} watches another signal than the one {connection} takes"
    if any(e.source.node in inside for e in (fed, *(watched[s] for s in graph.op(rule).signals))):
        return f"what {connection} takes, or {rule} listens to, comes from the layer itself"
    if watched["post"].delay or watched["post"].source.node != neurons:
        return f"{rule} does not watch {neurons}"
    feeds = graph.inputs_of(neurons)
    ports = [p for p, e in feeds.items() if e.source.node == connection]
    if len(ports) != 1 or feeds[ports[0]].delay or any(e.source.node in (neurons, rule) for e in feeds.values()):
        return f"{neurons} reads something late, or {connection} twice"
    return PlasticLayer(connection, neurons, rule, ports[0], watched["post"].source.port)


def why_not(ev: Evaluation, layer: PlasticLayer, target: PlasticTarget) -> str:
    """Why ``target`` has no kernel for ``layer`` in this run, or ""."""
    op = ev.graph.op(layer.connection)
    scan, rule = reading(ev.prepared.scans[layer.neurons].scan), ev.prepared.rules[layer.rule].rule
    return target.why_not(scan, rule, op.params["weight"].shape, ev.r.batch)


def planned(graph: Graph, layer: PlasticLayer, target: str) -> str:
    """Why target ``target`` has no kernel for ``layer`` whatever the batch, or "". It need not run here."""
    plastic: PlasticTarget | None = getattr(make_target(target), "plastic", None)
    if plastic is None:
        return f"{target} has no kernel for a layer that learns"
    scan, rule = reading(make_scan(layer.neurons, graph.op(layer.neurons))), make_rule(layer.rule, graph.op(layer.rule))
    return plastic.why_not(scan, rule, graph.op(layer.connection).params["weight"].shape)


def plan_of(graph: Graph, layer: PlasticLayer, target: str) -> str:
    """How the kernel of target ``target`` runs ``layer`` for one sequence, in words; "" where it says nothing."""
    plan = getattr(getattr(make_target(target), "plastic", None), "plan", None)
    if plan is None:
        return ""
    scan, rule = reading(make_scan(layer.neurons, graph.op(layer.neurons))), make_rule(layer.rule, graph.op(layer.rule))
    return str(plan(scan, rule, graph.op(layer.connection).params["weight"].shape))


def run_plastic_layer(ev: Evaluation, layer: PlasticLayer, region: Region, target: PlasticTarget) -> None:
    """Run ``layer`` over all steps of ``ev``, leaving courses, sums and final states there.

    Raises:
        InputError: where a gradient would have to pass through the learning.
    """
    refuse_gradient(ev, region)
    with torch.no_grad():
        _run(ev, layer, target)


def _run(ev: Evaluation, layer: PlasticLayer, target: PlasticTarget) -> None:
    op: Elementwise = ev.graph.op(layer.neurons)
    rule: Plasticity = ev.graph.op(layer.rule)
    weight = ev.r.state[rule.weight.name]
    ins = math.prod(rule.pre)
    steps, batch = ev.r.steps, ev.r.batch
    bound, taught = ev.bind(layer.neurons), ev.bind_rule(layer.rule)
    store, sums = ev.wanted(layer.neurons)
    read = ev.prepared.read[layer.rule]
    recorded = ev.want_course | ev.want_sum
    edges = ev.prepared.inputs[layer.rule]
    bias = ev.params(layer.connection).get("bias")
    product = Ref(layer.connection)
    read_outside = product in {ref for _, ref in ev.graph.outputs} or len(ev.graph.consumers(layer.connection)) > 1
    shape = (steps, batch, op.size)
    feeds = ev.prepared.inputs[layer.neurons]
    inputs = [None if port == layer.port else _flat(ev, edge, shape) for port, edge in feeds.items()]
    call = PlasticForwardCall(
        port=layer.port,
        source=layer.source,
        weight=_matrix(weight),
        bias=None if bias is None else bias.float().contiguous(),
        fixed={role: _matrix(ev.r.values[p.name]) for role, p in rule.fixed.items()},
        x=_flat(ev, edges["pre"], (steps, batch, ins)),
        inputs=tuple([*inputs, *drawn(ev, bound, shape)]),
        coefs=bound.coefs,
        states=tuple(ev.r.state[s.name].reshape(batch, op.size).float().contiguous() for s in op.states),
        traces={t.local: _rows(ev.r.state[t.name], t) for t in rule.traces},
        signals={port: ev.course(edges[port]).float().reshape(steps, batch) for port in rule.signals},
        rule_coefs=taught.coefs,
        shape=(steps, batch, op.size, ins),
        store=tuple(dict.fromkeys((*store, *sums))),
        store_traces=tuple(
            t.local
            for t in rule.traces
            if t.side != "synapse" and (t.local in read or Ref(layer.rule, t.local) in recorded)
        ),
        store_product=read_outside or product in recorded,
    )
    made = target.forward(reading(bound.prepared.scan), taught.prepared.rule, call)
    ev.keep(layer.neurons, made.stored, {}, made.finals)
    for local, course in made.stored_traces.items():
        side = next(t.side for t in rule.traces if t.local == local)
        ev.courses[Ref(layer.rule, local)] = course.reshape(steps, batch, *rule.shape_of(side))
    if made.product is not None:
        ev.courses[product] = made.product.reshape(steps, batch, *op.shape)
    ev.state.update({t.name: made.traces[t.local].reshape(batch, *rule.shape_of(t.side)) for t in rule.traces})
    ev.state[rule.weight.name] = made.weight.reshape(weight.shape)


def _matrix(value: Tensor) -> Tensor:
    """What has the weight's shape as a call has it: one row for each output."""
    return value.float().flatten(1).contiguous()


def _rows(value: Tensor, trace: Trace) -> Tensor:
    """A trace as a call has it: ``(B, M)``, ``(B, N)``, or ``(B, *weight)`` with the taps of an output in one row."""
    flat = value.flatten(2) if trace.side == "synapse" else value.flatten(1)
    return flat.float().contiguous()


def _flat(ev: Evaluation, edge: Edge, shape: tuple[int, int, int]) -> Tensor:
    course = ev.course(edge)
    return (course if course.dim() == 3 else course.reshape(shape)).float()
