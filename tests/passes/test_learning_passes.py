"""What passes do around a connection that learns: nothing is folded into it, nothing that it needs is removed."""

from __future__ import annotations

import torch

import snncompile as snn
from snncompile.passes.pipeline import Request, compile_graph


@snn.model
def scaled(x=snn.Spikes(4, max=1), teacher=snn.Spikes(3, max=1)):
    connection = snn.Linear(3, bias=False)
    current = x >> connection
    snn.learn(connection, snn.STDP(), post=teacher)
    return 2.0 * current >> snn.Linear(2)


@snn.model
def normalised(x=snn.Spikes(4, max=1), teacher=snn.Spikes(3, max=1)):
    connection = snn.Linear(3, bias=False)
    current = x >> connection
    snn.learn(connection, snn.STDP(), post=teacher)
    return current >> snn.BatchNorm()


@snn.model
def unread(x=snn.Spikes(4, max=1)):
    connection = snn.Linear(3)
    x >> connection >> snn.ExpSyn() >> snn.LIF()
    snn.learn(connection, snn.STDP())
    return x >> snn.Linear(2)


def test_nothing_is_folded_into_a_weight_that_learns() -> None:
    for model, name, by in ((scaled, "scale", "fold-scale"), (normalised, "batch_norm", "fold-norm")):
        graph = compile_graph(model.build(), Request())
        assert name in graph.names
        notes = [note.text for note in graph.notes if (note.by, note.node) == (by, name)]
        assert notes == ["not folded: the weights of linear learn"]


def test_without_learning_it_is_folded() -> None:
    for model, name in ((scaled, "scale"), (normalised, "batch_norm")):
        frozen = snn.compile(model).eval().frozen()
        assert list(frozen.graph.names) == [n for n in model.build().names if n != "stdp"]
        linear = compile_graph(frozen.graph, Request())
        assert "linear" not in linear.names and name in linear.names  # absorbed, under the later name


def test_what_learns_is_alive() -> None:
    graph = compile_graph(unread.build(), Request())
    assert graph.regions[0].nodes == ("linear", "exp_syn_lif", "stdp") and graph.regions[0].kind == "plastic"
    net = snn.compile(unread, target="torch")
    x = (torch.rand(1, 50, 4) < 0.5).float()
    state = net.learn(x)[1]
    assert set(state) == {"exp_syn.isyn", "lif.v", "stdp.t_pre", "stdp.t_post", "linear.weight"}


def test_a_teacher_outside_leaves_the_neurons_to_one_scan() -> None:
    @snn.model
    def taught(x=snn.Spikes(4, max=1), teacher=snn.Spikes(3, max=1)):
        connection = snn.Linear(3)
        h = x >> connection >> snn.ExpSyn() >> snn.LIF()
        snn.learn(connection, snn.STDP(), post=teacher)
        return h

    graph = compile_graph(taught.build(), Request())
    assert [(r.kind, r.nodes) for r in graph.regions] == [("plastic", ("linear", "stdp")), ("scan", ("exp_syn_lif",))]
