"""Event-driven convolutions that run with their neurons by chunks of sequences: as apart and as the reference."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import snncompile as snn
import snncompile.targets.conv_scan as conv_scan
import snncompile.targets.executor as executor_module
from snncompile.targets.c.target import CTarget

from ...compare import assert_close_gradients, assert_same_bits, outcome


@pytest.fixture
def chunked(monkeypatch):
    """The chunks of every layer that ran by chunks; a sequence or two make one."""
    plain, sizes = executor_module.run_conv_scan, []

    def noted(bound, target, op, product, rest, windows):
        sizes.append(conv_scan.sequences(*rest[1]))
        return plain(bound, target, op, product, rest, windows)

    monkeypatch.setattr(conv_scan, "FROM", 0)
    monkeypatch.setattr(conv_scan, "TRAINED_FROM", 0)
    monkeypatch.setattr(conv_scan, "CHUNK", 2 * 4 * 11 * 8 * 6 * 6)
    monkeypatch.setattr(executor_module, "run_conv_scan", noted)
    return sizes


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


WAYS = [{}, {"groups": 2, "bias": False}, {"pool": (2, 3)}, {"stride": 2, "padding": 1}, {"groups": 2, "pool": (3, 6)}]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("more", [{}, {"checkpoint": 4}])
def test_as_the_reference(chunked, way, more):
    for batch, steps in ((5, 11), (2, 25), (40, 1)):
        x = data(batch, steps)
        record = ["lif.v:sum"] if steps == 11 else []
        made = outcome(network(**way, **more), x, record)
        assert chunked and 1 <= chunked[-1] < batch
        same(made, outcome(network(target="torch", **way, **more), x, record))
    assert len(chunked) == 3


def test_the_old_way_where_there_is_one_chunk_or_another_order(chunked):
    for batch, steps in ((1, 25), (5, 0), (2, 11), (0, 5)):
        x = data(batch, steps)
        same(outcome(network(), x, []), outcome(network(target="torch"), x, []))
    x = data().transpose(0, 1).contiguous().transpose(0, 1)
    same(outcome(network(), x, []), outcome(network(target="torch"), x, []))
    same(outcome(network(pool=None), data(), []), outcome(network(target="torch", pool=None), data(), []))
    assert not chunked


def test_small_layers_run_whole_and_smaller_ones_with_gradients(chunked, monkeypatch):
    size = 4 * 5 * 11 * 8 * 6 * 6
    for least, name in ((size, "TRAINED_FROM"), (size, "FROM"), (size - 1, "TRAINED_FROM")):
        monkeypatch.setattr(conv_scan, name, least)
        chunked.clear()
        net = network()
        net(data())
        with torch.no_grad():
            net(data())
        assert len(chunked) == (1 if name == "TRAINED_FROM" else 0)


def test_a_chunk_is_some_megabytes_in_about_equal_parts():
    assert conv_scan.sequences(25, 16, 16 * 24 * 24) == 4
    assert conv_scan.sequences(25, 16, 2048) == 16
    assert conv_scan.sequences(25, 9, 5000) == 5  # of 8, else 8 and 1
    assert conv_scan.sequences(1000, 3, 10_000) == 1
    assert conv_scan.sequences(0, 3, 10_000) == 3 and conv_scan.sequences(5, 0, 10_000) == 1


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
def test_bits_depend_neither_on_threads_nor_on_what_was_there(chunked, way):
    found = []
    for threads in (1, 2, 3):
        target = CTarget(threads, lambda shape, **like: torch.full(shape, float("nan"), **like))
        found.append(ran(network(**way), data(), target))
    found.append(ran(network(**way), data(), CTarget()))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    assert len(chunked) == 8  # with gradients and without


def test_gradients_of_input_and_states(chunked, monkeypatch):
    made = ran(network(), data(), CTarget())
    assert chunked == [2, 2]
    monkeypatch.setattr(conv_scan, "FROM", 0)
    monkeypatch.setattr(conv_scan, "TRAINED_FROM", 0)
    monkeypatch.setattr(conv_scan, "CHUNK", 2**30)
    for a, b in zip(made, ran(network(), data(), CTarget()), strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-12
    assert len(chunked) == 2


def gradients(net, run, x):
    net.zero_grad(set_to_none=True)
    run(x).square().sum().backward()
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_what_autograd_can_do(chunked):
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
    assert len(chunked) == 6


def test_frozen_parameters(chunked):
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
    assert len(chunked) == 5


def test_what_others_see_of_the_current(chunked):
    x = data()
    for record in (["conv.out"], ["conv.out:sum"], ["lif.v"], ["lif.spikes:sum"]):
        same(outcome(network(), x, record), outcome(network(target="torch"), x, record))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network()(x).sum().backward()
    assert not chunked


def test_neurons_with_noise_draw_as_ever(chunked):
    @snn.model
    def noisy(x=snn.Spikes((2, 9, 10), max=1, density=0.01)):
        h = x >> snn.Conv2d(8, (4, 5), name="conv") >> snn.LIF(noise_std=0.1) >> snn.AvgPool2d((1, 2))
        return h >> snn.Flatten() >> snn.Linear(3, name="last")

    same(outcome(network(noisy), data(), []), outcome(network(noisy, "torch"), data(), []))
    assert not chunked
