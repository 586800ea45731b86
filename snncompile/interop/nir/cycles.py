"""The order in which nodes are applied, and where a cycle waits one step."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx

from snncompile.interop.nir.flat import Flat, kind_of

#: Primitives that keep nothing from step to step.
STATELESS = frozenset(
    ("Affine", "AvgPool2d", "Conv1d", "Conv2d", "Flatten", "Input", "Linear", "Output", "Scale", "SumPool2d")
)


def schedule(flat: Flat, waits: Callable[[str], bool]) -> tuple[list[str], set[tuple[str, str]]]:
    """An order of the nodes, and the edges that carry the previous step's value.

    An edge of a cycle closes it if it does not lead further from the inputs (in edges, on the shortest way). The value
    is then taken one step late as early on that way as possible: at the output of the neuron, before the connections
    through which it comes back. The order of nodes and edges in the file does not matter.

    Args:
        flat: the graph.
        waits: whether a node itself waits (a Delay of one step or more), so that a cycle through it needs no more.
    """
    now = nx.DiGraph()
    now.add_nodes_from(sorted(flat.nodes))
    now.add_edges_from(sorted((a, b) for a, b in flat.edges if not waits(b)))
    depth = _depths(flat)
    part = {name: i for i, group in enumerate(nx.strongly_connected_components(now)) for name in group}
    back = [(a, b) for a, b in sorted(now.edges) if part[a] == part[b] and depth[b] <= depth[a]]
    late = {_moved(flat, a, b, waits) for a, b in back}
    now.remove_edges_from(late)
    return list(nx.lexicographical_topological_sort(now)), late


def _depths(flat: Flat) -> dict[str, int]:
    whole = nx.DiGraph(flat.edges)
    whole.add_nodes_from(flat.nodes)
    far = len(flat.nodes)
    found = nx.multi_source_dijkstra_path_length(whole, set(flat.inputs))
    return {name: int(found.get(name, far)) for name in flat.nodes}


def _moved(flat: Flat, a: str, b: str, waits: Callable[[str], bool]) -> tuple[str, str]:
    """The edge to take late instead of ``a -> b``: before the stateless nodes that nothing else uses or feeds."""
    start = (a, b)
    while kind_of(flat.nodes[a]) in STATELESS and not waits(a):
        sources = flat.sources(a)
        if len(sources) != 1 or len(flat.targets(a)) != 1 or (sources[0], a) == start:
            break
        a, b = sources[0], a
    return a, b
