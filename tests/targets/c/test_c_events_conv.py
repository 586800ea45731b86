"""Event-driven convolutions: exact where sums are, the same whatever the threads, differentiable, by hint only."""

import random

import pytest
import torch
import torch.nn.functional as F

import snncompile as snn
from snncompile.explain import explain, explain_text
from snncompile.ir.density import limit, why
from snncompile.targets.c.events import EventProducts
from snncompile.targets.event_conv import Window, apply_event_conv


def poisoned(shape, **like):
    return torch.full(shape, float("nan"), **like)


EVENTS = EventProducts(threads=3, empty=poisoned)


def make(images, channels, size, outputs, kernel, groups=1, density=0.2, whole=True):
    g = torch.Generator().manual_seed(images + outputs)
    shape = (images, channels, *size)
    x = ((torch.rand(shape, generator=g) < density) * torch.randint(-2, 4, shape, generator=g)).float()
    weight = torch.randn((outputs, channels // groups, *kernel), generator=g)
    return x, (weight * 64).round() / 64 if whole else weight  # then every order of summation gives the same bits


def dyadic(*shape):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 16).round() / 16


CASES = [
    # images, channels, size, outputs, kernel, groups, stride, padding, dilation
    (1, 1, (1, 1), 1, (1, 1), 1, (1, 1), (0, 0), (1, 1)),
    (0, 2, (5, 4), 3, (3, 3), 1, (1, 1), (1, 1), (1, 1)),
    (70, 1, (28, 28), 16, (5, 5), 1, (1, 1), (0, 0), (1, 1)),
    (9, 6, (7, 11), 9, (3, 4), 3, (1, 1), (2, 3), (1, 1)),
    (9, 3, (9, 8), 17, (3, 2), 1, (2, 3), (1, 1), (1, 1)),
    (5, 4, (13, 9), 8, (2, 3), 2, (1, 1), (2, 0), (3, 2)),
    (5, 2, (10, 12), 5, (3, 3), 1, (3, 2), (2, 2), (2, 3)),
    (3, 2, (4, 4), 3, (4, 4), 1, (1, 1), (3, 3), (1, 1)),
    (3, 8, (1, 40), 12, (1, 5), 4, (1, 2), (0, 2), (1, 1)),
]


def drawn():
    rng = random.Random(7)
    for _ in range(4):
        groups = rng.choice([1, 1, 2, 3])
        kernel, stride, dilation = ((rng.randint(1, n), rng.randint(1, n)) for n in (4, 3, 3))
        padding = tuple(rng.randint(0, d * (k - 1)) for d, k in zip(dilation, kernel, strict=True))
        size = tuple(d * (k - 1) + rng.randint(1, 12) for d, k in zip(dilation, kernel, strict=True))
        yield (rng.randint(1, 40), groups * rng.randint(1, 3), size, groups * rng.randint(1, 19), kernel, groups,
               stride, padding, dilation)  # fmt: skip


@pytest.mark.parametrize("case", [*CASES, *drawn()])
def test_exact_convolutions(case):
    images, channels, size, outputs, kernel, groups, *ways = case
    window = Window(*ways, groups)
    x, weight = make(images, channels, size, outputs, kernel, groups)
    for bias in (None, torch.arange(outputs) / 8):
        want = F.conv2d(x, weight, bias, *ways, groups)
        assert torch.equal(EVENTS.conv(x, weight, bias, window), want)
    leaves = weight.requires_grad_(), bias.requires_grad_()
    grad = dyadic(*want.shape)
    F.conv2d(x, *leaves, *ways, groups).backward(grad)
    for got, leaf in zip(EVENTS.conv_gradients(grad, x, kernel, window), leaves, strict=True):
        assert torch.equal(got, leaf.grad)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_no_events_and_events_only(density):
    x, weight = make(6, 2, (6, 7), 4, (3, 3), density=density)
    window = Window((1, 1), (1, 1), (1, 1), 1)
    assert torch.equal(EVENTS.conv(x, weight, None, window), F.conv2d(x, weight, padding=1))


def test_threads_change_nothing():
    x, weight = make(50, 3, (12, 12), 8, (5, 5), whole=False)
    grad, window = torch.randn(50, 8, 8, 8), Window((1, 1), (0, 0), (1, 1), 1)
    first = EventProducts(1)
    want = first.conv(x, weight, None, window), *first.conv_gradients(grad, x, (5, 5), window)
    for threads in (2, 5, 100):
        events = EventProducts(threads, poisoned)
        assert torch.equal(events.conv(x, weight, None, window), want[0])
        for got, one in zip(events.conv_gradients(grad, x, (5, 5), window), want[1:], strict=True):
            assert torch.equal(got, one)


@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d"])
@pytest.mark.parametrize("order", ["time first", "batch first", "neither"])
def test_gradients(kind, order):
    features = (2, 9) if kind == "Conv1d" else (2, 9, 7)

    @snn.model
    def model(x=snn.Spikes(features)):
        return x >> getattr(snn, kind)(6, 3, stride=2, padding=1, groups=2, name="conv")

    op = model.build().op("conv")
    x = make(24, 2, features[1:], 1, (1,))[0].reshape(8, 3, *features)
    x = x.transpose(0, 1).contiguous().transpose(0, 1) if order == "batch first" else x
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if order == "neither" else x
    weight = dyadic(*op.params["weight"].shape)
    leaves = [t.detach().requires_grad_() for t in (x, weight, torch.ones(6))]
    made = apply_event_conv(EVENTS, op, *leaves)
    fn = F.conv1d if kind == "Conv1d" else F.conv2d
    want = fn(leaves[0].flatten(0, 1), *leaves[1:], 2, 1, 1, 2).unflatten(0, (8, 3))
    assert torch.equal(made, want)
    assert made.transpose(0, 1).is_contiguous() == (order == "batch first")
    g = dyadic(*want.shape)
    for a, b in zip(torch.autograd.grad(made, leaves, g), torch.autograd.grad(want, leaves, g), strict=True):
        assert torch.equal(a, b)


def network(density, target):
    @snn.model(dt=1e-3)
    def model(x=snn.Spikes((1, 11, 9), max=2, density=density)):
        h = x >> snn.Conv2d(8, 5, padding=2) >> snn.BatchNorm() >> snn.LIF(threshold=0.3)
        h = h >> snn.Conv2d(6, (3, 4), density=density, mask=torch.ones(6, 8, 3, 4)) >> snn.LIF(threshold=0.3)
        return h >> snn.Flatten() >> snn.Linear(3) >> snn.LI()

    torch.manual_seed(0)
    return snn.compile(model, target=target).eval()


@pytest.mark.parametrize("steps", [1, 7])
def test_network_against_the_reference(steps):
    found = {}
    x = (torch.rand(16, steps, 1, 11, 9, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    for key in ((0.05, "c"), (None, "torch")):
        net = network(*key)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_((p * 64).round() / 64 + (p == p.max()) / 64)
        out, _, record = net.evolve(x, record=["lif.spikes", "lif_1.v"])
        out.square().mean().backward()
        found[key[1]] = [out, *record.values()], {n: p.grad for n, p in net.named_parameters()}
    assert all(torch.equal(a, b) for a, b in zip(found["c"][0], found["torch"][0], strict=True))
    for name, grad in found["torch"][1].items():
        assert (found["c"][1][name] - grad).norm() <= 1e-5 * grad.norm(), name


def test_only_a_hint_decides(monkeypatch):
    calls = []
    plain = EventProducts.conv
    monkeypatch.setattr(EventProducts, "conv", lambda self, *a: calls.append(len(a)) or plain(self, *a))
    x = torch.zeros(2, 8, 1, 11, 9)
    for density, expected in ((None, 0), (0.5, 0), (0.05, 2)):
        calls.clear()
        network(density, "c")(x)
        assert len(calls) == expected
    network(0.05, "c")(x[:1])  # too few images
    assert len(calls) == 2


def test_what_explain_and_artifacts_say(tmp_path):
    net = network(0.05, "c")
    text = explain_text(explain(net.graph, "c"))
    assert "one event-driven product over all steps (C): 0.05 of its inputs are not zero, at most 0.096" in text
    net.save(tmp_path / "n.snn")
    kernels = {p.name: p.read_text() for p in (tmp_path / "n.snn" / "kernels").iterdir() if "events" in p.name}
    assert {"conv2d_events_forward_training.c", "conv2d_1_events_weight.c"} <= set(kernels)
    assert all("#define OUTPUTS" in text for text in kernels.values())
    assert all(len(line) <= 120 for text in kernels.values() for line in text.splitlines())


def test_where_it_does_not_pay():
    @snn.model
    def model(x=snn.Spikes((8, 12, 12), density=0.06)):
        wide, apart = x >> snn.Conv2d(32, 3, name="wide"), x >> snn.Conv2d(32, 3, stride=2, name="apart")
        narrow, small = x >> snn.Conv2d(4, 3, name="narrow"), x >> snn.Conv2d(64, 3, groups=8, name="small")
        return wide, apart, narrow, small

    graph = model.build()
    assert limit(graph.op("wide")) == 0.16
    assert limit(graph.op("apart")) == 0.074
    assert limit(graph.op("small")) == limit(graph.op("narrow")) == 0.0
    assert why(graph.op("narrow")).endswith("but an input reaches too few outputs at a time for that to count")
    assert why(graph.op("small")).endswith("but its kernel is small for that to count")
    assert why(graph.op("wide")) == "0.06 of its inputs are not zero, at most 0.16"
