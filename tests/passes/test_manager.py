"""The pass manager: order, verification after every pass, and where it stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

import snncompile as snn
from snncompile.ir.errors import VerificationError
from snncompile.ir.graph import Graph
from snncompile.ir.text_form import to_text
from snncompile.passes.base import Pass, run_passes
from snncompile.passes.dead_nodes import DeadNodes
from snncompile.passes.fold_norm import FoldNorm
from snncompile.passes.fuse_chains import FuseChains
from snncompile.passes.fuse_populations import FusePopulations
from snncompile.passes.infer_types import InferTypes
from snncompile.passes.pipeline import Request, compile_graph, pass_names, pipeline

from ..ir.models import MODELS


@snn.model
def layer(x=snn.Spikes(4)):
    return x >> snn.Linear(3) >> snn.BatchNorm() >> snn.ExpSyn() >> snn.LIF()


@dataclass(frozen=True)
class Breaks(Pass):
    """Forgets an edge."""

    name: ClassVar[str] = "breaks"

    def run(self, graph: Graph) -> Graph:
        graph = graph.copy()
        graph.nx.remove_edge("exp_syn", "lif")
        return graph


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    with pytest.raises(VerificationError, match=r"node 'lif'.*after pass breaks: nothing feeds port 'x'") as caught:
        run_passes(layer.build(), [InferTypes(), Breaks()])
    assert caught.value.node == "lif"


def test_a_graph_broken_from_the_start_is_no_pass_fault() -> None:
    with pytest.raises(VerificationError, match="nothing feeds port 'x'") as caught:
        run_passes(Breaks().run(layer.build()), [InferTypes()])
    assert "after pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("passes", "said"),
    [
        ([FuseChains()], "pass fuse-chains needs types, which no earlier pass ensures"),
        ([InferTypes(), FusePopulations()], "pass fuse-populations needs fused, which no earlier pass ensures"),
    ],
)
def test_what_a_pass_requires(passes: list[Pass], said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        run_passes(layer.build(), passes)


def test_upto() -> None:
    graph = compile_graph(layer.build(), Request(), "fold-norm")
    assert graph.names == ("x", "batch_norm", "exp_syn", "lif") and not graph.regions
    assert compile_graph(layer.build(), Request(), pass_names()[-1]).regions
    with pytest.raises(VerificationError, match="there is no pass 'fold'; the passes are infer-types, dead-nodes, "):
        compile_graph(layer.build(), Request(), "fold")


def test_a_pass_says_what_it_does() -> None:
    with pytest.raises(TypeError, match="Pass does not say what it does"):
        Pass().run(layer.build())


def test_names_are_unique_and_documented() -> None:
    passes = pipeline(Request())
    assert len({p.name for p in passes}) == len(passes)
    assert all(type(p).__doc__ for p in passes)


@pytest.mark.parametrize("name", MODELS)
def test_no_pass_changes_the_graph_it_is_given(name: str) -> None:
    graph = MODELS[name].build()
    for step in pipeline(Request()):
        text = to_text(graph)
        after = step.run(graph)
        assert to_text(graph) == text
        graph = after


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
def test_twice_is_once(name: str, training: bool) -> None:
    """A compiled graph compiles to itself: no pass leaves work for a second round."""
    once = compile_graph(MODELS[name].build(), Request(training))
    twice = compile_graph(once, Request(training))
    assert twice.regions == once.regions
    assert twice.names == once.names


def test_an_earlier_schedule_is_forgotten() -> None:
    graph = compile_graph(layer.build(), Request(training=True))
    assert [r.kind for r in graph.regions] == ["product", "product", "scan"]
    assert run_passes(graph, [DeadNodes(), FoldNorm()]).regions == ()
