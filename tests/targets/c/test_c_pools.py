"""Pooling in C against torch's, bit for bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import snncompile as snn
from snncompile.targets import pooling
from snncompile.targets.c.pools import Pools, source


def poisoned(*args, **kwargs):
    return torch.full(args[0], float("nan"), **kwargs)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("window", [(2, 2), (1, 3), (3, 2), (5, 5)])
@pytest.mark.parametrize("size", [(24, 24), (7, 9), (5, 5), (1, 1), (3, 31)])
@pytest.mark.parametrize("mean", [True, False])
def test_the_same_bits_as_torch(threads, window, size, mean):
    divisor = window[0] * window[1] if mean else 1
    x = torch.randn(11, *size)
    x[0] = -0.0
    pools = Pools(threads, poisoned)
    fits = size[0] >= window[0] and size[1] >= window[1]
    got = pools.forward(x, window, divisor)
    assert got.shape == (11, size[0] // window[0], size[1] // window[1])
    grad = torch.randn_like(got)
    back = pools.backward(grad, size, window, divisor)
    if not fits:  # torch refuses an empty image
        assert got.numel() == 0 and back.shape == x.shape
        return
    leaf = x.requires_grad_()
    want = F.avg_pool2d(leaf, window, divisor_override=None if mean else 1)
    want.backward(grad)
    assert torch.equal(got.view(torch.int32), want.detach().view(torch.int32))
    assert torch.equal(back.view(torch.int32), leaf.grad.view(torch.int32))


def test_no_planes():
    assert Pools().forward(torch.zeros(0, 4, 4), (2, 2), 4).shape == (0, 2, 2)
    assert Pools().backward(torch.zeros(0, 2, 2), (4, 4), (2, 2), 4).shape == (0, 4, 4)


@snn.model(dt=1e-3)
def images(x=snn.Spikes((2, 9, 8))):
    h = x >> snn.Conv2d(3, 3, padding=1) >> snn.LIF(threshold=0.3) >> snn.SumPool2d(2)
    h = h >> snn.Conv2d(4, 3, padding=1) >> snn.LIF(threshold=0.3) >> snn.AvgPool2d((1, 2))
    h = h >> snn.AvgPool2d(2, stride=1) >> snn.SumPool2d(2, padding=1)  # not side by side: torch's
    return h >> snn.Flatten() >> snn.Linear(3) >> snn.LI()


@pytest.fixture
def pooled(monkeypatch):
    """The nodes that went to C."""
    found: list[str] = []
    right = pooling.apply_pool

    def noted(target, op, x):
        found.append(op.kind)
        return right(target, op, x)

    monkeypatch.setattr("snncompile.targets.executor.apply_pool", noted)
    return found


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("time_first", [True, False])
def test_in_a_network(pooled, steps, time_first):
    torch.manual_seed(0)
    want, got = snn.compile(images, target="torch"), snn.compile(images, target="c")
    got.load_state_dict(want.state_dict())
    x = (torch.rand(steps, 3, 2, 9, 8) < 0.4).float()
    x = x.transpose(0, 1) if time_first else x.transpose(0, 1).contiguous()
    outs, grads = [], []
    for net in (want, got):
        out, _, record = net.evolve(x, record=["lif.spikes", "sum_pool2d.out"])
        (out.square().sum() + record["sum_pool2d.out"].square().sum()).backward()
        outs.append((out, *record.values()))
        grads.append([p.grad for p in net.parameters()])
    assert pooled == ["SumPool2d"]  # the other one is pooled by the scan before it
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)


def test_its_source_can_be_read():
    text = source("forward", (2, 3), 6)
    assert "windows of 2 x 3" in text and "#define POOL_DIVISOR 6.0f" in text
    assert all(len(line) <= 120 for line in (text + source("backward", (2, 3), 6)).splitlines())
