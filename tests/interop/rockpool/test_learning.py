"""Networks that learn: the weight is a parameter and, as it changes, a state."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile.interop.rockpool import NetworkModule, TSEvent, as_module


@pytest.fixture
def learning() -> NetworkModule:
    """Six inputs, four neurons, STDP between them."""

    @snn.model
    def net(x=snn.Spikes(6, max=1)):
        linear = snn.Linear(4, bias=False, init=lambda shape: torch.rand(shape).numpy())
        h = x >> linear >> snn.LIF(max_spikes_per_dt=1)
        snn.learn(linear, snn.STDP())
        return h

    return as_module(net, target="torch")


def test_weights_go_on_in_the_state(learning: NetworkModule) -> None:
    x = (torch.rand(2, 40, 6) < 0.5).float()
    whole, last, _ = learning.evolve(x)
    first, state, record = learning.evolve(x[:, :15], record=True)
    assert list(learning.state("weights")) == ["linear"] and state["linear"]["weight_state"].shape == (4, 6)
    assert record["stdp"]["t_pre"].shape == (2, 15, 6) and record["linear"] == {}
    later = learning.set_attributes(state)
    assert later.linear.weight is learning.linear.weight
    assert not torch.equal(later.linear.weight_state, later.linear.weight)
    rest, end, _ = later.evolve(x[:, 15:])
    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert torch.equal(end["linear"]["weight_state"], last["linear"]["weight_state"])
    back = later.reset_state()
    assert torch.equal(back.linear.weight_state, back.linear.weight) and torch.equal(back.evolve(x)[0], whole)


def test_learnt_weights_taken_over(learning: NetworkModule) -> None:
    x = (torch.rand(40, 6) < 0.5).float()
    _, state, _ = learning.evolve(x)
    new = learning.set_attributes({"linear": {"weight": state["linear"]["weight_state"]}})
    assert torch.equal(new.linear.weight_state, state["linear"]["weight_state"])  # starts from the parameter
    assert torch.equal(new.linear.weight, state["linear"]["weight_state"])
    drawn = new.reset_parameters()
    assert torch.equal(drawn.linear.weight_state, drawn.linear.weight)


def test_nodes_run_with_the_weights_of_the_state(learning: NetworkModule) -> None:
    assert learning.linear.shape == (6, 4)
    x = (torch.rand(40, 6) < 0.5).float()
    later = learning.set_attributes(learning.evolve(x)[1])
    out, state, _ = later.linear.evolve(x)
    torch.testing.assert_close(out[0], x @ later.linear.weight_state.T)
    assert state == {}
    with pytest.raises(snn.UnsupportedError, match="STDP acts on a connection beside it: evolve the network"):
        learning.stdp.evolve(x)


def test_commit_takes_a_state(learning: NetworkModule) -> None:
    net = learning.to_torch()
    with pytest.raises(snn.InputError, match="commit takes the state that evolve or step returned, not a tuple"):
        net.commit(net.learn(torch.ones(5, 6)))


def test_the_rest_of_the_interface(learning: NetworkModule) -> None:
    assert "eta_plus" in learning.stdp.simulation_parameters() and "weight" not in learning.stdp.parameters()
    graph = learning.as_graph()
    assert len(graph.modules["linear"].input_nodes) == 6
    assert graph.modules["stdp"].input_nodes == graph.input_nodes + graph.output_nodes
    timed = learning.timed()
    before = timed.state("weights")["linear"]["weight_state"]
    timed(TSEvent.from_raster(torch.rand(40, 6) < 0.5, dt=1e-3))
    assert not torch.equal(timed.state("weights")["linear"]["weight_state"], before)
    children, aux = learning.tree_flatten()
    assert torch.equal(NetworkModule.tree_unflatten(aux, children).linear.weight_state, learning.linear.weight_state)
