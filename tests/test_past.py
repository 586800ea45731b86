"""Currents and spikes of the past, from a state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms


def network(target: str = "torch", **options) -> snn.Network:
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(3, max=1)):
        h = x >> snn.DoubleExpCurrent(10 * ms, 2 * ms, delay=5 * ms, name="syn", **options) >> snn.LIF()
        return h >> snn.Linear(2) >> snn.ExpCurrent(name="plain")

    return snn.compile(model, target=target)


@pytest.mark.parametrize("target", ["torch", "c", "triton"])
def test_the_past_is_what_was_recorded(target, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    net = network(target)
    x = (torch.rand(2, 12, 3) < 0.4).float()
    names = ["syn.current", "syn.decay", "syn.rise"]
    _, state, record = net.evolve(x, record=names)
    for k in range(6):
        current, decay, rise = (record[name][:, -1 - k] for name in names)
        assert torch.equal(net.current_at(state, "syn", k * ms), current)
        assert torch.equal(net.current_at(state, "syn", k * ms, component="decay"), decay)
        assert torch.equal(net.current_at(state, "syn", k * ms, component="rise"), rise)
        assert torch.equal(net.spike_at(state, "syn", k * ms), x[:, -1 - k] != 0)
    assert (net.current_at(state, "syn", 6 * ms) == 0).all()
    several = np.arange(6) * ms + np.zeros((2, 3, 1))
    assert torch.equal(net.current_at(state, "syn", several), record["syn.current"][:, -6:].flip(1).movedim(1, -1))
    step, last = None, None
    for t in range(12):
        last, step = net.step(x[:, t], step)
    assert last is not None and all(torch.equal(step[k], state[k]) for k in state)


def test_the_past_is_differentiable_and_travels(tmp_path):
    net = network()
    x = (torch.rand(2, 12, 3) < 0.4).float().requires_grad_()
    _, state, _ = net.evolve(x)
    net.current_at(state, "syn", 2.5 * ms).sum().backward()
    assert x.grad[:, :9].abs().sum() > 0 and (x.grad[:, 9:] == 0).all()  # what came later does not act
    net.save(tmp_path / "n.snn")
    again = snn.load(tmp_path / "n.snn")
    assert torch.equal(again.current_at(state, "syn", 2.5 * ms), net.current_at(state, "syn", 2.5 * ms))
    assert torch.equal(again.spike_at(state, "syn", 1 * ms), net.spike_at(state, "syn", 1 * ms))


def test_what_cannot_be_asked():
    net = network()
    _, state, _ = net.evolve(torch.zeros(2, 3, 3))
    for call, error, message in (
        (lambda: net.current_at(state, "plain", 0), snn.ModelError, "'plain' at .*: it keeps no record of the past"),
        (lambda: net.spike_at(state, "lif", 0), snn.ModelError, "'lif' is no synapse that keeps .* those that do: syn"),
        (lambda: net.current_at(state, "syn", 0, component="x"), snn.ModelError, "no component 'x'; .*: decay, rise"),
        (lambda: net.current_at({}, "syn", 0), snn.InputError, "'syn_decay.history' is missing"),
        (lambda: net.current_at(state, "syn", torch.zeros(3)), snn.InputError,
         r"times before the present have shape \(3,\); give a number, \(2, 3\), or \(2, 3, D\)"),
        (lambda: net.current_at({**state, "syn_rise.history": state["syn_rise.history"][:, 1:]}, "syn", 0),
         snn.InputError, r"'syn_rise.history' has shape \(2, 5, 3\); of this network it is \(2, 6, 3\)"),
        (lambda: net.spike_at({"syn_spikes.history": "none"}, "syn", 0), snn.InputError, "history' is of type str"),
        (lambda: net.spike_at(state, "syn", float("nan")), snn.InputError, "present holds a value that is no finite"),
        (lambda: net.spike_at(state, "syn", "now"), snn.InputError, "is 'now', not a time in seconds"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("options, message", [
    (dict(delay=-1.0), "delay is a time of at least 0, not -1.0"),
    (dict(delay="long"), "delay is a time of at least 0, not 'long'"),
    (dict(tolerance=-1.0), "tolerance is a time of at least 0"),
    (dict(spike_interpolation="linear"), "spike_interpolation is 'previous' or 'nearest', not 'linear'"),
    (dict(current_overbound="none"), "current_overbound is a number or None, not 'none'"),
    (dict(spike_overbound=1), "spike_overbound is True, False or None, not 1"),
    (dict(delay=1e9), "delay is over 1,000,000 steps long"),
])  # fmt: skip
def test_options_that_cannot_be(options, message):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(3)):
        return x >> snn.ExpCurrent(**options)

    with pytest.raises(snn.ModelError, match=message) as error:
        model.build()
    assert str(error.value).startswith(f"node 'exp_current' at {__file__}:")


def test_a_record_needs_its_name():
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(3)):
        a = x >> snn.LIF(name="syn_spikes")
        return a >> snn.ExpCurrent(delay=1 * ms, name="syn")

    with pytest.raises(snn.ModelError, match="its record is called 'syn_spikes', as another node is"):
        model.build()
