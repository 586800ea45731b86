"""What Inferno's synapses answer about the past, against ours: every mode, on the grid and off it, and out of range."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import snncompile as snn
from snncompile import ms

from .oracles import inferno

BATCH, STEPS, N = 2, 23, 5

modes = st.sampled_from(["previous", "nearest"])
delays = st.sampled_from([0.0, 1.0, 4.0, 12.0])
bounds = st.sampled_from([0.0, None, -3.5])
marks = st.sampled_from([False, None, True])
tolerances = st.sampled_from([0.0, 0.15, 0.3])
seeds = st.integers(0, 10**6)


def network(node: snn.Node, dt: float) -> snn.Network:
    @snn.model(dt=dt * ms)
    def net(x=snn.Spikes(N, max=1)):
        return x >> node

    return snn.compile(net, target="torch")


def spikes(seed: int) -> Tensor:
    return (torch.rand(BATCH, STEPS, N, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def times(seed: int, delay: float, dt: float, several: int) -> Tensor:
    """Times in ms, half of them on the grid, some of them before what is remembered, some in the future."""
    g = torch.Generator().manual_seed(seed + 1)
    shape = (BATCH, N, several) if several else (BATCH, N)
    eighths = torch.randint(-8, int(8 * delay / dt) + 17, shape, generator=g) / 8 * dt
    return torch.where(torch.rand(shape, generator=g) < 0.5, (eighths / dt).round() * dt, eighths)


def right_spike_at(ref: ModuleType, synapse, time: Tensor, mode: str, over: bool | None, tolerance: float) -> Tensor:
    """Inferno's own selector with its arguments in the order that it declares."""
    from inferno.neural.synapses import mixins

    interpolation = {"previous": ref_functional().interp_previous, "nearest": ref_functional().interp_nearest}[mode]
    return mixins._synparam_at(synapse.spike_, time, interpolation, {}, tolerance, over).bool()


def ref_functional() -> ModuleType:
    import inferno.functional

    return inferno.functional


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got.detach(), want, rtol=2e-5, atol=2e-6)


@settings(max_examples=25)
@given(seeds, delays, modes, bounds, marks, tolerances, st.sampled_from([1.0, 0.5]), st.integers(0, 3))
def test_single_exponential(seed, delay, mode, over, mark, tolerance, dt, several) -> None:
    ref, x, time = inferno(), spikes(seed), times(seed, delay, dt, several)
    synapse = ref.SingleExponentialCurrent(
        N, dt, spike_charge=3.0, time_constant=7.0, delay=delay, spike_interp_mode=mode, interp_tol=tolerance,
        current_overbound=over, spike_overbound=mark, batch_size=BATCH,
    )  # fmt: skip
    for t in range(STEPS):
        synapse(x[:, t])
    node = snn.ExpCurrent(7 * ms, 3.0, delay=delay * ms, spike_interpolation=mode, current_overbound=over,
                          spike_overbound=mark, tolerance=tolerance * ms, name="syn")  # fmt: skip
    ours = network(node, dt)
    state = ours.evolve(x)[1]
    if delay == 0.0 and several:  # Inferno hands its one value back as it is, whatever the shape of the selector
        return
    close(ours.current_at(state, "syn", time * ms), synapse.current_at(time))
    want = right_spike_at(ref, synapse, time, mode, mark, tolerance)
    assert torch.equal(ours.spike_at(state, "syn", time * ms), want)


@settings(max_examples=15)
@given(seeds, delays, bounds, tolerances, st.integers(0, 2))
def test_double_exponential_and_its_components(seed, delay, over, tolerance, several) -> None:
    ref, x, time = inferno(), spikes(seed), times(seed, delay, 1.0, several)
    synapse = ref.DoubleExponentialCurrent(
        N, 1.0, spike_charge=3.0, tc_decay=9.0, tc_rise=2.0, delay=delay, interp_tol=tolerance, current_overbound=over,
        batch_size=BATCH,
    )  # fmt: skip
    for t in range(STEPS):
        synapse(x[:, t])
    node = snn.DoubleExpCurrent(9 * ms, 2 * ms, charge=3.0, delay=delay * ms, current_overbound=over,
                                tolerance=tolerance * ms, name="syn")  # fmt: skip
    ours = network(node, 1.0)
    state = ours.evolve(x)[1]
    if delay == 0.0 and several:
        return
    close(ours.current_at(state, "syn", time * ms), synapse.current_at(time))
    close(ours.current_at(state, "syn", time * ms, component="decay"), synapse.pos_current_at(time))
    close(ours.current_at(state, "syn", time * ms, component="rise"), synapse.neg_current_at(time))


def test_infernos_spike_at_swaps_tolerance_and_overbound() -> None:
    """Its mixin hands them over in the wrong order; ours follows the rule, and what it would be without the slip."""
    ref, x = inferno(), torch.ones(1, 6, N)
    synapse = ref.SingleExponentialCurrent(
        N, 1.0, spike_charge=1.0, time_constant=7.0, delay=3.0, interp_tol=0.0, spike_overbound=True
    )
    for t in range(6):
        synapse(x[:, t])
    beyond = torch.full((1, N), 5.0)
    swapped = synapse.spike_at(beyond)  # tolerance = True = 1 ms, overbound = 0.0 = no spike
    assert not swapped.any()
    assert right_spike_at(ref, synapse, beyond, "previous", True, 0.0).all()
    ours = network(snn.ExpCurrent(7 * ms, delay=3 * ms, spike_overbound=True, name="syn"), 1.0)
    assert ours.spike_at(ours.evolve(x)[1], "syn", beyond * ms).all()


@pytest.mark.parametrize("delay", [2.5, 0.3])
def test_a_record_that_ends_between_two_steps(delay: float) -> None:
    ref, x = inferno(), spikes(0)
    synapse = ref.SingleExponentialCurrent(
        N, 1.0, spike_charge=1.0, time_constant=7.0, delay=delay, current_overbound=None, batch_size=BATCH
    )
    for t in range(STEPS):
        synapse(x[:, t])
    ours = network(snn.ExpCurrent(7 * ms, delay=delay * ms, current_overbound=None, name="syn"), 1.0)
    state = ours.evolve(x)[1]
    assert state["syn_current.history"].shape[1] == synapse.current_.recordsz
    time = torch.linspace(0, synapse.current_.duration, 9).expand(BATCH, N, 9)
    inside = time <= delay
    got, want = ours.current_at(state, "syn", time * ms), synapse.current_at(time)
    close(got[inside], want[inside])


def test_halves_of_steps_in_seconds_of_single_precision() -> None:
    """There nearest, and a tolerance of half a step, go from one record to the other."""
    ref, x = inferno(), spikes(3)
    time = ((torch.arange(22) + 0.5) * 0.5).expand(BATCH, N, 22)
    for tolerance in (0.0, 0.25):
        synapse = ref.SingleExponentialCurrent(
            N, 0.5, spike_charge=3.0, time_constant=7.0, delay=11.0, interp_tol=tolerance, batch_size=BATCH
        )
        for t in range(STEPS):
            synapse(x[:, t])
        node = snn.ExpCurrent(7 * ms, 3.0, delay=11 * ms, spike_interpolation="nearest", tolerance=tolerance * ms,
                              name="syn")  # fmt: skip
        ours = network(node, 0.5)
        state = ours.evolve(x)[1]
        close(ours.current_at(state, "syn", time * ms), synapse.current_at(time))
        want = right_spike_at(ref, synapse, time, "nearest", None, tolerance)
        assert torch.equal(ours.spike_at(state, "syn", time * ms), want)
