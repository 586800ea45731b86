"""Pass fuse-chains: elementwise nodes in a row become one."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

import snncompile as snn
from snncompile import ms
from snncompile.ir.graph import Graph
from snncompile.passes.fuse_chains import FuseChains
from snncompile.passes.infer_types import InferTypes

from .rewrites import assert_golden_rewrite, assert_same_meaning, reasons, rewritten

TAUS = np.linspace(0.005, 0.02, 3)
LOW = 0.4  # a threshold that random input reaches


def fused(graph: Graph) -> Graph:
    """``graph`` after the pass, with the same meaning, every signal and state recorded."""
    after = rewritten(graph, InferTypes(), FuseChains())
    records = tuple(r for r in graph.recordable() if r != "x")
    assert set(records) <= set(after.recordable())
    assert_same_meaning(graph, after, record=records)
    return after


@snn.model(dt=1 * ms)
def chain(x=snn.Spikes(4)):
    h = x >> snn.Linear(3) >> snn.ExpSyn(TAUS) >> snn.LIF(TAUS, threshold=LOW)
    return h >> snn.Linear(3) >> snn.LI()


def test_golden() -> None:
    graph = chain.build()
    after = fused(graph)
    assert after.names == ("x", "linear", "exp_syn_lif", "linear_1", "li")
    assert_golden_rewrite("fuse-chains", graph, after)


def test_golden_of_a_cycle() -> None:
    """Feedback through a Scale: the late value becomes a state of the fused node."""

    @snn.model(dt=1 * ms)
    def cycle(x=snn.Spikes(3)):
        back = snn.Feedback(3, name="held")
        h = (x + (back >> snn.Scale(0.5, trainable=True))) >> snn.LIF(threshold=LOW)
        back.close(h)
        return h

    graph = cycle.build()
    after = fused(graph)
    (node,) = set(after.names) - {"x"}
    assert [s.name for s in after.op(node).states] == ["lif.v", "held"]
    assert nx.is_directed_acyclic_graph(after.nx)
    assert_golden_rewrite("fuse-chains-cycle", graph, after)


def test_a_diamond() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        h = x >> snn.ExpSyn(TAUS)
        return (h >> snn.Scale(0.5)) + (h >> snn.ExpSyn()) >> snn.LIF(threshold=LOW)

    assert len(fused(net.build()).names) == 2


def test_inner_signals_are_still_outputs() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        h = x >> snn.CubaLIF(threshold=0.1)
        return {"current": h.state("isyn"), "spikes": h, "readout": h >> snn.LI()}

    after = fused(net.build())
    assert len({ref.node for _, ref in after.outputs}) == 1


def test_state_ports() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        h = x >> snn.LIF(TAUS, threshold=LOW)
        return h.state("v") + h >> snn.LI()

    assert len(fused(net.build()).names) == 2


def test_a_shared_node_object() -> None:
    """One parameter in two members: its gradients add, its states are two."""

    @snn.model
    def net(x=snn.Spikes(3)):
        synapse = snn.ExpSyn(TAUS)
        return x >> synapse >> synapse >> snn.LI()

    after = fused(net.build())
    (node,) = set(after.names) - {"x"}
    assert next(iter(after.op(node).params.values())).name == "exp_syn.tau"
    assert len(after.op(node).params) == 3
    assert [s.name for s in after.op(node).states] == ["exp_syn.isyn", "exp_syn_1.isyn", "li.v"]


def test_images_and_channels() -> None:
    @snn.model
    def net(x=snn.Spikes((2, 3, 2))):
        return x >> snn.ExpSyn([5 * ms, 9 * ms]) >> snn.LIF(threshold=np.full((2, 3, 2), LOW)) >> snn.Flatten()

    assert len(fused(net.build()).names) == 3


def test_a_late_edge_from_outside() -> None:
    """The same source now and one step later are two inputs of the fused node."""

    @snn.model
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3)
        h = x >> snn.Linear(3)
        back.close(h)
        return (h + back) >> snn.LI()

    after = fused(net.build())
    assert after.op("add_li").inputs == ("linear", "linear_late")


def test_a_delay_between_members() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3, name="held")
        h = x >> snn.ExpSyn(TAUS)
        back.close(h)
        return (h + back) >> snn.LIF(threshold=LOW)

    after = fused(net.build())
    assert [s.name for s in after.op("exp_syn_add_lif").states] == ["exp_syn.isyn", "held", "lif.v"]


def test_inside_a_cycle_with_a_product() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.recurrent(snn.ExpSyn() >> snn.LIF(threshold=LOW), via=snn.Linear(3)) >> snn.LI()

    after = fused(net.build())
    assert after.names == ("x", "linear", "add_exp_syn_lif", "li")


def test_names_that_look_like_gradients() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.LI(name="grad_a") >> snn.LI(name="a")

    assert len(fused(net.build()).names) == 2


def test_long_names() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.ExpSyn(name="a" * 118) >> snn.LI(name="a" * 117 + "b")

    assert len(fused(net.build()).names) == 2


# -- declined ----------------------------------------------------------------------------------------------------------


def declined(model: snn.Model) -> dict[str, str]:
    return reasons(fused(model.build()), "fuse-chains")


def test_a_product_between() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        h = x >> snn.LIF(threshold=LOW)
        return (h >> snn.Linear(3)) + h

    assert declined(net) == {"add": "not fused with lif: linear stands between them"}


def test_a_late_path_between() -> None:
    """Fused, the two would close a cycle that is not there, and a BatchNorm would stand on it."""

    @snn.model
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3)
        h = x >> snn.ExpSyn(TAUS)
        back.close(h)
        return h + (back >> snn.BatchNorm())

    assert declined(net) == {"add": "not fused with exp_syn: batch_norm stands between them"}


@pytest.mark.parametrize("through", ["cycle", "chain"])
def test_a_late_value_that_others_read(through: str) -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3, name="held")
        h = (x + back) >> snn.LI(20 * ms) if through == "cycle" else x >> snn.LI()
        back.close(h)
        return h + back, back >> snn.Linear(2)

    told = declined(net)
    assert told and all("held is read elsewhere, too" in text for text in told.values())


def test_a_cycle_of_one_node_whose_late_value_others_read() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3, name="held")
        h = x + back
        back.close(h)
        return h, back >> snn.Linear(2)

    assert declined(net) == {"add": "its late value does not become a state: held is read elsewhere, too"}


def test_outside_the_cycle() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        h = x >> snn.ExpSyn() >> snn.recurrent(snn.LIF(threshold=LOW), via=snn.Linear(3)) >> snn.LI()
        return h

    assert declined(net) == {
        "add_lif": "not fused with exp_syn: exp_syn is outside the cycle and runs over all steps in one kernel",
        "li": "not fused with add_lif: li is outside the cycle and runs over all steps in one kernel",
    }


def test_two_cycles() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        h = x >> snn.recurrent(snn.LIF(threshold=LOW), via=snn.Linear(3))
        return h >> snn.recurrent(snn.LIF(threshold=LOW), via=snn.Linear(3))

    assert declined(net) == {"add_1_lif_1": "not fused with add_lif: they stand on two cycles"}


def test_too_many_states() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        for _ in range(9):
            x = x >> snn.AlphaSyn()
        return x

    (told,) = declined(net).values()
    assert told.endswith("together they have 18 states, more than the 16 that fit in registers")


def test_too_many_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snncompile.passes.fuse.MAX_OPS", 5)

    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.ExpSyn() >> snn.LIF(threshold=LOW)

    (told,) = declined(net).values()
    assert "not fused with exp_syn: together they have" in told and told.endswith("operations, more than 5")
