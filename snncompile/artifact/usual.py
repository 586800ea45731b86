"""What a node's kernel is printed for: a run that is long enough for delays to be read at offsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph
from snncompile.ir.interpolated import showing
from snncompile.targets.drawn import reading
from snncompile.targets.late_kinds import behind_views, late_kinds
from snncompile.targets.late_scan import one_each, usual_reader
from snncompile.targets.plastic_call import heard
from snncompile.targets.plastic_layer import PlasticLayer
from snncompile.targets.scan import Scan, make_scan


class Usual(NamedTuple):
    """A node with what delays before it compute.

    Attributes:
        scan: its scan.
        per_neuron: its parameters that have one value for each neuron.
        late: per input how late it is read, as in ``targets.variant.Layout``; empty where none is.
        port: the input that the product of its layer feeds; "" outside of layers.
    """

    scan: Scan
    per_neuron: list[str]
    late: tuple[str, ...]
    port: str = ""


def usual_scan(graph: Graph, name: str) -> Usual:
    """A node outside of layers."""
    reader, late = usual_reader(graph, graph.op(name), graph.inputs_of(name))
    return Usual(make_scan(name, reader.node), _per_neuron(reader.node), late)


def usual_layer(graph: Graph, name: str, op: Elementwise, edges: Mapping[str, Edge], port: str) -> Usual:
    """The neurons ``op`` of a layer, or what stands for them, which read what they draw.

    Args:
        graph: the network after the passes.
        name: what the scan is called.
        op: the neurons.
        edges: what feeds them.
        port: the port that the layer's own product feeds.
    """
    reader, late = usual_reader(graph, op, {p: e for p, e in edges.items() if p != port})
    scan = make_scan(name, reader.node)
    return Usual(reading(scan), _per_neuron(reader.node), late, scan.inputs[reader.inputs.index((port, ""))])


def usual_learner(graph: Graph, layer: PlasticLayer) -> Usual:
    """The neurons of a layer that learns, or what stands for them."""
    name, op = layer.population(graph)
    post = graph.inputs_of(layer.rule)["post"]
    edges = graph.inputs_of(layer.neurons) if layer.neurons else dict.fromkeys(op.inputs, post)
    return usual_layer(graph, name, op, edges, layer.port)


class UsualSeen(NamedTuple):
    """What a delay shows, made where it is read.

    Attributes:
        scan: what makes it, of the values that the delay reads.
        kinds: how late each of these is.
        per_neuron: parameters that have one value for each that is shown.
    """

    scan: Scan
    kinds: tuple[str, ...]
    per_neuron: list[str]


def usual_seen(graph: Graph, layer: PlasticLayer) -> dict[str, UsualSeen]:
    """Those of what a layer that learns takes, and its rule watches or hears, that are late, named as in a call."""
    listened = graph.inputs_of(layer.rule)
    edges = {"x": graph.inputs_of(layer.connection)["x"]}
    if layer.other:
        edges["pre"] = listened["pre"]
    edges |= {heard(signal): listened[signal] for signal in graph.op(layer.rule).signals}
    found = {}
    for what, edge in edges.items():
        delay = behind_views(graph, edge.source.node)
        op = graph.op(delay)
        if isinstance(op, Connection) and op.attrs.get("offset"):
            node = showing(delay, one_each(op))
            found[what] = UsualSeen(make_scan(delay, node), tuple(late_kinds(graph, delay)), _per_neuron(node))
    return found


def _per_neuron(node: Elementwise) -> list[str]:
    return [role for role, p in node.params.items() if p.shape != ()]
