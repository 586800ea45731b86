"""Event-driven convolutions that run with their neurons as one function: as apart and as the reference."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import snncompile as snn
import snncompile.targets.conv_scan as conv_scan
from snncompile.explain import explain, explain_text
from snncompile.targets.c.conv_scan import ConvScans
from snncompile.targets.c.target import CTarget

from ...compare import assert_close_gradients, assert_same_bits, outcome


@pytest.fixture
def fused(monkeypatch):
    """Whether the current was kept, of every layer that ran as one function; two sequences are enough for it."""
    ran = []
    for way in ("forward", "backward"):
        plain = getattr(ConvScans, way)

        def noted(*args, plain=plain, way=way):
            ran.append((way, args[-1] if way == "forward" else args[4] is not None))
            return plain(*args)

        monkeypatch.setattr(ConvScans, way, noted)
    monkeypatch.setattr(conv_scan, "LEAST_SEQUENCES", 2)
    monkeypatch.setattr(conv_scan, "AGAIN", 100.0)
    return ran


@pytest.fixture(params=[100.0, 0.0], ids=["again", "kept"])
def kept(monkeypatch, request):
    """Whether the current is kept for the backward pass."""
    monkeypatch.setattr(conv_scan, "AGAIN", request.param)
    return request.param == 0.0


@snn.model
def plain(x=snn.Spikes((2, 9, 10), max=1, density=0.01), *, groups=1, stride=1, padding=0, pool=(1, 2), bias=True):
    h = x >> snn.Conv2d(8 * stride, (4, 5), stride=stride, padding=padding, groups=groups, bias=bias, name="conv")
    h = h >> snn.LIF(threshold=0.4, tau_mem=8e-3, name="lif")
    h = h >> snn.AvgPool2d(pool, name="pool") if pool else h
    return h >> snn.Flatten() >> snn.Linear(3, name="last") >> snn.LI()


def network(model=plain, target="c", **more):
    torch.manual_seed(0)
    net = snn.compile(model, target=target, **more)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "conv" in name or "last" in name:  # sums are exact in any order
                p.copy_((p * 64).round() / 64)
    return net


def data(batch=5, steps=11, shape=(2, 9, 10)):
    return (torch.rand(batch, steps, *shape, generator=torch.Generator().manual_seed(1)) < 0.2).float()


def same(made, want):
    assert_same_bits(want, made)
    assert_close_gradients(want, made)


WAYS = [
    {},
    {"groups": 2, "bias": False},
    {"pool": (2, 3)},
    {"pool": None},
    {"stride": 2, "padding": 1},
    {"groups": 2, "pool": (3, 6)},
]


@pytest.mark.parametrize("way", WAYS)
def test_as_the_reference(fused, kept, way):
    for batch, steps in ((5, 11), (2, 25), (40, 1)):
        x = data(batch, steps)
        same(outcome(network(**way), x, []), outcome(network(target="torch", **way), x, []))
    assert fused == [("forward", kept), ("backward", kept)] * 3


def test_replayed_states_and_records(fused, kept):
    for record in (["lif.v:sum"], ["lif.spikes"]):
        made = outcome(network(checkpoint=4), data(), record)
        same(made, outcome(network(target="torch", checkpoint=4), data(), record))
    assert fused == [("forward", kept), ("backward", kept)] * 2


def test_other_orders_in_memory(fused):
    x, whole = data(), data(5, 22, (4, 9, 10))
    apart = whole[:, ::2, ::2]
    for given in (x.transpose(0, 1).contiguous().transpose(0, 1), x[:1].expand(3, -1, -1, -1, -1), apart):
        same(outcome(network(), given, []), outcome(network(target="torch"), given, []))
        made, want = ran(network(), given, CTarget()), ran(network(), given.contiguous(), CTarget())
        assert all(torch.equal(a, b) for a, b in zip(made, want, strict=True))
    assert len(fused) == 3 * (2 + 2 * 3)


def test_apart_where_there_are_few_sequences(fused, monkeypatch):
    for batch, steps in ((1, 25), (5, 3), (5, 0), (0, 5)):
        x = data(batch, steps)
        same(outcome(network(), x, []), outcome(network(target="torch"), x, []))
    monkeypatch.setattr(conv_scan, "LEAST_SEQUENCES", 6)
    same(outcome(network(), data(), []), outcome(network(target="torch"), data(), []))
    assert not fused
    monkeypatch.setattr(conv_scan, "FROM", 4 * 5 * 11 * 8 * 6 * 6)
    network()(data())
    assert not fused
    network()(data(6, 11))
    monkeypatch.setattr(conv_scan, "FROM", conv_scan.FROM - 1)
    network()(data())
    assert len(fused) == 2


def test_large_weights_run_apart(fused, monkeypatch):
    monkeypatch.setattr(conv_scan, "MOST_WEIGHTS", 8 * 2 * 20 - 1)
    same(outcome(network(), data(), []), outcome(network(target="torch"), data(), []))
    assert not fused


def test_the_current_is_made_again_where_that_is_little_work(monkeypatch):
    op = network().graph.op("conv")  # 40 taps, of which a hundredth
    for most, again in ((0.39, False), (0.41, True)):
        monkeypatch.setattr(conv_scan, "AGAIN", most)
        assert conv_scan.made_again(op) is again


def ran(net, x, target=None):
    """Output, states and gradients, also of the input and of the states at the start; without gradients the same."""
    x = x.detach().clone().requires_grad_()
    start = {n: s.requires_grad_(s.is_floating_point()) for n, s in net.initial_state(len(x)).items()}
    with mock.patch("snncompile.network.make_target", lambda *_: target):
        out, state, _ = net.evolve(x, state=start)
        with torch.no_grad():
            again = net.evolve(x.detach(), state={n: s.detach() for n, s in start.items()})[0]
    assert torch.equal(again, out)
    loss = (out * torch.arange(1.0, 4.0)).sum() + sum(s.square().sum() for s in state.values() if s.is_floating_point())
    leaves = [x, *net.parameters(), *(s for s in start.values() if s.requires_grad)]
    return [out.detach(), *state.values(), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("way", [{}, {"pool": (3, 2)}])
def test_bits_depend_neither_on_threads_nor_on_what_was_there(fused, kept, way):
    found = []
    for threads in (1, 2, 3):
        target = CTarget(threads, lambda shape, **like: torch.full(shape, float("nan"), **like))
        found.append(ran(network(**way), data(), target))
    found.append(ran(network(**way), data(), CTarget()))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    assert len(fused) == 12  # forward and backward, and forward without gradients


def test_gradients_of_input_and_states(fused, kept, monkeypatch):
    made = ran(network(), data(), CTarget())
    monkeypatch.setattr(conv_scan, "LEAST_SEQUENCES", 100)
    for a, b in zip(made, ran(network(), data(), CTarget()), strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-12
    assert len(fused) == 3


def gradients(net, run, x):
    net.zero_grad(set_to_none=True)
    run(x).square().sum().backward()
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_what_autograd_can_do(fused):
    net, x = network(), data()
    want = gradients(net, net, x)
    net.zero_grad(set_to_none=True)
    loss = net(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    for name, p in net.named_parameters():
        assert torch.equal(p.grad, 2 * want[name])
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    for name, grad in gradients(net, lambda y: checkpoint(net, y, use_reentrant=False), x).items():
        assert torch.equal(grad, want[name])
    loss = net(x).sum()
    with torch.no_grad():
        net.value("conv.weight").mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    weight = net.value("conv.weight")
    (grad,) = torch.autograd.grad(net(x).sum(), [weight], create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        grad.sum().backward()
    assert [way for way, _ in fused].count("backward") == 5


def test_frozen_parameters(fused):
    for frozen in ("conv.weight", "conv.bias", "conv", "lif", "last"):
        found = []
        for target in ("c", "torch"):
            net = network(target=target)
            for name, p in net.named_parameters():
                p.requires_grad_(not name.startswith(frozen))
            found.append(gradients(net, net, data()))
        assert found[0].keys() == found[1].keys()
        for name, grad in found[1].items():
            assert (found[0][name] - grad).norm() <= 1e-5 * grad.norm(), (frozen, name)
    assert len(fused) == 10


def test_what_others_see_of_the_current(fused):
    x = data()
    for record in (["conv.out"], ["conv.out:sum"]):
        same(outcome(network(), x, record), outcome(network(target="torch"), x, record))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network()(x).sum().backward()
    assert not fused
    for record in (["lif.v"], ["lif.spikes:sum"]):
        same(outcome(network(), x, record), outcome(network(target="torch"), x, record))
    assert len(fused) == 4


def test_neurons_with_noise_draw_as_ever(fused):
    @snn.model
    def noisy(x=snn.Spikes((2, 9, 10), max=1, density=0.01)):
        h = x >> snn.Conv2d(8, (4, 5), name="conv") >> snn.LIF(noise_std=0.1) >> snn.AvgPool2d((1, 2))
        return h >> snn.Flatten() >> snn.Linear(3, name="last")

    same(outcome(network(noisy), data(), []), outcome(network(noisy, "torch"), data(), []))
    assert len(fused) == 2


def test_what_explain_and_artifacts_say(tmp_path):
    net = network()
    text = explain_text(explain(net.graph, "auto"))
    assert "0.01 of its inputs are not zero, at most 0.14; of 8 sequences or more, one function with lif" in text
    net.save(tmp_path / "n.snn")
    kernels = {p.name: p.read_text() for p in (tmp_path / "n.snn" / "kernels").iterdir() if "_with_" in p.name}
    roles = ("forward", "forward_save", "forward_checkpoint", "backward", "backward_checkpoint")
    assert {f"lif_with_conv_{role}.c" for role in roles} == set(kernels)
    assert all("snn_conv_image(\n" in text for name, text in kernels.items() if name != "lif_with_conv_backward.c")
    assert all("snn_conv_weight(\n" in text for name, text in kernels.items() if "backward" in name)
    assert all(len(line) <= 120 for text in kernels.values() for line in text.splitlines())


@snn.neuron(states={"images": 0.0, "OUTPUTS": 0.0}, outputs={"rows": 1})
def OUTPUTS(images, OUTPUTS, kept, *, KH=0.9, weight=0.4):
    """A neuron whose names mean something else in the file around it."""
    images = KH * images + kept - OUTPUTS
    rows = snn.spike(images, weight)
    return {"images": images - rows, "OUTPUTS": 0.5 * OUTPUTS + 0.25 * rows, "rows": rows}


def test_names_that_mean_something_else_around_the_blocks(fused):
    @snn.model
    def named(x=snn.Spikes((2, 9, 10), max=1, density=0.01)):
        h = x >> snn.Conv2d(8, (4, 5), name="conv") >> OUTPUTS(name="snn_conv_image")
        return h >> snn.Flatten() >> snn.Linear(3)

    same(outcome(network(named), data(), []), outcome(network(named, "torch"), data(), []))
    assert len(fused) == 2
