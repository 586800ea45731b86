"""What neurons and synapses compute, on small examples worked out by hand or by another formula, and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.ir.nodes import ElementwiseNode

from .running import Case, lower, random_weights, run_programs


def course(node: ElementwiseNode, x: list[float], dt: float = 1e-3) -> dict[str, list[float]]:
    """Results of one neuron with its own first parameters, by name."""
    op = lower(node, (1,), dt=dt)
    params = {role: torch.tensor(p.init.value_or_constant()).reshape(-1).expand(1) for role, p in op.params.items()}
    states = {s.local: torch.full((1, 1), s.init) for s in op.states}
    case = Case(node, op, params, {"x": torch.tensor(x).reshape(-1, 1, 1)}, states)
    return {n: r.flatten().tolist() for n, r in run_programs(case, random_weights(case, 0)).results.items()}


def close(got: list[float], want: list[float] | Tensor) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_several_spikes_in_one_step() -> None:
    got = course(snn.IF(), [0.5, 2.75, 0.0])
    assert got["spikes"] == [0, 3, 0] and got["v"] == [0.5, 0.25, 0.25]


def test_the_cap_leaves_the_rest_on_the_membrane() -> None:
    got = course(snn.IF(max_spikes_per_dt=2), [4.5, 0.0, 0.0])
    assert got["spikes"] == [2, 2, 0] and got["v"] == [2.5, 0.5, 0.5]


def test_resets() -> None:
    x = [0.5, 2.75, 0.25]
    assert course(snn.IF(reset="zero"), x)["v"] == [0.5, 0.0, 0.25]
    assert course(snn.IF(reset=-0.5), x)["v"] == [0.5, -0.5, -0.25]
    assert course(snn.IF(reset=[-0.5]), x)["v"] == [0.5, -0.5, -0.25]
    assert course(snn.IF(reset="zero"), x)["spikes"] == [0, 1, 0]


def test_strict() -> None:
    assert course(snn.IF(), [1.0])["spikes"] == [1]
    assert course(snn.IF(strict=True), [1.0, 0.25])["spikes"] == [0, 1]


def test_leak() -> None:
    close(course(snn.LIF(tau_mem=10 * ms, v0=0.5), [0, 0])["v"], [0.5 * math.exp(-0.1), 0.5 * math.exp(-0.2)])
    close(course(snn.LIF(tau_mem=10 * ms, v_leak=0.5), [0, 0])["v"], [0.5 - 0.5 * math.exp(-0.1 * t) for t in (1, 2)])
    close(course(snn.LI(tau_mem=10 * ms, v_leak=0.5, v0=1.0), [0])["v"], [0.5 + 0.5 * math.exp(-0.1)])


def test_refractory() -> None:
    got = course(snn.IF(refractory=2 * ms, max_spikes_per_dt=1), [2.5, 9, 9, 0.0, 0.0, 0.0, 0.25])
    assert got["spikes"] == [1, 0, 0, 1, 0, 0, 0]  # the rest of 1.5 waits, and fires when it may
    assert got["v"] == [1.5, 1.5, 1.5, 0.5, 0.5, 0.5, 0.75]
    assert got["refractory"] == [2, 1, 0, 2, 1, 0, 0]
    assert course(snn.IF(refractory=1 * ms, reset=-1.0), [1.0, 9.0, 2.5])["v"] == [-1, -1, 1.5 - 2.5]


def test_refractory_current_goes_on() -> None:
    got = course(snn.CubaLIF(refractory=1 * ms, reset="zero"), [2.0, 1.0])
    d = math.exp(-0.1)
    close(got["isyn"], [2 * d, (2 * d + 1) * d])
    assert got["v"] == [0, 0]


def test_alif_threshold_rises() -> None:
    got = course(snn.ALIF(tau_mem=1e6, tau_adapt=10 * ms, beta=1.0), [1.25, 1.0, 1.0])
    rho = math.exp(-0.1)
    a = 1 - rho
    assert got["spikes"] == [1, 1, 0]
    close(got["v"], [0.25, 1.25 - (1 + a), 1.25 - (1 + a) + 1.0])
    close(got["a"], [a, rho * a + a, rho * (rho * a + a)])


def test_izhikevich_regular_spiking() -> None:
    """Against Izhikevich's own loop in float64: the first spikes fall in the same steps."""
    v, u, spikes = -65.0, -13.0, []
    for _ in range(100):
        for _ in range(2):
            v += 0.5 * (0.04 * v * v + 5 * v + 140 - u + 10)
        u += 0.02 * (0.2 * v - u)
        spikes.append(float(v >= 30))
        if v >= 30:
            v, u = -65.0, u + 8
    got = course(snn.Izhikevich(), [10.0] * 100)
    assert got["spikes"] == spikes and 2 <= sum(spikes) <= 20
    close(got["v"][-1:], [v])


def test_izhikevich_starts_at_rest() -> None:
    assert {s.local: s.init for s in lower(snn.Izhikevich(b=0.25)).states} == {"v": -65.0, "u": -16.25}
    assert {s.local: s.init for s in lower(snn.Izhikevich(v0=-70, u0=-14)).states} == {"v": -70.0, "u": -14.0}


def test_alpha_synapse_is_exact() -> None:
    got = course(snn.AlphaSyn(tau=5 * ms), [1.0] + [0.0] * 30)["i"]
    t = np.arange(31) / 5
    close(got, t * np.exp(1 - t))


def test_double_exponential() -> None:
    got = course(snn.DoubleExpCurrent(10 * ms, 2 * ms, charge=4.0), [1.0, 0.0, 0.0])
    t = np.arange(3)
    close(got["current"], 4 / 8 * (np.exp(-t / 10) - np.exp(-t / 2)))


def test_output_types() -> None:
    def out(node: ElementwiseNode, kind: str = "current") -> str:
        return str(lower(node, (3,), kind).outputs[0].type)

    assert out(snn.LIF()) == "spikes[3]<=65536"
    assert out(snn.LIF(max_spikes_per_dt=3)) == "spikes[3]<=3"
    assert out(snn.LIF(reset="zero")) == out(snn.ALIF()) == out(snn.Izhikevich()) == "spikes[3]<=1"
    assert out(snn.LI()) == "membrane[3]"
    assert out(snn.ExpSyn()) == out(snn.Scale(2.0), "spikes") == out(snn.Add()) == "current[3]"
    assert out(snn.Add(4), "spikes") == "spikes[3]<=4"


def test_parameters() -> None:
    op = lower(snn.LIF(v_leak=0.1, reset=[0.0, 0.1, 0.2]), (3, 4, 5))
    assert {role: (p.shape, p.family, p.trainable) for role, p in op.params.items()} == {
        "tau_mem": ((3, 1, 1), "taus", True),
        "v_leak": ((3, 1, 1), "leaks", True),
        "threshold": ((3, 1, 1), "thresholds", True),
        "bias": ((), "biases", True),
        "reset": ((3, 1, 1), "resets", False),
    }
    assert "v_leak" not in lower(snn.LIF()).params
    assert lower(snn.LIF(reset=snn.Param(0.1, trainable=True))).params["reset"].trainable
    assert [lower(n).params["factor"].trainable for n in (snn.Scale(2), snn.Scale(2, trainable=True))] == [False, True]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (snn.LIF(tau_mem=-1 * ms), "tau_mem must be greater than 0, but is -0.001"),
        (snn.LIF(threshold=[1.0, 0.0, 1.0, 1.0]), "threshold must be greater than 0, but is 0"),
        (snn.LIF(reset="none"), "reset must be 'subtract', 'zero' or a value, not 'none'"),
        (snn.LIF(reset=None), "reset must be 'subtract', 'zero' or a value, not None"),
        (snn.LIF(reset=float("nan")), "reset must be a finite number, not nan"),
        (snn.LIF(reset=True), "reset must be a finite number, not True"),
        (snn.LIF(max_spikes_per_dt=0), "max_spikes_per_dt must be a whole number from 1 to 16777216, not 0"),
        (snn.LIF(max_spikes_per_dt=2.0), "max_spikes_per_dt must be a whole number from 1 to 16777216, not 2.0"),
        (
            snn.LIF(max_spikes_per_dt=3, reset="zero"),
            "max_spikes_per_dt=3 needs reset='subtract': a neuron that is reset to a value fires at most once in a",
        ),
        (
            snn.LIF(refractory=1.5 * ms),
            "refractory must be a whole number of steps, but 0.0015 s is 1.5 steps of dt = 0.001 s",
        ),
        (
            snn.LIF(refractory=0.5e-7 * ms),
            "refractory must be a whole number of steps, but 5e-11 s is 5e-08 steps of dt = 0.001 s",
        ),
        (snn.LIF(refractory=-1 * ms), "refractory is a time of at least 0, not -0.001"),
        (snn.LIF(refractory="2 ms"), "refractory must be a finite number, not '2 ms'"),
        (
            snn.LIF(surrogate="atan"),
            "surrogate must be a surrogate such as StepPWL(window=0.5), not 'atan'",
        ),
        (snn.LI(v0=[1.0]), "v0 must be a finite number, not [1.0]"),
        (snn.ALIF(beta=-1), "beta must be at least 0, but is -1"),
        (snn.Izhikevich(b=[0.2] * 4), "with a value of b for each neuron there is no one start for u: give u0="),
        (snn.ExpCurrent(charge=0), "charge must be other than 0, but is 0"),
        (
            snn.DoubleExpCurrent(tau_decay=2 * ms, tau_rise=2 * ms),
            "tau_rise must be smaller than tau_decay, but tau_rise is 0.002 and tau_decay is 0.002",
        ),
        (snn.Add(1), "it adds at least 2 signals, not 1"),
        (snn.Scale("big"), "factor is 'big', not a number or an array"),
        (snn.LIF(tau_mem=[0.01] * 3), "tau_mem has shape (3,), which does not fit the features (4,): "),
    ],
)
def test_errors(node: ElementwiseNode, message: str) -> None:
    with pytest.raises(snn.ModelError) as err:
        lower(node)
    assert str(err.value).startswith(f"node 'node': {message}") or f": {message}" in str(err.value)
    assert err.value.node == "node"


def test_a_surrogate_class_is_not_a_surrogate() -> None:
    with pytest.raises(snn.ModelError, match=r"write StepPWL\(\)"):
        lower(snn.LIF(surrogate=snn.StepPWL))  # type: ignore[arg-type]


def test_a_whole_number_of_steps_may_be_off_by_rounding() -> None:
    assert course(snn.IF(refractory=0.3), [1.0], dt=0.1)["refractory"] == [3]  # 0.3/0.1 = 2.9999999999999996
