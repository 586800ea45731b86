"""Edits of a graph that several passes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from snncompile.ir.connection import Connection
from snncompile.ir.graph import Edge, Graph, Ref


def redirect(graph: Graph, moved: Mapping[Ref, Ref]) -> Graph:
    """``graph`` (changed in place, and returned) with every reader of a moved port reading its new place."""
    for old, new in moved.items():
        for consumer, port, edge in graph.consumers(old.node):
            if edge.source == old:
                graph.connect(consumer, port, Edge(new, edge.delay, edge.feedback))
    outputs = tuple((key, moved.get(ref, ref)) for key, ref in graph.outputs)
    return replace(graph, outputs=outputs)


def bypass(graph: Graph, name: str) -> Graph:
    """``graph`` (changed in place, and returned) without node ``name``, which hands its one input on unchanged."""
    (edge,) = graph.inputs_of(name).values()
    graph = redirect(graph, {Ref(name): edge.source})
    graph.nx.remove_node(name)
    return graph


def absorb(graph: Graph, name: str, op: Connection) -> None:
    """Put ``op`` in place of node ``name`` and of the one before it, in ``graph``.

    The later name stays: what it records is still its own signal, and that of the earlier one is gone.
    """
    (edge,) = graph.inputs_of(name).values()
    (before,) = graph.inputs_of(edge.source.node).values()
    graph.nx.nodes[name]["op"] = op
    graph.connect(name, "x", before)
    graph.nx.remove_node(edge.source.node)


def only_reader(graph: Graph, name: str) -> str | None:
    """The node that alone reads node ``name``, without delay, where it is no output; None otherwise."""
    readers = graph.consumers(name)
    if len(readers) != 1 or any(ref.node == name for _, ref in graph.outputs) or readers[0][2].delay:
        return None
    return readers[0][0]
