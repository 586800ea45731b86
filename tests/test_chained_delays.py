"""A Delay, or a connection with delays, that reads another Delay: the steps add up, neither signal is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.explain import explain
from snncompile.ir.elementwise import Elementwise
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets import late_scan
from snncompile.targets.c.target import CTarget
from snncompile.targets.late_scan import late_reader
from snncompile.targets.scan import PanelSize
from snncompile.targets.triton.target import TritonTarget

N = 6
RNG = np.random.default_rng(4)
FIRST, SECOND, HALVES = RNG.integers(0, 5, N), RNG.integers(0, 4, N), RNG.integers(0, 3, N) + 0.5
SEVERAL = RNG.integers(0, 4, (N, 3))
LINEAR = {"interpolation": "linear"}
TRAINED = {**LINEAR, "trainable": True, "max_delay": 6 * ms}
SYNAPSES = RNG.integers(0, 6, (4, N))


def late(delay, **options):
    return snn.Delay(delay * ms, **options)


def fires():
    return snn.LIF(threshold=0.5)


def product(delay, out=4, **options):
    return snn.Linear(out, delay=delay * ms, **options)


def readers(x):
    first = x >> late(FIRST)
    return first >> late(2) >> fires(), first >> snn.Linear(3), first >> snn.LI()


def seen(*nodes):
    def build(x):
        for node in nodes:
            x = x >> node()
        return x

    return build


#: What reads one number of steps, or one for each channel, through a delay.
ENDS = {
    "one": lambda: late(3),
    "each": lambda: late(SECOND),
    "between": lambda: late(HALVES, **LINEAR),
    "trained": lambda: late(SECOND + 0.25, **TRAINED),
    "decayed": lambda: late(HALVES, interpolation="expdecay", tau=3 * ms),
    "beyond": lambda: late(SECOND, max_delay=2 * ms, overbound=0.5),
    "several": lambda: late(SEVERAL),
    "none, a history": lambda: late(0 * SECOND, max_delay=2 * ms),
}
CASES = {
    **{f"one, {name}": seen(lambda: late(2), end, fires) for name, end in ENDS.items()},
    **{f"each, {name}": seen(lambda: late(FIRST), end, fires) for name, end in ENDS.items()},
    "each, each, Linear": seen(lambda: late(FIRST), lambda: late(SECOND), lambda: snn.Linear(4)),
    "each, one, Linear": seen(lambda: late(FIRST), lambda: late(2, max_delay=4 * ms), lambda: snn.Linear(4)),
    "three": seen(lambda: late(FIRST), lambda: late(2), lambda: late(SECOND), lambda: snn.LI()),
    "trained, each": seen(lambda: late(SECOND + 0.25, **TRAINED), lambda: late(FIRST), fires),
    "several, each": seen(lambda: late(SEVERAL), snn.Flatten, lambda: late(np.repeat(SECOND, 3)), fires),
    "product": seen(lambda: late(FIRST), lambda: product(3)),
    "product, between": seen(lambda: late(2), lambda: product(2.5, **LINEAR)),
    "product, few": seen(lambda: late(2), lambda: product(SYNAPSES % 2)),
    "product, few of each": seen(lambda: late(FIRST), lambda: product(SYNAPSES % 2)),
    "product, few, trained": seen(
        lambda: late(2), lambda: product(SYNAPSES % 2, trainable_delay=True, max_delay=2 * ms, **LINEAR)
    ),
    "synapses": seen(lambda: late(FIRST), lambda: product(SYNAPSES)),
    "synapses, trained": seen(lambda: late(FIRST), lambda: product(SYNAPSES, trainable_delay=True, **LINEAR)),
    "synapses, events": seen(lambda: late(2), lambda: product(np.tile(SYNAPSES, (8, 1)), 32, density=0.05)),
    "several readers": readers,
    "output": seen(lambda: late(FIRST), lambda: late(2)),
    "output, one": seen(lambda: late(3), lambda: late(2)),
}  # fmt: skip
#: Cases in which a signal of the whole length is made, and which.
MADE = {"trained, each": ["delay"], "several, each": ["delay"], "output": ["delay_1"], "output, one": ["delay_1"]}
ON_TRITON = ("each, one", "each, trained", "one, several", "each, one, Linear", "product", "product, few",
             "synapses, trained", "output")  # fmt: skip


def network(case, target: str, **options) -> snn.Network:
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(N)):
        return (CASES[case] if isinstance(case, str) else case)(x)

    torch.manual_seed(0)
    net = snn.compile(model, target=target, **options)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith(("weight", "bias")):
                p.mul_(16).round_().div_(16)
    return net


def results(net: snn.Network, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Outputs and last states; gradients of a sum of both, also of what came before."""
    g, x = torch.Generator().manual_seed(3), x.clone().requires_grad_()
    first = {n: (torch.rand(s.shape, generator=g) < 0.5).float().requires_grad_() if n.endswith("history") else s
             for n, s in net.initial_state(len(x)).items()}  # fmt: skip
    y, after, _ = net.evolve(x, state=first)
    values = [*(y if isinstance(y, tuple) else [y]), *(after[n] for n in first)]
    loss = sum((v * torch.arange(v.numel()).reshape(v.shape).remainder(5)).sum() for v in values)
    leaves = [x, *(s for s in first.values() if s.requires_grad), *net.parameters()]
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    found = [torch.zeros_like(v) if g is None else g for g, v in zip(grads, leaves, strict=True)]
    return [v.detach() for v in values], found


def spikes(batch: int, steps: int) -> torch.Tensor:
    return (torch.rand(batch, steps, N, generator=torch.Generator().manual_seed(2)) < 0.4).float()


def watch(monkeypatch) -> list[str]:
    """The delays whose signals are made, from now on; panels are small."""
    made: list[str] = []
    whole = late_scan.whole
    monkeypatch.setattr(late_scan, "whole", lambda ev, found, x: made.append(found.name) or whole(ev, found, x))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(CTarget, "panel", PanelSize(300, 300, True))
    monkeypatch.setattr(TritonTarget, "panel", PanelSize(300, 300, False))
    return made


@pytest.mark.parametrize(("target", "case"), [*(("c", c) for c in CASES), *(("triton", c) for c in ON_TRITON)])
def test_as_the_reference(target, case, monkeypatch):
    """Bits of outputs and states, and gradients: in runs that are long, and shorter than one delay, or than both."""
    made = watch(monkeypatch)
    for batch, steps in ((2, 23), (1, 7), (3, 3), (1, 1), (2, 0), (0, 5)) if target == "c" else ((2, 23), (1, 3)):
        want, want_grads = results(network(case, "torch"), spikes(batch, steps))
        made.clear()
        got, grads = results(network(case, target), spikes(batch, steps))
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True)), (batch, steps)
        for a, b in zip(grads, want_grads, strict=True):
            assert (a - b).norm() <= 1e-6 * b.norm(), (batch, steps)
        assert steps < 23 or made == MADE.get(case, [])


@pytest.mark.parametrize("case", ["each, each", "one, several", "each, one, Linear", "synapses", "three"])
def test_steps_pieces_and_records(case, monkeypatch):
    """Cut in pieces, step by step, checkpointed, strided, and either signal recorded: the same."""
    watch(monkeypatch)
    net, plain, x = network(case, "c"), network(case, "torch"), spikes(2, 30)
    want, last, _ = plain.evolve(x)
    state, parts = None, []
    for part in [*x[:, :3].unbind(1), *x[:, 3:].split([19, 1, 7], 1)]:
        y, state = net.step(part, state) if part.dim() == 2 else net.evolve(part, state=state)[:2]
        parts.append(y.unsqueeze(1) if part.dim() == 2 else y)
    assert torch.equal(torch.cat(parts, 1), want)
    assert all(torch.equal(state[n], v) for n, v in last.items())
    for name in ("delay.out", "delay_1.out") if "delay_1.history" in last else ("delay.out",):
        got, _, record = net.evolve(x, record=[name])
        assert torch.equal(got, want) and torch.equal(record[name], plain.evolve(x, record=[name])[2][name])
    assert torch.equal(net(torch.stack([x, -x], -1).flatten(-2)[..., ::2]), want)  # neurons apart
    long = spikes(1, 520)
    for a, b in zip(results(network(case, "c", checkpoint=32), long)[1], results(plain, long)[1], strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("case", ["each, each, Linear", "each, one, Linear", "synapses", "product", "product, few"])
@pytest.mark.parametrize("offsets", [True, False])
def test_nothing_of_the_length_of_the_course_is_made_or_kept_of_a_late_signal(case, offsets, monkeypatch):
    """Where delays are no offsets there is more of it: what is counted here would be seen."""
    watch(monkeypatch)
    if not offsets:
        monkeypatch.setattr(CTarget, "offsets", False)
        monkeypatch.setattr(CTarget, "panel", None)
        monkeypatch.setattr(CTarget, "late", None)
    x, net, kept, made = spikes(1, 4000).requires_grad_(), network(case, "c"), {}, []
    for name in ("cat", "gather"):
        real = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, real=real: made.append((y := real(*a)).numel()) or y)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t}) or t, lambda t: t):
        net(x)
    again = [t for t in kept.values() if t.dim() == 3 and t.shape[-1] == N and t.shape[0] >= 4000]
    assert ({t.data_ptr() for t in again} <= {x.data_ptr()} and max(made, default=0) < 4000) == offsets


def random_chain(seed: int):
    """Some delays, one after the other, and what reads the last."""
    rng = np.random.default_rng(seed)

    def delay(size: int) -> snn.Node:
        each, between = rng.integers(0, 5, size), rng.integers(0, 8, size) / 2
        several = rng.integers(0, 5, (size, 2))
        ways = [
            lambda: late(int(rng.integers(1, 6))), lambda: late(each, max_delay=int(rng.integers(4, 9)) * ms),
            lambda: late(each), lambda: late(between, interpolation=["previous", "nearest"][rng.integers(2)]),
            lambda: late(between, **LINEAR), lambda: late(each, **TRAINED), lambda: late(several),
            lambda: late(between, max_delay=2 * ms, overbound=1.0, interpolation="nearest"),
        ]  # fmt: skip
        return ways[rng.integers(5 if rng.random() < 0.6 else len(ways))]()

    def build(x):
        for _ in range(rng.integers(2, 5)):
            x = x >> delay(x.shape[0])
            x = x >> snn.Flatten() if len(x.shape) > 1 or rng.random() < 0.3 else x
        size = x.shape[0]
        ends = [fires, lambda: snn.Linear(3), lambda: product(2), lambda: product(1.5, **LINEAR),
                lambda: product(rng.integers(0, 4, (4, size))), lambda: product(rng.integers(0, 2, (4, size))),
                lambda: product(rng.integers(0, 4, (4, size)), trainable_delay=True, **LINEAR)]  # fmt: skip
        return x >> ends[rng.integers(len(ends))]()

    return build


@pytest.mark.parametrize("seed", range(6))
def test_random_chains(seed, monkeypatch):
    watch(monkeypatch)
    rng = np.random.default_rng(seed)
    for target in ("c", "triton") if seed < 2 else ("c",):
        x = spikes(int(rng.integers(1, 4)), int(rng.integers(0, 40)))
        (got, grads), (want, want_grads) = [results(network(random_chain(seed), to), x) for to in (target, "torch")]
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(got, want, strict=True))
        assert all((a - b).norm() <= 1e-5 * b.norm() for a, b in zip(grads, want_grads, strict=True))


def test_explain_and_artifacts():
    net = network("each, one, Linear", "c")
    found = {r.nodes[0]: r for r in explain(net.graph, "c").regions}
    assert found["delay"].runs_as == "nothing of its own: the kernels that read it read what it delays, earlier"
    assert found["delay"].why.endswith("an offset in the loads of delay_1, no buffer")
    assert "linear reads panels of about" in found["delay_1"].runs_as  # each channel is late by its own sum
    assert found["delay_1"].why == "a delay of 2 steps: an offset in the loads of linear, no buffer"


@pytest.mark.parametrize(("case", "kinds"), [("one, one", ("one",)), ("each, one", ("each",)), ("one, each", ("each",)),
                                             ("each, trained", ("each", "each")), ("one, several", ("shared",)),
                                             ("each, several", ("shared",)), ("one, between", ("each", "each"))])
def test_kernels_are_printed_as_they_run(case, kinds, monkeypatch):
    """Ahead of a run it is known how late they read."""
    seen = []
    net = network(case, "c")
    graph = compile_graph(net.graph, Request())
    (name,) = [n for n, op in graph.of_type(Elementwise) if op.states]
    assert late_reader(graph, name)[1] == kinds
    forward = CTarget.forward
    monkeypatch.setattr(CTarget, "forward", lambda self, *a: seen.append(a[1].late) or forward(self, *a))
    net(spikes(1, 23))
    assert [tuple(one.kind for one in late) for late in seen] == [kinds]
