"""Plastic layers in one C function: against the plainest run of one, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile import ms
from snncompile.targets.c.plastic import PlasticLayers

from ..plastic_calls import RULES, Convolution, PlainPlastic, assert_same, plastic_case


def poisoned(shape, **like):
    return torch.full(shape, float("nan"), **like)


def check(case, threads=None):
    layers = PlasticLayers(threads, poisoned)
    assert layers.why_not(case.scan, case.rule, case.call.shape[2:], case.call.shape[1]) == ""
    before = case.call.weight.clone()
    want = PlainPlastic().forward(case.scan, case.rule, case.call)
    assert_same(layers.forward(case.scan, case.rule, case.call), want)
    assert torch.equal(case.call.weight, before)
    return want


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_matches_the_plain_run(name, batch, threads):
    case = plastic_case(name, 60, batch, 9, 150, rate=0.1, bias=True)
    want = check(case, threads)
    assert want.stored[case.call.source].sum() > 0


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(RULES)),
    steps=st.sampled_from([0, 1, 2, 13]),
    batch=st.sampled_from([0, 1, 2, 5]),
    outs=st.integers(1, 40),
    ins=st.integers(1, 300),
    rate=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    threads=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 99),
)
def test_matches_for_any_shape(name, steps, batch, outs, ins, rate, threads, seed):
    check(plastic_case(name, steps, batch, outs, ins, rate=rate, bias=True, seed=seed), threads)


@pytest.mark.parametrize("strided", [False, True])
def test_matches_with_nothing_stored_and_without_a_bias(strided):
    check(plastic_case("triplet", 20, 2, 7, 33, strided=strided, store=strided), 2)


@pytest.mark.parametrize("name", ["additive", "free", "step", "relu", "triplet"])
def test_weights_out_of_bounds_and_signed_zeros_move_at_once(name):
    case = plastic_case(name, 5, 1, 6, 20, rate=0.1)
    weight = case.call.weight * 4 - 1.5
    weight[0, :4] = torch.tensor([0.0, -0.0, 1.0, 1e-45])
    check(replace(case, call=replace(case.call, weight=weight)))


def bits(t):
    """The bits of ``t``, with which 0 and -0 differ, but any NaN is the same."""
    return torch.where(t.isnan(), torch.full_like(t, float("nan")), t).view(torch.int32)


def check_bits(case, threads=None):
    """As ``check``, also for values that are no numbers, and for the signs of zeros."""
    with torch.no_grad():  # as in every run: sequences that are silent are left out
        want = PlainPlastic().forward(case.scan, case.rule, case.call)
        got = PlasticLayers(threads, poisoned).forward(case.scan, case.rule, case.call)
    for name in ("stored", "stored_traces", "traces"):
        for key, t in getattr(want, name).items():
            assert torch.equal(bits(getattr(got, name)[key]), bits(t)), key
    assert torch.equal(bits(got.weight), bits(want.weight))
    assert torch.equal(bits(got.product), bits(want.product))
    return want


def driven(case, current=0.0, gain=1.0, **more):
    """``case`` with its current from outside and its weights scaled: by who fires."""
    inputs = tuple(None if x is None else x * current for x in case.call.inputs)
    call = replace(case.call, inputs=inputs, weight=case.call.weight * gain)
    return replace(case, call=replace(call, **more))


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(["additive", "free", "relu", "triplet"]),
    batch=st.sampled_from([1, 2, 3]),
    outs=st.integers(1, 70),
    ins=st.integers(1, 500),
    rate=st.sampled_from([0.01, 0.05, 0.3]),
    fire=st.sampled_from([(0.0, 1e-3), (1.0, 0.05), (3.0, 0.05), (50.0, 1.0)]),  # none, some, many, all
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_matches_whoever_fires(name, batch, outs, ins, rate, fire, threads, seed):
    check_bits(driven(plastic_case(name, 25, batch, outs, ins, rate=rate, seed=seed), *fire), threads)


def test_outputs_that_never_or_always_fire():
    never = check_bits(driven(plastic_case("additive", 30, 1, 37, 333, rate=0.05), 0.0, 1e-3))
    assert never.stored["lif_spikes"].sum() == 0
    always = check_bits(driven(plastic_case("additive", 30, 1, 37, 333, rate=0.05), 100.0))
    assert (always.stored["lif_spikes"][3:] > 0).all()


@pytest.mark.parametrize("batch", [1, 2])
def test_matches_where_all_fire_at_once_now_and_then(batch):
    case = driven(plastic_case("additive", 60, batch, 35, 300, rate=0.04), 1.0, 1e-3)
    bursts = torch.zeros(60, 1, 1)
    bursts[10:14] = bursts[30] = bursts[45:] = 100.0
    inputs = tuple(None if x is None else x * bursts for x in case.call.inputs)
    spikes = check_bits(driven(case, inputs=inputs)).stored["lif_spikes"]
    assert (spikes[30] > 0).all() and spikes[8].sum() == 0


@pytest.mark.parametrize("name", ["additive", "relu"])
@pytest.mark.parametrize("batch", [1, 2])
def test_weights_at_their_bounds_stay_there(name, batch):
    case = plastic_case(name, 40, batch, 21, 200, rate=0.05)
    weight = torch.tensor([0.0, 1.0, -0.0, 0.5, 1e-45])[torch.randint(5, (21, 200))]
    check_bits(driven(case, 1.0, weight=weight))


@pytest.mark.parametrize("name", ["additive", "free", "reward"])
@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
@pytest.mark.parametrize("batch", [1, 3])
def test_weights_that_are_no_numbers(name, value, batch):
    case = plastic_case(name, 12, batch, 19, 150, rate=0.03)
    weight = case.call.weight * 0.05
    weight[3, 7] = weight[11, 140] = value
    x = case.call.x.clone()
    x[4:8, 0] = 0.0  # a silent sequence
    check_bits(driven(case, 1.5, weight=weight, x=x))


def test_weights_that_overflow_on_the_way():
    case = plastic_case("free", 20, 1, 10, 60, rate=0.1)
    coefs = {part: {c: torch.full_like(v, 2e38) if "eta" in c else v for c, v in own.items()}
             for part, own in case.call.rule_coefs.items()}  # fmt: skip
    want = check_bits(driven(case, 2.0, 0.05, rule_coefs=coefs))
    assert want.weight.isinf().any() and want.product.isnan().any()


def test_bounds_that_are_no_numbers():
    case = plastic_case("additive", 10, 1, 10, 60, rate=0.1)
    for bound in ("w_min", "w_max"):
        coefs = {part: {c: torch.full_like(v, float("nan")) if c == bound else v for c, v in own.items()}
                 for part, own in case.call.rule_coefs.items()}  # fmt: skip
        assert check_bits(driven(case, 2.0, 0.05, rule_coefs=coefs)).weight.isnan().all()


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 3e38])
@pytest.mark.parametrize("where", ["more", "trace"])
def test_what_is_no_number_spreads_as_in_the_plain_run(value, where):
    case = plastic_case("relu", 6, 2, 6, 20, rate=0.2)
    if where == "trace":
        traces = {name: t.clone() for name, t in case.call.traces.items()}
        next(iter(traces.values()))[0, 3] = value
        call = replace(case.call, traces=traces)
    else:
        other = [None if x is None else x.clone() for x in case.call.inputs]
        next(x for x in other if x is not None)[2, 0, 1] = value
        call = replace(case.call, inputs=tuple(other))
    check_bits(replace(case, call=call))


def test_inputs_that_are_no_spikes():
    case = plastic_case("additive", 30, 2, 8, 40)
    x = torch.randn(case.call.x.shape) * (torch.rand(case.call.x.shape) < 0.4)
    check(replace(case, call=replace(case.call, x=x)))


def test_a_network_learns_the_same_and_streams(tmp_path):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(30, max=1)):
        connection = snn.Linear(12, init=torch.rand(12, 30))
        h = x >> connection >> snn.ExpSyn(tau=3 * ms) >> snn.LIF(threshold=3.0)
        snn.learn(connection, snn.STDP(eta_plus=0.02, eta_minus=0.02))
        return h

    net = snn.compile(model, target="c")
    same = snn.compile(model, target="torch")
    same.load_state_dict(net.state_dict())
    x = (torch.rand(1, 40, 30) < 0.2).float()
    with torch.no_grad():
        want, state, record = same.evolve(x, record=["stdp.t_pre", "stdp.t_post:sum", "linear.out"])
        got, other, found = net.evolve(x, record=["stdp.t_pre", "stdp.t_post:sum", "linear.out"])
        assert torch.equal(got, want) and want.sum() > 0
        assert all(torch.equal(other[n], s) for n, s in state.items())
        assert torch.equal(found["stdp.t_pre"], record["stdp.t_pre"])
        assert torch.equal(found["linear.out"], record["linear.out"])
        assert torch.allclose(found["stdp.t_post:sum"], record["stdp.t_post:sum"])
        assert not torch.equal(state["linear.weight"], net.value("linear.weight"))
        held = None
        for t in range(40):
            y, held = net.step(x[:, t], held)
            assert torch.equal(y, want[:, t])
        assert torch.equal(held["linear.weight"], state["linear.weight"])
    net.save(tmp_path / "learning.snn")
    text = (tmp_path / "learning.snn" / "kernels").glob("*plastic*.c")
    assert "stdp_update(" in next(text).read_text()


def test_names_of_a_model_are_no_names_of_the_file():
    @snn.plasticity(pre={"t": 0.0, "i": 0.0}, post={"b": 0.0, "at": 0.0}, synapse={"m": 0.0}, signals=("count",))
    class Odd:
        """Every name means something in the printed file."""

        def pre(z, t, i, *, B=0.5):
            t = t * B + z
            return {"t": t, "i": i + z, "potentiation": t, "depression": z}

        def post(z, b, at, *, T=0.25):
            b = b * T + z
            return {"b": b, "at": at + z, "potentiation": z, "depression": b}

        def synapse(w, potentiation, depression, m, count, *, k=0.5):
            m = m * k + potentiation - depression
            return {"m": m, "change": m * count}

        def update(w, change, *, n=0.01):
            return {"w": w + change * n}

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(9), first=snn.Current(1)):
        connection = snn.Linear(5, init=torch.rand(5, 9))
        h = x >> connection >> snn.LIF(threshold=1.0)
        snn.learn(connection, Odd(), count=first)
        return h

    nets = {t: snn.compile(model, target=t) for t in ("torch", "c")}
    nets["c"].load_state_dict(nets["torch"].state_dict())
    x, count = (torch.rand(2, 30, 9) < 0.3).float(), torch.randn(2, 30, 1)
    with torch.no_grad():
        (want, before, _), (got, after, _) = (net.evolve(x, count) for net in nets.values())
    assert torch.equal(got, want) and want.sum() > 0
    assert all(torch.equal(after[n], s) for n, s in before.items())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_trace_that_is_no_number_counts_where_nothing_fires(batch, value):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(6)):
        connection = snn.Linear(5, init=torch.full((5, 6), 0.5))
        h = x >> connection >> snn.LIF(threshold=100.0)
        snn.learn(connection, snn.STDP())
        return h

    found = []
    for target in ("torch", "c"):
        net = snn.compile(model, target=target)
        start = net.initial_state(batch)
        start["stdp.t_pre"][0, 2] = value
        with torch.no_grad():
            found.append(net.evolve(torch.ones(batch, 3, 6), state=start)[1]["linear.weight"])
    assert found[0].isnan().sum() == 5
    assert torch.equal(bits(found[0]), bits(found[1]))


@pytest.mark.parametrize("conv", [None, Convolution((2, 6, 5), 3, (3, 2), {"padding": (1, 0)})])
def test_a_rule_that_watches_another_input_than_the_connection_takes(conv):
    case = plastic_case("free", 20, 2, 19, 60, conv=conv, elsewhere=True)
    want = check(case, 2)
    with torch.no_grad():
        own = PlainPlastic().forward(case.scan, case.rule, replace(case.call, pre=None))
    assert not torch.equal(want.weight, own.weight)


def test_without_a_sequence_nothing_is_read():
    check(plastic_case("additive", 3, 0, 9, 33))
