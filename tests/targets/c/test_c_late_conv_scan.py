"""Event-driven convolutions of what a delay shows, with their neurons as one function: as the reference, none made."""

from __future__ import annotations

from contextlib import nullcontext
from unittest import mock

import numpy as np
import pytest
import torch

import snncompile as snn
import snncompile.targets.conv_scan as conv_scan
from snncompile import ms
from snncompile.explain import explain
from snncompile.targets import executor, late_scan
from snncompile.targets.c import calling, plastic_seen
from snncompile.targets.c import conv_scan as own
from snncompile.targets.c.target import CTarget
from snncompile.targets.scan import PanelSize

from .test_c_conv_scan import network as exact

SHAPE = (2, 9, 10)
RNG = np.random.default_rng(3)
EACH, OTHER = RNG.integers(0, 5, SHAPE), RNG.integers(0, 3, SHAPE)
LINEAR = {"interpolation": "linear"}


def delay(steps, **options):
    return lambda x: x >> snn.Delay(steps * ms, **options)


CASES = {
    "one": delay(3),
    "each": delay(EACH),
    "less than one": delay(0.5, **LINEAR),
    "between": delay(EACH + 0.5, **LINEAR),
    "trained": delay(EACH + 0.25, trainable=True, max_delay=6 * ms, overbound=0.5, **LINEAR),
    "beyond": delay(EACH, max_delay=2 * ms, overbound=1.0),
    "chain": lambda x: delay(2)(delay(OTHER)(x)),
    "several": delay(np.stack([EACH[0], OTHER[0] + 1], -1)),
}


@pytest.fixture(autouse=True)
def together(monkeypatch):
    """Two sequences are enough to run as one, and nothing of a late signal is made; panels are small."""
    monkeypatch.setattr(conv_scan, "LEAST_SEQUENCES", 2)
    monkeypatch.setattr(CTarget, "panel", PanelSize(4000, 4000, True, choose=True))
    for where, name in ((late_scan, "whole"), (executor, "run_late"), (executor, "run_conv_scan")):
        monkeypatch.setattr(where, name, lambda *_, name=name: pytest.fail(name))


@pytest.fixture(params=[100.0, 0.0], ids=["again", "kept"])
def kept(monkeypatch, request):
    """Whether the current is kept for the backward pass."""
    monkeypatch.setattr(conv_scan, "AGAIN", request.param)


def network(case="each", target="c", neurons=None, **more):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((9, 10) if case == "several" else SHAPE, max=1, density=0.01)):
        h = CASES[case](x)
        h = h >> snn.Conv2d(8, (4, 2) if case == "several" else (4, 5), stride=1, padding=1, density=0.01, name="conv")
        h = h >> (neurons or snn.LIF(threshold=0.4, tau_mem=8e-3, name="lif"))
        h = h >> snn.AvgPool2d(2, name="pool") if case != "several" else h
        return h >> snn.Flatten() >> snn.Linear(3, name="last") >> snn.LI()

    return exact(model, target, **more)


def data(case="each", batch=5, steps=11):
    shape = (9, 10) if case == "several" else SHAPE
    return (torch.rand(batch, steps, *shape, generator=torch.Generator().manual_seed(1)) < 0.2).float()


def results(net, x, target=None):
    """Output and last states; gradients of both, also of the input and of the states before. The same without these."""
    g, x = torch.Generator().manual_seed(4), x.clone().requires_grad_()
    start = {n: (torch.rand(s.shape, generator=g) < 0.3).float().requires_grad_() if n.endswith("history") else s
             for n, s in net.initial_state(len(x)).items()}  # fmt: skip
    with mock.patch("snncompile.network.make_target", lambda *_: target) if target else nullcontext():
        out, state, _ = net.evolve(x, state=start)
        with torch.no_grad():
            assert torch.equal(net.evolve(x, state=start)[0], out)
    ends = [state[n] for n in start]
    loss = (out * torch.arange(1.0, 4.0)).sum() + sum((s * 0.25).square().sum() for s in ends)
    leaves = [x, *net.parameters(), *(s for s in start.values() if s.requires_grad)]
    return [out.detach(), *ends], torch.autograd.grad(loss, leaves)


def check(made, want):
    for a, b in zip(made[0], want[0], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(made[1], want[1], strict=True):
        assert (a - b).norm() <= 2e-5 * b.norm() + 1e-12


@pytest.mark.parametrize(("case", "kept"), [*((c, 100.0) for c in CASES), ("one", 0.0), ("trained", 0.0)],
                         indirect=["kept"])
def test_as_the_reference(case, kept, monkeypatch):
    if case == "several":  # of more panels than one, training makes them
        monkeypatch.setattr(CTarget, "panel", PanelSize(4000, 10**7, True, choose=True))
    for batch, steps in ((5, 11), (2, 40))[: 2 if case == "each" else 1]:
        x = data(case, batch, steps)
        check(results(network(case), x), results(network(case, "torch"), x))


def test_other_neurons_and_replayed_states(kept):
    for neurons in (snn.LIF(threshold=0.4, noise_std=0.1), snn.ExpSyn()):  # one looks at its input, backward
        want = results(network(neurons=neurons, target="torch"), data())
        check(results(network(neurons=neurons), data()), want)
    want = results(network(target="torch"), data())
    check(results(network(checkpoint=4), data()), want)


@pytest.mark.parametrize("case", ["one", "trained"])
def test_bits_depend_neither_on_threads_nor_on_what_was_there(case, kept, monkeypatch):
    real = calling.scratch

    def poisoned(*shape, **options):
        room = real(*shape, **options)
        return room.fill_(float("nan")) if room.is_floating_point() else room

    for where in (plastic_seen, own):
        monkeypatch.setattr(where, "scratch", poisoned)
    found = []
    for threads in (1, 2, 3):
        target = CTarget(threads, lambda shape, **like: torch.full(shape, float("nan"), **like))
        found.append(results(network(case), data(), target))
    for other in found[1:]:
        assert all(torch.equal(a, b) for k in (0, 1) for a, b in zip(found[0][k], other[k], strict=True))
    assert not any(v.isnan().any() for group in found[0] for v in group)


@pytest.mark.parametrize("frozen", [("conv",), ("lif", "delay")])
def test_frozen_parameters_and_signals(frozen):
    found = []
    for target in ("c", "torch"):
        net = network("trained", target)
        for name, p in net.named_parameters():
            p.requires_grad_(not name.startswith(frozen))
        net(data()).square().sum().backward()
        found.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[1].items():
        assert (found[0][name] - grad).norm() <= 2e-5 * grad.norm(), name


def test_orders_in_memory_and_pieces():
    x, net, plain = data(steps=20), network(), network(target="torch")
    want, last, _ = plain.evolve(x)
    assert torch.equal(net(x.transpose(0, 1).contiguous().transpose(0, 1)), want)
    state, parts = None, []
    for part in x.split([9, 11], 1):
        y, state, _ = net.evolve(part, state=state)
        parts.append(y)
    assert torch.equal(torch.cat(parts, 1), want)
    assert all(torch.equal(state[n], v) for n, v in last.items())


def test_what_explain_and_artifacts_say(tmp_path):
    for case, called in (("each", "delay_row("), ("one", "snn_conv_image(")):
        net = network(case)
        said = {r.nodes[0]: r.runs_as for r in explain(net.graph, "c").regions}["delay"]
        more = "; where conv and lif run as one function, a thread makes each image where it is read"
        assert said.endswith(more) == (case == "each")
        net.save(tmp_path / f"{case}.snn")
        texts = [p.read_text() for p in (tmp_path / f"{case}.snn" / "kernels").iterdir() if "_with_conv_" in p.name]
        assert texts and all("A delay shows the images" in text for text in texts)
        assert any(called in text for text in texts)
        assert not [line for text in texts for line in text.splitlines() if len(line) > 120]
