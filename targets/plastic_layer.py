"""A plastic layer as one operation: a connection that learns, and the neurons it feeds.

A target that offers ``plastic`` runs such a region with its own kernels; any other goes step by step
(``targets/plastic.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise, OutPort
from snncompile.ir.graph import Graph, Ref, Region
from snncompile.ir.plasticity import Plasticity, Trace
from snncompile.ir.program import Program
from snncompile.targets.autograd import BoundScan, PreparedScan
from snncompile.targets.drawn import reading
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.layer_inputs import course, fed, seen
from snncompile.targets.plastic import refuse_gradient
from snncompile.targets.plastic_call import PlasticForwardCall, PlasticTarget, Wiring, heard
from snncompile.targets.plastic_rule import make_rule
from snncompile.targets.registry import make_target
from snncompile.targets.scan import Scan, make_scan


@dataclass(frozen=True)
class PlasticLayer:
    """A plastic region of the simple form.

    Attributes:
        connection: the connection's name.
        neurons: the elementwise node's name; "" where the rule watches a signal from outside, or the product itself.
        rule: the plasticity node's name.
        port: the neurons' input that the connection feeds.
        source: the neurons' result that the rule watches.
        other: whether the rule watches another input than the connection takes.
    """

    connection: str
    neurons: str
    rule: str
    port: str
    source: str
    other: bool = False

    def population(self, graph: Graph) -> tuple[str, Elementwise]:
        """The name and the node of its neurons; where it has none, of what stands for them."""
        return (self.neurons, graph.op(self.neurons)) if self.neurons else (self.connection, _stand_in(graph, self))

    def wiring(self, graph: Graph) -> Wiring:
        """What a kernel must be printed for, besides its neurons and its rule."""
        product = Ref(self.connection)
        read = product in {ref for _, ref in graph.outputs}
        read |= any(reader not in (self.neurons, self.rule) for reader, _, _ in graph.consumers(self.connection))
        return Wiring(self.port, self.source, "bias" in graph.op(self.connection).params, read, self.other)


#: What stands for neurons where there are none reads the product, and what the rule watches if that comes from outside.
_PRODUCT, _TAUGHT = "product", "taught"


def _stand_in(graph: Graph, layer: PlasticLayer) -> Elementwise:
    """A node without a state whose result is what the rule watches."""
    of = graph.op(layer.connection).output
    given = _PRODUCT if graph.inputs_of(layer.rule)["post"].source.node == layer.connection else _TAUGHT
    inputs = tuple(dict.fromkeys((_PRODUCT, given)))
    shown = Program(inputs, (), ((layer.source, given),))
    return Elementwise(
        kind="Taught",
        shape=of.shape,
        inputs=inputs,
        outputs=(OutPort(layer.source, f"{layer.connection}.{layer.source}", of),),
        states=(),
        params={},
        forward=shown,
        reverse=Program((*inputs, f"grad_{layer.source}"), (), tuple((f"grad_{x}", 0.0) for x in inputs)),
        members=(layer.connection,),
    )


def match(graph: Graph, region: Region) -> PlasticLayer | str:
    """The layer that ``region`` is, or why it is none."""
    kinds = (Connection, Elementwise, Plasticity)
    by_kind = [[n for n in region.nodes if isinstance(graph.op(n), kind)] for kind in kinds]
    if [len(names) for names in by_kind] not in ([1, 1, 1], [1, 0, 1]):
        return f"{len(region.nodes)} nodes learn or run together, not one connection, one population and one rule"
    (connection,), populations, (rule,) = by_kind
    inside = set(region.nodes)
    fed, watched = graph.inputs_of(connection)["x"], graph.inputs_of(rule)
    if any(e.source.node in inside for e in (fed, watched["pre"], *(watched[s] for s in graph.op(rule).signals))):
        return f"what {connection} takes, or {rule} listens to, comes from the layer itself"
    other = watched["pre"] != fed
    if not populations:
        if watched["post"].delay:
            return f"{rule} watches something late"
        return PlasticLayer(connection, "", rule, _PRODUCT, "shown", other)
    (neurons,) = populations
    if watched["post"].delay or watched["post"].source.node != neurons:
        return f"{rule} does not watch {neurons}"
    feeds = graph.inputs_of(neurons)
    ports = [p for p, e in feeds.items() if e.source.node == connection]
    if len(ports) != 1 or feeds[ports[0]].delay or any(e.source.node in (neurons, rule) for e in feeds.values()):
        return f"{neurons} reads something late, or {connection} twice"
    return PlasticLayer(connection, neurons, rule, ports[0], watched["post"].source.port, other)


def why_not(ev: Evaluation, layer: PlasticLayer, target: PlasticTarget) -> str:
    """Why ``target`` has no kernel for ``layer`` in this run, or ""."""
    op = ev.graph.op(layer.connection)
    scan, rule = reading(_prepared(ev, layer).scan), ev.prepared.rules[layer.rule].rule
    return target.why_not(scan, rule, op.params["weight"].shape, ev.r.batch)


def planned(graph: Graph, layer: PlasticLayer, target: str) -> str:
    """Why target ``target`` has no kernel for ``layer`` whatever the batch, or "". It need not run here."""
    plastic: PlasticTarget | None = getattr(make_target(target), "plastic", None)
    if plastic is None:
        return f"{target} has no kernel for a layer that learns"
    scan, rule = reading(make_scan(*layer.population(graph))), make_rule(layer.rule, graph.op(layer.rule))
    return plastic.why_not(scan, rule, graph.op(layer.connection).params["weight"].shape)


def plan_of(
    graph: Graph, layer: PlasticLayer, target: str, seen: Iterable[tuple[Scan, tuple[str, ...], list[str]]] = ()
) -> str:
    """How the kernel of target ``target`` runs ``layer`` for one sequence, in words; "" where it says nothing.

    Args:
        graph: the network after the passes.
        layer: the layer in it.
        target: where.
        seen: what is made of late values where it takes or watches them, as ``plastic_seen.Shows`` of Triton has it.
    """
    plan = getattr(getattr(make_target(target), "plastic", None), "plan", None)
    if plan is None:
        return ""
    scan, rule = reading(make_scan(*layer.population(graph))), make_rule(layer.rule, graph.op(layer.rule))
    return str(plan(scan, rule, graph.op(layer.connection).params["weight"].shape, seen=seen))


def run_plastic_layer(ev: Evaluation, layer: PlasticLayer, region: Region, target: PlasticTarget) -> None:
    """Run ``layer`` over all steps of ``ev``, leaving courses, sums and final states there.

    Raises:
        InputError: where a gradient would have to pass through the learning.
    """
    refuse_gradient(ev, region)
    with torch.no_grad():
        _run(ev, layer, target)


def _prepared(ev: Evaluation, layer: PlasticLayer) -> PreparedScan:
    if layer.neurons:
        return ev.prepared.scans[layer.neurons]
    return ev.prepared.standing_in(*layer.population(ev.graph))


def _bound(ev: Evaluation, layer: PlasticLayer) -> BoundScan:
    """The scan of its neurons with this run's coefficients."""
    return ev.bind(layer.neurons) if layer.neurons else ev.bind_reader(_prepared(ev, layer), {})


def _run(ev: Evaluation, layer: PlasticLayer, target: PlasticTarget) -> None:
    name, op = layer.population(ev.graph)
    rule: Plasticity = ev.graph.op(layer.rule)
    weight = ev.r.state[rule.weight.name]
    ins = math.prod(rule.pre)
    steps, batch = ev.r.steps, ev.r.batch
    taught = ev.bind_rule(layer.rule)
    store, sums = ev.wanted(layer.neurons) if layer.neurons else ([], [])
    read = ev.prepared.read[layer.rule]
    recorded = ev.want_course | ev.want_sum
    edges = ev.prepared.inputs[layer.rule]
    bias = ev.params(layer.connection).get("bias")
    product = Ref(layer.connection)
    feeds = ev.prepared.inputs[layer.neurons] if layer.neurons else {p: edges["post"] for p in op.inputs}
    feed = fed(ev, name, op, feeds, layer.port, lambda: _bound(ev, layer))
    taken = {"x": ev.prepared.inputs[layer.connection]["x"], **({"pre": edges["pre"]} if layer.other else {})}
    made_here = {what: seen(ev, edge) for what, edge in taken.items()}
    made_here |= {heard(port): seen(ev, edges[port]) for port in rule.signals}
    courses = {what: course(ev, edge, (steps, batch, ins)) for what, edge in taken.items()}
    call = PlasticForwardCall(
        port=feed.port,
        source=layer.source,
        weight=_matrix(weight),
        bias=None if bias is None else bias.float().contiguous(),
        fixed={role: _matrix(ev.r.values[p.name]) for role, p in rule.fixed.items()},
        x=courses["x"],
        pre=courses.get("pre"),
        inputs=feed.inputs,
        coefs=feed.scan.coefs,
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
        store_product=layer.wiring(ev.graph).product or product in recorded,
        late=feed.late,
        seen={what: one for what, one in made_here.items() if one is not None},
    )
    made = target.forward(reading(feed.scan.prepared.scan), taught.prepared.rule, call)
    if layer.neurons:
        ev.keep(layer.neurons, made.stored, {}, made.finals)
    for local, trace in made.stored_traces.items():
        side = next(t.side for t in rule.traces if t.local == local)
        ev.courses[Ref(layer.rule, local)] = trace.reshape(steps, batch, *rule.shape_of(side))
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
