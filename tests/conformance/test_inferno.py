"""Inferno's exponential synapses, without delay, against ours.

Inferno computes its factors in float64 and rounds once, ours come from float32 parameters: each may differ by some
units in the last place. The factors of single steps are held to that; a whole course to what it can add up to.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import snncompile as snn
from snncompile import ms

from .oracles import inferno

BATCH, STEPS, N = 2, 200, 5
EPS = 2.0**-23

taus = st.floats(1.0, 50.0)
charges = st.floats(0.1, 20.0) | st.floats(-20.0, -0.1)


def network(node: snn.Node) -> snn.Network:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(N, max=1)):
        return x >> node

    return snn.compile(net, target="torch")


def spikes(seed: int) -> Tensor:
    return (torch.rand(BATCH, STEPS, N, generator=torch.Generator().manual_seed(seed)) < 0.2).float()


def single_spike() -> Tensor:
    x = torch.zeros(BATCH, STEPS, N)
    x[:, 0] = 1
    return x


def assert_within(got: Tensor, want: Tensor, units: float) -> None:
    """Within so many units in the last place of the largest value of the course."""
    assert float((got - want).abs().max()) <= units * EPS * float(want.abs().max())


@settings(max_examples=20)
@given(tau=taus, charge=charges, seed=st.integers(0, 10**6))
def test_single_exponential(tau: float, charge: float, seed: int) -> None:
    reference = inferno().SingleExponentialCurrent
    ours = network(snn.ExpCurrent(tau=tau * ms, charge=charge))

    def course(x: Tensor) -> Tensor:
        synapse = reference(N, 1.0, spike_charge=charge, time_constant=tau, batch_size=BATCH)
        return torch.stack([synapse(x[:, t]) for t in range(STEPS)], 1)

    x = single_spike()
    got, want = ours(x).detach(), course(x)
    assert_within(got[:, 0], want[:, 0], 3)  # the increment, charge/tau
    assert_within(got[:, 1] / got[:, 0], want[:, 1] / want[:, 0], 3)  # the decay, after two roundings of its own
    x = spikes(seed)
    assert_within(ours(x).detach(), course(x), 4 + tau)  # errors add up over the memory, tau/dt steps


@pytest.mark.parametrize("tau", [1, 2, 3, 5, 7, 10, 20, 50, 100])
def test_increments_of_whole_milliseconds_are_equal(tau: int) -> None:
    ref, x = inferno(), single_spike()
    single = ref.SingleExponentialCurrent(N, 1.0, spike_charge=3.0, time_constant=float(tau), batch_size=BATCH)
    assert torch.equal(network(snn.ExpCurrent(tau=tau * ms, charge=3.0))(x)[:, 0], single(x[:, 0]))
    double = ref.DoubleExponentialCurrent(
        N, 1.0, spike_charge=3.0, tc_decay=float(tau + 4), tc_rise=float(tau), batch_size=BATCH
    )
    double(x[:, 0])
    ours = network(snn.DoubleExpCurrent((tau + 4) * ms, tau * ms, charge=3.0))
    state = ours.evolve(x[:, :1])[1]
    assert torch.equal(state["double_exp_current.decay"], double.pos_current)
    assert torch.equal(state["double_exp_current.rise"], double.neg_current)


@settings(max_examples=20)
@given(rise=st.floats(1.0, 10.0), longer=st.floats(1.0, 30.0), charge=charges, seed=st.integers(0, 10**6))
def test_double_exponential(rise: float, longer: float, charge: float, seed: int) -> None:
    reference, tau_decay = inferno().DoubleExponentialCurrent, rise + longer
    ours = network(snn.DoubleExpCurrent(tau_decay * ms, rise * ms, charge=charge))
    synapse = reference(N, 1.0, spike_charge=charge, tc_decay=tau_decay, tc_rise=rise, batch_size=BATCH)
    x, want = spikes(seed), []
    for t in range(STEPS):
        want.append((synapse(x[:, t]), synapse.pos_current, synapse.neg_current))
    names = ["double_exp_current.decay", "double_exp_current.rise"]
    got, _, record = ours.evolve(x, record=names)
    current, decay, risen = (torch.stack(course, 1) for course in zip(*want, strict=True))
    # The difference of the time constants loses what they have in common: up to tau_decay/longer more units.
    units = 6 + tau_decay + 2 * tau_decay / longer
    assert_within(record[names[0]].detach(), decay, units)
    assert_within(record[names[1]].detach(), risen, units)
    size = float(decay.abs().max())
    assert float((got.detach() - current).abs().max()) <= 2 * units * EPS * size
