"""STDP against Norse's own, step by step on the same spikes, over hundreds of steps.

Norse sums its outer products in one matrix product, ours from the first sequence to the last: weights may differ by
float32 rounding of every step, and no more.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import snncompile as snn
from snncompile import ms

from .oracles import norse_stdp

STEPS = 300
CASES = [
    {"algorithm": "additive"},
    {"algorithm": "additive", "hardbound": False},
    {"algorithm": "additive_step"},
    {"algorithm": "additive_step", "hardbound": False, "a_pre": 0.5, "a_post": 2.0},
    {"algorithm": "multiplicative_pow", "mu": 0.0},
    {"algorithm": "multiplicative_pow", "mu": 0.5},
    {"algorithm": "multiplicative_pow", "mu": 1.0},
    {"algorithm": "multiplicative_pow", "mu": 0.02, "tau_pre": 20 * ms, "tau_post": 35 * ms},
    {"algorithm": "multiplicative_pow", "mu": 0.7},
    {"algorithm": "multiplicative_relu"},
    {"algorithm": "multiplicative_relu", "hardbound": False, "w_min": -0.25, "w_max": 1.5},
]


def rates(case: dict) -> dict:
    return {"eta_plus": 3e-2, "eta_minus": 2e-2, **case}


def norse_parameters(case: dict, **more: object) -> object:
    tau_pre, tau_post = (torch.tensor(case.pop(f"tau_{side}", 50 * ms)) for side in ("pre", "post"))
    algorithm = case.pop("algorithm")
    floats = {k: v if isinstance(v, bool) or k == "mu" else torch.tensor(v) for k, v in case.items()}
    return norse_stdp().STDPParameters(
        tau_pre_inv=1 / tau_pre, tau_post_inv=1 / tau_post, stdp_algorithm=algorithm, **floats, **more
    )


def replay(step, x: Tensor, z: Tensor, w: Tensor, parameters: object) -> Tensor:
    """Norse's weights after the spikes ``x`` and ``z``, ``(batch, time, ...)``."""
    state = norse_stdp().STDPState(torch.zeros_like(x[:, 0]), torch.zeros_like(z[:, 0]))
    for t in range(x.shape[1]):
        w, state = step(x[:, t].contiguous(), z[:, t].contiguous(), w, state, parameters, dt=1e-3)
    return w


def assert_rounding(got: Tensor, want: Tensor, start: Tensor) -> None:
    learnt, apart = float((want - start).abs().max()), float((got - want).abs().max())
    assert learnt > 0.05
    assert apart <= STEPS * 2.0**-24, apart


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_linear(case: dict) -> None:
    batch = 1 + 2 * (CASES.index(case) % 2)
    generator = torch.Generator().manual_seed(batch)
    start = torch.rand(6, 20, generator=generator)

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(20, max=1)):
        connection = snn.Linear(6, bias=False, init=start)
        h = x >> connection >> snn.LIF(tau_mem=10 * ms, threshold=2.0, max_spikes_per_dt=1)
        snn.learn(connection, snn.STDP(**rates(case)))
        return h

    x = (torch.rand(batch, STEPS, 20, generator=generator) < 0.05).float()
    z, state, _ = snn.compile(net, target="torch").learn(x)
    assert 0.01 < float(z.mean()) < 0.5
    want = replay(norse_stdp().stdp_step_linear, x, z, start, norse_parameters(rates(case)))
    assert_rounding(state["linear.weight"], want, start)


@pytest.mark.parametrize(
    ("number", "batch", "stride", "padding", "dilation"),
    [(0, 1, 1, 0, 1), (2, 2, 2, 1, 1), (8, 3, 1, 2, 2), (9, 2, 1, 1, 1)],
)
def test_conv2d(number: int, batch: int, stride: int, padding: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    start = torch.rand(3, 2, 3, 3, generator=generator)
    case = {**rates(CASES[number]), "eta_plus": 5e-3, "eta_minus": 3e-3}

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes((2, 7, 7), max=1)):
        connection = snn.Conv2d(3, 3, stride, padding, dilation=dilation, bias=False, init=start)
        h = x >> connection >> snn.LIF(tau_mem=10 * ms, threshold=2.0, max_spikes_per_dt=1)
        snn.learn(connection, snn.STDP(**case))
        return h

    x = (torch.rand(batch, STEPS, 2, 7, 7, generator=generator) < 0.05).float()
    z, state, _ = snn.compile(net, target="torch").learn(x)
    parameters = norse_parameters(case, convolutional=True, stride=stride, padding=padding, dilation=dilation)
    want = replay(norse_stdp().stdp_step_conv2d, x, z, start, parameters)
    assert_rounding(state["conv2d.weight"], want, start)
