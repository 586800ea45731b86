"""What reads a late signal a panel at a time: every kind of connection, in one panel and in many, as the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.explain import explain
from snncompile.ir.elementwise import Elementwise
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets import executor
from snncompile.targets.c.target import CTarget
from snncompile.targets.late_scan import made_reader
from snncompile.targets.scan import PanelSize, make_scan
from snncompile.targets.triton.aot import compile_scans, scan_kernels
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.target import TritonTarget

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(0, 4, (2, 4, 4))
FLAT = IMAGE.reshape(-1)


def late(x, delay=IMAGE, **options):
    return x >> snn.Delay(delay * ms, **options)


def flat(x, delay=FLAT, **options):
    return late(x >> snn.Flatten(), delay, **options)


def twice(x):
    seen = flat(x)
    return seen >> snn.Linear(3), (seen >> snn.LIF(threshold=0.5)) + (seen >> snn.Linear(32, bias=False))


CASES = {
    "conv2d": lambda x: late(x) >> snn.Conv2d(3, 3, padding=1),
    "events": lambda x: flat(x) >> snn.Linear(32, density=0.05),
    "event conv": lambda x: late(x) >> snn.Conv2d(32, 3, density=0.05),
    "sparse": lambda x: flat(x) >> snn.Sparse(6, p=0.5, seed=1),
    "most": lambda x: late(x) >> snn.MaxPool2d(2),
    "mean": lambda x: late(x) >> snn.AvgPool2d(3, stride=1),
    "sum": lambda x: late(x) >> snn.SumPool2d(2),
    "norm": lambda x: late(x) >> snn.BatchNorm(),
    "dropout": lambda x: flat(x) >> snn.Dropout(0.5) >> snn.Linear(3),
    "neurons behind": lambda x: flat(x) >> snn.Linear(4) >> snn.LIF(threshold=0.5),
    "conv, neurons and pool": lambda x: late(x) >> snn.Conv2d(3, 3, padding=1, density=0.05)
    >> snn.LIF(threshold=0.5) >> snn.SumPool2d(2),
    "two kinds": twice,
    "flatten": lambda x: late(x) >> snn.Flatten() >> snn.Linear(3),
    "flatten, trained, neurons": lambda x: late(x, IMAGE + 0.25, interpolation="linear", trainable=True,
                                                max_delay=6 * ms) >> snn.Flatten() >> snn.LIF(threshold=0.5),
    "shared": lambda x: flat(x, 3) >> snn.Linear(3),
    "in the connection": lambda x: x >> snn.Flatten() >> snn.Linear(3, delay=3 * ms),
    "in it, between": lambda x: x >> snn.Flatten() >> snn.Linear(3, delay=2.5 * ms, interpolation="linear"),
    "in it, events": lambda x: x >> snn.Flatten() >> snn.Linear(32, delay=3 * ms, density=0.05),
    "longer history": lambda x: flat(x, FLAT, max_delay=7 * ms) >> snn.Linear(3),
}  # fmt: skip
ON_TRITON = ("conv2d", "two kinds", "flatten, trained, neurons", "shared", "in it, between", "longer history")


def network(case: str, target: str, **options) -> snn.Network:
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((2, 4, 4))):
        return CASES[case](x)

    torch.manual_seed(0)
    net = snn.compile(model, target=target, **options)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.startswith(("linear", "conv", "sparse")):
                p.mul_(8).round_().div_(8)
    return net.eval()


def spikes(batch=3, steps=11):
    return (torch.rand(batch, steps, 2, 4, 4, generator=torch.Generator().manual_seed(2)) < 0.3).float()


def results(net, data):
    x = data.clone().requires_grad_()
    g = torch.Generator().manual_seed(3)
    first = {n: torch.rand(s.shape, generator=g).round().requires_grad_() if n.endswith("history") else s
             for n, s in net.initial_state(len(x)).items()}  # fmt: skip
    torch.manual_seed(1)
    y, after, _ = net.evolve(x, state=first)
    outputs = list(y) if isinstance(y, tuple) else [y]
    ends = [after[n] for n in first if n.endswith("history")]
    loss = sum((v * torch.arange(v.numel()).reshape(v.shape).remainder(5)).sum() for v in (*outputs, *ends))
    leaves = [x, *(s for s in first.values() if s.requires_grad), *net.parameters()]
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    grads = [torch.zeros_like(v) if g is None else g for g, v in zip(grads, leaves, strict=True)]
    return [v.detach() for v in (*outputs, *ends)], grads


def check(got, want):
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got[0], want[0], strict=True))
    for a, b in zip(got[1], want[1], strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


def small_panels(monkeypatch, size=500):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(CTarget, "panel", PanelSize(size, size, True))
    monkeypatch.setattr(TritonTarget, "panel", PanelSize(size, size, False))


@pytest.mark.parametrize(("target", "case"), [*(("c", c) for c in CASES), *(("triton", c) for c in ON_TRITON)])
def test_readers_in_many_panels(target, case, monkeypatch):
    readers(target, case, 500, monkeypatch)


IN_ONE = ("event conv", "sparse", "most", "norm", "flatten, trained, neurons", "in it, between")


@pytest.mark.parametrize("case", IN_ONE)
def test_readers_in_one_panel(case, monkeypatch):
    readers("c", case, 2**20, monkeypatch)


@pytest.mark.parametrize(("case", "forward", "weights", "signal"), [
    ("most", True, True, True), ("sparse", True, True, True), ("event conv", True, True, False),
    ("events", False, True, False), ("flatten", False, True, False), ("conv2d", False, False, False),
    ("shared", False, False, False),
])  # fmt: skip
def test_made_where_that_is_quicker(case, forward, weights, signal, monkeypatch):
    made, real = [], executor.made_late
    monkeypatch.setattr(executor, "made_late", lambda *a: made.append(real(*a)) or made[-1])
    net, plain, x = network(case, "c"), network(case, "torch"), spikes()
    with torch.no_grad():
        assert torch.allclose(net(x), plain(x), atol=1e-5)
        assert any(one is not None for one in made) == forward
    made.clear()
    if list(net.parameters()):
        found, want = [torch.autograd.grad(n(x).square().sum(), list(n.parameters())) for n in (net, plain)]
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(found, want, strict=True))
        assert any(one is not None for one in made) == weights
        made.clear()
    check(results(net, x), results(plain, x))
    assert any(one is not None for one in made) == signal
    said = next((r.runs_as for r in explain(net.graph, "c").regions if r.nodes[0] == "delay"), "")
    assert ("is made, which is quicker" in said) == (weights and not signal)
    assert said.startswith("one kernel that makes it") == signal


def readers(target, case, size, monkeypatch):
    small_panels(monkeypatch, size)
    want = results(network(case, "torch"), spikes())
    monkeypatch.setattr(executor, "made_late", lambda *a: pytest.fail("a late signal is made"))
    check(results(network(case, target), spikes()), want)


@pytest.mark.parametrize("case", ["conv2d", "event conv", "sparse", "most", "two kinds", "in it, between"])
def test_no_sequences(case, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    want = results(network(case, "torch"), spikes(0))
    for target in ("c", "triton") if case in ON_TRITON else ("c",):
        got = results(network(case, target), spikes(0))
        assert [v.shape for v in got[0]] == [v.shape for v in want[0]]
        assert not any(g.any() for g in got[1])


@pytest.mark.parametrize("case", ["norm", "dropout"])
def test_what_looks_at_all_steps_in_training_reads_what_is_made(case, monkeypatch):
    small_panels(monkeypatch)
    read = []
    panels = executor.read_panels
    monkeypatch.setattr(executor, "read_panels", lambda *a: read.append(1) or panels(*a))
    check(results(network(case, "c").train(), spikes()), results(network(case, "torch").train(), spikes()))
    assert not read


@pytest.mark.parametrize("case", ["flatten", "neurons behind", "two kinds", "most", "shared"])
def test_steps_pieces_and_records(case, monkeypatch):
    """Cut in two, checkpointed in pieces, step by step, strided, and recorded: the same."""
    small_panels(monkeypatch)
    net, plain = network(case, "c"), network(case, "torch")
    x = spikes(2, 600)
    check(results(network(case, "c", checkpoint=32), x), results(plain, x))
    x = x[:, :20]
    want, last, _ = plain.evolve(x)
    want = want if isinstance(want, tuple) else (want,)
    state, parts = None, []
    for part in [*x[:, :3].unbind(1), *x[:, 3:].split([9, 1, 7], 1)]:
        y, state = net.step(part, state) if part.dim() == 4 else net.evolve(part, state=state)[:2]
        y = y if isinstance(y, tuple) else (y,)
        parts.append([v.unsqueeze(1) if part.dim() == 4 else v for v in y])
    for got, one in zip(zip(*parts, strict=True), want, strict=True):
        assert torch.equal(torch.cat(got, 1), one)
    assert all(torch.equal(state[n], v) for n, v in last.items())
    _, _, record = net.evolve(x, record=["delay.out", "delay.out:sum"])
    _, _, expected = plain.evolve(x, record=["delay.out", "delay.out:sum"])
    assert all(torch.equal(record[n], v) for n, v in expected.items())
    wide = torch.stack([x, -x], -1).flatten(-2)[..., ::2]  # neurons apart
    strided = net(wide)
    assert torch.equal(strided[0] if isinstance(strided, tuple) else strided, want[0])


def test_autocast(monkeypatch):
    """As without a delay: a product in bfloat16."""
    small_panels(monkeypatch)
    net, plain = network("flatten", "c"), network("flatten", "torch")
    x = spikes().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, want = net(x), plain(x)
    assert got.dtype == want.dtype and torch.equal(got, want)
    for a, b in zip(*(torch.autograd.grad(y.float().square().sum(), [x, *n.parameters()])
                      for y, n in ((got, net), (want, plain))), strict=True):  # fmt: skip
        assert torch.allclose(a, b, rtol=0.02, atol=0.02)


def test_nothing_of_the_late_signal_is_kept(monkeypatch):
    """Of a signal of 40 panels training keeps the signal itself and one panel."""
    small_panels(monkeypatch, 2**12)
    net, kept = network("flatten", "c"), {}
    x = torch.rand(1, 1280, 2, 4, 4)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t}) or t, lambda t: t):
        net(x)
    assert x.data_ptr() in kept
    assert sum(t.numel() for t in kept.values()) < 1.5 * x.numel()


@pytest.mark.parametrize("options", [{}, {"interpolation": "linear", "trainable": True, "max_delay": 5 * ms}])
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_kernels_compile_ahead_of_time(options, shape):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(3)):
        h = x >> snn.Delay(RNG.integers(0, 4, shape) * ms, **options)
        return (h >> snn.Flatten() if len(shape) > 1 else h) >> snn.Linear(2)

    name = "delay"
    node, kinds = made_reader(compile_graph(model.build(), Request()), name)
    assert isinstance(node, Elementwise) and set(kinds) == {"shared" if len(shape) > 1 else "each"}
    each = [role for role, p in node.params.items() if p.shape != ()]
    kernels = scan_kernels(make_scan(name, node), ["seen"], each, kinds, panels=True)
    assert {"forward", "backward", "backward_near"} <= kernels.keys()
    assert all(b.resources.spills == 0 for b in compile_scans([kernels], list(ARCHS.values())))
