"""Convolutions that learn in one C function: against the plainest run of one, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.targets.c.plastic import PlasticLayers

from ..plastic_calls import RULES, Convolution, PlainPlastic, plastic_case
from .test_c_plastic import check, check_bits, driven

WIDE = Convolution((2, 9, 8), 11, (3, 3), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)})


# the other rules differ in the printed update alone, which is that of a dense layer
@pytest.mark.parametrize("name", ["additive", "root", "triplet", "namesakes"])
@pytest.mark.parametrize(("batch", "threads"), [(1, 2), (3, 1)])
def test_matches_the_plain_run(name, batch, threads):
    want = check(plastic_case(name, 25, batch, rate=0.1, bias=True, conv=WIDE), threads)
    assert want.stored["lif_spikes"].sum() > 0


SHAPES = [
    Convolution((1, 5, 7), 1, (1, 1)),
    Convolution((3, 4, 9), 17, (2, 3), {"stride": (3, 2), "padding": (1, 0)}),
    Convolution((2, 3, 3), 24, (3, 3)),
    Convolution((1, 1, 30), 8, (1, 4), {"stride": (2, 3), "padding": (2, 1), "dilation": (3, 2)}),
]


@pytest.mark.parametrize("conv", SHAPES)
def test_matches_for_any_shape(conv):
    some, all_of_them, none = (1.0, 0.3), (50.0, 1.0), (0.0, 1e-3)  # who fires
    for steps, batch, rate, fire in [
        (0, 2, 0.5, some), (1, 2, 0.5, all_of_them), (7, 0, 0.5, some), (7, 2, 0.05, some), (7, 1, 1.0, all_of_them),
        (7, 2, 0.5, none),
    ]:  # fmt: skip
        for threads in (1, 3):
            check_bits(driven(plastic_case("additive", steps, batch, rate=rate, conv=conv), *fire), threads)


def test_matches_with_nothing_stored_and_strided_input():
    check(plastic_case("triplet", 20, 2, strided=True, store=False, conv=WIDE), 2)


@pytest.mark.parametrize("name", ["additive", "free", "reward"])
@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_weights_that_are_no_numbers(name, value):
    case = plastic_case(name, 8, 2, rate=0.03, conv=WIDE)
    weight = case.call.weight * 0.3
    weight[3, 7] = weight[10, 17] = value
    check_bits(driven(case, 1.5, weight=weight))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 3e38])
@pytest.mark.parametrize("side", ["pre", "post"])
def test_traces_that_are_no_numbers(value, side):
    case = plastic_case("relu", 6, 2, rate=0.1, conv=WIDE)
    traces = {name: t.clone() for name, t in case.call.traces.items()}
    traces[f"t_{side}"][0, 3] = value
    check_bits(replace(case, call=replace(case.call, traces=traces)))


def test_weights_that_overflow_on_the_way():
    case = plastic_case("free", 12, 1, rate=0.1, conv=WIDE)
    coefs = {part: {c: torch.full_like(v, 2e38) if "eta" in c else v for c, v in own.items()}
             for part, own in case.call.rule_coefs.items()}  # fmt: skip
    want = check_bits(driven(case, 2.0, 0.3, rule_coefs=coefs))
    assert want.weight.isinf().any() and want.product.isnan().any()


def test_weights_out_of_bounds_and_signed_zeros_move_at_once():
    case = plastic_case("additive", 6, 1, rate=0.0, conv=WIDE)
    weight = case.call.weight * 4 - 1.5
    weight[0, :4] = torch.tensor([0.0, -0.0, 1.0, 1e-45])
    check_bits(driven(case, 0.0, weight=weight))


@pytest.mark.parametrize("name", ["additive", "free"])
def test_bursts_and_silence(name):
    case = driven(plastic_case(name, 40, 2, rate=0.04, conv=WIDE), 1.0, 1e-3)
    bursts = torch.zeros(40, 1, 1)
    bursts[10:14] = bursts[30] = 100.0
    x = case.call.x.clone()
    x[15:25] = 0.0  # nothing comes: what moves still, moves
    inputs = tuple(None if given is None else given * bursts for given in case.call.inputs)
    spikes = check_bits(driven(case, inputs=inputs, x=x)).stored["lif_spikes"]
    assert spikes[30].sum() > 0 and spikes[8].sum() == 0


def test_inputs_that_are_no_spikes():
    case = plastic_case("additive", 20, 2, conv=WIDE)
    x = torch.randn(case.call.x.shape)
    check_bits(driven(case, 1.0, 0.3, x=x))


@snn.plasticity(pre={"t": 0.0})
class Oja:
    """Factors that are constants, both dense."""

    def pre(z, t):
        t = t * 0.5 + z
        return {"t": t, "potentiation": t, "depression": 1.0}

    def post(z):
        return {"potentiation": z, "depression": 0.25}

    def update(w, potentiation, depression, *, rate=0.01):
        return {"w": w + rate * (potentiation - w * depression)}


def test_a_rule_whose_factors_are_nowhere_zero(monkeypatch):
    monkeypatch.setitem(RULES, "own", Oja())
    check(plastic_case("own", 10, 2, conv=WIDE))


def test_a_network_learns_the_same_and_streams(tmp_path):
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((2, 7, 6), max=1)):
        connection = snn.Conv2d(5, 3, padding=1, init=torch.rand(5, 2, 3, 3))
        h = x >> connection >> snn.ExpSyn(tau=3 * ms) >> snn.LIF(threshold=3.0)
        snn.learn(connection, snn.STDP(eta_plus=0.02, eta_minus=0.02))
        return h

    net = snn.compile(model, target="c")
    same = snn.compile(model, target="torch")
    same.load_state_dict(net.state_dict())
    x = (torch.rand(2, 30, 2, 7, 6) < 0.1).float()
    names = ["stdp.t_pre", "stdp.t_post", "conv2d.out", "exp_syn.isyn"]
    with torch.no_grad():
        want, state, record = same.evolve(x, record=names)
        got, other, found = net.evolve(x, record=names)
        assert torch.equal(got, want) and want.sum() > 0 and want.shape == (2, 30, 5, 7, 6)
        assert all(torch.equal(other[n], s) for n, s in state.items())
        assert all(torch.equal(found[n], record[n]) for n in names)
        assert not torch.equal(state["conv2d.weight"], net.value("conv2d.weight"))
        held = None
        for t in range(30):
            y, held = net.step(x[:, t], held)
            assert torch.equal(y, want[:, t])
        assert torch.equal(held["conv2d.weight"], state["conv2d.weight"])
    net.save(tmp_path / "learning.snn")
    text = (tmp_path / "learning.snn" / "kernels").glob("*plastic*.c")
    assert "snn_by_inputs(" in next(text).read_text()


def test_what_comes_out_does_not_depend_on_the_threads():
    case = plastic_case("additive", 10, 1, rate=0.1, conv=Convolution((1, 12, 12), 40, (5, 5)))
    one, three = (PlasticLayers(n).forward(case.scan, case.rule, case.call) for n in (1, 3))
    assert torch.equal(one.weight, three.weight) and torch.equal(one.product, three.product)
    assert torch.equal(one.weight, PlainPlastic().forward(case.scan, case.rule, case.call).weight)
