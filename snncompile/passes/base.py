"""What a pass is, and the manager that runs several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from snncompile.ir.errors import VerificationError
from snncompile.ir.graph import Graph
from snncompile.ir.verify import verify


@dataclass(frozen=True)
class Pass:
    """A rewrite of a graph. It changes no graph it is given, and notes what it declined, and why.

    Attributes:
        name: how the command line and notes call it.
        requires: properties that must hold before, by name.
        ensures: properties that hold after.
    """

    name: ClassVar[str]
    requires: ClassVar[frozenset[str]] = frozenset()
    ensures: ClassVar[frozenset[str]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph."""
        raise TypeError(f"{type(self).__name__} does not say what it does")


def run_passes(graph: Graph, passes: Sequence[Pass], upto: str | None = None) -> Graph:
    """``graph`` after ``passes`` in order, verified before the first and after each.

    Args:
        graph: where to start.
        passes: what to run.
        upto: name of the last pass to run; None runs all.

    Raises:
        VerificationError: where a pass needs what no earlier one ensured, or leaves a broken graph (naming the pass),
            or where no pass is called ``upto``.
    """
    if upto is not None and upto not in {step.name for step in passes}:
        known = ", ".join(step.name for step in passes)
        raise VerificationError(f"there is no pass {upto!r}; the passes are {known}")
    verify(graph)
    graph = replace(graph, regions=())  # a rewrite makes an earlier schedule stale
    held: set[str] = set()
    for step in passes:
        missing = step.requires - held
        if missing:
            wanted = ", ".join(sorted(missing))
            raise VerificationError(f"pass {step.name} needs {wanted}, which no earlier pass ensures")
        graph = step.run(graph)
        try:
            verify(graph)
        except VerificationError as err:
            raise VerificationError(f"after pass {step.name}: {err.message}", node=err.node) from err
        held |= step.ensures
        if step.name == upto:
            break
    return graph
