"""Delays in every form: what is shown, and what is kept, is the reference's, bit for bit where products are exact."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import snncompile as snn
from snncompile import ms

from ...random_models import dyadic, random_model, spikes
from .conftest import assert_equal, reference, stream

STEPS = 11


@snn.model(dt=1 * ms)
def shown(x=snn.Spikes(3)):
    """Every way of reading a record."""
    each = np.array([0, 1, 4]) * ms
    between = np.array([0.0, 1.25, 3.5]) * ms
    return {
        "all": x >> snn.Delay(2 * ms),
        "none": x >> snn.Delay(0 * ms, max_delay=3 * ms),
        "each": x >> snn.Delay(each),
        "several": x >> snn.Delay(np.array([[0, 1], [2, 3], [4, 5]]) * ms),
        "previous": x >> snn.Delay(between, interpolation="previous"),
        "nearest": x >> snn.Delay(between, interpolation="nearest"),
        "decayed": x >> snn.Delay(between, interpolation="expdecay", tau=5 * ms),
        "linear": x >> snn.Delay(1.5 * ms, interpolation="linear", trainable=True, max_delay=8 * ms),
        "beyond": x >> snn.Delay(each, max_delay=2 * ms, overbound=7.0),
    }


@snn.model(dt=1 * ms)
def images(x=snn.Spikes((2, 3, 4))):
    return x >> snn.Delay(np.array([1, 3]) * ms) >> snn.IF(threshold=2.0) >> snn.Delay(4 * ms)


@snn.model(dt=1 * ms)
def synapses(x=snn.Spikes(4)):
    rng = np.random.default_rng(0)
    times = rng.integers(0, 6, (5, 4)) * ms
    h = x >> snn.Linear(5, delay=times, init=dyadic(rng, 5, 4)) >> snn.LIF(threshold=0.5)
    return h >> snn.Linear(3, delay=2 * ms, init=dyadic(rng, 3, 5), bias=False) >> snn.LI()


@snn.model(dt=1 * ms)
def cycles(x=snn.Spikes(4)):
    """A feedback of several steps, and one whose delay stands on the cycle."""
    rng = np.random.default_rng(1)
    via = snn.Linear(4, init=dyadic(rng, 4, 4), bias=False)
    h = x >> snn.recurrent(snn.LIF(threshold=0.5), via=via, delay=3 * ms)
    back = snn.Feedback(4, delay=0)
    times = rng.integers(2, 5, (4, 4)) * ms
    g = (h + (back >> snn.Linear(4, delay=times, init=dyadic(rng, 4, 4), bias=False))) >> snn.LIF(threshold=0.5)
    back.close(g)
    again = snn.Feedback(4, delay=2 * ms)
    i = (g + (again >> snn.Delay(np.array([0, 1, 0, 2]) * ms))) >> snn.IF(threshold=2.0)
    again.close(i)
    return {"g": g, "i": i}


@snn.model(dt=1 * ms)
def late_outside_a_cycle(x=snn.Spikes(3), y=snn.Current(3)):
    back = snn.Feedback(3, delay=4 * ms)
    h = x >> snn.LIF(threshold=0.5)
    back.close(h)
    return {"h": h, "z": back + y}


@snn.model(dt=1 * ms)
def answers(x=snn.Spikes(3)):
    """A record that only the host asks."""
    return x >> snn.DoubleExpCurrent(10 * ms, 2 * ms, delay=5 * ms, name="syn") >> snn.LI()


MODELS = [shown, images, synapses, cycles, late_outside_a_cycle, answers]


def inputs(net, steps=STEPS, batch=2):
    draw = torch.Generator().manual_seed(4)
    return {n: torch.randint(0, 3, (batch, steps, *t.shape), generator=draw).float()
            for n, t in net.graph.input_types().items()}  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=[m.name for m in MODELS])
def test_every_form(model, runner, tmp_path):
    net = snn.compile(model, target="torch").eval()
    x = inputs(net)
    want = reference(net, *x.values())
    feeds = {n: v.numpy() for n, v in x.items()}
    for form, steps in (("scan", None), ("unrolled", STEPS)):
        made = net.to_onnx(tmp_path / "net.onnx", form, steps=steps, check=False)
        assert_equal(runner(tmp_path / "net.onnx")(feeds), want)
    made = net.to_onnx(tmp_path / "step.onnx", "step", check=False)
    state = {n: s.numpy() for n, s in net.initial_state(2).items() if n in made.states}
    assert_equal(stream(runner(tmp_path / "step.onnx"), feeds, state), want)


@pytest.mark.parametrize("model", MODELS, ids=[m.name for m in MODELS])
def test_the_past_is_handed_over(model, runner, tmp_path):
    """Parts that are shorter than the delays."""
    net = snn.compile(model, target="torch").eval()
    x = inputs(net)
    made = net.to_onnx(tmp_path / "net.onnx", check=False)
    run, state, rows = runner(tmp_path / "net.onnx"), {}, []
    for start, end in ((0, 1), (1, 3), (3, STEPS)):
        got = run({**{n: v[:, start:end].numpy() for n, v in x.items()}, **state})
        state = {before: got[after] for before, after in made.states.items()}
        rows.append(got)
    joined = {n: np.concatenate([r[n] for r in rows], 1) for n in made.outputs}
    assert_equal({**rows[-1], **joined}, reference(net, *x.values()))


@pytest.mark.parametrize("form", [("scan", None), ("step", None), ("unrolled", 4)], ids=lambda f: f[0])
@pytest.mark.parametrize("model", MODELS, ids=[m.name for m in MODELS])
def test_the_check_passes(model, form, tmp_path):
    made = snn.compile(model, target="torch").to_onnx(tmp_path / "net.onnx", form[0], steps=form[1], opset=13)
    assert all("whole network" in found for _, found in made.checks[1:])
    assert any(i.name.endswith(".history") for i in onnx.load(made.path).graph.input) or model is late_outside_a_cycle


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_with_delays(seed, runner, tmp_path):
    net = snn.compile(random_model(seed, delays=True), target="torch").eval()
    net.to_onnx(tmp_path / "net.onnx", check=False)
    x = spikes(seed, 3, 9)
    assert_equal(runner(tmp_path / "net.onnx")({"x": x.numpy()}), reference(net, x))
