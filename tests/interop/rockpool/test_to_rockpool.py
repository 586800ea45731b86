"""Graphs as Rockpool's own, against those of its own modules."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile.interop.rockpool import as_module


def written(model: Any) -> Any:
    return as_module(model, target="torch").as_graph().to_rockpool()


def modules(graph: Any) -> dict[str, Any]:
    """Kind -> the module of that kind."""
    import rockpool.graph as rg

    return {type(module).__name__: module for module in rg.bag_graph(graph)[1]}


def compare(ours: Any, theirs: Any, names: list[str]) -> None:
    for name in names:
        assert np.allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6), name


def test_as_the_original_writes_it(original: Any) -> None:
    weight, bias = torch.rand(4, 3), torch.rand(3)
    linear = original.LinearTorch((4, 3), weight=weight, bias=bias, has_bias=True)
    tau = {"tau_mem": torch.rand(3) / 10, "tau_syn": torch.rand(3) / 10, "threshold": torch.rand(3) + 0.5}
    cells = original.LIFTorch(3, dt=1e-3, **{name: value.clone() for name, value in tau.items() if name != "tau_syn"})
    cells.tau_syn = torch.nn.Parameter(tau["tau_syn"][:, None])
    theirs = original.Sequential(linear, cells)

    @snn.model
    def cuba(x=snn.Spikes(4)):
        return x >> snn.Linear(3, init=weight.T) >> snn.CubaLIF(**tau)

    @snn.model
    def pair(x=snn.Spikes(4)):
        h = x >> snn.Linear(3, init=weight.T) >> snn.ExpSyn(tau["tau_syn"])
        return h >> snn.LIF(tau_mem=tau["tau_mem"], threshold=tau["threshold"])

    want = modules(theirs.as_graph())
    for model in (cuba, pair):
        module = as_module(model, target="torch").set_attributes({"linear": {"bias": bias}})
        graph = module.as_graph().to_rockpool()
        assert (len(graph.input_nodes), len(graph.output_nodes)) == (4, 3)
        got = modules(graph)
        assert got.keys() == want.keys() == {"LinearWeights", "LIFNeuronWithSynsRealValue"}
        compare(got["LinearWeights"], want["LinearWeights"], ["weights", "biases"])
        names = ["tau_mem", "tau_syn", "threshold", "bias", "dt"]
        compare(got["LIFNeuronWithSynsRealValue"], want["LIFNeuronWithSynsRealValue"], names)
        assert got["LinearWeights"].output_nodes == got["LIFNeuronWithSynsRealValue"].input_nodes


def test_recurrent_weights_share_the_channels(original: Any) -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(3) >> snn.recurrent(snn.CubaLIF(), via=snn.Linear(3, bias=False, name="back"))

    import rockpool.graph as rg

    graph = written(net)
    by_name = {module.name: module for module in rg.bag_graph(graph)[1]}
    lif, back = by_name["cuba_lif"], by_name["back"]
    assert back.input_nodes == lif.output_nodes and back.output_nodes == lif.input_nodes
    assert by_name["linear"].output_nodes == lif.input_nodes


def test_masks_are_in_the_weights(original: Any) -> None:
    @snn.model
    def net(x=snn.Spikes(2)):
        return x >> snn.Linear(1, init=np.ones((1, 2)), mask=np.array([[1, 0]])) >> snn.CubaLIF()

    assert np.array_equal(modules(written(net))["LinearWeights"].weights, [[1.0], [0.0]])


@pytest.mark.parametrize(
    ("after", "node", "message"),
    [
        (lambda h: h >> snn.LIF(), "lif", "only after an ExpSyn that nothing else reads"),
        (lambda h: h >> snn.AlphaSyn(), "alpha_syn", "have no AlphaSyn: they have Linear, CubaLIF"),
        (lambda h: h >> snn.CubaLIF(reset="zero"), "cuba_lif", "no word for reset='zero'"),
        (lambda h: h >> snn.CubaLIF(v_leak=0.5), "cuba_lif", "no word for v_leak="),
        (lambda h: h >> snn.CubaLIF(refractory=2e-3), "cuba_lif", "no word for refractory_setting=0.002"),
        (lambda h: h >> snn.Delay(2e-3) >> snn.CubaLIF(), "delay", "have no Delay"),
        (
            lambda h: h >> snn.recurrent(snn.CubaLIF(), via=snn.Linear(2, name="back"), delay=3e-3),
            "back",
            "its feedback is 3 steps late, and in Rockpool's graphs each is one step late",
        ),
        (lambda h: h + h >> snn.CubaLIF(), "add", "adds a signal to itself"),
        (lambda h: (h + (h >> snn.Linear(2))) >> snn.CubaLIF(), "add", "is an input or is read elsewhere"),
    ],
)
def test_refused(original: Any, after: Any, node: str, message: str) -> None:
    @snn.model
    def net(x=snn.Spikes(2)):
        return after(x >> snn.Linear(2))

    with pytest.raises(snn.InterchangeError, match=message) as caught:
        written(net)
    assert caught.value.node == node


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    @snn.model
    def net(x=snn.Spikes(2)):
        return x >> snn.CubaLIF()

    monkeypatch.setitem(sys.modules, "rockpool.graph", None)
    with pytest.raises(snn.UnsupportedError, match="needs the package rockpool"):
        written(net)
