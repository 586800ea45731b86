"""Cycles with convolutions, poolings and Dropout in one C function: against the plain reference, and its gradients."""

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.c.target import CTarget
from snncompile.targets.cycle_plan import Conv, Mask, Pool
from snncompile.targets.executor import Executor

from ...compare import assert_same_bits, outcome
from ...plain_target import PlainTarget
from ..cycle_checks import check_images_as_the_reference, compiled_images, images, poisoned, run

#: Seed -> batch and steps to begin with, then others.
SEEDS = {
    4: [(3, 7), (1, 1)],
    22: [(3, 7), (0, 4)],
    26: [(2, 13), (2, 0), (5, 3)],
    50: [(1, 13), (4, 2)],
}


def the_plan(net, executor=None):
    """The plan of a cycle in training."""
    executor = executor or Executor(net.graph, CTarget())
    (plan,) = executor.runner.plans(training=True).values()
    return plan


@pytest.mark.parametrize("seed", SEEDS)
def test_as_the_reference(seed):
    check_images_as_the_reference(seed, SEEDS[seed], CTarget(threads=1 + seed % 2, empty=poisoned))


def test_what_the_seeds_have():
    steps = [s for seed in SEEDS for s in the_plan(compiled_images(seed)[0]).steps]
    convs = [s for s in steps if isinstance(s, Conv)]
    assert {s.events for s in convs} == {True, False}
    assert any(not s.events and s.sliding.groups > 1 for s in convs)
    assert any(not s.events and max(s.sliding.stride) > 1 for s in convs)
    pools = {(s.most, s.sliding.divisor > 1) for s in steps if isinstance(s, Pool)}
    assert pools == {(True, False), (False, True), (False, False)}
    assert any(isinstance(s, Mask) for s in steps)


def test_threads_and_the_batch_change_nothing():
    net, record = compiled_images(26)
    x = images(1, 7, 8)
    found = [run(net, x, record, Executor(net.graph, CTarget(threads=k, empty=poisoned))) for k in (1, 2, 5)]
    for other in found[1:]:
        assert_same_bits(found[0], other)
        assert all(torch.equal(g, other.gradients[n]) for n, g in found[0].gradients.items())


@snn.model(dt=1 * ms)
def seen(x=snn.Spikes((2, 6, 5), max=1)):
    """Membranes that come back late, and a delay of images."""
    back = snn.Feedback((3, 6, 5), delay=3 * ms, name="back")
    slow = snn.Feedback((3, 3, 3), delay=0, name="slow")
    current = (x >> snn.Conv2d(3, 3, padding=1)) + (back >> snn.Conv2d(3, 3, padding=1, groups=3)) * 0.5
    late = slow >> snn.Delay(2 * ms) >> snn.Conv2d(3, (1, 2), padding=(2, 3), dilation=(1, 3))
    first = current + (late >> snn.AvgPool2d((2, 2), (1, 1))) >> snn.CubaLIF(threshold=0.2, name="first")
    pooled = first >> snn.MaxPool2d(2, padding=(0, 1))
    second = pooled >> snn.Conv2d(3, 2, stride=1, padding=(1, 1), dilation=(2, 2)) >> snn.LIF(threshold=0.2)
    back.close(first.state("v"))
    slow.close(second)
    return {"second": second, "current": first.state("isyn")}


def test_the_gradient_of_states_and_strided_inputs():
    torch.manual_seed(0)
    net = snn.compile(seen, target="c")
    wide = (torch.rand(12, 11, 2, 6, 5, 3) < 0.5).float()
    x = wide.permute(1, 0, 2, 3, 4, 5)[::3, :, :, :, :, 1]
    generator = torch.Generator().manual_seed(1)
    start = {n: 0.1 * torch.rand(s.shape, generator=generator) for n, s in net.initial_state(4).items()}
    found = []
    for executor in (Executor(net.graph, PlainTarget()), Executor(net.graph, CTarget(2, poisoned))):
        net.executor = lambda device, keep=frozenset(), executor=executor: executor
        state = {n: s.clone().requires_grad_() for n, s in start.items()}
        out, end, record = net.evolve(x, state=state, record=["first.v:sum", "conv2d_2.out", "max_pool2d.out"])
        values = {**out, **record, **{f"end {n}": v for n, v in end.items()}}
        loss = sum((v.sin() * torch.linspace(-1, 1, v.numel()).reshape(v.shape)).sum() for v in values.values())
        grads = torch.autograd.grad(loss, [*state.values(), *net.parameters()])
        names = [*state, *dict(net.named_parameters())]
        found.append((values, dict(zip(names, grads, strict=True))))
    (want, grads), (got, others) = found
    assert float(got["second"].detach().mean()) > 0.01
    for name, value in {**want, **grads}.items():
        other = {**got, **others}[name]
        assert other.shape == value.shape
        assert (value - other).norm().item() <= 1e-4 * max(value.norm().item(), 1e-6), name


@pytest.mark.parametrize("cut", [(0, 13), (4, 9), (1,) * 13])
def test_a_sequence_in_pieces_is_the_sequence(cut):
    torch.manual_seed(0)
    net = snn.compile(seen, target="c")
    x, found = (torch.rand(2, 13, 2, 6, 5) < 0.4).float(), []
    for sizes in ([13], cut):
        state, outs = net.initial_state(2), []
        for part in x.split(list(sizes), 1):
            out, state, _ = net.evolve(part, state=state)
            outs.append(out)
        whole = {k: torch.cat([o[k] for o in outs], 1) for k in outs[0]}
        loss = sum((v * torch.linspace(-1, 1, v.numel()).reshape(v.shape)).sum() for v in whole.values())
        found.append((whole, state, torch.autograd.grad(loss, list(net.parameters()))))
    (whole, state, grads), (parts, last, others) = found
    assert all(torch.equal(v, parts[k]) for k, v in whole.items())
    assert all(torch.equal(v, last[k]) for k, v in state.items())
    for grad, other in zip(grads, others, strict=True):
        assert float((grad - other).norm()) <= 1e-4 * max(float(grad.norm()), 1e-6)


@snn.model
def dropping(x=snn.Spikes(4, max=1)):
    return x >> snn.recurrent(snn.LIF(threshold=0.4), via=snn.Dropout(0.5) >> snn.Linear(4, init=np.eye(4)))


def test_dropout_drops_in_training_only():
    net = snn.compile(dropping, target="c")
    x = torch.ones(3, 9, 4)
    torch.manual_seed(0)
    assert not torch.equal(net.train()(x), net(x))
    for training in (True, False):
        net.train(training)
        for executor in (net.executor(torch.device("cpu")), Executor(net.graph, CTarget(2, poisoned))):
            torch.manual_seed(3)
            want = outcome(net, x, [], Executor(net.graph, PlainTarget()))
            torch.manual_seed(3)
            assert_same_bits(want, outcome(net, x, [], executor))
    assert "one function for the cycle, over all steps" in explain_text(explain(dropping.build(), "c"))


def test_the_same_in_one_kernel():
    assert "one kernel for the cycle" in explain_text(explain(seen.build(), "triton"))
    assert "one kernel for the cycle" in explain_text(explain(dropping.build(), "triton"))


def late_images(node, late):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((64, 12, 12), max=1)):
        return x >> snn.recurrent(node, via=snn.Conv2d(64, 3, padding=1), delay=late * ms)

    return explain_text(explain(model.build(), "c"))


def test_large_convolutions_of_very_late_cycles_are_made_for_many_steps_at_once():
    assert "since its convolutions are quicker for 9 steps at once" in late_images(snn.LI(), 9)
    assert "one function for the cycle" in late_images(snn.LI(), 2)
    assert "one function for the cycle" in late_images(snn.LIF(), 9)


def test_an_artifact_shows_the_function():
    shown = {k.stem: k.source for k in printed_kernels(seen.build(), None, "c")}
    stem = next(s for s in shown if s.startswith("cycle_") and s.endswith("_forward"))
    net = snn.compile(seen, target="c")
    net(torch.ones(2, 5, 2, 6, 5))["second"].sum().backward()
    (made,) = net.executor(torch.device("cpu")).runner.cycles._kernels.values()
    assert {k.source.name: k.source.text for k in made.values()}[stem] == shown[stem].text
    assert "The convolution conv2d_2 of one sequence." in shown[stem].text
