"""Delays before recurrent layers, cycles and what learns: their kernels read the signal itself, late."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.explain import explain

N = 6
EACH, BETWEEN = np.array([0, 3, 1, 4, 2, 3]), np.array([0.3, 1.5, 2.9, 0, 1, 3.25])
TWO = np.array([[1, 3], [2, 2], [4, 1]])

DELAYS = {
    "one": lambda: snn.Delay(3 * ms),
    "each": lambda: snn.Delay(EACH * ms),
    "several": lambda: snn.Delay(TWO * ms),
    "between": lambda: snn.Delay(1.5 * ms, interpolation="linear"),
    "each between": lambda: snn.Delay(BETWEEN * ms, interpolation="linear"),
    "decayed": lambda: snn.Delay(BETWEEN * ms, interpolation="expdecay", tau=5 * ms),
    "out of reach": lambda: snn.Delay(BETWEEN * ms, interpolation="linear", max_delay=2 * ms, overbound=0.25),
    "trained": lambda: snn.Delay(BETWEEN * ms, interpolation="linear", max_delay=4 * ms, trainable=True),
}


def layer(x):
    return x >> snn.recurrent(snn.LIF(threshold=0.6), snn.Linear(N))


def noisy(x):
    return x >> snn.recurrent(snn.LIF(threshold=0.6, noise_std=0.1), snn.Linear(N))


def cycle(x):
    back = snn.Feedback(N)
    a = (x + (back >> snn.Linear(N))) >> snn.LIF(threshold=0.5)
    b = ((a >> snn.Linear(N)) + x) >> snn.LIF(threshold=0.4)
    back.close(b)
    return a, b


def learns(x):
    linear = snn.Linear(N)
    h = x >> linear >> snn.LIF(threshold=0.3)
    snn.learn(linear, snn.STDP(), pre=x, post=h)
    return h


def driven(x):
    linear = snn.Linear(N)
    h = ((x >> linear) + x) >> snn.LIF(threshold=0.3)
    snn.learn(linear, snn.STDP(), pre=x, post=h)
    return h


def taught(x):
    linear = snn.Linear(N)
    h = x >> linear >> snn.LIF(threshold=0.3)
    snn.learn(linear, snn.STDP(), pre=x, post=x)
    return h


def several(x):
    linear, back = snn.Linear(N), snn.Feedback(N)
    h = ((x >> linear) + x - (back >> snn.Linear(N, bias=False))) >> snn.LIF(threshold=0.3)
    k = h >> snn.Linear(N) >> snn.LIF(threshold=0.3)
    back.close(k)
    snn.learn(linear, snn.STDP(), pre=x, post=h)
    return h, k


LEARN = (learns, driven, taught, several)
CASES = [
    (layer, "one"), (layer, "each"), (layer, "several"), (layer, "trained"), (noisy, "out of reach"),
    (cycle, "one"), (cycle, "each"), (cycle, "several"), (cycle, "each between"), (cycle, "trained"),
    (learns, "one"), (learns, "each between"), (driven, "decayed"), (taught, "out of reach"),
    (several, "each"), (several, "between"),
]  # fmt: skip


def network(region, delay):
    size = TWO.shape[0] if delay == "several" else N

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(size)):
        late = x >> DELAYS[delay]()
        return region(late >> snn.Flatten() if delay == "several" else late)

    return net


def outcome(net, steps, learns):
    """Outputs, states and gradients of a run from a drawn state."""
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(2, steps, *net.graph.op("x").type.shape, generator=generator) < 0.4).float()
    state = dict(net.initial_state(2, seed=3))
    for name, value in state.items():
        if value.is_floating_point() and "weight" not in name:
            state[name] = torch.rand(value.shape, generator=generator).round(decimals=1)
    if learns:
        with torch.no_grad():
            out, after, _ = net.evolve(x, state=state)
        return {**_named(out), **after}, {}
    taken = {"x": x.requires_grad_(), **{n: v.requires_grad_() for n, v in state.items() if v.is_floating_point()}}
    out, after, _ = net.evolve(x, state=state)
    values = {**_named(out), **after}
    floats = [v for v in values.values() if v.is_floating_point()]
    loss = sum((v * torch.linspace(0.1, 1, v.shape[-1])).sum() for v in floats)
    taken.update(net.named_parameters())
    grads = torch.autograd.grad(loss, list(taken.values()), allow_unused=True)
    return values, {n: torch.zeros(()) if g is None else g for n, g in zip(taken, grads, strict=True)}


def _named(out):
    return {f"out {i}": v for i, v in enumerate(out if isinstance(out, tuple) else (out,))}


@pytest.mark.parametrize("target", ["c", "triton"])
@pytest.mark.parametrize(("region", "delay"), CASES)
def test_as_the_reference(region, delay, target, monkeypatch) -> None:
    """Spikes bit for bit, states and gradients; a run shorter than the delay makes the signal."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    torch.manual_seed(0)
    model = network(region, delay)
    want, got = snn.compile(model, target="torch"), snn.compile(model, target=target)
    got.load_state_dict(want.state_dict())
    for steps in (9, 2) if target == "c" else (7,):
        (values, grads), (same, same_grads) = (outcome(net, steps, region in LEARN) for net in (want, got))
        for name, value in values.items():
            if name.startswith("out"):
                assert torch.equal(value, same[name]), name
            assert torch.allclose(value, same[name], rtol=1e-4, atol=1e-5), name
        for name, grad in grads.items():
            assert torch.allclose(grad, same_grads[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("target", ["c", "triton"])
@pytest.mark.parametrize(("region", "delay"), [
    (layer, "one"), (layer, "each"), (cycle, "each"), (cycle, "each between"), (learns, "one"),
    (learns, "each between"), (several, "each"), (several, "between"),
])  # fmt: skip
def test_no_late_signal_is_made(region, delay, target, monkeypatch) -> None:
    """The kernels are given the signal itself, where it lies, and how late it is."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    net = snn.compile(network(region, delay), target=target)
    x = (torch.rand(9, 2, N) < 0.4).float().transpose(0, 1)  # inside, time comes first: no copy on the way in
    runner = net.executor(x.device)._target
    part = {layer: "recurrent", cycle: "cycles", learns: "plastic", several: "plastic_regions"}[region]
    kernels, calls = getattr(runner, part), []
    forward = kernels.forward
    monkeypatch.setattr(kernels, "forward", lambda *given: calls.append(given[-1]) or forward(*given))
    with torch.no_grad():
        net.evolve(x)
    (call,) = calls
    call = getattr(call, "cycle", call)
    if region is learns:
        taken, late = [call.x], call.seen["x"].late
    else:
        late = call.offsets if region is layer else call.late
        taken = [x for x, one in zip(call.inputs, late, strict=True) if one is not None]
    assert taken and {one.data_ptr() for one in taken} == {x.data_ptr()}
    steps = [one.steps.tolist() if isinstance(one.steps, torch.Tensor) else one.steps for one in late if one]
    at = {"one": 3, "each": EACH.tolist(), "between": 1, "each between": np.floor(BETWEEN).astype(int).tolist()}
    assert at[delay] in steps


@pytest.mark.parametrize("target", ["c", "triton"])
def test_explain_says_so(target) -> None:
    for region in (layer, cycle, learns, several):
        found = {r.nodes: r for r in explain(network(region, "each").build(), target).regions}
        assert found["delay",].runs_as.startswith("nothing of its own"), region
        assert "no buffer" in found["delay",].why


def test_explain_says_where_a_cycle_goes_node_by_node() -> None:
    """Of C, very late cycles with large dense products."""

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(512)):
        back = snn.Feedback(512, delay=40)
        a = (x >> snn.Delay(2 * ms)) + (back >> snn.Linear(512)) >> snn.LI()
        back.close(a >> snn.Linear(512) >> snn.LI())
        return a

    found = {r.nodes: r for r in explain(net.build(), "c").regions}
    assert "for add_li, which goes node by node" in found["delay",].runs_as


def rewarded(delay):
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(N), reward=snn.Current(1)):
        linear = snn.Linear(N)
        h = x >> linear >> snn.LIF(threshold=0.3)
        snn.learn(linear, snn.MSTDPET(eta=0.5), pre=x, post=h, reward=reward >> delay)
        return h

    return net


@pytest.mark.parametrize("target", ["c", "triton"])
@pytest.mark.parametrize("delay", ["one", "trained"])
def test_a_reward_is_heard_late(delay, target, monkeypatch) -> None:
    """No late course is made of what a layer's rule hears, either; artifacts show the kernel that hears it."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    trained = {"interpolation": "linear", "max_delay": 3 * ms, "trainable": True}
    model = rewarded(snn.Delay(2 * ms) if delay == "one" else snn.Delay(np.array([1.5]) * ms, **trained))
    found = {r.nodes: r for r in explain(model.build(), target).regions}
    assert found["delay",].runs_as.startswith("nothing of its own")
    torch.manual_seed(0)
    want, got = snn.compile(model, target="torch"), snn.compile(model, target=target)
    got.load_state_dict(want.state_dict())
    runner = got.executor(torch.device("cpu"))._target
    calls, forward = [], runner.plastic.forward
    monkeypatch.setattr(runner.plastic, "forward", lambda *given: calls.append(given[-1]) or forward(*given))
    for steps in (9, 1):  # one step is shorter than the delay: then the signal is made
        x, reward = (torch.rand(steps, 2, N) < 0.6).float(), torch.randn(steps, 2, 1)  # time comes first inside
        with torch.no_grad():
            ends = [one.evolve(x.transpose(0, 1), reward.transpose(0, 1))[1] for one in (want, got)]
        assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))
        assert (calls[-1].signals["reward"].data_ptr() == reward.data_ptr()) == (steps > 1)
        if steps > 1:
            ran = texts(runner.plastic)
            assert ran and ran <= {k.source.text for k in printed_kernels(got.graph, None, target)}
    assert [list(call.seen) for call in calls] == [["signal.reward"], []]


def texts(found, depth=6):
    """The sources among what a target keeps of kernels."""
    if isinstance(getattr(found, "text", None), str):
        return {found.text}
    if not depth or isinstance(found, (str, bytes, int, float, torch.Tensor)):
        return set()
    if hasattr(found, "values") and callable(found.values):
        parts = list(found.values())
    elif isinstance(found, (tuple, list)):
        parts = found
    else:
        parts = list(vars(found).values()) if hasattr(found, "__dict__") else []
    return set().union(*(texts(part, depth - 1) for part in parts)) if parts else set()


@pytest.mark.parametrize("target", ["c", "triton"])
@pytest.mark.parametrize(("region", "delay"), [
    (layer, "one"), (layer, "trained"), (cycle, "each between"), (learns, "each between"), (driven, "decayed"),
    (taught, "out of reach"), (several, "between"),
])  # fmt: skip
def test_artifacts_show_what_runs(region, delay, target, monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    net = snn.compile(network(region, delay), target=target)
    shown = {k.source.text for k in printed_kernels(net.graph, None, target)}
    with torch.no_grad():
        net.evolve((torch.rand(1, 9, N) < 0.4).float())
    runner = net.executor(torch.device("cpu"))._target
    part = {layer: "recurrent", cycle: "cycles", several: "plastic_regions"}.get(region, "plastic")
    ran = texts(getattr(runner, part))
    assert ran and ran <= shown
