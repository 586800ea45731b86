"""Each surrogate's gradient against its formula, written again in numpy's float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile.ir.nodes import Surrogate

from .running import evaluate, lower

Pair = tuple[np.ndarray, np.ndarray]


def minus(d: np.ndarray) -> Pair:
    return d, -d


def step_pwl(v: np.ndarray, a: np.ndarray, window: float = 0.5) -> Pair:
    mask = v >= a - window
    return mask / a, -v / a**2 * mask


def periodic_exponential(v: np.ndarray, a: np.ndarray, window: float = 0.5, cap: int = 65536) -> Pair:
    c = v - a / 2
    w = np.where(v < a, c, c - np.minimum(np.floor(c / a), cap - 1) * a)
    p = np.exp(-np.abs(w - a / 2) / window) / a
    return p, -p * v / a


def sigmoid(v: np.ndarray, a: np.ndarray, slope: float = 4.0) -> Pair:
    y = 1 / (1 + np.exp(-slope * (v - a)))
    return minus(slope * y * (1 - y))


def atan(v: np.ndarray, a: np.ndarray, alpha: float = 2.0) -> Pair:
    return minus((alpha / 2) / (1 + (np.pi / 2 * alpha * (v - a)) ** 2))


def fast_sigmoid(v: np.ndarray, a: np.ndarray, slope: float = 25.0) -> Pair:
    return minus(1 / (1 + slope * np.abs(v - a)) ** 2)


def triangle(v: np.ndarray, a: np.ndarray, width: float = 1.0, scale: float = 1.0) -> Pair:
    return minus(scale * np.maximum(0, 1 - np.abs(v - a) / width))


FORMULAS: dict[str, tuple[Surrogate, Callable[..., Pair], dict]] = {
    "StepPWL": (snn.StepPWL(), step_pwl, {}),
    "StepPWL narrow": (snn.StepPWL(0.0), step_pwl, {"window": 0.0}),
    "PeriodicExponential": (snn.PeriodicExponential(), periodic_exponential, {}),
    "PeriodicExponential narrow": (snn.PeriodicExponential(0.2), periodic_exponential, {"window": 0.2}),
    "Sigmoid": (snn.Sigmoid(), sigmoid, {}),
    "Sigmoid steep": (snn.Sigmoid(10), sigmoid, {"slope": 10}),
    "ATan": (snn.ATan(), atan, {}),
    "ATan flat": (snn.ATan(0.5), atan, {"alpha": 0.5}),
    "FastSigmoid": (snn.FastSigmoid(), fast_sigmoid, {}),
    "FastSigmoid flat": (snn.FastSigmoid(3), fast_sigmoid, {"slope": 3}),
    "Triangle": (snn.Triangle(), triangle, {}),
    "Triangle low": (snn.Triangle(0.4, 0.3), triangle, {"width": 0.4, "scale": 0.3}),
}


def membranes(seed: int, threshold: torch.Tensor) -> torch.Tensor:
    """Membranes away from the points where a formula jumps, which float32 and float64 may see on different sides."""
    v = torch.rand(200, generator=torch.Generator().manual_seed(seed)) * 5 - 1.5
    jumps = [(v - threshold * k / 2).abs() for k in range(-4, 20)]
    jumps += [(v - threshold + window).abs() for window in (0.5, 0.0)]
    return v[torch.stack(jumps).min(0).values > 1e-4]


@pytest.mark.parametrize("name", FORMULAS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), a=st.floats(0.25, 2.0, width=32))
def test_gradient_is_the_formula(name: str, seed: int, a: float) -> None:
    surrogate, formula, arguments = FORMULAS[name]
    v = membranes(seed, torch.tensor(a)).requires_grad_()
    threshold = torch.full_like(v, a).requires_grad_()
    g = torch.linspace(-1, 2, len(v))
    spikes = snn.spike(v, threshold, surrogate, 65536)
    grads = torch.autograd.grad(spikes, [v, threshold], g)
    wanted = formula(v.detach().double().numpy(), threshold.detach().double().numpy(), **arguments)
    for got, want in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(got.double().numpy(), g.double().numpy() * want, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_traced_gradient_is_the_formula(name: str) -> None:
    surrogate, formula, arguments = FORMULAS[name]
    op = lower(snn.IF(surrogate=surrogate))
    a = torch.tensor(0.8)
    v = membranes(3, a)
    zero, one = torch.zeros_like(v), torch.ones_like(v)
    values = {"v": v, "x": zero, "bias": torch.tensor(0.0), "threshold": a, "grad_v": zero, "grad_spikes": one}
    out = evaluate(op.reverse, values)
    wanted = formula(v.double().numpy(), np.full(len(v), 0.8), **arguments)
    for name_, want in zip(("grad_v", "grad_threshold"), wanted, strict=True):
        np.testing.assert_allclose(out[name_].double().numpy(), want, rtol=2e-5, atol=1e-5)


def test_periodic_exponential_knows_the_cap() -> None:
    v = torch.tensor([0.6, 1.3, 2.2, 3.4, 5.6], requires_grad=True)
    spikes = snn.spike(v, torch.ones(5), snn.PeriodicExponential(), 2)
    assert spikes.tolist() == [0, 1, 2, 2, 2]
    (got,) = torch.autograd.grad(spikes.sum(), v)
    wanted, _ = periodic_exponential(v.detach().double().numpy(), np.ones(5), cap=2)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-5)


def test_spike_counts() -> None:
    v = torch.tensor([-1.0, 0.0, 0.99, 1.0, 1.5, 2.0, 7.9, float("nan")])
    assert snn.spike(v, torch.tensor(1.0), max_spikes=5).tolist() == [0, 0, 0, 1, 1, 2, 5, 0]
    assert snn.spike(v, 1.0).tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    assert snn.spike(v, 1.0, strict=True).tolist() == [0, 0, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: snn.StepPWL(-0.1), "StepPWL: window must be a number of at least 0, not -0.1"),
        (lambda: snn.StepPWL(float("nan")), "StepPWL: window must be a number of at least 0, not nan"),
        (lambda: snn.PeriodicExponential(0), "PeriodicExponential: window must be a number greater than 0, not 0"),
        (lambda: snn.Sigmoid("4"), "Sigmoid: slope must be a number greater than 0, not '4'"),
        (lambda: snn.ATan(True), "ATan: alpha must be a number greater than 0, not True"),
        (lambda: snn.FastSigmoid(-1), "FastSigmoid: slope must be a number greater than 0, not -1"),
        (lambda: snn.Triangle(1, 0), "Triangle: scale must be a number greater than 0, not 0"),
        (lambda: snn.Triangle(width=float("inf")), "Triangle: width must be a number greater than 0, not inf"),
    ],
)
def test_settings_are_checked(make: Callable[[], object], message: str) -> None:
    with pytest.raises(snn.ModelError) as err:
        make()
    assert str(err.value) == message
