"""Inferno's dense connections with a delay for each synapse, against ours: the same sums of the same spikes."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile import ms

from .oracles import inferno

BATCH, STEPS, N_IN, N_OUT, LIMIT = 2, 25, 9, 34, 8


@pytest.mark.parametrize("target", ["torch", "c", "triton"])
@pytest.mark.parametrize("mode", ["previous", "nearest"])
@pytest.mark.parametrize("density", [None, 0.05])
def test_a_delay_for_each_synapse(target: str, mode: str, density: float | None, monkeypatch) -> None:
    """Delays on the grid and between its steps; weights of which sums are exact in every order."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    g = torch.Generator().manual_seed(0)
    delays = torch.randint(0, 4 * LIMIT + 1, (N_OUT, N_IN), generator=g) / 4.0
    weights = torch.randint(-8, 9, (N_OUT, N_IN), generator=g) / 8.0
    ref = inferno()
    theirs = ref.LinearDense(
        N_IN,
        N_OUT,
        1.0,
        synapse=ref.DeltaCurrent.partialconstructor(1.0, interp_mode=mode),
        delay=float(LIMIT),
        batch_size=BATCH,
        weight_init=lambda _: weights.clone(),
        delay_init=lambda _: delays.clone(),
    )
    x = (torch.rand(BATCH, STEPS, N_IN, generator=g) < 0.3).float()
    with torch.no_grad():
        want = torch.stack([theirs(x[:, t]) for t in range(STEPS)], 1)

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(N_IN, max=1, density=density)):
        return x >> snn.Linear(
            N_OUT, bias=False, init=weights.numpy(), delay=delays.numpy() * ms, interpolation=mode, max_delay=LIMIT * ms
        )

    assert torch.equal(snn.compile(model, target=target)(x), want)
