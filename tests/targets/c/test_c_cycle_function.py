"""Cycles of any form in one C function: against the plain reference, bit for bit, and its gradients."""

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.c.target import CTarget
from snncompile.targets.cycle_plan import CyclePlan
from snncompile.targets.executor import Executor

from ...compare import assert_close_gradients, assert_same_bits, outcome
from ...cyclic_models import cyclic_model
from ...mixed_models import counts
from ...plain_target import PlainTarget

SHAPES = [(2, 13), (1, 1), (3, 7), (2, 0), (1, 3), (5, 9), (0, 4)]


def poisoned(shape, **like):
    return torch.full(shape, float("nan"), **like)


def compiled(seed):
    torch.manual_seed(seed)
    net = snn.compile(cyclic_model(seed), target="c")
    return net, [r for r in net.graph.recordable() if r != "x"]


def run(net, x, record, executor):
    torch.manual_seed(7)  # what is drawn
    return outcome(net, x, record, executor)


@pytest.mark.parametrize("seed", range(9))
def test_as_the_reference(seed):
    net, record = compiled(seed)
    executor = Executor(net.graph, CTarget(threads=1 + seed % 3, empty=poisoned))
    assert any(isinstance(plan, CyclePlan) for plan in executor._cycles.values()), executor._cycles
    x = counts(seed, *SHAPES[seed % len(SHAPES)])
    want = run(net, x, record, Executor(net.graph, PlainTarget()))
    got = run(net, x, record, executor)
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


@pytest.mark.parametrize("seed", [3, 5])
def test_threads_and_the_batch_change_nothing(seed):
    net, record = compiled(seed)
    x = counts(seed, 7, 12)
    found = [run(net, x, record, Executor(net.graph, CTarget(threads=k, empty=poisoned))) for k in (1, 2, 5)]
    for other in found[1:]:
        assert_same_bits(found[0], other)
        assert all(torch.equal(g, other.gradients[n]) for n, g in found[0].gradients.items())


@pytest.mark.parametrize("seed", [2, 7])
@pytest.mark.parametrize("cut", [(0, 13), (1, 12), (4, 9), (1,) * 13])
def test_a_sequence_in_pieces_is_the_sequence(seed, cut):
    """Also where a piece is shorter than what is remembered; gradients go through the states."""
    net, _ = compiled(seed)
    x = counts(seed, 2, 13)
    found = []
    for sizes in ([13], cut):
        torch.manual_seed(7)
        leaf, state, outs = x.clone().requires_grad_(), net.initial_state(2), []
        for part in leaf.split(list(sizes), 1):
            out, state, _ = net.evolve(part, state=state)
            outs.append(out)
        whole = {k: torch.cat([o[k] for o in outs], 1) for k in outs[0]}
        loss = sum((v * torch.linspace(-1, 1, v.numel()).reshape(v.shape)).sum() for v in whole.values())
        loss = loss + sum(v.sin().sum() for v in state.values() if v.is_floating_point())
        trained = dict(net.named_parameters())
        grads = torch.autograd.grad(loss, [leaf, *trained.values()], allow_unused=True)
        found.append((whole, state, dict(zip(["x", *trained], grads, strict=True))))
    (whole, state, grads), (parts, last, others) = found
    assert all(torch.equal(v, parts[k]) for k, v in whole.items())
    assert all(torch.equal(v, last[k]) for k, v in state.items())
    for name, grad in grads.items():
        if grad is not None:
            scale = max(float(grad.norm()), 1e-2 if grad.dim() == 0 else 1e-6)
            assert float((grad - others[name]).norm()) <= 1e-4 * scale, name


@snn.model(dt=1 * ms)
def delayed(x=snn.Spikes(6, max=1)):
    back, slow = snn.Feedback(5, name="back"), snn.Feedback(5, delay=3 * ms, name="slow")
    late = snn.Feedback(4, delay=0, name="late")
    current = (x >> snn.Linear(4)) + (back >> snn.Linear(4)) + (slow >> snn.Linear(4)) * 0.5
    seen = late >> snn.Linear(4, delay=np.arange(16).reshape(4, 4) % 5 * ms + 1 * ms)
    first = current + seen >> snn.CubaLIF(threshold=0.3, name="first")
    second = first >> snn.Linear(5) >> snn.LIF(threshold=0.3, name="second")
    back.close(second)
    slow.close(second)
    late.close(first)
    return {"second": second, "current": first.state("isyn")}


def test_the_gradient_of_states_and_strided_inputs():
    """Two late edges with pasts of their own, histories and membranes: each start has its gradient."""
    torch.manual_seed(0)
    net = snn.compile(delayed, target="c")
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.5 if p.dim() == 2 else 1.0)
    wide = (torch.rand(12, 11, 6, 3) < 0.5).float()
    x = wide.permute(1, 0, 2, 3)[::3, :, :, 1]
    generator = torch.Generator().manual_seed(1)
    start = {n: 0.1 * torch.rand(s.shape, generator=generator) for n, s in net.initial_state(4).items()}
    found = []
    for executor in (Executor(net.graph, PlainTarget()), Executor(net.graph, CTarget(2, poisoned))):
        net.executor = lambda device, keep=frozenset(), executor=executor: executor
        state = {n: s.clone().requires_grad_() for n, s in start.items()}
        out, end, record = net.evolve(x, state=state, record=["first.v:sum", "linear_1.out"])
        values = {**out, **record, **{f"end {n}": v for n, v in end.items()}}
        loss = sum((v.sin() * torch.linspace(-1, 1, v.numel()).reshape(v.shape)).sum() for v in values.values())
        names = [*state, *dict(net.named_parameters())]
        grads = torch.autograd.grad(loss, [*state.values(), *net.parameters()])
        found.append((values, dict(zip(names, grads, strict=True))))
    (want, grads), (got, others) = found
    for name, value in {**want, **grads}.items():
        other = {**got, **others}[name]
        assert other.shape == value.shape
        assert (value - other).norm().item() <= 1e-4 * value.norm().item(), name


def test_what_is_not_wanted_is_not_kept():
    """Without gradients a line is as long as it is looked back."""
    net = snn.compile(delayed, target="c")
    executor, kept = net.executor(torch.device("cpu")), []
    target = executor._cycle_target
    forward = target.forward
    target.forward = lambda plan, call: kept.append((plan, forward(plan, call))) or kept[-1][1]
    with torch.no_grad():
        net(torch.ones(2, 50, 6))
    ((plan, made),) = kept
    rows = {it.key.split(".")[-1]: len(v) for it, v in zip(plan.lines, made.lines, strict=True) if v is not None}
    assert rows == {
        "linear_1": 1, "linear_2": 1, "linear_3": 1, "first_isyn": 51, "first_v": 2, "first_spikes": 6,
        "linear_4": 1, "v": 2, "spikes": 51, "slow": 4,
    }  # fmt: skip


def test_it_is_explained():
    text = explain_text(explain(delayed.build(), "c"))
    assert "one function for the cycle, over all steps" in text


@snn.model
def images(x=snn.Spikes((1, 5, 5), max=1)):
    back = snn.Feedback((2, 5, 5))
    h = (x >> snn.Conv2d(2, 3, padding=1)) + back >> snn.LIF(threshold=0.4)
    back.close(h >> snn.Conv2d(2, 3, padding=1) >> snn.LIF(threshold=0.2))
    return h


def late_layer(size, steps, node):
    @snn.model
    def model(x=snn.Spikes(4, max=1)):
        return x >> snn.Linear(size) >> snn.recurrent(node, via=snn.Linear(size), delay=steps * ms)

    return model


def test_large_dense_products_of_very_late_cycles_are_made_for_many_steps_at_once():
    text = {n: explain_text(explain(late_layer(n, 40, snn.LI()).build(), "c")) for n in (256, 512)}
    assert "one function for the cycle" in text[256]
    assert "since its dense products are quicker for 40 steps at once" in text[512]
    assert "one function for the cycle" in explain_text(explain(late_layer(512, 40, snn.LIF()).build(), "c"))

    @snn.model
    def wide(x=snn.Spikes(4)):
        return x >> snn.Linear(1100) >> snn.recurrent(snn.LIF(), via=snn.Sparse(1100, indegree=1000), delay=9 * ms)

    text = explain_text(explain(wide.build(), "c"))
    assert "one function for the cycle" in text and "of fewer than 4 sequences 1 kernels and 1 products" in text
    net = snn.compile(wide, target="c")
    executor, ran = net.executor(torch.device("cpu")), []
    forward = executor._cycle_target.forward
    executor._cycle_target.forward = lambda plan, call: ran.append(call.shape) or forward(plan, call)
    x = (torch.rand(4, 3, 4) < 0.5).float()
    with torch.no_grad():
        whole, part = net(x), net(x[:2])
    assert ran == [(3, 4)]
    assert torch.equal(whole[:2], part)


@snn.model
def dropping(x=snn.Spikes(4, max=1)):
    return x >> snn.recurrent(snn.LIF(threshold=0.4), via=snn.Linear(4) >> snn.Dropout(0.5))


def test_what_cannot_be_one_function_goes_node_by_node():
    assert "since conv2d_1 is a Conv2d" in explain_text(explain(images.build(), "c"))
    net = snn.compile(dropping, target="c")
    x = torch.ones(3, 9, 4)
    torch.manual_seed(0)
    assert not torch.equal(net.train()(x), net(x))
    net.eval()
    want = outcome(net, x, [], Executor(net.graph, PlainTarget()))
    got = outcome(net, x, [])
    assert torch.allclose(want.values["out:out"], got.values["out:out"], atol=1e-5)


def test_an_artifact_shows_the_function():
    """What is printed to be read is what runs, as a usual caller calls it."""
    shown = {k.stem: k.source for k in printed_kernels(delayed.build(), None, "c")}
    assert set(shown) == {"cycle_linear_1_forward", "cycle_linear_1_backward"}
    net = snn.compile(delayed, target="c")
    net(torch.ones(2, 5, 6))["second"].sum().backward()
    executor = net.executor(torch.device("cpu"))
    (made,) = executor._cycle_target._kernels.values()
    ran = {kernel.source.name: kernel.source for kernel in made.values()}
    assert ran["cycle_linear_1_forward"].text == shown["cycle_linear_1_forward"].text
    assert "gradient of slow" in ran["cycle_linear_1_backward"].text


@snn.model(dt=1 * ms)
def decayed(x=snn.Spikes(4, max=1)):
    times = np.arange(16).reshape(4, 4) * 1.25 * ms  # more steps than are dense products
    via = snn.Linear(4, delay=times, interpolation="expdecay", tau=5 * ms)
    return x >> snn.recurrent(snn.LIF(threshold=0.4), via=via, delay=2 * ms)


def test_what_inference_keeps_is_there_to_train_with():
    net = snn.compile(decayed, target="c")
    x = torch.ones(2, 20, 4)
    with torch.inference_mode():
        want = net(x)
    got = net(x)
    got.sum().backward()
    assert torch.equal(got, want)
    assert float(net.linear.weight.grad.norm()) > 0
