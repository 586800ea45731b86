"""Pass ``choose-regions``: the schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncompile.ir.graph import Graph
from snncompile.ir.regions import choose_regions
from snncompile.passes.base import Pass


@dataclass(frozen=True)
class ChooseRegions(Pass):
    """Splits the graph into products over all steps, scans (one kernel over time) and recurrent regions."""

    name: ClassVar[str] = "choose-regions"
    ensures: ClassVar[frozenset[str]] = frozenset({"scheduled"})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        return replace(graph.copy(), regions=choose_regions(graph))
