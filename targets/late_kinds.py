"""How late scans read the values that delays show, as far as the graph says: for kernels that are printed ahead."""

from __future__ import annotations

import torch

from snncompile.ir.connection import Connection
from snncompile.ir.delay import read
from snncompile.ir.graph import Graph
from snncompile.ir.interpolated import moves_only, taps


def gathers(graph: Graph, name: str) -> bool:
    """Whether what a Delay shows is no other view of the signal: where it is made, that is a kernel's work."""
    op = graph.op(name)
    if op.kind != "Delay" or not op.depth:
        return False
    return op.same_for_all is None or late_kinds(graph, name) != ["one"]


def behind_views(graph: Graph, name: str) -> str:
    """The node whose signal ``name`` is another view of, or itself."""
    while getattr(graph.op(name), "kind", "") == "Flatten":
        (edge,) = graph.inputs_of(name).values()
        if edge.delay:
            break
        name = edge.source.node
    return name


def late_kinds(graph: Graph, name: str) -> list[str]:
    """How late each value is that a Delay reads (``targets.variant.Layout``), of the signal that delays before it leave
    to it; the present one is not late."""
    kinds = _kinds(graph.op(name))
    (edge,) = graph.inputs_of(name).values()
    at = behind_views(graph, edge.source.node)
    op = graph.op(at)
    if not isinstance(op, Connection) or not op.attrs.get("offset") or not moves_only(op):
        return kinds
    (first,) = late_kinds(graph, at)
    return [kind if kind in ("each", "shared") else first for kind in kinds]


def _kinds(op: Connection) -> list[str]:
    """Likewise, of what the Delay itself reads."""
    steps = op.attrs["steps"]
    if op.output.size > op.input.size:
        return ["shared"] * len(taps(op))
    if steps == "given":
        return ["each" if op.params["steps"].shape else "one"] * len(taps(op))
    if op.same_for_all is not None:
        return ["one"]
    seen = read(torch.tensor(steps, dtype=torch.float64), op.rule)
    return ["one" if int(index) else "" for index in (seen.index, seen.other) if index is not None]
