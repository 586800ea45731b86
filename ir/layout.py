"""Where the nodes of a graph stand in a picture: in layers, without touching."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx

from snncompile.ir.graph import Graph
from snncompile.ir.look import label_of

#: Height of a node, in inches.
HEIGHT = 0.52

_WIDTH = 0.088  # of a character
_GAP_X, _GAP_Y = 0.55, 0.62
_SWEEPS = 12

Point = tuple[float, float]


class Layout:
    """Where everything stands: nodes in layers of the graph without late edges, long edges through free places.

    Attributes:
        at: node (or waypoint) -> its centre.
        widths: node -> its width.
        chains: ``(source, target)`` -> the waypoints of an edge that skips layers.
        size: of the whole picture, in inches.
    """

    def __init__(self, graph: Graph) -> None:
        self.widths = {n: _WIDTH * max(map(len, label_of(graph, n))) + 0.3 for n in graph.names}
        self.outputs = {f"output {key}": ref for key, ref in graph.outputs}
        self.widths |= {end: _WIDTH * len(end.removeprefix("output ")) + 0.2 for end in self.outputs}
        self.late = [(e, n) for n in graph.names for e in graph.inputs_of(n).values() if e.delay]
        flow = nx.DiGraph(graph.instant())
        flow.add_edges_from((ref.node, end) for end, ref in self.outputs.items())
        depth = _depths(graph, flow)
        self.chains = _chains(flow, depth)
        self._order(flow, depth)
        self._place(flow, depth)

    def _order(self, flow: nx.DiGraph, depth: dict[str, int]) -> None:
        """Sort each layer by the mean place of its neighbours, up and down, so that few edges cross."""
        index = {name: i for i, name in enumerate(flow)}
        for points in self.chains.values():
            for point in points:
                index[point] = len(index)
                self.widths[point] = 0.12
        self.links = nx.Graph()
        for (a, b), points in self.chains.items():
            nx.add_path(self.links, [a, *points, b])
        self.links.add_nodes_from(flow)
        self.rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
        for name in sorted(depth, key=index.__getitem__):
            self.rows[depth[name]].append(name)
        for sweep in range(_SWEEPS):
            rows = self.rows if sweep % 2 == 0 else self.rows[::-1]
            for before, row in pairwise(rows):
                place = {name: i for i, name in enumerate(before)}

                def mean(name: str, place: dict[str, int] = place, row: list[str] = row) -> float:
                    near = [place[n] for n in self.links[name] if n in place]
                    return sum(near) / len(near) if near else row.index(name)

                row[:] = sorted(row, key=mean)

    def _place(self, flow: nx.DiGraph, depth: dict[str, int]) -> None:
        """Set coordinates: rows from top to bottom, each node near its neighbours without touching the next."""
        self.at: dict[str, Point] = {}
        x = {}
        for row in self.rows:
            left = 0.0
            for name in row:
                x[name] = left + self.widths[name] / 2
                left += self.widths[name] + _GAP_X
        row_of = {name: i for i, row in enumerate(self.rows) for name in row}
        for sweep in range(2 * _SWEEPS):
            down = sweep % 2 == 0
            for row in self.rows if down else self.rows[::-1]:
                side = (-1, 1) if sweep < _SWEEPS else (-1,) if down else (1,)  # towards the end chains straighten
                wish = [self._wish(name, x, {row_of[name] + d for d in side}, row_of) for name in row]
                for name, place in zip(row, _spread(wish, [self.widths[n] for n in row]), strict=True):
                    x[name] = place
        margin = 0.5
        low = min((x[n] - self.widths[n] / 2 for n in x), default=0.0)
        for i, row in enumerate(self.rows):
            for name in row:
                self.at[name] = (x[name] - low + margin, -(0.55 + i * (HEIGHT + _GAP_Y)))
        ends = [self.side(n, 1)[0] for n in x] or [1.0]
        for edge, target in self.late:
            ends.append(
                self.turn(edge.source.node, target) + 0.055 * (len(edge.feedback) + len(edge.source.port)) + 0.3
            )
        self.size = (max(ends) + margin, (len(self.rows) - 1) * (HEIGHT + _GAP_Y) + 1.1)

    def _wish(self, name: str, x: dict[str, float], rows: set[int], row_of: dict[str, int]) -> float:
        near = [x[n] for n in self.links[name] if row_of[n] in rows]
        return sum(near) / len(near) if near else x[name]

    def side(self, name: str, direction: int) -> Point:
        """The middle of a node's right (+1) or left (-1) side."""
        x, y = self.at[name]
        return x + direction * self.widths[name] / 2, y

    def turn(self, source: str, target: str) -> float:
        """How far right a late edge goes, to pass what stands between."""
        (x0, y0), (x1, y1) = self.at[source], self.at[target]
        low, high = min(y0, y1) - 0.1, max(y0, y1) + 0.1
        between = [n for n, (x, y) in self.at.items() if low < y < high and x <= max(x0, x1) + 0.3]
        return max(self.side(n, 1)[0] for n in between) + 0.42


def _depths(graph: Graph, flow: nx.DiGraph) -> dict[str, int]:
    """Node -> row. Each stands below what it reads; the rows of a region of several nodes hold nothing else."""
    depth: dict[str, int] = {}
    taken: set[int] = set()
    large = {n: region.nodes for region in graph.regions if len(region.nodes) > 1 for n in region.nodes}
    for name in nx.lexicographical_topological_sort(flow, key=list(flow).index):
        if name in depth:
            continue
        group = large.get(name, (name,))
        inner = flow.subgraph(group)
        above = {p for n in group for p in nx.ancestors(flow, n)} - set(group)
        for n in [n for n in flow if n in above and n not in depth]:  # reads of its later members
            depth[n] = _free(max((depth[p] + 1 for p in flow.predecessors(n) if p in depth), default=0), taken)
        start = max((depth[p] + 1 for n in group for p in flow.predecessors(n) if p in depth), default=0)
        if len(group) == 1:
            depth[name] = _free(start, taken)
            continue
        start = max([start, *(row + 1 for row in depth.values())])
        rows = {n: i for i, layer in enumerate(nx.topological_generations(inner)) for n in layer}
        for n in [n for n in inner if not inner.in_degree(n) and inner.out_degree(n)]:  # next to what reads them
            rows[n] = min(rows[s] for s in inner.successors(n)) - 1
        depth |= {n: start + row for n, row in rows.items()}
        taken |= {start + row for row in rows.values()}
    for name in [n for n in flow if not flow.in_degree(n) and flow.out_degree(n) and n not in large]:
        row = min(depth[s] for s in flow.successors(name)) - 1
        depth[name] = row if row not in taken else depth[name]
    return depth


def _free(row: int, taken: set[int]) -> int:
    while row in taken:
        row += 1
    return row


def _chains(flow: nx.DiGraph, depth: dict[str, int]) -> dict[tuple[str, str], list[str]]:
    """One waypoint in each layer that an edge passes."""
    chains: dict[tuple[str, str], list[str]] = {}
    for a, b in list(flow.edges):
        points = [f"{a} to {b} at {i}" for i in range(depth[a] + 1, depth[b])]
        depth.update({point: depth[a] + 1 + i for i, point in enumerate(points)})
        chains[a, b] = points
    return chains


def _spread(wish: list[float], widths: list[float]) -> list[float]:
    """Places as near to ``wish`` as they can be in this order without touching (pooled neighbours, least squares)."""
    offsets = [0.0]
    for a, b in pairwise(widths):
        offsets.append(offsets[-1] + (a + b) / 2 + _GAP_X)
    pools: list[list[float]] = []  # sum of wishes, count
    for want, offset in zip(wish, offsets, strict=True):
        pools.append([want - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1] = [pools[-1][0] + total, pools[-1][1] + count]
    means = [total / count for total, count in pools for _ in range(int(count))]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
