"""Cycles of any form in one function: against the plain reference, bit for bit, and its gradients; for every target."""

import numpy as np
import torch

import snncompile as snn
from snncompile import ms
from snncompile.targets.cycle_plan import CyclePlan
from snncompile.targets.executor import Executor

from ..compare import assert_close_gradients, assert_same_bits, outcome
from ..cyclic_models import cyclic_model
from ..image_cycles import INPUT, image_cycle
from ..mixed_models import counts
from ..plain_target import PlainTarget


def poisoned(shape, **like):
    return torch.full(shape, float("nan"), **like)


def compiled(seed, target):
    """A random network, and what can be recorded of it."""
    torch.manual_seed(seed)
    net = snn.compile(cyclic_model(seed), target=target)
    return net, [r for r in net.graph.recordable() if r != "x"]


def run(net, x, record, executor):
    torch.manual_seed(7)  # what is drawn
    return outcome(net, x, record, executor)


def check_as_the_reference(seed, shape, target):
    """Outputs, records, states and gradients of a random network; ``target`` is what runs it."""
    net, record = compiled(seed, target.name)
    executor = Executor(net.graph, target)
    plans = executor.runner.plans()
    assert any(isinstance(plan, CyclePlan) for plan in plans.values()), plans
    x = counts(seed, *shape)
    want = run(net, x, record, Executor(net.graph, PlainTarget()))
    got = run(net, x, record, executor)
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


#: Seeds whose images have one row.
FLAT = {31}


def compiled_images(seed, target="c"):
    """A random network with a cycle of images, and what can be recorded of it."""
    torch.manual_seed(seed)
    net = snn.compile(image_cycle(seed, flat=seed in FLAT), target=target)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.endswith("bias"):
                value.copy_((value * 8).round() / 8 + 0.125)
    return net, [r for r in net.graph.recordable() if r != "x"]


def images(seed, batch, steps):
    """Spikes for such a network."""
    shape = INPUT[:1] + INPUT[2:] if seed in FLAT else INPUT
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.poisson(0.5, size=(batch, steps, *shape)).clip(0, 3).astype(np.float32))


def check_images_as_the_reference(seed, shapes, target):
    """As :func:`check_as_the_reference`, for cycles of images, one batch and number of steps after the other."""
    net, record = compiled_images(seed, target.name)
    executor = Executor(net.graph, target)
    ((region, plan),) = executor.runner.plans(training=True).items()
    assert isinstance(plan, CyclePlan) and executor.runner.way(region, training=True).blocks_up_to == 0
    for shape in shapes:
        x = images(seed, *shape)
        want = run(net, x, record, Executor(net.graph, PlainTarget()))
        got = run(net, x, record, executor)
        assert_same_bits(want, got)
        assert_close_gradients(want, got)


def check_pieces(net, steps, cut, x=None):
    """A sequence in pieces is the sequence, also where a piece is shorter than what is remembered; gradients go through
    the states."""
    x = counts(1, 2, steps) if x is None else x
    found = []
    for sizes in ([steps], cut):
        torch.manual_seed(7)
        leaf, state, outs = x.clone().requires_grad_(), net.initial_state(2), []
        for part in leaf.split(list(sizes), 1):
            out, state, _ = net.evolve(part, state=state)
            outs.append(out if isinstance(out, dict) else {"out": out})
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


def check_states_and_strides(target, steps):
    """Two late edges with pasts of their own, histories and membranes: each start has its gradient; a strided input."""
    torch.manual_seed(0)
    net = snn.compile(delayed, target=target.name)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.5 if p.dim() == 2 else 1.0)
    wide = (torch.rand(steps, 11, 6, 3) < 0.5).float()
    x = wide.permute(1, 0, 2, 3)[::3, :, :, 1]
    generator = torch.Generator().manual_seed(1)
    start = {n: 0.1 * torch.rand(s.shape, generator=generator) for n, s in net.initial_state(4).items()}
    found = []
    for executor in (Executor(net.graph, PlainTarget()), Executor(net.graph, target)):
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


def rows_kept(target, steps):
    """Line -> how many steps of it are kept without gradients."""
    net = snn.compile(delayed, target=target)
    executor, kept = net.executor(torch.device("cpu")), []
    runner = executor.runner.cycles
    forward = runner.forward
    runner.forward = lambda plan, call: kept.append((plan, forward(plan, call))) or kept[-1][1]
    with torch.no_grad():
        net(torch.ones(2, steps, 6))
    ((plan, made),) = kept
    return {it.key.split(".")[-1]: len(v) for it, v in zip(plan.lines, made.lines, strict=True) if v is not None}


def ring_rows(steps, five=6):
    """What :func:`rows_kept` must be: a line is as long as it is looked back, but for those that are read outside;
    ``five``: rows of one that is looked back by five steps."""
    return {
        "linear_1": 1, "linear_2": 1, "linear_3": 1, "first_isyn": 1 + steps, "first_v": 2, "first_spikes": five,
        "linear_4": 1, "v": 2, "spikes": 1 + steps, "slow": 4,
    }  # fmt: skip
