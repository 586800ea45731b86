"""Scans that pool one of their results, where nothing but the pooling reads it: its course is never made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Ref, Region
from snncompile.targets.pooling import Windows, divisor_of, tiles

if TYPE_CHECKING:
    from snncompile.targets.evaluation import Evaluation


class PooledScan(NamedTuple):
    """A scan with the pooling behind it.

    Attributes:
        scan: the elementwise node.
        pool: the connection.
        windows: how the one pools for the other.
    """

    scan: str
    pool: str
    windows: Windows


def pooled_scans(graph: Graph, regions: Sequence[Region], target: Any) -> dict[str, PooledScan]:
    """Node -> the pooling that it can do itself, on a target that pools what scans give."""
    pools_scan: Callable[[Windows], bool] | None = getattr(target, "pools_scan", None)
    if pools_scan is None:
        return {}
    scans = {r.nodes[0] for r in regions if r.kind == "scan"}
    pools = [r.nodes[0] for r in regions if r.kind == "product"]
    outputs = {ref for _, ref in graph.outputs}
    found: dict[str, PooledScan] = {}
    for name in pools:
        op = graph.op(name)
        if not isinstance(op, Connection) or not tiles(op):
            continue
        (edge,) = graph.inputs_of(name).values()
        scan, result = edge.source.node, edge.source.port
        readers = [e for _, _, e in graph.consumers(scan) if e.source == edge.source]
        if scan not in scans or edge.delay or len(readers) != 1 or edge.source in outputs:
            continue
        source = graph.op(scan)
        windows = windows_of(op, result)
        if isinstance(source, Elementwise) and windows is not None and pools_scan(windows):
            found.setdefault(scan, PooledScan(scan, name, windows))
    return found


def windows_of(op: Connection, result: str) -> Windows | None:
    """The windows of ``op``, which tiles an image, over ``result``; None where they leave a remainder."""
    _, height, width = op.input.shape
    rows, columns = op.attrs["kernel_size"]
    if height % rows or width % columns:
        return None
    return Windows(result, width, (rows, columns), divisor_of(op))


def unseen(ev: Evaluation, pooled: PooledScan) -> bool:
    """Whether nobody asks for the course that ``pooled`` leaves out."""
    return Ref(pooled.scan, pooled.windows.result) not in ev.want_course | ev.want_sum
