"""What draws, what is sparse and what remembers, in the IR: forms that stay as they are, and read back."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.ir.json_form import graph_from_json, graph_to_json
from snncompile.ir.text_form import from_text, to_text
from snncompile.passes.pipeline import Request, compile_graph

from ..golden_files import assert_golden


@snn.model(dt=1 * ms)
def drawing(x=snn.Current(3)):
    h = (x >> snn.PoissonEncoder(200.0)) + snn.Poisson([10.0, 20.0, 30.0], 3, max=2) + snn.Bernoulli(0.25, 3)
    h = h >> snn.ExpSyn(noise_std=snn.Param(0.5, trainable=True)) >> snn.LIF(noise_std=[1.0, 0.0, 2.0])
    return h + snn.Normal(0.5, 2.0, 3)


@snn.model(dt=1 * ms)
def sparse(x=snn.Spikes(4)):
    joined = torch.tensor([[0.0, 0.5, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [2.0, 0.0, 0.0, 0.0]]).to_sparse()
    h = x >> snn.Sparse(weight=joined, sign=[1, 1, -1, 1], bias=True) >> snn.LIF()
    h = h >> snn.recurrent(snn.LIF(), via=snn.Sparse(3, indegree=2, init=0.25, trainable=False, seed=5), delay=2 * ms)
    return h >> snn.ExpCurrent(delay=2.5 * ms, tolerance=0.1 * ms, spike_overbound=None, name="syn")


@pytest.mark.parametrize("name, model", [("drawing", drawing), ("sparse", sparse)])
def test_golden_and_back(name, model):
    for graph in (model.build(), compile_graph(model.build(), Request())):
        text = to_text(graph)
        assert to_text(from_text(text)) == text
        assert to_text(graph_from_json(graph_to_json(graph)), places=False) == to_text(graph, places=False)
    assert_golden(f"ir/{name}.txt", to_text(model.build(), places=False))
