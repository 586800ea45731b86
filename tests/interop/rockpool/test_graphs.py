"""The computational graph of a module."""

from __future__ import annotations

import torch

import snncompile as snn
from snncompile.interop.rockpool import NetworkModule, as_module


def test_channels_join_the_modules(module: NetworkModule) -> None:
    graph = module.as_graph()
    assert (len(graph.input_nodes), len(graph.output_nodes)) == (4, 2)
    assert graph.name == "small" and graph.computational_module is module
    assert list(graph.modules) == list(module.modules())
    lif, syn = graph.modules["lif"], graph.modules["exp_syn"]
    assert lif.input_nodes == syn.output_nodes and len(lif.output_nodes) == 3
    assert lif.input_nodes[0].source_modules == [syn] and lif.input_nodes[0].sink_modules == [lif]
    assert graph.input_nodes[0].source_modules == [] and graph.output_nodes == graph.modules["li"].output_nodes
    assert lif.kind == "LIF" and lif.computational_module is module.lif
    assert torch.equal(lif.parameters["tau_mem"], module.lif.tau_mem) and lif.parameters["dt"] == 1e-3
    assert repr(lif) == 'LIF "lif" with 3 input nodes -> 3 output nodes'
    assert repr(graph) == 'GraphHolder "small" with 4 input nodes -> 2 output nodes'
    assert repr(lif.input_nodes[0]) == "GraphNode with 1 source modules and 1 sink modules"


def test_feedback_closes_a_cycle() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.recurrent(snn.LIF(name="out"), via=snn.Linear(3, name="back"))

    graph = as_module(net, target="torch").as_graph()
    assert graph.modules["back"].input_nodes == graph.modules["out"].output_nodes
    assert graph.output_nodes[0].sink_modules == [graph.modules["back"]]


def test_other_ports_are_channels_of_their_own() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        h = x >> snn.LIF()
        return h, h.state("v") >> snn.Linear(2)

    graph = as_module(net, target="torch").as_graph()
    lif = graph.modules["lif"]
    assert len(lif.output_nodes) == 6 and graph.modules["linear"].input_nodes == lif.output_nodes[3:]
    assert len(graph.output_nodes) == 5


def test_one_node(module: NetworkModule) -> None:
    graph = module.linear.as_graph()
    assert (len(graph.input_nodes), len(graph.output_nodes)) == (4, 3) and list(graph.modules) == ["linear"]
    assert graph.modules["linear"].parameters["weight"] is module.linear.weight
