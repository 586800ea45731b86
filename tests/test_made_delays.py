"""Delays that products read, a panel at a time, or that are outputs: by kernels, with the bits of the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.explain import explain
from snncompile.targets import executor, late_scan
from snncompile.targets.c.target import CTarget
from snncompile.targets.scan import PanelSize
from snncompile.targets.triton.target import TritonTarget

RNG = np.random.default_rng(2)
EACH = RNG.choice([0.0, 0.25, 0.5, 0.75], 18) + RNG.integers(0, 5, 18)
SEVERAL = RNG.integers(0, 5, (18, 3))
LINEAR = {"interpolation": "linear", "max_delay": 7 * ms}


def of_image(**options):
    def build(x):
        h = x >> snn.Delay(EACH.reshape(2, 3, 3) * ms, **options) >> snn.Conv2d(3, 2)
        return h, x >> snn.Delay(EACH[:2] * ms, **options) >> snn.SumPool2d(3)

    return build


def of_flat(delay, *nodes, **options):
    def build(x):
        h = x >> snn.Flatten() >> snn.Delay(delay * ms, **options)
        for node in nodes or (snn.Flatten(), snn.Linear(4)):
            h = h >> node
        return h

    return build


CASES = {
    "whole": of_flat(EACH.round()),
    "one between": of_flat(1.5, interpolation="linear"),
    "linear": of_flat(EACH, **LINEAR),
    "decayed": of_flat(EACH, interpolation="expdecay", tau=3 * ms),
    "trained": of_flat(EACH, trainable=True, overbound=0.5, **LINEAR),
    "several": of_flat(SEVERAL),
    "several, trained": of_flat(SEVERAL + 0.25, trainable=True, **LINEAR),
    "several, read by neurons": of_flat(SEVERAL, snn.LIF(threshold=0.5)),
    "image": of_image(interpolation="nearest"),
    "image, linear": of_image(**LINEAR),
    "output": lambda x: x >> snn.Delay(EACH.round().reshape(2, 3, 3) * ms),
}
EXACT = ("whole", "several", "image", "output")


def network(case: str, target: str) -> snn.Network:
    @snn.model(dt=1 * ms)
    def model(x=snn.Current((2, 3, 3))):
        return CASES[case](x)

    torch.manual_seed(0)
    net = snn.compile(model, target=target)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.startswith(("linear", "conv")):
                p.mul_(16).round_().div_(16)
    return net


def results(net: snn.Network, data: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, the history, and gradients of a sum of both, also of the history before."""
    x = data.clone().requires_grad_()
    first = net.initial_state(len(x))
    start = {n: torch.ones_like(s).requires_grad_() for n, s in first.items() if n.endswith("history")}
    made, state, _ = net.evolve(x, state={**first, **start})
    outputs = list(made) if isinstance(made, tuple) else [made]
    ends = [state[name] for name in start]
    loss = sum((v * torch.arange(v.numel()).reshape(v.shape).remainder(5)).sum() for v in (*outputs, *ends))
    leaves = [x, *start.values(), *net.parameters()]
    grads = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else []
    found = [torch.zeros_like(v) if g is None else g for g, v in zip(grads, leaves, strict=True)]
    return [v.detach() for v in (*outputs, *ends)] + found


@pytest.mark.parametrize("target", ["c", "triton"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(2, 11), (1, 7), (3, 2), (2, 0)])
@pytest.mark.parametrize("size", ["whole", "parts"])
def test_the_bits_of_the_reference(target, case, shape, size, monkeypatch):
    """In one panel, and in several: of few steps of a sequence on c, of all sequences on triton."""
    if size == "parts" and (shape != (2, 11) or case in ("output", "several, read by neurons")):
        return  # no panels
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(CTarget, "panel", CTarget.panel._replace(choose=False))
    if size == "parts":
        monkeypatch.setattr(CTarget, "panel", PanelSize(300, 300, True))
        monkeypatch.setattr(TritonTarget, "panel", PanelSize(300, 300, False))
        monkeypatch.setattr(late_scan, "_in_one", lambda *_: True)
    made, read = [], []
    late, panels = executor.made_late, executor.read_panels
    monkeypatch.setattr(executor, "made_late", lambda *a: made.append(late(*a)) or made[-1])
    monkeypatch.setattr(executor, "read_panels", lambda *a: read.append(a[0].pieces()) or panels(*a))
    data = torch.randint(-3, 6, (*shape, 2, 3, 3), generator=torch.Generator().manual_seed(1)) / 4.0
    got = results(network(case, target), data)
    if case == "output":
        assert shape[1] < 7 or made[0] is not None
    elif case != "several, read by neurons":
        assert not made or shape[1] < 7
        assert shape[1] < 7 or (read and all((len(pieces) > 1) == (size == "parts") for pieces in read))
    read.clear()
    want = results(network(case, "torch"), data)
    assert not read
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b) if case in EXACT else torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def test_several_of_a_channel_are_made_in_training_where_they_are_more_than_a_panel(monkeypatch):
    monkeypatch.setattr(CTarget, "panel", PanelSize(300, 300, True))
    made, late = [], executor.made_late
    monkeypatch.setattr(executor, "made_late", lambda *a: made.append(1) or late(*a))
    net, plain, x = network("several", "c"), network("several", "torch"), torch.ones(2, 11, 2, 3, 3)
    want = plain(x)
    made.clear()
    with torch.no_grad():
        assert torch.equal(net(x), want) and not made
    assert torch.equal(net(x), want) and made
    assert explain(net.graph, "c").regions[1].runs_as.endswith("in training it is made where it is larger than a panel")


def test_strided_and_in_pieces():
    net, plain = network("several, trained", "c"), network("several, trained", "torch")
    x = torch.randint(0, 3, (2, 30, 2, 3, 6)).float()[..., ::2]
    want, last, _ = plain.evolve(x)
    pieces, state = [], None
    for part in x.split([12, 1, 9, 8], 1):
        y, state, _ = net.evolve(part, state=state)
        pieces.append(y)
    assert torch.allclose(torch.cat(pieces, 1), want, atol=1e-5)
    assert all(torch.equal(state[n], v) for n, v in last.items())


def test_explanations_and_sources():
    graph = network("trained", "c").graph
    said = "nothing of its own: linear reads panels of about {} KiB, filled at offsets ({})"
    alone = "; where only gradients of weights are wanted it is made, which is quicker for linear"
    for target, size, backend, rest in (("c", "8,192", "C", alone), ("triton", "16,384", "Triton", "")):
        regions = {r.nodes[0]: r for r in explain(graph, target).regions}
        assert regions["delay"].runs_as == said.format(size, backend) + rest
        assert regions["delay"].why.endswith(", 0.5 for what lies too far back in the kernel, a panel of it at a time")
        names = {p.stem for p in printed_kernels(graph, False, target)}
        assert {"delay_forward", "delay_backward"} <= names
    regions = {r.nodes[0]: r for r in explain(graph, "torch").regions}
    assert regions["delay"].runs_as == "one call of torch over all steps"
    assert regions["delay"].why == "a delay of each neuron's own, up to 7 steps"


def test_two_delays_before_a_neuron_are_two_offsets():
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(18)):
        return ((x >> snn.Delay(2 * ms)) + (x >> snn.Delay(EACH.round() * ms))) >> snn.LIF(threshold=0.5)

    first, second, _ = explain(model.build(), "c").regions
    assert "an offset in the loads of" in first.why and "an offset in the loads of" in second.why
    x = (torch.rand(2, 20, 18) < 0.4).float()
    found = [snn.compile(model, target=target)(x) for target in ("c", "torch")]
    assert torch.equal(*found) and found[0].sum() > 0
