"""Pictures: every node and edge is there, and nothing stands on top of anything else."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

import snncompile as snn
from snncompile.ir.dot import draw_png, to_dot
from snncompile.ir.errors import UnsupportedError
from snncompile.ir.graph import Graph
from snncompile.passes.pipeline import Request, compile_graph

from ..golden_files import assert_golden
from ..random_models import random_model
from .models import graphs, recurrent

GRAPHS = graphs() | {f"random {seed}": random_model(seed).build() for seed in range(4)}


@snn.model
def parallel(x=snn.Spikes(64)):
    a = x >> snn.Linear(32) >> snn.LIF()
    b = x >> snn.Linear(32) >> snn.recurrent(snn.ALIF(), via=snn.Linear(32))
    c = x >> snn.Linear(32) >> snn.recurrent(snn.CubaLIF(), via=snn.Linear(32) >> snn.ExpSyn())
    return (a + b) >> snn.Linear(5) >> snn.LI(), c


GRAPHS["parallel"] = compile_graph(parallel.build(), Request())


def test_golden() -> None:
    assert_golden("recurrent.dot", to_dot(compile_graph(recurrent.build(), Request())))


@pytest.mark.parametrize("name", GRAPHS)
def test_dot_says_all(name: str) -> None:
    graph = GRAPHS[name]
    text = to_dot(graph)
    for node in graph.names:
        assert text.count(f'"{node}" [label="{node}\\n') == 1
    edges = sum(len(graph.inputs_of(node)) for node in graph.names) + len(graph.outputs)
    assert text.count(" -> ") == edges
    late = sum(e.delay for node in graph.names for e in graph.inputs_of(node).values())
    assert text.count("style=dashed") == late
    assert text.count("subgraph cluster_") == len(graph.regions)
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_overlaps(name: str) -> None:
    from snncompile.ir.layout import HEIGHT, Layout

    layout = Layout(GRAPHS[name])
    boxes = {n: (x, y, w) for n, w in layout.widths.items() for x, y in [layout.at[n]]}
    for (a, (x0, y0, w0)), (b, (x1, y1, w1)) in itertools.combinations(boxes.items(), 2):
        apart = abs(x0 - x1) >= (w0 + w1) / 2 - 1e-9 or abs(y0 - y1) >= HEIGHT
        assert apart, f"{a} and {b}"
    for x, y, w in boxes.values():
        assert w / 2 <= x <= layout.size[0] - w / 2 and -layout.size[1] <= y - HEIGHT / 2


@pytest.mark.parametrize("name", [n for n, g in GRAPHS.items() if any(len(r.nodes) > 1 for r in g.regions)])
def test_a_region_of_several_nodes_has_its_rows_to_itself(name: str) -> None:
    from snncompile.ir.layout import Layout

    graph: Graph = GRAPHS[name]
    layout = Layout(graph)
    for region in (r for r in graph.regions if len(r.nodes) > 1):
        rows = {layout.at[n][1] for n in region.nodes}
        assert not [n for n in graph.names if n not in region.nodes and layout.at[n][1] in rows]


def test_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("PATH", "")  # no Graphviz
    file = draw_png(GRAPHS["parallel"], tmp_path / "net.png")
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) > 10_000


def test_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(UnsupportedError, match=r"neither is installed.*pip install snncompile\[plots\]"):
        draw_png(GRAPHS["layered"], tmp_path / "net.png")


def test_a_name_cannot_break_out_of_quotes() -> None:
    graph = recurrent.build()
    graph.name = 'a"; evil'
    assert 'digraph "a\\"; evil" {' in to_dot(graph)
