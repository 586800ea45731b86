"""Plastic regions: the order of sums, which regions are layers, and the glue around a target's kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile import ms
from snncompile.ir.ordered import (
    LANES,
    POSITION_LANES,
    not_zero,
    ordered_positions,
    ordered_product,
    ordered_taps,
    summed_over_batch,
)
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.executor import Executor
from snncompile.targets.plastic_layer import PlasticLayer, match
from snncompile.targets.torch.loop import LoopTarget

from .plastic_calls import RULES, PlainPlastic, assert_same, plastic_case


def by_hand(weight: torch.Tensor, x: torch.Tensor, wide: int = LANES) -> torch.Tensor:
    """One output of one sequence, number by number."""
    lanes = [torch.zeros(()) for _ in range(wide)]
    for j in range(len(weight)):
        lanes[j % wide] = lanes[j % wide] + weight[j] * x[j]
    while len(lanes) > 1:
        lanes = [a + b for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
    return lanes[0]


@settings(max_examples=10, deadline=None)
@given(size=st.integers(1, 300), seed=st.integers(0, 99))
def test_the_order_of_a_product(size: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight, x = torch.randn(2, size, generator=draw), torch.randn(2, size, generator=draw)
    y = ordered_product(weight, x)
    for b in range(2):
        for i in range(2):
            assert torch.equal(y[b, i], by_hand(weight[i], x[b]))
    assert torch.allclose(y, x @ weight.T, rtol=1e-4, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), st.sampled_from([0.0, 0.05, 1.0]), st.integers(0, 99))
def test_the_orders_of_a_convolution(taps: int, places: int, rate: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight, after = torch.randn(2, taps, generator=draw), torch.randn(2, 2, places, generator=draw)
    fields = torch.randn(2, taps, places, generator=draw) * (torch.rand(2, taps, places, generator=draw) < rate)
    with torch.no_grad():  # what is zero is left out
        product, change, other = ordered_taps(weight, fields), ordered_positions(after, fields), fields.clone()
        assert torch.equal(ordered_positions(fields, after), change.transpose(1, 2))
    assert torch.equal(product, ordered_taps(weight, other)) and torch.equal(change, ordered_positions(after, other))
    for b in range(2):
        for i in range(2):
            assert torch.equal(product[b, i, -1], by_hand(weight[i], fields[b, :, -1], 1))
            assert torch.equal(change[b, i, 0], by_hand(after[b, i], fields[b, 0], POSITION_LANES))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_nothing_of_a_convolution_is_left_out_where_a_value_is_no_number(value: float) -> None:
    weight, fields, after = torch.randn(3, 400), torch.zeros(1, 400, 400), torch.zeros(1, 3, 400)
    weight[1, 2], fields[0, 5, 5] = value, value
    with torch.no_grad():
        product, change = ordered_taps(weight, fields), ordered_positions(after, fields)
    assert product[0, 1].isnan().all() and product[0, ::2].isnan().sum() in (0, 2)
    assert change[0, :, 5].isnan().all() and change.isnan().sum() == 3


def test_a_batch_is_so_many_products_and_zeros_change_nothing() -> None:
    weight, x = torch.randn(5, 300), torch.randn(4, 300) * (torch.rand(4, 300) < 0.3)
    y = ordered_product(weight, x)
    for b in range(4):
        assert torch.equal(y[b : b + 1], ordered_product(weight, x[b : b + 1]))
        lanes = torch.zeros(5, LANES)
        for j in x[b].nonzero().flatten().tolist():  # as a target that skips zeros does
            lanes[:, j % LANES] += weight[:, j] * x[b, j]
        while lanes.shape[1] > 1:
            lanes = lanes[:, ::2] + lanes[:, 1::2]
        assert torch.equal(y[b], lanes[:, 0])


def test_sequences_without_a_spike_are_left_out() -> None:
    weight, x = torch.randn(5, 70), torch.randn(6, 70) * torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0]).unsqueeze(1)
    want = ordered_product(weight, x)
    assert not_zero(x) is None  # their gradient may be wanted
    with torch.no_grad():
        assert not_zero(x).tolist() == [0, 2, 5]
        assert not_zero(x[:1]) is None and not_zero(x[::5]) is None
        got, nothing = ordered_product(weight, x), ordered_product(weight, torch.zeros(2, 70))
    assert torch.equal(got, want) and not torch.signbit(got[1]).any()
    assert nothing.shape == (2, 5) and not nothing.any()


@pytest.mark.parametrize("connection", ["Linear", "Conv2d"])
def test_quiet_sequences_and_factors_that_nobody_reads_change_nothing(connection: str) -> None:
    @snn.plasticity(pre={"t": 0.0})
    class OnOutput:
        """Reads one product of two."""

        def pre(z, t, *, target=0.2):
            t = 0.9 * t + z
            return {"t": t, "potentiation": t - target, "depression": t}

        def post(z):
            return {"potentiation": z, "depression": 1.0 + z}

        def update(w, potentiation, *, eta=0.05):
            return {"w": w + eta * potentiation}

    shape = (20,) if connection == "Linear" else (2, 5, 5)

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(shape, max=1)):
        made = snn.Linear(6, bias=False) if connection == "Linear" else snn.Conv2d(3, 3, bias=False)
        h = x >> made >> snn.LIF(threshold=0.7)
        snn.learn(made, OnOutput())
        return h

    torch.manual_seed(0)
    one = snn.compile(net, target="torch")
    weight = one.layout.learned[0]
    x = (torch.rand(5, 40, *shape) < 0.3).float() * torch.tensor([1.0, 0, 1, 0, 0]).reshape(5, 1, *[1] * len(shape))
    with torch.no_grad():
        out, state, _ = one.evolve(x)
    want, other, _ = one.evolve(x, differentiable=True)  # leaves nothing out
    assert float(out.sum()) > 0 and torch.equal(out, want)
    assert torch.equal(state[weight], other[weight]) and not torch.equal(state[weight], one.value(weight))


def test_a_batch_is_summed_from_the_first_to_the_last() -> None:
    terms = torch.tensor([2.0**24, 1.0, 1.0, -(2.0**24)]).reshape(4, 1)
    assert summed_over_batch(terms).item() == 0.0  # each 1 is lost
    assert summed_over_batch(terms.flip(0)).item() == 2.0
    assert summed_over_batch(torch.zeros(0, 3)).tolist() == [0.0] * 3


# -- layers --------------------------------------------------------------------------------------------------------


def _network(rule: Any, batch: int, noise: float = 0.0) -> tuple[snn.Network, dict[str, torch.Tensor]]:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(20), more=snn.Current(6), reward=snn.Current(1)):
        connection = snn.Linear(6, init=torch.rand(6, 20))
        h = (x >> connection) + more >> snn.ExpSyn(tau=3 * ms) >> snn.LIF(threshold=2.5, noise_std=noise)
        snn.learn(connection, rule, **({"reward": reward} if rule.signals else {}))
        return h

    x = {
        "x": (torch.rand(batch, 12, 20) < 0.3).float(),
        "more": torch.rand(batch, 12, 6),
        "reward": torch.randn(batch, 12, 1),
    }
    return snn.compile(net, target="torch"), x


class WithLayers(LoopTarget):
    """The torch target with a plastic runner of its own."""

    plastic = PlainPlastic()


@pytest.mark.parametrize(("batch", "noise"), [(1, 0.0), (3, 0.0), (2, 5.0)])
@pytest.mark.parametrize("name", RULES)
def test_a_layer_and_the_loop_agree_to_the_last_bit(
    name: str, batch: int, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    net, x = _network(RULES[name], batch, noise)
    record = ["lif.v", "lif.spikes:sum", "linear.out", "add.y"]
    record += [n for n in net.layout.records if n.split(".")[0] in ("stdp", "triplet_stdp", "mstdpet")]
    with torch.no_grad():
        start = net.initial_state(batch)
        want = net.evolve(**x, state=start, record=record)
        graph = compile_graph(net.graph, Request())
        monkeypatch.setattr(net, "executor", lambda device, keep=frozenset(): Executor(graph, WithLayers()))
        got = net.evolve(**x, state=start, record=record)
    assert torch.equal(got[0], want[0]) and float(want[0].sum()) > 10
    for a, b in zip(got[1:], want[1:], strict=True):
        assert a.keys() == b.keys()
        for key in b:
            assert torch.equal(a[key], b[key]), key


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_plain_run_of_a_call(steps: int) -> None:
    case = plastic_case("additive", steps=steps, batch=2, bias=True, strided=True)
    one = PlainPlastic().forward(case.scan, case.rule, case.call)
    assert_same(PlainPlastic().forward(case.scan, case.rule, case.call), one)
    assert all(course.shape[0] == steps for course in one.stored.values())
    assert torch.equal(one.weight, case.call.weight) == (steps == 0)


def region_of(model: snn.Model) -> PlasticLayer | str:
    graph = compile_graph(model.build(), Request())
    (region,) = [r for r in graph.regions if r.kind == "plastic"]
    return match(graph, region)


def test_what_is_no_layer_says_why() -> None:
    @snn.model
    def convolution(x=snn.Spikes((1, 5, 5))):
        c = snn.Conv2d(2, 3)
        h = x >> c >> snn.LIF()
        snn.learn(c, snn.STDP())
        return h

    @snn.model
    def masked(x=snn.Spikes(3)):
        c = snn.Linear(3, mask=torch.eye(3))
        h = x >> c >> snn.LIF()
        snn.learn(c, snn.STDP())
        return h

    @snn.model
    def recurrent(x=snn.Spikes(3)):
        c = snn.Linear(3)
        h = x >> snn.recurrent(snn.LIF(), via=c)
        snn.learn(c, snn.STDP())
        return h

    @snn.model
    def taught(x=snn.Spikes(3), teacher=snn.Spikes(3)):
        c = snn.Linear(3)
        h = x >> c >> snn.LIF()
        snn.learn(c, snn.STDP(), post=teacher)
        return h

    @snn.model
    def twice(x=snn.Spikes(3)):
        c, d = snn.Linear(3), snn.Linear(3)
        h = (x >> c) + (x >> d) >> snn.LIF()
        snn.learn(c, snn.STDP())
        snn.learn(d, snn.STDP())
        return h

    @snn.model
    def elsewhere(x=snn.Spikes(3), y=snn.Spikes(3)):
        c = snn.Linear(3)
        h = x >> c >> snn.LIF()
        snn.learn(c, snn.STDP(), pre=y)
        return h

    @snn.model
    def layer(x=snn.Spikes(3)):
        c = snn.Linear(3)
        h = x >> c >> snn.ExpSyn() >> snn.LIF()
        snn.learn(c, snn.STDP())
        return h

    assert region_of(convolution) == PlasticLayer("conv2d", "lif", "stdp", "x", "spikes")
    assert region_of(masked) == PlasticLayer("linear", "lif", "stdp", "x", "spikes")
    assert "comes from the layer itself" in str(region_of(recurrent))
    assert region_of(taught) == PlasticLayer("linear", "", "stdp", "product", "shown")
    assert region_of(elsewhere) == PlasticLayer("linear", "lif", "stdp", "x", "spikes", other=True)
    assert region_of(twice) == "5 nodes learn or run together, not one connection, one population and one rule"
    assert region_of(layer) == PlasticLayer("linear", "exp_syn_lif", "stdp", "linear", "lif_spikes")
