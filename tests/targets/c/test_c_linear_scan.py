"""A connection and its neurons as one operation: as apart and as the reference, in every situation autograd knows."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import snncompile as snn
import snncompile.targets.executor as executor_module
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.c.target import CTarget
from snncompile.targets.executor import Executor, Run

from ...compare import assert_close_gradients, assert_same_bits, outcome


@snn.model
def model(x=snn.Spikes(9, max=1), *, density=None, hidden=40):
    h = x >> snn.Linear(hidden, density=density) >> snn.ExpSyn() >> snn.LIF(threshold=0.6)
    other = x >> snn.Linear(hidden, density=density, bias=False)
    both = (h >> snn.Linear(hidden)) + other  # two products for one scan: the first runs with it
    return both >> snn.LIF(threshold=0.7) >> snn.Linear(5) >> snn.LI()


def network(target="c", density=None, **more):
    torch.manual_seed(0)
    net = snn.compile(model, target=target, density=density, **more)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "linear" in name:  # sums are exact in any order
                p.copy_((p * 64).round() / 64)
    return net


def data(steps=13, batch=3):
    return (torch.rand(batch, steps, 9, generator=torch.Generator().manual_seed(1)) < 0.3).float()


@pytest.fixture
def fused(monkeypatch):
    """How many pairs ran as one."""
    calls = []
    plain = executor_module.run_linear_scan
    monkeypatch.setattr(executor_module, "run_linear_scan", lambda *a: calls.append(1) or plain(*a))
    return calls


def same(made, want):
    assert_same_bits(want, made)
    assert_close_gradients(want, made)


@pytest.mark.parametrize("density", [None, 0.1])
@pytest.mark.parametrize("steps, batch", [(13, 3), (1, 2), (0, 2), (6, 0), (20, 1)])
@pytest.mark.parametrize("more", [{}, {"checkpoint": 4}])
def test_as_the_reference(fused, density, steps, batch, more):
    x = data(steps, batch)
    record = ["lif.v", "lif.spikes:sum"]
    made = outcome(network(density=density, **more), x, record)
    assert len(fused) == 3
    same(made, outcome(network("torch", density, **more), x, record))


@pytest.mark.parametrize("density", [None, 0.1])
def test_a_recorded_current_is_seen(fused, density):
    record = ["linear.out", "linear_1.out:sum", "li.v"]
    made = outcome(network(density=density), data(), record)
    assert len(fused) == 1
    same(made, outcome(network("torch", density), data(), record))


@pytest.mark.parametrize("density", [None, 0.1])
def test_strides_and_poison(density):
    net = network(density=density)
    graph = compile_graph(net.graph, Request())
    target = CTarget(empty=lambda shape, **like: torch.full(shape, float("nan"), **like))
    x = data(13, 3).transpose(0, 1)
    spread = torch.zeros(13, 3, 18)[..., ::2].copy_(x)
    found = []
    for given in (x, x.contiguous(), spread):
        values = {name: net.value(name).detach().requires_grad_() for name in graph.parameters()}
        leaf = given.detach().requires_grad_()
        run = Run(values, {"x": leaf}, net.initial_state(3), 13, 3, x.device)
        out = Executor(graph, target).run(run).outputs["out"]
        loss = out.square().sum() + out.transpose(0, 1)[..., 0].cumsum(1).sum()
        grads = torch.autograd.grad(loss, [*values.values(), leaf])
        found.append((out.detach(), dict(zip([*values, "x"], grads, strict=True))))
    for out, grads in found[1:]:
        assert torch.equal(out, found[0][0])
        for name, grad in grads.items():
            assert (grad - found[0][1][name]).norm() <= 1e-5 * grad.norm(), name


def gradients(net, run, x):
    net.zero_grad(set_to_none=True)
    run(x).square().sum().backward()
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_what_autograd_can_do():
    net, x = network(density=0.1), data()
    want = gradients(net, net, x)
    assert all(torch.isfinite(g).all() for g in want.values())

    net.zero_grad(set_to_none=True)  # twice through one graph
    loss = net(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    for name, p in net.named_parameters():
        assert torch.equal(p.grad, 2 * want[name])
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()

    out = net(x)  # an output used twice, and one weight's gradient alone
    weight = net.value("linear.weight")
    (alone,) = torch.autograd.grad((out * out).sum(), [weight])
    torch.testing.assert_close(alone, want["linear.weight"])

    seen = []  # hooks
    hook = weight.register_hook(lambda g: seen.append(g.shape) or g * 3)
    assert torch.equal(gradients(net, net, x)["linear.weight"], 3 * want["linear.weight"]) and seen == [(40, 9)]
    hook.remove()

    def again(y):
        return checkpoint(net, y, use_reentrant=False)

    for run in (again, copy.deepcopy(net)):
        owner = net if run is again else run
        for name, grad in gradients(owner, run, x).items():
            assert torch.equal(grad, want[name])


def test_frozen_parameters():
    for frozen in ("linear.weight", "linear.bias", "linear_1.weight", "lif.tau_mem", "linear"):
        found = []
        for target in ("c", "torch"):
            net = network(target, 0.1)
            for name, p in net.named_parameters():
                p.requires_grad_(not name.startswith(frozen))
            found.append(gradients(net, net, data()))
        assert found[0].keys() == found[1].keys()
        for name, grad in found[1].items():
            assert (found[0][name] - grad).norm() <= 1e-5 * grad.norm()


def test_a_weight_that_is_computed(fused):
    net = network(density=0.1)
    torch.nn.utils.parametrizations.weight_norm(net.get_submodule("linear"))
    net(data()).sum().backward()
    assert len(fused) == 3 and all(p.grad.norm() > 0 for p in net.get_submodule("linear").parametrizations.parameters())


def test_autocast_decides_about_products(fused):
    net = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(data())
    assert not fused and out.dtype is torch.float32
    out.sum().backward()


def test_changed_in_between_is_noticed():
    net, x = network(), data().requires_grad_()
    loss = net(x).sum()
    with torch.no_grad():
        net.value("linear_1.weight").mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def alone(state, bucket):
    """The sum over all processes, of which there is one."""
    sum_of_all = torch.futures.Future()
    sum_of_all.set_result(bucket.buffer())
    return sum_of_all


def test_in_parallel():
    dist = torch.distributed
    if not dist.is_available():
        pytest.skip("torch is built without torch.distributed")
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)  # no threads, no sockets
    try:
        net = network(density=0.1)
        want = gradients(net, net, data())
        around = torch.nn.parallel.DistributedDataParallel(net)
        around.register_comm_hook(None, alone)
        for name, grad in gradients(net, around, data()).items():
            assert torch.equal(grad, want[name])
        del around
    finally:
        dist.destroy_process_group()
