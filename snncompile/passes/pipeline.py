"""The order of the passes, and what each use of a network asks of them."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.graph import Graph
from snncompile.passes.base import Pass, run_passes
from snncompile.passes.dead_nodes import DeadNodes
from snncompile.passes.delays_to_offsets import DelaysToOffsets
from snncompile.passes.drop_identities import DropIdentities
from snncompile.passes.fold_norm import FoldNorm
from snncompile.passes.fold_scale import FoldScale
from snncompile.passes.fuse_chains import FuseChains
from snncompile.passes.fuse_populations import FusePopulations
from snncompile.passes.hoist import HoistParameters
from snncompile.passes.infer_types import InferTypes
from snncompile.passes.regions import ChooseRegions


@dataclass(frozen=True)
class Request:
    """What a compiled graph is for.

    Attributes:
        training: whether BatchNorm and Dropout act as in training.
        keep: record names that must stay available.
    """

    training: bool = False
    keep: frozenset[str] = frozenset()


def pipeline(request: Request) -> tuple[Pass, ...]:
    """The passes for ``request``, in order."""
    return (
        InferTypes(),
        DeadNodes(request.keep),
        DropIdentities(request.training, request.keep),
        FoldNorm(request.training, request.keep),
        FoldScale(request.keep),
        FuseChains(),
        FusePopulations(),
        HoistParameters(),
        DelaysToOffsets(),
        ChooseRegions(),
    )


def pass_names() -> tuple[str, ...]:
    """Names of the passes, in order."""
    return tuple(p.name for p in pipeline(Request()))


def compile_graph(graph: Graph, request: Request, upto: str | None = None) -> Graph:
    """``graph`` after all passes, or after those up to ``upto``: verified, fused and scheduled."""
    return run_passes(graph, pipeline(request), upto)
