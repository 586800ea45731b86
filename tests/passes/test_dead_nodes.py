"""Pass dead-nodes: what no output, no state and no record needs goes."""

from __future__ import annotations

import torch

import snncompile as snn
from snncompile.passes.dead_nodes import DeadNodes

from .rewrites import assert_golden_rewrite, assert_same_meaning, data, rewritten, seeded


@snn.model
def probed(x=snn.Spikes(4)):
    h = x >> snn.Linear(3)
    h >> snn.Scale(2.0) >> snn.Linear(2)  # needed by nobody
    h >> snn.LI(name="probe")
    return h >> snn.LIF()


def test_golden() -> None:
    graph = probed.build()
    after = rewritten(graph, DeadNodes())
    assert after.names == ("x", "linear", "probe", "lif")
    assert_golden_rewrite("dead-nodes", graph, after)
    assert_same_meaning(graph, after, record=("probe.v",))


def test_a_record_is_kept_with_what_it_needs() -> None:
    assert "linear_1" not in rewritten(probed.build(), DeadNodes(frozenset({"scale.y"}))).names
    assert rewritten(probed.build(), DeadNodes(frozenset({"linear_1.out"}))).names == probed.build().names
    assert rewritten(probed.build(), DeadNodes(frozenset({"gone.v"}))).names == ("x", "linear", "probe", "lif")


def test_inputs_stay() -> None:
    @snn.model
    def net(x=snn.Spikes(4), unused=snn.Spikes(2)):
        return x >> snn.LIF()

    assert rewritten(net.build(), DeadNodes()).names == ("x", "unused", "lif")


def test_what_a_feedback_needs_is_alive() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        back = snn.Feedback(4)
        back.close(x >> snn.Linear(4))
        return x + back

    graph = net.build()
    after = rewritten(graph, DeadNodes())
    assert after.names == graph.names
    assert_same_meaning(graph, after)


def test_a_state_nobody_reads_goes_on() -> None:
    """A later run may record it: it must have seen every step."""

    @snn.model
    def net(x=snn.Spikes(4)):
        back = snn.Feedback(4, name="held")
        back.close(x)
        back >> snn.Linear(2)  # its value is part of the state
        x >> snn.LI()
        return x >> snn.LIF()

    graph = net.build()
    made, x = seeded(graph), data(graph)
    whole = made.evolve(x, record=["li.v", "linear.out"])
    _, state, _ = made.evolve(x[:, :5])
    assert torch.equal(state["held"], x[:, 4])
    last = made.evolve(x[:, 5:], state=state, record=["li.v", "linear.out"])
    for name in ("li.v", "linear.out"):
        torch.testing.assert_close(last[2][name], whole[2][name][:, 5:])
    assert all(torch.equal(last[1][k], v) for k, v in whole[1].items())
