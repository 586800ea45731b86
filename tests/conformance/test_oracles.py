"""The oracles themselves: they import here and behave as the notes in oracles.py say."""

from __future__ import annotations

import math

import torch

from .oracles import inferno, rockpool


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_rockpool() -> None:
    ref = rockpool()
    x = spikes(2, 20, 3)

    out, state, record = ref.LIFNeuronTorch((3,), tau_mem=0.02, dt=1e-3)(x, record=True)
    assert out.shape == record["vmem"].shape == record["spikes"].shape == (2, 20, 3)
    assert state["vmem"].shape == (3,)

    out, state, record = ref.ExpSynTorch((3,), tau=5e-3, dt=1e-3)(x, record=True)
    assert out.shape == (2, 20, 3) and state["isyn"].shape == (3,) and record == {}
    torch.testing.assert_close(out[:, 0], x[:, 0] * math.exp(-0.2))  # added first, then decayed

    both = ref.LIFTorch((3, 3), tau_mem=0.02, tau_syn=5e-3, dt=1e-3, spike_generation_fn=ref.PeriodicExponential)
    out, state, record = both(x, record=True)
    assert record["isyn"].shape == record["irec"].shape == (2, 20, 3, 1)
    assert not both.w_rec.any()

    for surrogate in (ref.StepPWL, ref.PeriodicExponential):
        v = torch.tensor([0.2, 0.9, 1.1, 2.5], requires_grad=True)
        n = surrogate.apply(v, torch.tensor(1.0), torch.tensor(0.5), torch.tensor(2.0**16))
        assert n.tolist() == [0, 0, 1, 2]
        assert torch.autograd.grad(n.sum(), v)[0].count_nonzero() >= 3


def test_inferno() -> None:
    ref = inferno()
    x = spikes(2, 20, 3)

    single = ref.SingleExponentialCurrent(3, 1.0, spike_charge=1.0, time_constant=5.0, batch_size=2)
    first, second = single(x[:, 0]), single(x[:, 1])
    torch.testing.assert_close(first, x[:, 0] / 5.0)  # decayed first, then added
    torch.testing.assert_close(second, first * math.exp(-0.2) + x[:, 1] / 5.0)

    double = ref.DoubleExponentialCurrent(3, 1.0, spike_charge=1.0, tc_decay=5.0, tc_rise=1.0, batch_size=2)
    assert not double(x[:, 0]).any()  # the rise starts from zero
    want = x[:, 0] / 4.0 * (math.exp(-0.2) - math.exp(-1.0))
    torch.testing.assert_close(double(torch.zeros(2, 3)), want)
