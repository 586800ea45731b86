"""Nested graphs as one: names joined, edges led through, and everything an edge can be wrong about refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snncompile.ir.errors import InterchangeError


@dataclass
class Flat:
    """A graph without graphs in it.

    Attributes:
        nodes: name -> node; a node of a nested graph is called ``outer.inner``.
        edges: pairs of names.
        inputs: names of the graph's own Input nodes, sorted.
        outputs: names of its own Output nodes, sorted.
    """

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def sources(self, name: str) -> list[str]:
        """What leads into a node, in the order of names."""
        return sorted(a for a, b in self.edges if b == name)

    def targets(self, name: str) -> list[str]:
        """What a node leads to, in the order of names."""
        return sorted(b for a, b in self.edges if a == name)


def kind_of(node: Any) -> str:
    """The primitive's name."""
    return type(node).__name__


def flatten(graph: Any) -> Flat:
    """The graph with nested graphs replaced by their nodes.

    The Input and Output nodes of a nested graph stay, as nodes that pass on what they are given.

    Raises:
        InterchangeError: for edges that lead nowhere, and for graphs without inputs or outputs.
    """
    if kind_of(graph) != "NIRGraph":
        raise InterchangeError(f"a NIRGraph or the path of a file is read, not {kind_of(graph)}")
    flat = Flat()
    _add(flat, graph, "")
    flat.inputs = sorted(n for n, v in graph.nodes.items() if kind_of(v) == "Input")
    flat.outputs = sorted(n for n, v in graph.nodes.items() if kind_of(v) == "Output")
    for what, names in (("Input", flat.inputs), ("Output", flat.outputs)):
        if not names:
            raise InterchangeError(f"the graph has no {what} node")
    for name in flat.nodes:
        if name in flat.inputs:
            if flat.sources(name):
                raise InterchangeError(f"{flat.sources(name)[0]!r} leads into it, and it is an Input", node=name)
        elif not flat.sources(name):
            raise InterchangeError("no edge leads into it", node=name)
    for name in flat.outputs:
        if flat.targets(name):
            raise InterchangeError(f"an edge leads from it to {flat.targets(name)[0]!r}, and it is an Output",
                                   node=name)  # fmt: skip
    return flat


def _add(flat: Flat, graph: Any, prefix: str) -> None:
    where = prefix.rstrip(".") or None
    heads: dict[str, str] = {}
    tails: dict[str, str] = {}
    for key in sorted(graph.nodes):
        node, name = graph.nodes[key], f"{prefix}{key}"
        if kind_of(node) != "NIRGraph":
            if name in flat.nodes:
                raise InterchangeError("two nodes have this name, one of them in a nested graph", node=name)
            flat.nodes[name] = node
            heads[key] = tails[key] = name
            continue
        _add(flat, node, f"{name}.")
        heads[key] = f"{name}.{_only('Input', node, name)}"
        tails[key] = f"{name}.{_only('Output', node, name)}"
    seen = set()
    for a, b in graph.edges:
        for end, what in ((a, "from"), (b, "to")):
            if end not in heads:
                raise InterchangeError(
                    f"the edge {a!r} -> {b!r} leads {what} a node {end!r} that is not there; the nodes are:"
                    f" {', '.join(sorted(graph.nodes))}",
                    node=where,
                )
        if (a, b) in seen:
            raise InterchangeError(f"the edge {a!r} -> {b!r} is there twice", node=where)
        seen.add((a, b))
        flat.edges.append((tails[a], heads[b]))


def _only(kind: str, graph: Any, name: str) -> str:
    found = [key for key, node in graph.nodes.items() if kind_of(node) == kind]
    if len(found) != 1:
        raise InterchangeError(
            f"this nested graph has {len(found)} {kind} nodes; an edge names the graph, so it must have exactly one",
            node=name,
        )
    return found[0]
