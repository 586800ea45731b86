"""``hoist-parameters``: what parameters alone determine leaves the loop; nothing else changes."""

from __future__ import annotations

import torch

import snncompile as snn
from snncompile import ms
from snncompile.ir.derive import hoisted
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.text_form import to_text
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.executor import Executor

from ..compare import assert_close_gradients, assert_same_bits, outcome
from ..golden_files import assert_golden
from ..plain_target import PlainTarget
from ..random_models import random_model, spikes


@snn.model(dt=1 * ms)
def layer(x=snn.Spikes(4, max=1)):
    return x >> snn.Linear(3) >> snn.ExpSyn() >> snn.LIF()


def test_golden():
    before = compile_graph(layer.build(), Request(), "fuse-populations")
    after = compile_graph(layer.build(), Request(), "hoist-parameters")
    text = to_text(before, places=False) + "\n--- after hoist-parameters ---\n\n" + to_text(after, places=False)
    assert_golden("passes/hoist-parameters.txt", text)


def test_no_exponential_is_left_in_the_loop():
    graph = compile_graph(layer.build(), Request())
    for _, op in graph.of_type(Elementwise):
        assert op.derived is not None
        assert "exp" in {o.op for o in op.derived.ops}
        assert "exp" not in {o.op for o in (*op.forward.ops, *op.reverse.ops)}


def test_hoisting_twice_is_hoisting_once():
    graph = compile_graph(layer.build(), Request())
    for _, op in graph.of_type(Elementwise):
        assert hoisted(op) is op


def test_a_node_without_parameters_derives_nothing():
    @snn.synapse(states={"y": 0.0}, outputs={"y": "current"})
    def Sum(y, x):
        return {"y": y + x}

    @snn.model
    def network(x=snn.Current(3)):
        return x >> Sum()

    (op,) = (op for _, op in compile_graph(network.build(), Request()).of_type(Elementwise))
    assert op.derived is not None and not op.derived.outputs


def test_names_the_user_took_are_left_alone():
    @snn.neuron(states={"fixed": 0.0}, outputs={"out": "current"})
    def Own(fixed, x, *, tau=snn.Param(5 * ms, family="taus"), dt):
        once = 1.0 - torch.exp(-dt / tau) * 2.0
        fixed = fixed * once + x
        return {"fixed": fixed, "out": fixed * (tau * 3.0)}

    @snn.model
    def network(x=snn.Current(3)):
        return x >> Own()

    net = snn.compile(network, target="torch")
    x = torch.randn(2, 7, 3)
    want = outcome(net, x, ["own.fixed"], Executor(net.graph, PlainTarget()))
    assert_close_gradients(want, outcome(net, x, ["own.fixed"]))


def test_values_and_gradients_stay():
    for seed in range(4):
        net = snn.compile(random_model(seed), target="torch")
        x = spikes(seed, 2, 9)
        part = Executor(compile_graph(net.graph, Request(), "fuse-populations"), PlainTarget())
        want, got = outcome(net, x, [], part), outcome(net, x, [])
        assert_same_bits(want, got)
        assert_close_gradients(want, got)
