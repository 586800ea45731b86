"""Scans that pool what they give: the bits of the scan and of the pooling one after the other."""

from __future__ import annotations

from math import prod
from unittest import mock

import pytest
import torch

import snncompile as snn
from snncompile.explain import explain, explain_text
from snncompile.targets.c.target import CTarget
from snncompile.targets.pooling import Windows


def poisoned(shape, **like):
    return torch.full(shape, float("nan"), **like)


class Apart(CTarget):
    """The same without scans that pool."""

    pools_scan = None


class Counted(CTarget):
    """Notes what is pooled."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pooled = []

    def forward(self, scan, call):
        if call.windows is not None:
            self.pooled.append((call.windows, tuple(call.store)))
        return super().forward(scan, call)


def images(kind, shape, window, each=False):
    @snn.model(dt=1e-3)
    def model(x=snn.Current(shape)):
        tau = torch.linspace(5e-3, 3e-2, prod(shape)).reshape(shape).numpy() if each else 20e-3
        h = x >> snn.ExpSyn(tau=5e-3) >> snn.LIF(tau_mem=tau, threshold=0.4)
        return h >> getattr(snn, kind)(window) >> snn.Flatten() >> snn.Linear(3, name="last")

    return model


def ran(model, target, x, record=(), checkpoint=None):
    """Outputs, states, records and gradients of ``model`` on ``target``, an object."""
    torch.manual_seed(0)
    net = snn.compile(model, target="c", checkpoint=checkpoint)
    x = x.detach().clone().requires_grad_()
    with mock.patch("snncompile.network.make_target", lambda *_: target):
        out, state, found = net.evolve(x, record=list(record))
    loss = (out * torch.arange(1.0, 4.0)).sum() + sum(s.square().sum() for s in state.values() if s.is_floating_point())
    (loss + sum(r.sum() for r in found.values())).backward()
    return [out, *state.values(), *found.values(), x.grad, *(p.grad for p in net.parameters())]


CASES = [
    ("AvgPool2d", (1, 2, 2), (2, 2), True),
    ("SumPool2d", (3, 4, 6), (2, 2), False),
    ("AvgPool2d", (5, 6, 10), (3, 5), False),
    ("SumPool2d", (7, 24, 24), (2, 2), True),
    ("AvgPool2d", (2, 3, 300), (1, 4), True),
]


@pytest.mark.parametrize(("kind", "shape", "window", "neuron"), CASES)
def test_the_same_bits_as_one_after_the_other(kind, shape, window, neuron):
    model = images(kind, shape, window, neuron)
    counted = Counted(3, poisoned)
    for steps, batch, checkpoint in ((9, 3, None), (9, 2, 4), (1, 1, None), (0, 2, None)):
        x = torch.randn((batch, steps, *shape), generator=torch.Generator().manual_seed(0)) * 2
        got = ran(model, counted, x, checkpoint=checkpoint)
        want = ran(model, Apart(1), x, checkpoint=checkpoint)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        time_first = x.transpose(0, 1).contiguous().transpose(0, 1)
        again = ran(model, counted, time_first, checkpoint=checkpoint)
        assert all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in zip(again, want, strict=True))
        assert torch.equal(again[0], want[0])
    assert len(counted.pooled) == 8
    divisor = window[0] * window[1] if kind == "AvgPool2d" else 1
    assert counted.pooled[0] == (Windows("lif_spikes", shape[2], window, divisor), ("lif_spikes",))


def test_threads_change_nothing():
    x = torch.randn(4, 12, 7, 24, 24)
    model = images("AvgPool2d", (7, 24, 24), (2, 2))
    want = ran(model, CTarget(1), x)
    for threads in (2, 5, 40):
        got = ran(model, CTarget(threads, poisoned), x)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_a_record_is_there_if_asked_for():
    model, x = images("SumPool2d", (2, 4, 4), (2, 2)), torch.randn(2, 7, 2, 4, 4) * 2
    for record in (["lif.spikes"], ["lif.spikes:sum"], ["lif.v", "lif.spikes:mean"], ["lif.v"], ["sum_pool2d.out"]):
        counted = Counted(2, poisoned)
        got, want = ran(model, counted, x, record), ran(model, Apart(1), x, record)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        assert len(counted.pooled) == (0 if any("spikes" in r for r in record) else 1)


def test_a_gradient_that_is_everywhere_the_same():
    model = images("SumPool2d", (2, 4, 4), (2, 2))
    x = torch.randn(2, 7, 2, 4, 4)
    grads = []
    for target in (CTarget(2, poisoned), Apart(1)):
        net, leaf = snn.compile(model, target="c"), x.clone().requires_grad_()
        with mock.patch("snncompile.network.make_target", lambda *_, target=target: target):
            _, _, record = net.evolve(leaf, record=["sum_pool2d.out"])
        record["sum_pool2d.out"].sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads) and bool(grads[0].any())


def test_where_a_scan_does_not_pool():
    @snn.model(dt=1e-3)
    def model(x=snn.Current((2, 9, 8)), wide=snn.Current((1, 2, 600))):
        rest = x >> snn.LIF(threshold=0.3, name="rest") >> snn.SumPool2d(2)  # a row is left over
        read = x >> snn.LIF(threshold=0.3, name="read")
        twice = (read >> snn.SumPool2d((3, 2)) >> snn.Flatten()), (read >> snn.Flatten())
        seen = x >> snn.LIF(threshold=0.3, name="seen")
        long = wide >> snn.LIF(threshold=0.3, name="long") >> snn.SumPool2d(2)  # more than a block
        overlapping = x >> snn.LIF(threshold=0.3, name="over") >> snn.SumPool2d(3, stride=1)
        direct = x >> snn.SumPool2d((3, 2))
        return (*twice, seen, seen >> snn.SumPool2d((3, 2)), rest, long, overlapping, direct)

    counted = Counted(2, poisoned)
    x, wide = torch.randn(2, 5, 2, 9, 8), torch.randn(2, 5, 1, 2, 600)
    found = []
    for target in (counted, Apart(1)):
        with mock.patch("snncompile.network.make_target", lambda *_, target=target: target):
            found.append(snn.compile(model, target="c")(x, wide))
    got, want = found
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert counted.pooled == []


def test_what_explain_and_artifacts_say(tmp_path):
    model = images("AvgPool2d", (3, 4, 6), (2, 2))
    text = explain_text(explain(model.build(), "c"))
    assert "nothing of its own: the kernel of exp_syn_lif writes its windows, unless what they pool is recorded" in text
    assert "nothing of its own" not in explain_text(explain(model.build(), "triton"))
    net = snn.compile(model, target="c")
    net.save(tmp_path / "n.snn")
    source = (tmp_path / "n.snn" / "kernels" / "exp_syn_lif_backward.c").read_text()
    assert "#define POOL_BAND 12 /* neurons of a row of windows" in source
    assert all(len(line) <= 120 for line in source.splitlines())
    assert torch.equal(snn.load(tmp_path / "n.snn")(x := torch.randn(2, 4, 3, 4, 6)), net(x))
