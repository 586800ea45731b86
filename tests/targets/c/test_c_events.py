"""Event-driven products: exact where sums are, the same for every number of threads, differentiable, by hint only."""

import pytest
import torch

import snncompile as snn
from snncompile.targets.c.events import EventProducts
from snncompile.targets.event_linear import apply_events
from snncompile.targets.recurrent_call import weight_gradients


def poisoned(shape, **like):
    return torch.full(shape, float("nan"), **like)


EVENTS = EventProducts(threads=3, empty=poisoned)


def make(rows, inputs, outputs, density=0.1, whole=True):
    g = torch.Generator().manual_seed(rows + inputs)
    x = (torch.rand((rows, inputs), generator=g) < density) * torch.randint(1, 4, (rows, inputs), generator=g)
    weight, grad = torch.randn((outputs, inputs), generator=g), torch.randn((rows, outputs), generator=g)
    if whole:  # every order of summation gives the same bits
        weight, grad = (weight * 64).round() / 64, (grad * 64).round() / 64
    return x.float(), weight, grad


@pytest.mark.parametrize("shape", [(1, 1, 1), (0, 3, 4), (7, 9, 5), (130, 33, 17), (300, 70, 129)])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_exact_products(shape, density):
    x, weight, grad = make(*shape, density)
    bias = torch.arange(shape[2]) / 8
    assert torch.equal(EVENTS.forward(x, weight, None), x @ weight.T)
    assert torch.equal(EVENTS.forward(x, weight, bias), x @ weight.T + bias)
    for with_bias in (True, False):
        d_weight, d_bias = EVENTS.gradients(grad, x, with_bias)
        assert torch.equal(d_weight, grad.T @ x) and d_weight.is_contiguous()
        assert torch.equal(d_bias, grad.sum(0)) if with_bias else d_bias is None


def test_threads_change_nothing():
    x, weight, grad = make(200, 64, 48, whole=False)
    first = [EventProducts(1).forward(x, weight, None), *EventProducts(1).gradients(grad, x, True)]
    for threads in (2, 5, 100):
        events = EventProducts(threads, poisoned)
        assert torch.equal(events.forward(x, weight, None), first[0])
        for made, want in zip(events.gradients(grad, x, True), first[1:], strict=True):
            assert torch.equal(made, want)


@pytest.mark.parametrize("order", ["time first", "batch first", "neither"])
def test_gradients(order):
    x, weight, _ = make(24, 10, 6)
    x = {"time first": x.reshape(8, 3, 10), "batch first": x.reshape(3, 8, 10).transpose(0, 1)}.get(order, x)
    if order == "neither":
        x = x.reshape(8, 3, 10).transpose(1, 2).contiguous().transpose(1, 2)
    leaves = [t.detach().requires_grad_() for t in (x, weight, torch.ones(6))]
    made, want = apply_events(EVENTS, *leaves), torch.nn.functional.linear(*leaves)
    assert torch.equal(made, want)
    g = torch.randint(-8, 8, made.shape) / 8.0
    for a, b in zip(torch.autograd.grad(made, leaves, g), torch.autograd.grad(want, leaves, g), strict=True):
        assert torch.equal(a, b)


def test_weight_gradients_of_a_recurrent_layer():
    product, _, course = make(12, 5, 5)[2].reshape(4, 3, 5), None, make(12, 5, 5)[0].reshape(4, 3, 5)
    start = course[:1] + 1
    for a, b in zip(
        weight_gradients(product, start, course, EVENTS), weight_gradients(product, start, course), strict=True
    ):
        assert torch.equal(a, b)
    assert weight_gradients(product[:0], start, course[:0], EVENTS)[0].shape == (5, 5)


def network(density, target):
    @snn.model
    def model(x=snn.Spikes((2, 15), max=1, density=density)):
        h = x >> snn.Flatten() >> snn.Linear(40) >> snn.LIF(threshold=0.5)
        h = h >> snn.recurrent(snn.LIF(max_spikes_per_dt=1), via=snn.Linear(40, density=density))
        return h >> snn.Linear(33, density=density, mask=torch.ones(33, 40)) >> snn.LI()

    torch.manual_seed(0)
    return snn.compile(model, target=target)


def test_network_against_the_reference():
    found = {}
    x = (torch.rand(3, 12, 2, 15, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    for key in ((0.1, "c"), (None, "torch")):
        net = network(*key)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_((p * 64).round() / 64 + (p == p.max()) / 64)
        out = net(x)
        out.square().mean().backward()
        found[key[1]] = out, {n: p.grad for n, p in net.named_parameters()}
    (out, grads), (want, expected) = found["c"], found["torch"]
    assert torch.equal(out, want)
    for name, grad in expected.items():
        assert (grads[name] - grad).norm() <= 1e-5 * grad.norm(), name


def test_only_a_hint_decides(monkeypatch):
    calls = []
    plain = EventProducts.forward
    monkeypatch.setattr(EventProducts, "forward", lambda self, *a: calls.append(len(a)) or plain(self, *a))
    x = torch.zeros(2, 8, 2, 15)
    for density, expected in ((None, 0), (0.5, 0), (0.05, 2)):
        calls.clear()
        network(density, "c")(x)
        assert len(calls) == expected
    network(0.05, "c")(x[:1])  # too few rows
    assert len(calls) == 2
