"""Connections with a delay for each synapse, on targets that read what is late at an offset: against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.explain import explain
from snncompile.targets.c.late import LateEvents, LateProducts
from snncompile.targets.late_linear import seen_by
from snncompile.targets.triton.late import LateKernels

RNG = np.random.default_rng(1)
WHOLE = RNG.integers(0, 10, (6, 5)) * ms
BETWEEN = WHOLE + RNG.choice([0.0, 0.25, 0.5, 0.75], (6, 5)) * ms
WAYS = {
    "whole": (WHOLE, {}),
    "previous": (BETWEEN, {"interpolation": "previous"}),
    "nearest": (BETWEEN, {"interpolation": "nearest", "tolerance": 0.3 * ms}),
    "expdecay": (BETWEEN, {"interpolation": "expdecay", "tau": 4 * ms}),
    "linear": (BETWEEN, {"interpolation": "linear"}),
    "tolerant": (BETWEEN, {"interpolation": "linear", "tolerance": 0.3 * ms}),
    "overbound": (WHOLE, {"max_delay": 6 * ms, "overbound": 0.5}),
    "overbound, linear": (BETWEEN - 1 * ms, {"interpolation": "linear", "max_delay": 6 * ms, "overbound": -1.0}),
    "trained": (BETWEEN, {"interpolation": "linear", "trainable_delay": True, "max_delay": 12 * ms}),
    "trained, overbound": (BETWEEN, {"interpolation": "linear", "trainable_delay": True, "max_delay": 11 * ms,
                                     "overbound": 0.25}),
    "masked": (WHOLE, {"mask": RNG.integers(0, 2, (6, 5)), "bias": False}),
}  # fmt: skip
BACK = RNG.integers(1, 6, (40, 40)) * ms
TARGETS = ["c", "triton"]


def pair(way: str, target: str, density: float | None = None) -> tuple[snn.Network, snn.Network]:
    """A network on a target, and the same on the reference; weights whose sums are exact in any order."""
    delay, options = WAYS[way]

    @snn.model(dt=1 * ms)
    def model(x=snn.Current(5)):
        return x >> snn.Linear(6, delay=delay, density=density, **options)

    torch.manual_seed(0)
    net, plain = snn.compile(model, target=target), snn.compile(model, target="torch")
    with torch.no_grad():
        for name in ("linear.weight", *(["linear.bias"] if "linear.bias" in net.state_dict() else [])):
            net.value(name).mul_(32).round_().div_(8)
    plain.load_state_dict(net.state_dict())
    return net, plain


def called(monkeypatch, *classes):
    seen = []
    for cls in classes:
        plain = cls.forward
        monkeypatch.setattr(cls, "forward", lambda self, *a, f=plain, n=cls.__name__: seen.append(n) or f(self, *a))
    return seen


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(2, 0), (1, 1), (3, 4), (2, 31)])
def test_every_rule(target, way, shape, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for cls in (LateProducts, LateKernels):
        monkeypatch.setattr(cls, "worth", 0)
    calls = called(monkeypatch, LateProducts, LateKernels)
    net, plain = pair(way, target)
    found, g = [], torch.Generator().manual_seed(3)
    data = torch.randint(-3, 4, (*shape, 5), generator=g) / 4.0
    history = torch.randint(-3, 4, net.initial_state(shape[0])["linear.history"].shape, generator=g) / 4.0
    for one in (net, plain):
        x, past = (v.clone().requires_grad_() for v in (data, history))
        y, state, _ = one.evolve(x, state={"linear.history": past})
        up = torch.randint(-3, 4, y.shape, generator=g.manual_seed(4)) / 4.0
        leaves = [x, past, *one.parameters()]
        grads = torch.autograd.grad((y * up).sum() + state["linear.history"].square().sum(), leaves, allow_unused=True)
        grads = [torch.zeros_like(leaf) if d is None else d for d, leaf in zip(grads, leaves, strict=True)]
        found.append((y.detach(), state["linear.history"].detach(), *grads))
    assert len(calls) == 1
    for a, b in zip(*found, strict=True):  # an exponential is not exact in any order
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5) if way == "expdecay" else torch.equal(a, b)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("density", [None, 0.01])
def test_a_sequence_in_pieces_and_strided(target, density, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    net, plain = pair("trained, overbound", target, density)
    x = torch.randint(0, 3, (2, 17, 10)).float()[..., ::2]
    want, last, _ = plain.evolve(x)
    pieces, state = [], None
    for part in x.split([1, 4, 0, 12], 1):
        y, state, _ = net.evolve(part, state=state)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, 1), want) and torch.equal(state["linear.history"], last["linear.history"])
    assert torch.equal(net(x.transpose(0, 1).contiguous().transpose(0, 1)), want)


def many(delay, density=None, **options):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(40, density=density)):
        return x >> snn.Linear(33, delay=delay, **options)

    return snn.compile(model, target="c")


def test_only_hints_and_numbers_of_delays_decide(monkeypatch):
    calls = called(monkeypatch, LateProducts, LateEvents)
    x = (torch.rand(2, 9, 40) < 0.5).float()
    spread, two = np.arange(33 * 40).reshape(33, 40) % 12 * ms, np.full((33, 40), 3 * ms)
    two[3] = 7 * ms
    trained = {"interpolation": "linear", "trainable_delay": True}
    for delay, density, options, expected in (
        (spread, None, {}, "LateProducts"),
        (spread, 0.05, {}, "LateEvents"),
        (spread, 0.2, {}, "LateProducts"),
        (two, None, {}, ""),
        (two, 0.05, {}, "LateEvents"),
        (two, None, trained, "LateProducts"),
        (5 * ms, 0.05, {}, ""),
    ):
        calls.clear()
        many(delay, density, **options)(x)
        assert "".join(calls) == expected


def test_one_delay_for_all_synapses_is_event_driven_too(monkeypatch):
    from snncompile.targets.c.events import EventProducts

    calls = called(monkeypatch, EventProducts)
    net, x = many(5 * ms, 0.05), (torch.rand(2, 9, 40) < 0.1).float()
    dense = many(5 * ms)
    dense.load_state_dict(net.state_dict())
    assert torch.allclose(net(x), dense(x), atol=1e-6)
    assert calls == 2 * ["EventProducts"]  # on a view of the history, and one of the signal


def test_what_is_kept_of_delays_follows_them():
    net, plain = pair("trained", "c")
    x = torch.randint(0, 3, (2, 17, 5)).float()
    for start in (1.0, 4.5):
        with torch.no_grad():
            for one in (net, plain):
                one.value("linear.steps").fill_(start)
            assert torch.equal(net(x), plain(x))
    op, params = net.graph.op("linear"), {"steps": net.value("linear.steps")}
    with torch.inference_mode():
        seen = seen_by(op, params)
        assert torch.equal(net(x), plain(x))
    with torch.no_grad():
        assert seen_by(op, params) is seen and seen.different == 2
    assert seen_by(op, params) is not seen
    net(x).sum().backward()
    plain(x).sum().backward()
    assert torch.equal(net.linear.steps.grad, plain.linear.steps.grad)


def test_explanations():
    delays = np.arange(33 * 40).reshape(33, 40) % 12 * ms
    why = {}
    for density, options in ((None, {}), (0.05, {}), (None, {"interpolation": "linear", "trainable_delay": True})):
        graph = many(delays, density, **options).graph
        (product,) = explain(graph, "c").regions
        why[density, bool(options)] = product.runs_as
        assert explain(graph, "torch").regions[0].runs_as == "one call of torch over all steps"
    said = "one function over all steps (C): each synapse reads its input at an offset, no buffer; "
    unknown = "dense: nothing says how many of its inputs are zero (density=, or build --calibrate)"
    assert why[None, False] == f"{said}{unknown}; of up to 2 different delays, a product for each"
    assert why[None, True] == f"{said}{unknown}"
    assert why[0.05, False] == f"{said}event-driven: 0.05 of its inputs are not zero, at most 0.07"
    graph = many(delays).graph
    said = "one kernel over all steps (Triton): each synapse reads its input at an offset, no buffer"
    assert explain(graph, "triton").regions[0].runs_as == f"{said}; of up to 6 different delays, a product for each"
    (product,) = explain(many(delays / 5, **{**options, "max_delay": 3 * ms}).graph, "c").regions
    assert product.runs_as == "a product for each of 4 numbers of steps: of so few that is quicker than one at offsets"


def test_artifacts_hold_the_functions(tmp_path):
    from snncompile.artifact.printed import printed_kernels

    names = {p.stem for p in printed_kernels(many(np.arange(33 * 40).reshape(33, 40) % 12 * ms).graph, False)}
    assert names == {"snn_late_sums_1", "snn_late_values_1"}
    delays = np.arange(33 * 40).reshape(33, 40) % 12 * ms
    for density, names in ((None, {"late_product", "late_weight"}),
                           (0.05, {"late_product", "late_events", "late_events_weight"})):  # fmt: skip
        many(delays, density).save(tmp_path / f"{density}.snn")
        assert {p.stem for p in (tmp_path / f"{density}.snn" / "kernels").glob("*.c")} == names


def test_a_hint_on_a_cycle_changes_nothing():
    def net(density):
        @snn.model(dt=1 * ms)
        def model(x=snn.Spikes(40)):
            back = snn.Feedback(40, delay=0)
            late = back >> snn.Linear(40, delay=BACK, density=density)
            h = (x + late) >> snn.LIF(threshold=0.5)
            back.close(h)
            return h

        torch.manual_seed(0)
        made = snn.compile(model, target="c")
        with torch.no_grad():
            made.linear.weight.mul_(16).round_().div_(16)
        return made

    x = (torch.rand(2, 12, 40) < 0.3).float()
    results = []
    for one in (net(None), net(0.05)):
        y = one(x)
        y.square().sum().backward()
        results.append((y.detach(), one.linear.weight.grad))
    assert torch.equal(results[0][0], results[1][0]) and results[0][0].sum() > 0
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)
