"""Feedbacks that come more than a step late, and delays on a cycle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.passes.pipeline import Request, compile_graph


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 9])
@pytest.mark.parametrize("delay", [1, 2, 3])
def test_a_late_feedback_is_as_late_as_it_says(delay, steps):
    @snn.model(dt=1 * ms)
    def model(x=snn.Current(3)):
        back = snn.Feedback(3, delay=delay * ms)
        h = x + 0.5 * back
        back.close(h)
        return h

    net = snn.compile(model, target="torch")
    x = torch.randn(2, steps, 3)
    y, state, _ = net.evolve(x)
    want: list[torch.Tensor] = []
    for t in range(steps):
        want.append(x[:, t] + 0.5 * (want[t - delay] if t >= delay else 0.0))
    assert torch.equal(y, torch.stack(want, 1) if want else y)
    held = torch.stack([*[torch.zeros(2, 3)] * delay, *want][-delay:], 1)
    assert torch.equal(state["feedback"], held if delay > 1 else held[:, 0])


def test_a_cycle_runs_as_many_steps_at_a_time_as_it_is_late():
    @snn.model(dt=0.1 * ms)
    def model(x=snn.Spikes(4)):
        fast = snn.Feedback(3, delay=1.5 * ms, name="fast")
        slow = snn.Feedback(3, delay=0, name="slow")
        late = slow >> snn.Linear(3, delay=np.array([[2.0, 3.0, 2.5]] * 3) * ms)
        h = ((x >> snn.Linear(3)) + (fast >> snn.Linear(3)) + late) >> snn.LIF(threshold=0.2)
        fast.close(h)
        slow.close(h)
        return h

    graph = compile_graph(model.build(), Request())
    (region,) = [r for r in graph.regions if r.kind == "recurrent"]
    assert region.reason == "a cycle through fast, linear: step t needs step t-15, so 15 steps can run at a time"
    calls = []
    net = snn.compile(model, target="torch")
    target = net.executor(torch.device("cpu"))._prepared.scans["add_add_1_lif"].target
    forward = target.forward
    target.forward = lambda scan, call: (calls.append(call.shape[0]), forward(scan, call))[1]
    x = (torch.rand(2, 40, 4) < 0.3).float()
    with torch.no_grad():
        y, state, _ = net.evolve(x)
        assert calls == [15, 15, 10]
        step, pieces = None, []
        for t in range(40):
            one, step = net.step(x[:, t], step)
            pieces.append(one)
    assert torch.equal(torch.stack(pieces, 1), y) and y.sum() > 10
    assert {k: tuple(s.shape) for k, s in state.items()} == {
        "lif.v": (2, 3), "fast": (2, 15, 3), "linear.history": (2, 30, 3)
    }  # fmt: skip
    assert all(torch.equal(step[k], state[k]) for k in state)


def test_delays_of_their_own_on_a_cycle():
    """Per neuron, and interpolated; a delay that reads the present needs a feedback besides."""

    def model_of(node, delay):
        @snn.model(dt=1 * ms)
        def model(x=snn.Current(3)):
            back = snn.Feedback(3, delay=delay)
            h = x + 0.5 * (back >> node)
            back.close(h)
            return h

        return model

    steps = np.array([1, 2, 4])
    x = torch.randn(2, 9, 3)
    want = [x[:, 0]]
    for t in range(1, 9):
        past = torch.stack([want[t - k][:, i] if t >= k else torch.zeros(2) for i, k in enumerate(steps)], -1)
        want.append(x[:, t] + 0.5 * past)
    for node, delay in ((snn.Delay(steps * ms), 0), (snn.Delay((steps - 1) * ms), None)):
        net = snn.compile(model_of(node, delay), target="torch")
        assert torch.equal(net(x), torch.stack(want, 1))
    half = snn.Delay(0.5 * ms, interpolation="previous")  # the older of two records: one step ago
    assert torch.equal(
        snn.compile(model_of(half, 0), target="torch")(x), snn.compile(model_of(snn.Delay(1 * ms), 0))(x)
    )
    trained = snn.Delay(3 * ms, interpolation="linear", trainable=True)
    message = r"has no delay \(delay may show the present step, by its shortest delay or once trained\): close one of"
    for short in (snn.Delay(0.4 * ms, interpolation="nearest"), snn.Delay(np.array([0, 2, 4]) * ms), trained):
        with pytest.raises(snn.ModelError, match=message):
            snn.compile(model_of(short, 0), target="torch")


def test_the_gradient_through_a_late_feedback():
    def model_of(delay, direct):
        @snn.model(dt=1 * ms)
        def model(x=snn.Current(3)):
            back = snn.Feedback(3, delay=delay if direct else 0)
            late = back if direct else back >> snn.Delay(delay)
            h = (x + (late >> snn.Linear(3))) >> snn.LIF(threshold=0.3)
            back.close(h)
            return h

        return model

    x = torch.randint(-4, 9, (2, 11, 3)) / 8
    found = []
    for direct in (True, False):
        torch.manual_seed(1)
        net = snn.compile(model_of(3 * ms, direct), target="torch")
        xs = x.clone().requires_grad_()
        y, state, _ = net.evolve(xs)
        (y.sin().sum() + state["lif.v"].sum()).backward()
        found.append([xs.grad, *(p.grad for _, p in sorted(net.named_parameters()))])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*found, strict=True))
    assert found[0][0].abs().sum() > 0
