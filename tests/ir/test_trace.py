"""Tracing: what a step function may do becomes a program; what it may not is refused, with its line."""

from __future__ import annotations

import inspect
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import snncompile as snn
from snncompile.ir.errors import ModelError
from snncompile.ir.interp import Interpreter
from snncompile.ir.program import Program
from snncompile.ir.trace import trace, trace_reverse
from snncompile.ir.verify_program import verify_program

CPU = torch.device("cpu")
CAPTURED = torch.ones(5)


def of(step, *inputs: str) -> Program:
    return trace(step, inputs or ("x",), what="the step")


REFUSED = {
    "sum": (lambda x: {"y": x + x.sum()}, "the operation aten.sum is not elementwise or not known"),
    "mean": (lambda x: {"y": x - x.mean()}, "the operation aten.mean is not elementwise"),
    "order": (lambda x: {"y": x.flip(0)}, "the operation aten.flip is not elementwise"),
    "neighbour": (lambda x: {"y": torch.roll(x, 1)}, "the operation aten.roll is not elementwise"),
    "element": (lambda x: {"y": x[0] + x}, "the operation aten.select is not elementwise"),
    "matrix": (lambda x: {"y": x.unsqueeze(0) @ x}, "is not elementwise"),
    "if": (lambda x: {"y": x if x > 0 else -x}, "write torch.where(condition, a, b)"),
    "if item": (lambda x: {"y": x * x.max().item()}, "the operation aten.max is not elementwise"),
    "captured": (lambda x: {"y": x * CAPTURED}, "it uses a tensor from outside the step"),
    "numpy": (lambda x: {"y": torch.from_numpy(x.numpy() * 2)}, "it uses a tensor from outside the step"),
    "random": (lambda x: {"y": x + torch.rand_like(x)}, "torch.rand_like draws other random numbers"),
    "random number": (lambda x: {"y": x * torch.rand(())}, "Use snn.uniform() or snn.normal()"),
    "double": (lambda x: {"y": x.double()}, "a step computes in float32 and bool, not float64"),
    "whole": (lambda x: {"y": x.int()}, "a step computes in float32 and bool, not int32"),
    "round": (lambda x: {"y": torch.round(x)}, "torch.round is not available. Use torch.floor(x + 0.5)"),
    "lerp": (lambda x: {"y": torch.lerp(x, x, 0.5)}, "Write a + w * (b - a)"),
    "alpha": (lambda x: {"y": torch.add(x, x, alpha=2)}, "alpha= contract on some machines. Write the product out"),
    "power": (lambda x: {"y": x**1.5}, "the power 1.5 is not available: use 2, 3, 0.5, -0.5, -1 or -2"),
    "power of x": (lambda x: {"y": 2.0**x}, "a power needs a constant exponent"),
    "rounding mode": (lambda x: {"y": torch.div(x, 2, rounding_mode="trunc")}, "rounding_mode='trunc' is not"),
    "error": (lambda x: {"y": x + {}["a"]}, "the step: KeyError: 'a'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_with_the_line(case: str) -> None:
    step, message = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        of(step)
    assert message in caught.value.message and caught.value.message.startswith("the step: ")
    where = caught.value.where
    assert where is not None and where.file == __file__
    assert where.line == inspect.getsourcelines(step)[1]


RESULTS = {
    "None": (lambda x: {"y": None}, "the result 'y' is a NoneType, not a tensor"),
    "text": (lambda x: {"y": "a"}, "the result 'y' is a str, not a tensor"),
}


@pytest.mark.parametrize("case", RESULTS)
def test_refuses_results(case: str) -> None:
    step, message = RESULTS[case]
    with pytest.raises(ModelError, match=message):
        of(step)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: {"y": x * x.shape[0]},
        lambda x: {"y": x * len(x)},
        lambda x: {"y": x * float(x.numpy()[0])},
        lambda x: {"y": x * random.random()},
        lambda x: {"y": x * np.random.rand()},
    ],
)
def test_refuses_what_torch_does_not_see(step) -> None:
    """A shape or a value taken out of a tensor would become a constant, without a word."""
    with pytest.raises(ModelError) as caught:
        of(step)
    assert "it computes something else for tensors of another shape or other values" in str(caught.value)
    assert "(first at test_trace.py:" in str(caught.value)


def test_a_line_of_the_source_for_every_operation() -> None:
    def step(v, x):
        decayed = v * 0.5
        v = decayed + x
        return {"v": v}

    program = trace(step, ("v", "x"), what="the step")
    first = inspect.getsourcelines(step)[1]
    assert [(op.name, op.where) for op in program.ops] == [
        ("decayed", f"test_trace.py:{first + 1}"),
        ("v_1", f"test_trace.py:{first + 2}"),
    ]


def test_inputs_may_be_called_anything() -> None:
    """Also what the tracer would call its own values."""

    def step(t0, t1, acc_0, e0):
        t2 = t0 * t1 + torch.exp(-acc_0) * e0
        return {"t0": t2 * t2}

    names = ("t0", "t1", "acc_0", "e0")
    program = trace(step, names, what="the step")
    reverse = trace_reverse(step, names, ("t0",), what="the step")
    assert program.inputs == names
    verify_program(program)
    verify_program(reverse)
    x = [torch.rand(4) for _ in names]
    (y,) = Interpreter(program)(x, CPU)
    assert torch.allclose(y, step(*x)["t0"])


def test_in_place_and_aliases_are_values() -> None:
    def step(x):
        y = x.clone()
        y.add_(1).mul_(2)
        z = y.detach()
        y += 1
        return {"y": y, "z": z}

    x = torch.rand(4)
    y, z = Interpreter(of(step))([x], CPU)
    expected = step(x)  # an alias of y changes with it
    assert torch.equal(y, expected["y"]) and torch.equal(z, expected["z"])


def test_constants() -> None:
    program = of(lambda x: {"a": 1, "b": torch.zeros_like(x), "c": torch.tensor(0.1), "d": x > 0})
    assert program.outputs[:3] == (("a", 1.0), ("b", 0.0), ("c", float(np.float32(0.1))))
    assert program.ops[-1].op == "float"


def test_constants_are_rounded_once() -> None:
    (op,) = of(lambda x: {"y": x * 0.1}).ops
    assert op.args[1] == float(np.float32(0.1))


def test_nothing_is_computed_twice() -> None:
    program = of(lambda x: {"y": torch.exp(x) + torch.exp(x), "z": x + 0.0, "w": x + -0.0})
    assert [op.op for op in program.ops] == ["exp", "add", "add", "add"]  # 0.0 and -0.0 are two constants


@pytest.mark.parametrize("name", ["log", "log1p", "expm1", "sin", "cos", "tan"])
def test_some_functions_exist_on_parameters_only(name: str) -> None:
    function = getattr(torch, name)

    @snn.neuron(states={"v": 0.0})
    def Good(v, x, *, a=0.5):
        v = v * function(a) + x
        return {"v": v, "spikes": snn.spike(v, 1.0)}

    @snn.neuron(states={"v": 0.0})
    def Bad(v, x, *, a=0.5):
        v = function(v) + x * a
        return {"v": v, "spikes": snn.spike(v, 1.0)}

    def build(node: type) -> None:
        @snn.model
        def net(x=snn.Spikes(3)):
            return x >> node()

        net.build()

    build(Good)
    with pytest.raises(ModelError, match=f"node 'bad'.*uses {name} on a signal, a state or a constant .*test_"):
        build(Bad)


# -- gradients -----------------------------------------------------------------------------------------------------

STEPS = {
    "arithmetic": lambda v, x: {"v": v * 0.9 + x * x - v / (x + 2.0), "y": -v},
    "choice": lambda v, x: {"v": torch.where(v > x, v * x, x - v), "y": torch.clamp(v, 0.2, 0.8)},
    "functions": lambda v, x: {"v": torch.exp(v) * torch.tanh(x), "y": torch.sigmoid(v) + torch.sqrt(x + 1.0)},
    "powers": lambda v, x: {"v": v**2 + x**3, "y": (v + 1) ** -1 + (x + 1) ** 0.5},
    "limits": lambda v, x: {"v": torch.minimum(v, x) + torch.maximum(v, x), "y": torch.relu(v - 0.5) + x.abs()},
    "unused": lambda v, x: {"v": v, "y": torch.ones_like(x)},
}


@given(st.sampled_from(sorted(STEPS)), st.integers(0, 1000))
def test_the_reverse_program_is_the_gradient(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    step = STEPS[name]
    v, x, gv, gy = (torch.rand(6) for _ in range(4))
    program = trace_reverse(step, ("v", "x"), ("v", "y"), what="the step")
    assert program.inputs == ("v", "x", "grad_v", "grad_y")
    grads = Interpreter(program)([v, x, gv, gy], CPU)
    leaves = [t.double().requires_grad_() for t in (v, x)]
    out = step(*leaves)
    total = sum((out[k] * g).sum() for k, g in (("v", gv), ("y", gy)))
    expected = torch.autograd.grad(total, leaves, allow_unused=True)
    for got, want in zip(grads, expected, strict=True):
        want = torch.zeros(6) if want is None else want.float()
        assert torch.allclose(got.expand(6), want, rtol=1e-5, atol=1e-6)
