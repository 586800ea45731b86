"""Delays that cannot be, of signals, synapses and feedbacks: each with its message."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms

WRONG = {
    "off the grid": (dict(delay=1.5 * ms), r"a delay of 0.0015 s is 1.5 steps of dt = 0.001 s, not a whole number of"
                     r" them: name an interpolation= \(previous, nearest, expdecay, linear\), or round the delay"),
    "too long": (dict(delay=5 * ms, max_delay=3 * ms), "a delay of 0.005 s is longer than max_delay, 0.003 s: raise"
                 " max_delay=, or say what stands in for what lies further back, overbound="),
    "negative": (dict(delay=-1 * ms), "a delay is at least 0, but one is -0.001 s"),
    "not a number": (dict(delay=[1 * ms, float("nan"), 0, 0]), "delay holds a value that is no finite time"),
    "rows of different lengths": (dict(delay=[[1 * ms], [1 * ms, 2 * ms]]), "not a time in seconds or an array of"),
    "trained, from the future": (dict(delay=-1 * ms, overbound=0.0, interpolation="linear", trainable=True),
                                 "a trained delay is at least 0, but one is -0.001 s"),
    "text": (dict(delay="soon"), "delay is 'soon', not a time in seconds or an array of them"),
    "a Param": (dict(delay=snn.Param(1 * ms)), "delay takes a time or an array of them; trainable= says"),
    "shape": (dict(delay=[1 * ms, 2 * ms]), r"delay has shape \(2,\), which does not fit the features \(4,\): give a"
              r" time, one per channel \(4,\), one per neuron \(4,\), or several for each \(4, D\)"),
    "empty": (dict(delay=np.zeros((4, 0))), "delay is an array without values"),
    "far": (dict(delay=1e9), "delay is over 1,000,000 steps long"),
    "trained without a gradient": (dict(delay=1 * ms, trainable=True, interpolation="nearest"),
                                   "trained through interpolation='linear', not 'nearest', which has no gradient"),
    "mode": (dict(delay=1 * ms, interpolation="cubic"), "interpolation 'cubic' is unknown; use one of previous, near"),
    "no tau": (dict(delay=1 * ms, interpolation="expdecay"), "interpolation='expdecay' needs tau="),
    "tau of nothing": (dict(delay=1 * ms, tau=1 * ms), "interpolation='expdecay' is what takes tau="),
    "tau": (dict(delay=1 * ms, interpolation="expdecay", tau=0.0), "tau is a time greater than 0, not 0.0"),
    "tolerance": (dict(delay=1 * ms, tolerance=-1.0), "tolerance is a time of at least 0, not -1.0"),
    "overbound": (dict(delay=1 * ms, overbound="none"), "overbound is a number, or None for the value at the limit"),
    "max_delay": (dict(delay=0, max_delay=-1.0), "max_delay is a time of at least 0, not -1.0"),
    "no time": (dict(delay=0, max_delay="long"), "max_delay is a time in seconds, not 'long'"),
    "trainable": (dict(delay=0, trainable=1), "trainable is True or False, not 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_a_delay_cannot_be(name):
    options, message = WRONG[name]

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(4)):
        return x >> snn.Delay(**options)

    with pytest.raises(snn.ModelError, match=message) as error:
        model.build()
    assert str(error.value).startswith(f"node 'delay' at {__file__}:")


@pytest.mark.parametrize("options, message", [
    (dict(delay=[1 * ms, 2 * ms]), r"Linear: delay has shape \(2,\): give a time, or one per synapse \(3, 4\)"),
    (dict(delay=np.full((3, 4), 1.5 * ms)), "a delay of 0.0015 s is 1.5 steps of dt = 0.001 s"),
    (dict(max_delay=1 * ms), "max_delay= is an option of delays: give it delay=, too"),
    (dict(trainable_delay=True), "trainable_delay= is an option of delays: give it delay=, too"),
    (dict(delay=1 * ms, trainable_delay=True), "trained through interpolation='linear', not None"),
])  # fmt: skip
def test_what_delays_of_synapses_cannot_be(options, message):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(4)):
        return x >> snn.Linear(3, **options)

    with pytest.raises(snn.ModelError, match=message) as error:
        model.build()
    assert error.value.node == "linear" and str(error.value).startswith(f"node 'linear' at {__file__}:")


@pytest.mark.parametrize("delay, message", [
    (1.5 * ms, "delay is 0.0015 s, 1.5 steps of dt = 0.001 s: a value comes back a whole number of steps late. For"
     " another delay, give it delay=0 and put a snn.Delay with an interpolation on the cycle"),
    (-1 * ms, "delay is -0.001 s, -1 steps of dt"),
    ([1 * ms, 2 * ms], "delay is one time for all. For delays of their own, give it delay=0 and put a snn.Delay"),
    ("late", "delay is 'late', not a time in seconds"),
])  # fmt: skip
def test_what_a_feedback_cannot_be(delay, message):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(4)):
        back = snn.Feedback(4, delay=delay)
        h = (x + back) >> snn.LIF()
        back.close(h)
        return h

    with pytest.raises(snn.ModelError, match=message) as error:
        model.build()
    assert str(error.value).startswith(f"node 'feedback' at {__file__}:")


@pytest.mark.parametrize("connection", [
    lambda: snn.Delay(np.array([1, 2, 3, 0]) * ms), lambda: snn.Linear(4, delay=np.eye(4) * 3 * ms),
])  # fmt: skip
@pytest.mark.parametrize("steps, message", [
    (1.5, "a delay of 0.0015 s is 1.5 steps of dt"), (4.0, "a delay of 0.004 s is longer than max_delay, 0.003 s"),
    (-1.0, "a delay is at least 0, but one is -0.001 s"),
])  # fmt: skip
def test_delays_that_are_loaded_are_looked_at(connection, steps, message):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(4)):
        return x >> connection()

    net = snn.compile(model)
    (name,) = [name for name in net.state_dict() if name.endswith(".steps")]
    state = net.state_dict()
    net.load_state_dict(state)
    state[name] = state[name].clone().flatten().index_fill(0, torch.tensor(0), steps).reshape(state[name].shape)
    with pytest.raises(snn.ModelError, match=message) as error:
        net.load_state_dict(state)
    assert error.value.node == name.split(".")[0] and f"at {__file__}:" in str(error.value)


def test_delays_as_long_as_the_limit_load_in_single_precision():
    @snn.model(dt=0.1 * ms)
    def model(x=snn.Spikes(2)):
        return x >> snn.Delay([12_345.67 * ms, 0.07 * ms], interpolation="linear")

    net = snn.compile(model)
    net.load_state_dict(net.state_dict())
    net.check_parameters()
