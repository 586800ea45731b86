"""What a model function can do with signals, and what it is told when it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn


def test_arithmetic():
    @snn.model
    def mixed(a=snn.Current(3), b=snn.Current(3)):
        return a - b, -a, 2 * a + b * 0.5

    a, b = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    difference, negative, sum_ = snn.compile(mixed)(a, b)
    assert torch.equal(difference, a - b) and torch.equal(negative, -a) and torch.equal(sum_, 2 * a + b * 0.5)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda x: x + snn.LIF(), r"write `\(a >> node\) \+ \(b >> node\)`"),
        (lambda x: x - snn.LIF(), r"write `\(a >> node\) \+ \(b >> node\)`"),
        (lambda x: x + 1, "a signal can be added to a signal, not to 1"),
        (lambda x: x * x, "signals can be added, not multiplied"),
        (lambda x: x >> snn.LIF, r"needs an object: write `>> LIF\(...\)`"),
        (lambda x: x >> torch.nn.Linear(3, 4), "A layer of torch is no node: use snn's of that name"),
        (lambda x: x >> 3, "`>>` leads to a node or a block, not to 3"),
        (lambda x: (x >> snn.LIF()).state("w"), "it has no state or output 'w'; it has: spikes, v"),
        (lambda x: [*x], "a signal cannot be unpacked"),
        (lambda x: x if x else None, "a signal has no truth value"),
        (lambda x: len(x), "a signal has no length; its feature shape is signal.shape"),
        (lambda x: x / 2, r"a signal is not divided: multiply it by a number, 0\.5 \* signal"),
        (lambda x: 1 / x, "a signal is not divided"),
        (lambda x: np.ones(3) + x, "a signal can be added to a signal, not to array"),
        (lambda x: torch.mul(torch.relu(x), x), "torch's relu takes tensors"),
        (lambda x: 1 - x, "a signal can be added to a signal, not to 1"),
        (lambda x: x**2, r"of Python's operators a signal has `>>`, `\+`, `-` and `\*` by a number"),
        (lambda x: x > 1, "anything else belongs in a node of your own"),
        (lambda x: abs(x), "anything else belongs in a node of your own"),
        (lambda x: x >> (x >> snn.LIF()), r"not into another signal: add signals, a \+ b"),
        (lambda x: x >> snn.Poisson(100.0, 3), "a rate that a signal gives are drawn by PoissonEncoder"),
        (lambda x: snn.LIF() >> x, "the signal stands on the left: `signal >> node`"),
        (lambda x: snn.LIF() >> snn.LI() >> x, "the signal stands on the left: `signal >> node`"),
        (lambda x: x >> snn.LIF(3e-3, 1.0), r"LIF takes only tau_mem by place, and all else by name: say what 1\.0 is"),
        (
            lambda x: x >> snn.Linear(3, 4),
            r"only out by place, and all else by name: say what 4 is, name=value\. The size of its input is not among",
        ),
        (lambda x: x >> snn.ALIF(1, 2, 3, 4), "ALIF takes only"),
        (lambda x: torch.relu(x), "torch's relu takes tensors, and a signal holds no data yet"),
        (lambda x: x >> snn.LIF(name=3), "name= is text, not 3"),
        (lambda x: x >> snn.LIF(tau=3e-3), r"LIF has no option 'tau'\. Did you mean 'tau_mem'\? Its options: name"),
        (lambda x: x >> snn.Linear(3, weight=1), r"Linear has no option 'weight'\."),
    ],
)
def test_mistakes(use, said):
    @snn.model
    def wrong(x=snn.Spikes(3)):
        return use(x)

    with pytest.raises(snn.ModelError, match=said) as raised:
        snn.compile(wrong)
    assert "test_signals.py" in str(raised.value)


@pytest.mark.parametrize("factor", [np.float32(0.5), np.full(3, 0.5), torch.tensor(0.5), torch.full((3,), 0.5)])
def test_factors_on_either_side(factor):
    @snn.model
    def scaled(x=snn.Current(3)):
        return factor * x, x * factor

    net = snn.compile(scaled)
    assert net.graph.names == ("x", "scale", "scale_1")
    x = torch.randn(2, 5, 3)
    left, right = net(x)
    assert torch.equal(left, x * 0.5) and torch.equal(right, left)


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: snn.Spikes(2, 34, 34), r"a tuple: Spikes\(\(2, 34, 34\)\)$"),
        (lambda: snn.Spikes(64, 1), r"a tuple: Spikes\(\(64, 1\)\) \(and Spikes\(64, max=1\) a maximum\)"),
        (lambda: snn.Current(2, 3), r"a tuple: Current\(\(2, 3\)\)$"),
    ],
)
def test_shapes_of_several_numbers_are_tuples(declare, said):
    with pytest.raises(snn.ModelError, match=said):
        declare()


def test_names_of_models():
    net = snn.compile(snn.model(lambda x=snn.Spikes(3): x >> snn.LIF()), target="torch")
    assert net.graph.name == "model" and net(torch.ones(2, 3)).shape == (2, 3)

    def größe(x=snn.Spikes(3)):
        return x >> snn.LIF()

    with pytest.raises(snn.ModelError, match="'größe' cannot name a model: use letters, digits and _"):
        snn.model(größe)


def test_names_that_a_call_could_not_reach():
    with pytest.raises(snn.ModelError, match="'state' is an argument of a network's call: give that"):

        @snn.model
        def wrong(state=snn.Spikes(3)):
            return state

    with pytest.raises(snn.ModelError, match=r"'target' is an argument of snn\.compile"):

        @snn.model
        def wrong_too(x=snn.Spikes(3), *, target=3):
            return x
