"""Repeating launches by a graph: what is copied where, what is kept, and what happens where none can be made."""

import pytest
import torch

from snncompile.targets.triton import step_graph
from snncompile.targets.triton.step_graph import StepGraphs, _Graph


class _Replay:
    """Stands in for a CUDA graph: does again, on the graph's own memory, what was captured."""

    def __init__(self, run, values):
        self.run, self.values, self.count = run, values, 0

    def replay(self):
        self.count += 1
        self.run(self.values)


@pytest.fixture
def captured(monkeypatch):
    made = []

    def capture(run, values, holds):
        mine = [v.clone() if isinstance(v, torch.Tensor) else v for v in values]
        made.append(_Replay(run, mine))
        return _Graph(made[-1], mine, holds)

    monkeypatch.setattr(step_graph, "_capture", capture)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return made


def work(values):
    """Reads the first, reads and writes the second, writes the third."""
    read, both, written, factor = values
    both += read
    written.copy_(both * factor)


def call(graphs, x, key="a"):
    both, written = torch.ones(3), torch.full((3,), float("nan"))
    graphs.run((key, None, (10, 1, 3), None), work, [x, both, written, 2.0], [1, 2], [2], [])
    return both, written


def test_third_call_is_a_replay_and_gives_the_same(captured):
    graphs = StepGraphs()
    for k in range(4):
        x = torch.full((3,), float(k))
        both, written = call(graphs, x)
        assert torch.equal(both, 1 + x) and torch.equal(written, 2 * (1 + x))
    assert len(captured) == 1 and captured[0].count == 3


def test_few_graphs_are_kept(captured):
    graphs = StepGraphs()
    for key in range(step_graph.KEPT + 3):
        call(graphs, torch.zeros(3), key)
        call(graphs, torch.zeros(3), key)
    assert len(graphs._graphs) == step_graph.KEPT
    call(graphs, torch.zeros(3), 0)  # thrown away: runs as at first
    assert len(captured) == step_graph.KEPT + 3


def test_overlapping_operands_and_long_runs_are_launched(captured):
    graphs = StepGraphs()
    for _ in range(3):
        call(graphs, torch.zeros(1).expand(3))
        graphs.run(("b", None, (10**6, 1, 3), None), work, [torch.zeros(3)] * 3 + [1.0], [1, 2], [2], [])
    assert captured == []


def test_inside_another_capture(captured, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    graphs = StepGraphs()
    for _ in range(3):
        call(graphs, torch.zeros(3))
    assert captured == []


def test_where_no_graph_can_be_made(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)

    def refuse():
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", lambda *a, **k: refuse())
    graphs = StepGraphs()
    call(graphs, torch.zeros(3))
    with pytest.warns(RuntimeWarning, match="cannot be captured in a CUDA graph .operation not permitted.; each is"):
        both, _ = call(graphs, torch.ones(3))
    assert torch.equal(both, torch.full((3,), 2.0))
    call(graphs, torch.ones(3))  # and no further attempt
