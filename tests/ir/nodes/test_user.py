"""Nodes of the user's own."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.ir.nodes import Const

from .running import (
    assert_close_norms,
    assert_same_bits,
    evaluate,
    lower,
    random_case,
    random_weights,
    run_eager,
    run_programs,
)

TAU = snn.Param(20 * ms, family="taus", constraint="positive")
GAIN = Const(2.0)
ATAN = snn.ATan()
WEIGHT = torch.tensor([1.0, 2.0, 3.0, 4.0])


@snn.neuron(states={"v": 0.0}, outputs={"spikes": 1})
def MyLIF(v: Tensor, x: Tensor, *, tau=TAU, threshold=1.0, gain=GAIN, surrogate=ATAN, hard: bool = False, dt: float):
    """A leaky neuron with a gain."""
    v = v * torch.exp(-dt / tau) + gain * x
    spikes = snn.spike(v, threshold, surrogate)
    v = torch.where(spikes > 0, 0.0, v) if hard else v - spikes * threshold
    return {"v": v, "spikes": spikes}


@snn.synapse(states={"fast": 0.0, "slow": 0.5})
def TwoPorts(fast, slow, exc, inh, *, rate, weight=WEIGHT):
    return {"fast": fast - rate * fast + weight * exc - inh, "slow": slow + fast}


@snn.neuron(outputs={"y": "current"})
def Rectify(x):
    return {"y": torch.relu(x)}


@snn.neuron(states={"v": 0.0, "w": 1.0}, outputs={"v": "membrane", "spikes": 4})
def ThreeState(v, w, x, *, decay=0.9):
    v = v * decay + x * torch.sigmoid(w)
    spikes = snn.spike(v, 0.7, snn.Sigmoid(), max_spikes=4)
    return {"v": v - 0.7 * spikes, "w": w + 0.1 * torch.tanh(v), "spikes": spikes}


def test_the_class() -> None:
    node = MyLIF(tau=10 * ms, name="mine")
    assert type(node).__name__ == "MyLIF" and node.name == "mine" and MyLIF.default_name() == "my_lif"
    assert MyLIF.__doc__ == "A leaky neuron with a gain."
    op = lower(node, (3, 2, 2))
    assert {r: (p.shape, p.family, p.trainable, p.constraint, p.init.args) for r, p in op.params.items()} == {
        "tau": ((3, 1, 1), "taus", True, "positive", (pytest.approx(0.01),)),
        "threshold": ((3, 1, 1), "parameters", True, None, (1.0,)),
    }
    assert str(op.outputs[0].type) == "spikes[3x2x2]<=1" and op.kind == "MyLIF"
    assert [(s.local, s.init) for s in op.states] == [("v", 0.0)]


def test_it_shows_its_own_lines() -> None:
    wheres = {op.name: op.where for op in lower(MyLIF()).forward.ops}
    assert all(w.startswith(("test_user.py:", "snncompile/ir/nodes/spiking.py:")) for w in wheres.values())
    assert "v_1" in wheres


def test_ports_required_parameters_and_arrays() -> None:
    op = lower(TwoPorts(rate=0.1), (4,))
    assert op.inputs == ("exc", "inh") and [o.local for o in op.outputs] == ["fast"]
    assert str(op.outputs[0].type) == "current[4]"
    assert [s.init for s in op.states] == [0.0, 0.5] and op.params["weight"].init.kind == "given"
    with pytest.raises(TypeError, match="rate"):
        TwoPorts()


def test_stateless() -> None:
    op = lower(Rectify(), (2,))
    assert op.stateless and evaluate(op.forward, {"x": torch.tensor([-1.0, 2.0])})["y"].tolist() == [0, 2]


@pytest.mark.parametrize("node", [MyLIF(), MyLIF(hard=True, gain=0.5), TwoPorts(rate=0.1), Rectify()])
def test_programs_do_what_the_function_does(node: Any) -> None:
    case = random_case(node, 11, n=4)
    weights = random_weights(case, 11)
    programs, eager = run_programs(case, weights), run_eager(case, weights)
    assert_same_bits(programs.results, eager.results)
    assert_close_norms(programs.grads, eager.grads)


def test_sigmoid_and_tanh_in_a_step_are_within_rounding() -> None:
    case = random_case(ThreeState(), 3, steps=6)
    weights = random_weights(case, 3)
    programs, eager = run_programs(case, weights), run_eager(case, weights)
    assert_close_norms(programs.results, eager.results, 1e-6)
    assert_close_norms(programs.grads, eager.grads, 1e-5)
    assert programs.results["spikes"].max() >= 1


def test_pickle_and_copy() -> None:
    node = MyLIF(tau=5 * ms, hard=True, name="n")
    for other in (pickle.loads(pickle.dumps(node)), copy.deepcopy(node)):
        assert type(other) is MyLIF and (other.tau, other.hard, other.name) == (5 * ms, True, "n")
    assert pickle.loads(pickle.dumps(MyLIF)) is MyLIF


def test_in_a_network() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Current(4)):
        return x >> MyLIF(tau=10 * ms)

    compiled = snn.compile(net, target="torch")
    out = compiled(torch.rand(2, 20, 4))
    assert out.shape == (2, 20, 4) and out.sum() > 0
    out.sum().backward()
    assert all(p.grad is not None for p in compiled.parameters())


def decorated(fn: Any, **options: Any) -> Any:
    return snn.neuron(**{"states": {"v": 0.0}, "outputs": {"v": "membrane"}, **options})(fn)


@pytest.mark.parametrize(
    ("fn", "options", "message"),
    [
        (lambda x: 0, {}, "the state v must be among its positional arguments (x)"),
        (lambda x, *, v: 0, {}, "the state v must be among its positional arguments (x)"),
        (lambda v: 0, {}, "it has no input: name one among its positional arguments, beside the states"),
        (lambda v, x, tau=1.0: 0, {}, "tau has a default: parameters come after a `*`, as keyword-only arguments"),
        (lambda v, x, dt: 0, {}, "dt must be keyword-only: put it after a `*`"),
        (lambda v, *x: 0, {}, "*x is not possible: states, inputs and parameters are named one by one"),
        (lambda v, x, **p: 0, {}, "**p is not possible: states, inputs and parameters are named one by one"),
        (lambda v, x, *, name=1.0: 0, {}, "name is reserved: choose another name for it"),
        (lambda v, x, *, step=1.0: 0, {}, "step is reserved: choose another name for it"),
        (lambda v, grad_x: 0, {}, "grad_x is reserved: choose another name for it"),
        (lambda v, größe: 0, {}, "'größe' is no name: use ASCII letters, digits and underscores"),
        (lambda v, x: 0, {"states": {"v": "low"}}, "the state v must start from a finite number, not 'low'"),
        (lambda v, x: 0, {"outputs": {}}, "it has no output"),
        (lambda v, x: 0, {"outputs": {"x": "current"}}, "x names two things: an argument and an output"),
        (
            lambda v, x: 0,
            {"outputs": {"s": "spikes"}},
            "the output s must be the most spikes in one step (a whole number), 'current' or 'membrane', not 'spikes'",
        ),
        (
            lambda v, x: 0,
            {"outputs": {"s": 0}},
            "the output s must be the most spikes in one step (a whole number), 'current' or 'membrane', not 0",
        ),
        (
            lambda v, x, *, s=1.0: 0,
            {"outputs": {"s": 1}},
            "s names two things: an argument and an output",
        ),
    ],
)
def test_errors_of_the_decorator(fn: Any, options: dict, message: str) -> None:
    with pytest.raises(snn.ModelError) as err:
        decorated(fn, **options)
    assert err.value.message == f"@neuron <lambda>: {message}"
    assert err.value.where is not None and err.value.where.file.endswith("test_user.py")


def test_parentheses_are_needed() -> None:
    with pytest.raises(snn.ModelError, match=r"write @neuron\(states=\{\.\.\.\}, outputs=\{\.\.\.\}\)"):
        snn.neuron(lambda v, x: {"v": v})  # type: ignore[arg-type]
    with pytest.raises(snn.ModelError, match="@synapse takes a step function, not 3"):
        snn.synapse(states={"v": 0.0})(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda v, x: v + x, 'it must return a dict {"v": ...}, not Tensor'),
        (lambda v, x: {}, "it must return every state and output and nothing else; missing: v"),
        (lambda v, x: {"v": v, "w": x}, "it must return every state and output and nothing else; not known: w"),
        (lambda v, x: {"v": "high"}, "the step of <lambda>: the result 'v' is a str, not a tensor"),
        (lambda v, x: {"v": v.sum() + x}, "the operation aten.sum is not elementwise or not known"),
        (lambda v, x: {"v": v if v[0] > 0 else x}, "is not elementwise"),
        (lambda v, x: {"v": v + undefined}, "NameError: name 'undefined' is not defined"),  # type: ignore  # noqa
    ],
)
def test_errors_of_the_step(fn: Any, message: str) -> None:
    with pytest.raises(snn.ModelError) as err:
        lower(decorated(fn)())
    assert message in str(err.value)


def test_a_setting_is_no_parameter() -> None:
    with pytest.raises(snn.ModelError, match="gain is a plain setting of MyLIF, not a parameter"):
        lower(MyLIF(gain=snn.Param(1.0)))
    with pytest.raises(snn.ModelError, match="tau must be greater than 0, but is -1"):
        lower(MyLIF(tau=-1))
