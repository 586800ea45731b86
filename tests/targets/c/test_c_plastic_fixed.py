"""Layers that learn with a mask or signs, in one C function: against the plainest run of one, to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile import ms
from snncompile.targets.c.plastic_kernel import bounded

from ..plastic_calls import Convolution, plastic_case
from .test_c_plastic import check, check_bits, driven
from .test_c_plastic_conv import WIDE

FIXED = [("mask",), ("sign",), ("mask", "sign")]


# the other rules differ in the printed update alone, and that of a convolution is that of a dense layer
NAMES = [("relu", None), ("namesakes", None), ("root", WIDE), ("reward", WIDE)]


@pytest.mark.parametrize(("name", "conv"), NAMES)
def test_matches_the_plain_run(name, conv):
    for batch, threads in ((1, 2), (3, 1)):
        case = plastic_case(name, 20, batch, 19, 150, rate=0.1, bias=True, conv=conv, fixed=FIXED[2])
        want = check(case, threads)
        out = case.call.fixed["mask"] == 0
        assert want.stored["lif_spikes"].sum() > 0 and torch.equal(want.weight[out], case.call.weight[out])
        assert not torch.equal(want.weight[~out], case.call.weight[~out])


@pytest.mark.parametrize(("fixed", "conv"), [(FIXED[0], None), (FIXED[1], None), (FIXED[0], WIDE)])
def test_matches_with_one_of_both(fixed, conv):
    check(plastic_case("additive", 20, 2, 19, 150, rate=0.1, strided=True, conv=conv, fixed=fixed), 2)


@settings(max_examples=10, deadline=None)
@given(
    name=st.sampled_from(["additive", "free"]),
    batch=st.sampled_from([0, 1, 2, 3]),
    steps=st.sampled_from([0, 1, 17]),
    outs=st.integers(1, 70),
    ins=st.integers(1, 500),
    rate=st.sampled_from([0.01, 0.05, 0.3]),
    fire=st.sampled_from([(0.0, 1e-3), (1.0, 0.05), (3.0, 0.05), (50.0, 1.0)]),  # none, some, many, all
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_matches_whoever_fires(name, batch, steps, outs, ins, rate, fire, threads, seed):
    case = plastic_case(name, steps, batch, outs, ins, rate=rate, seed=seed, fixed=FIXED[2])
    check_bits(driven(case, *fire), threads)


@settings(max_examples=3, deadline=None)
@given(
    name=st.sampled_from(["additive", "free", "reward"]),
    fixed=st.sampled_from(FIXED),
    sizes=st.tuples(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9), st.integers(1, 20)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    batch=st.sampled_from([1, 2]),
    rate=st.sampled_from([0.03, 0.5]),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_matches_for_any_convolution(name, fixed, sizes, kernel, stride, padding, batch, rate, threads, seed):
    *image, outs = sizes
    conv = Convolution(tuple(image), outs, kernel, {"stride": stride, "padding": padding})
    check_bits(driven(plastic_case(name, 9, batch, rate=rate, seed=seed, conv=conv, fixed=fixed), 1.0), threads)


@pytest.mark.parametrize("conv", [None, WIDE])
@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_weight_that_is_no_number_spoils_the_product_though_it_is_masked(conv, value):
    name = "additive" if conv is None else "reward"
    for batch in (1, 2):
        case = plastic_case(name, 8, batch, 19, 150, rate=0.03, conv=conv, fixed=("mask", "sign"))
        assert not case.call.fixed["mask"][0, 3]
        weight = case.call.weight * 0.1
        weight[0, 3] = value
        want = check_bits(driven(case, 1.5, weight=weight))
        assert want.product.isnan().any()


@pytest.mark.parametrize("conv", [None, WIDE])
def test_masks_of_other_numbers(conv):
    case = plastic_case("free", 8, 2, 19, 150, rate=0.03, conv=conv, fixed=("mask",))
    mask = case.call.fixed["mask"] * 0.5
    for value in (3e38, float("inf"), float("nan"), -0.0):  # overwritten by hand: nothing says they are 0 or 1
        mask[1, 2] = mask[2, 7] = value
        check_bits(driven(case, 1.0, 20.0, fixed={"mask": mask.clone()}))


@pytest.mark.parametrize("conv", [None, WIDE])
def test_signed_zeros_and_weights_of_the_wrong_sign_move_at_once(conv):
    case = plastic_case("free", 5, 1, 19, 150, rate=0.0, conv=conv, fixed=("mask", "sign"))
    weight = case.call.weight * 0.1
    weight[1, :6] = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0])
    want = check_bits(driven(case, 0.0, weight=weight))
    assert not torch.equal(want.weight, weight)


def test_which_weights_stay_between_bounds():
    def held(name, *fixed):
        return bounded(plastic_case(name, 1, fixed=fixed).rule)

    assert all(held("additive", *fixed) for fixed in ((), *FIXED))
    assert not any(held("free", *fixed) for fixed in ((), *FIXED))


@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_a_network_learns_the_same_streams_and_keeps_what_is_fixed(kind, tmp_path):
    torch.manual_seed(2)
    image, shape = ((30,), (5, 30)) if kind == "Linear" else ((2, 7, 6), (5, 2, 3, 3))
    mask, sign = (torch.rand(shape) < 0.6).float(), torch.where(torch.rand(shape) < 0.8, 1.0, -1.0)
    mask[1] = 0.0
    start = torch.rand(shape) * sign  # as a weight with signs starts

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(image, max=1), reward=snn.Current(1)):
        fixed = {"init": start, "mask": mask, "sign": sign, "bias": False}
        connection = snn.Linear(5, **fixed) if kind == "Linear" else snn.Conv2d(5, 3, padding=1, **fixed)
        h = x >> connection >> snn.ExpSyn(tau=3 * ms) >> snn.LIF(threshold=1.5)
        snn.learn(connection, snn.MSTDPET(eta=0.5, w_min=-1.0), reward=reward)
        return h

    one, same = snn.compile(model, target="c"), snn.compile(model, target="torch")
    weight = one.layout.learned[0]
    given = (torch.rand(2, 20, *image) < 0.2).float(), torch.randn(2, 20, 1)
    found = [net.learn(*given, record="mstdpet.p_pre") for net in (one, same)]
    assert torch.equal(found[0][0], found[1][0]) and found[0][0].sum() > 0
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in b)
    learnt = one.value(weight).detach()
    assert torch.equal(learnt, found[1][1][weight])
    assert torch.equal(learnt[mask == 0], start[mask == 0]) and not torch.equal(learnt[mask != 0], start[mask != 0])
    assert (learnt * sign >= 0).all()
    frozen = [net.frozen()(*given) for net in (one, same)]
    assert torch.allclose(*frozen, atol=1e-4)
    with torch.no_grad():
        want, state, _ = same.evolve(*given)
        held = None
        for t in range(20):
            y, held = one.step(given[0][:, t], given[1][:, t], state=held)
            assert torch.equal(y, want[:, t])
        assert torch.equal(held[weight], state[weight])
    one.commit(state)
    assert torch.equal(one.value(weight), state[weight])
    one.save(tmp_path / "learning.snn")
    texts = [p.read_text() for p in (tmp_path / "learning.snn" / "kernels").glob("*.c")]
    assert [("a layer that learns" in text) for text in texts] == [True]
