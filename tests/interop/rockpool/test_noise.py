"""Noisy networks: their numbers come from the state, as with the keys of Rockpool's Jax modules."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile.interop.rockpool import NetworkModule, as_module


@pytest.fixture
def noisy() -> NetworkModule:
    """A synapse and a neuron with noise."""

    @snn.model
    def net(x=snn.Spikes(6)):
        return x >> snn.Linear(4) >> snn.ExpSyn(noise_std=0.5) >> snn.LIF(noise_std=1.0)

    return as_module(net, target="torch")


def test_the_state_says_what_is_drawn(noisy: NetworkModule) -> None:
    x = torch.ones(2, 12, 6)
    whole, _, record = noisy.evolve(x, record=True)
    assert list(noisy.state("counters")) == ["random"] and torch.equal(noisy.evolve(x)[0], whole)
    first, state, _ = noisy.evolve(x[:, :5])
    later = noisy.set_attributes(state)
    assert torch.equal(torch.cat([first, later.evolve(x[:, 5:])[0]], 1), whole)
    assert not torch.equal(later.evolve(x[:, :5])[0], first)
    assert not torch.equal(noisy.reset_state().evolve(x)[0], whole)
    assert torch.equal(noisy.exp_syn.evolve(record["linear_output"])[0], record["exp_syn_output"])


def test_noise_std_is_a_simulation_parameter(noisy: NetworkModule) -> None:
    assert noisy.simulation_parameters()["lif"]["noise_std"] == 1.0
    assert "noise_std_setting" not in noisy.simulation_parameters()["lif"]
    silent = noisy.set_attributes({"lif": {"noise_std": 0.0}, "exp_syn": {"noise_std": 0.0}})
    assert torch.equal(silent.evolve(torch.zeros(9, 6))[0], silent.reset_state().evolve(torch.zeros(9, 6))[0])


def test_sources_need_no_input() -> None:
    @snn.model
    def net():
        return snn.Poisson(200.0, shape=5) >> snn.LIF()

    module = as_module(net, target="torch")
    out, _, _ = module.evolve(torch.zeros(3, 40, 0))
    assert out.shape == (3, 40, 5) and out.sum() > 0 and not torch.equal(out[0], out[1])
    timed = module.timed()
    one, two = timed(duration=0.04)[0], timed(duration=0.04)[0]
    assert len(one) > 0 and not (len(one) == len(two) and (one.times + 0.04 == two.times).all())
    assert module.poisson.evolve(torch.zeros(7, 0))[0].shape == (1, 7, 5)


def test_streaming_without_inputs_takes_the_batch_from_the_state() -> None:
    @snn.model
    def net():
        return snn.Poisson(200.0, shape=5) >> snn.LIF()

    compiled = snn.compile(net, target="torch")
    y, state = compiled.step(state=compiled.initial_state(3))
    assert y.shape == (3, 5) and compiled.step(state=state)[0].shape == (3, 5)
