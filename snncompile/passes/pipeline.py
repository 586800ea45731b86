"""The order of the passes, and what each use of a network asks of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from snncompile.ir.graph import Graph
from snncompile.ir.regions import choose_regions


@dataclass(frozen=True)
class Request:
    """What a compiled graph is for.

    Attributes:
        training: whether BatchNorm and Dropout act as in training.
        keep: record names that must stay available.
    """

    training: bool = False
    keep: frozenset[str] = frozenset()


def compile_graph(graph: Graph, request: Request) -> Graph:
    """``graph`` after all passes: verified, fused and scheduled."""
    return replace(graph, regions=choose_regions(graph))
