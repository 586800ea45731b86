"""Rockpool's neurons and synapses against ours: outputs, states and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import snncompile as snn

from .oracles import rockpool

DT, BATCH, STEPS, N = 1e-3, 3, 40, 6
seeds = st.integers(0, 10**6)


class Draw:
    """Random tensors from a seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def input(self, high: float) -> Tensor:
        return self.uniform(-0.3 * high, high, BATCH, STEPS, N)

    def weights(self) -> Tensor:
        return torch.randn(BATCH, STEPS, N, generator=self.generator)


def network(node: snn.Node) -> snn.Network:
    @snn.model(dt=DT)
    def net(x=snn.Current(N)):
        return x >> node

    return snn.compile(net, target="torch")


def compare_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, want in theirs.items():
        error = float((ours[name].double() - want.double()).norm() / want.double().norm())
        assert float(want.norm()) > 0 and error < 1e-5, f"{name}: {error:g}"


def gradients(loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def surrogates(ref: Any, window: float) -> list[tuple[Any, snn.Surrogate]]:
    return [(ref.StepPWL, snn.StepPWL(window)), (ref.PeriodicExponential, snn.PeriodicExponential(window))]


@pytest.mark.parametrize("which", [0, 1], ids=["StepPWL", "PeriodicExponential"])
@settings(max_examples=8)
@given(seed=seeds, high=st.sampled_from([0.5, 1.5, 6.0]), cap=st.sampled_from([1, 3, 65536]))
def test_lif_neuron(which: int, seed: int, high: float, cap: int) -> None:
    ref, draw = rockpool(), Draw(seed)
    window = float(draw.uniform(0.2, 0.8, 1))
    function, surrogate = surrogates(ref, window)[which]
    values = {
        "tau_mem": draw.uniform(5e-3, 40e-3, N), "threshold": draw.uniform(0.4, 1.5, N),
        "bias": draw.uniform(-0.05, 0.1, N),
    }  # fmt: skip
    theirs = ref.LIFNeuronTorch(
        (N,), dt=DT, spike_generation_fn=function, learning_window=window, max_spikes_per_dt=torch.tensor(float(cap)),
        **{name: value.clone() for name, value in values.items()},
    )  # fmt: skip
    ours = network(snn.LIF(surrogate=surrogate, max_spikes_per_dt=cap, **values))
    x, weights, membrane_weights = draw.input(high), draw.weights(), draw.weights()

    x_theirs, x_ours = (x.clone().requires_grad_() for _ in range(2))
    out, state, record = theirs(x_theirs, record=True)
    got, new_state, got_record = ours.evolve(x_ours, record=["lif.v", "lif.spikes"])
    assert torch.equal(got, out) and torch.equal(got_record["lif.spikes"], record["spikes"])
    assert torch.equal(got_record["lif.v"], record["vmem"])
    assert torch.equal(new_state["lif.v"][0], state["vmem"])
    assert got.max() <= cap

    def loss(spikes: Tensor, v: Tensor) -> Tensor:
        return (spikes * weights).sum() + (v * membrane_weights).sum()

    names = {"tau_mem", "threshold", "bias"}
    want = gradients(loss(out, record["vmem"]), {"x": x_theirs, **{n: getattr(theirs, n) for n in names}})
    parameters = dict(ours.named_parameters())
    mine = gradients(
        loss(got, got_record["lif.v"]), {"x": x_ours, **{n: parameters[f"lif.{n}"] for n in names}}
    )
    compare_gradients(mine, want)


def test_lif_neuron_fires_several_times_in_a_step() -> None:
    ref = rockpool()
    x = Draw(5).input(6.0)
    out = ref.LIFNeuronTorch((N,), dt=DT)(x.clone())[0]
    assert out.max() >= 4 and torch.equal(network(snn.LIF())(x), out)


@settings(max_examples=10)
@given(seed=seeds)
def test_exp_syn(seed: int) -> None:
    ref, draw = rockpool(), Draw(seed)
    tau, x, weights = draw.uniform(2e-3, 30e-3, N), draw.input(2.0), draw.weights()
    theirs, ours = ref.ExpSynTorch((N,), tau=tau.clone(), dt=DT), network(snn.ExpSyn(tau=tau))
    x_theirs, x_ours = (x.clone().requires_grad_() for _ in range(2))
    out, state, _ = theirs(x_theirs)
    got, new_state, _ = ours.evolve(x_ours)
    assert torch.equal(got, out) and torch.equal(new_state["exp_syn.isyn"][0], state["isyn"])
    want = gradients((out * weights).sum(), {"x": x_theirs, "tau": theirs.tau})
    parameters = dict(ours.named_parameters())
    mine = gradients((got * weights).sum(), {"x": x_ours, "tau": parameters["exp_syn.tau"]})
    compare_gradients(mine, want)


@pytest.mark.parametrize("which", [0, 1], ids=["StepPWL", "PeriodicExponential"])
@settings(max_examples=8)
@given(seed=seeds, cap=st.sampled_from([2, 65536]))
def test_lif(which: int, seed: int, cap: int) -> None:
    ref, draw = rockpool(), Draw(seed)
    function, surrogate = surrogates(ref, 0.5)[which]
    values = {
        "tau_mem": draw.uniform(5e-3, 40e-3, N), "tau_syn": draw.uniform(3e-3, 20e-3, N, 1),
        "threshold": draw.uniform(0.5, 1.5, N), "bias": draw.uniform(-0.05, 0.1, N),
    }  # fmt: skip
    theirs = ref.LIFTorch(
        (N, N), dt=DT, spike_generation_fn=function, max_spikes_per_dt=torch.tensor(float(cap)),
        **{name: value.clone() for name, value in values.items()},
    )  # fmt: skip
    flat = {name: value.reshape(N) for name, value in values.items()}
    ours = network(snn.CubaLIF(surrogate=surrogate, max_spikes_per_dt=cap, **flat))
    x, weights = draw.input(0.8), draw.weights()
    x_theirs, x_ours = (x.clone().requires_grad_() for _ in range(2))
    out, _, record = theirs(x_theirs, record=True)
    got, _, got_record = ours.evolve(x_ours, record=["cuba_lif.v", "cuba_lif.isyn"])
    assert torch.equal(got, out) and got.max() > 1
    assert torch.equal(got_record["cuba_lif.v"], record["vmem"])
    assert torch.equal(got_record["cuba_lif.isyn"], record["isyn"].squeeze(-1))
    want = gradients((out * weights).sum(), {"x": x_theirs, **{n: getattr(theirs, n) for n in values}})
    want["tau_syn"] = want["tau_syn"].squeeze(-1)
    parameters = {n: dict(ours.named_parameters())[f"cuba_lif.{n}"] for n in values}
    compare_gradients(gradients((got * weights).sum(), {"x": x_ours, **parameters}), want)


@pytest.mark.parametrize("which", [0, 1], ids=["StepPWL", "PeriodicExponential"])
@settings(max_examples=10)
@given(seed=seeds, cap=st.sampled_from([1, 2, 65536]))
def test_surrogates(which: int, seed: int, cap: int) -> None:
    ref, draw = rockpool(), Draw(seed)
    function, surrogate = surrogates(ref, 0.3)[which]
    v, threshold = draw.uniform(-2, 6, 300), draw.uniform(0.3, 2.0, 300)
    a, b = ((v.clone().requires_grad_(), threshold.clone().requires_grad_()) for _ in range(2))
    theirs = function.apply(*a, torch.tensor(0.3), torch.tensor(float(cap)))
    ours = snn.spike(*b, surrogate, cap)
    assert torch.equal(theirs, ours)
    g = draw.uniform(-1, 1, 300)
    for want, got in zip(torch.autograd.grad(theirs, a, g), torch.autograd.grad(ours, b, g), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
