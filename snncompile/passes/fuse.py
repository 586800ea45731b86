"""What the two fusions share: replacing several elementwise nodes by one, and when that is allowed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import networkx as nx

from snncompile.ir.compose import compose
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Ref
from snncompile.passes.rewrite import redirect

#: States beyond which a fused kernel would run out of registers, and operations beyond which it helps nobody.
MAX_STATES = 16
MAX_OPS = 400


def merge(graph: Graph, names: Sequence[str]) -> tuple[Graph, str]:
    """A copy of ``graph`` with ``names`` composed into one node, and that node's name."""
    composite = compose(graph, names)
    graph = graph.copy()
    fused = _fused_name(graph, composite.node.members)
    graph.nx.add_node(fused, op=composite.node, where=graph.where(names[0]))
    for port, edge in composite.feeds.items():
        graph.connect(fused, port, edge)
    inner = [(u, v, key) for u, v, key in graph.nx.out_edges(names, keys=True) if v in set(names)]
    graph.nx.remove_edges_from(inner)  # what flows among the members is inside the program now
    moved = {ref: Ref(fused, local) for ref, local in composite.moved.items()}
    graph = redirect(graph, moved)
    graph.nx.remove_nodes_from(names)
    return _in_order(graph), fused


def _in_order(graph: Graph) -> Graph:
    """``graph`` with its nodes in the order in which they run: inputs as they were, the fused node in its place."""
    ordered = nx.MultiDiGraph()
    ordered.add_nodes_from((name, graph.nx.nodes[name]) for name in graph.order())
    ordered.add_edges_from(graph.nx.edges(data=True))
    return replace(graph, nx=ordered)


def _fused_name(graph: Graph, members: Sequence[str]) -> str:
    joined = "_".join(members)
    wanted = joined if len(joined) <= 40 else f"{members[0]}_to_{members[-1]}"[:100]
    name, k = wanted, 0
    while name in graph.nx:
        k += 1
        name = f"{wanted}_{k}"
    return name


def too_large(nodes: Sequence[Elementwise]) -> str:
    """Why these nodes together are too much for one kernel, or ""."""
    states = sum(len(n.states) for n in nodes)
    ops = sum(len(n.forward.ops) for n in nodes)
    if states > MAX_STATES:
        return f"together they have {states} states, more than the {MAX_STATES} that fit in registers"
    if ops > MAX_OPS:
        return f"together they have {ops} operations, more than {MAX_OPS}"
    return ""


def cycle_of(graph: Graph) -> dict[str, int]:
    """Node -> number of the cycle it stands on (late edges included, and learning); -1 for none."""
    numbers = {name: -1 for name in graph.names}
    plain = graph.coupled()
    for i, component in enumerate(nx.strongly_connected_components(plain)):
        first = next(iter(component))
        if len(component) > 1 or plain.has_edge(first, first):
            numbers.update(dict.fromkeys(component, i))
    return numbers


def path_around(graph: Graph, group: Collection[str], on_a_cycle: bool) -> list[str]:
    """Nodes outside ``group`` that stand between two of its members: fusing would close a cycle.

    Args:
        graph: the graph.
        group: the members.
        on_a_cycle: whether they stand on one cycle already. Then only a path without delay is in the way; otherwise a
            late one is, too: what ran over all steps at once would have to run step by step.
    """
    paths = graph.instant() if on_a_cycle else graph.nx
    after: set[str] = set()
    before: set[str] = set()
    for name in group:
        after |= nx.descendants(paths, name)
        before |= nx.ancestors(paths, name)
    return sorted((after & before) - set(group))


def late_elsewhere(graph: Graph, group: Collection[str]) -> list[str]:
    """Feedbacks from ``group`` to itself that others read too: as a state of one node they could not."""
    late = [(edge.feedback, reader in group) for n in group for reader, _, edge in graph.consumers(n) if edge.delay]
    inside = {feedback for feedback, is_inside in late if is_inside}
    return sorted({feedback for feedback, is_inside in late if feedback in inside and not is_inside})
