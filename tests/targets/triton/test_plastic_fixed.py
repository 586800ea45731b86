"""Kernels of layers that learn with a mask or signs: the same bits as the plainest run; compiled for every chip."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.kernels import make_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.plastic_fields import fields_of
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.plastic import PlasticSequences, _variant, print_plastic
from snncompile.targets.triton.plastic_conv_plan import choose_conv_plan
from snncompile.targets.triton.plastic_plan import choose_plan

from ..plastic_calls import Convolution, PlainPlastic, assert_same, plastic_case
from ..scan_calls import poisoned
from .test_plastic import held, streamed
from .test_plastic_conv import SMALL, Narrow

BOTH = ("mask", "sign")


def check(runs: PlasticSequences, name: str, **sizes) -> None:
    case = plastic_case(name, **sizes)
    with torch.no_grad():
        got = runs.forward(case.scan, case.rule, case.call)
        want = PlainPlastic().forward(case.scan, case.rule, case.call)
    assert_same(got, want)
    if "mask" in case.call.fixed and sizes["steps"]:
        out = case.call.fixed["mask"] == 0
        assert torch.equal(got.weight[out], case.call.weight[out])
        assert not torch.equal(got.weight[~out], case.call.weight[~out])


@pytest.mark.parametrize("name", ["additive", "root", "triplet", "reward"])
@pytest.mark.parametrize("choose", [choose_plan, streamed, held])
def test_dense_layers(name: str, choose) -> None:
    check(PlasticSequences(poisoned, choose), name, steps=3, outs=3, ins=12, bias=True, fixed=BOTH)


@pytest.mark.parametrize("choose", [choose_plan, streamed, held])
@pytest.mark.parametrize("fixed", [("mask",), ("sign",)])
def test_one_of_both_chunks_batches_and_strides(choose, fixed: tuple[str, ...]) -> None:
    sizes = {"steps": 2, "batch": 2, "outs": 3, "ins": 150, "strided": True, "store": False}
    check(PlasticSequences(poisoned, choose), "additive", fixed=fixed, **sizes)


@pytest.mark.parametrize("choose", [choose_plan, streamed, held])
def test_no_steps(choose) -> None:
    check(PlasticSequences(poisoned, choose), "additive", steps=0, outs=3, fixed=BOTH)


@pytest.mark.parametrize("name", ["free", "relu", "reward"])
def test_convolutions(name: str) -> None:
    check(PlasticSequences(poisoned), name, steps=3, bias=True, conv=SMALL, fixed=BOTH)


@pytest.mark.parametrize("fixed", [("mask",), ("sign",)])
def test_convolutions_of_batches_and_blocks(fixed: tuple[str, ...]) -> None:
    check(Narrow(poisoned), "additive", steps=2, batch=2, strided=True, store=False, conv=SMALL, fixed=fixed)


def test_a_masked_weight_that_is_no_number_spoils_the_product() -> None:
    for conv in (None, SMALL):
        case = plastic_case("free", 3, 1, 3, 8, conv=conv, fixed=BOTH)
        case.call.weight[0, 3] = float("inf")
        with torch.no_grad():
            got = PlasticSequences(poisoned).forward(case.scan, case.rule, case.call)
            want = PlainPlastic().forward(case.scan, case.rule, case.call)
        assert torch.equal(got.product.isnan(), want.product.isnan()) and want.product.isnan().any()
        assert torch.equal(got.weight.nan_to_num(7.0), want.weight.nan_to_num(7.0))


@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_a_network_learns_the_same_and_has_one_kernel(kind: str) -> None:
    torch.manual_seed(4)
    image, shape = ((12,), (3, 12)) if kind == "Linear" else ((1, 5, 4), (3, 1, 2, 2))
    fixed = {"mask": (torch.rand(shape) < 0.7).float(), "sign": torch.where(torch.rand(shape) < 0.8, 1.0, -1.0)}
    init = torch.rand(shape)

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(image)):
        connection = snn.Linear(3, init=init, **fixed) if kind == "Linear" else snn.Conv2d(3, 2, init=init, **fixed)
        h = x >> connection >> snn.LIF(threshold=1.0)
        snn.learn(connection, snn.STDP(hardbound=False, eta_plus=0.05, eta_minus=0.03))
        return h

    x = (torch.rand(2, 5, *image) < 0.4).float()
    one, other = (snn.compile(net, target=target) for target in ("torch", "triton"))
    other.load_state_dict(one.state_dict())
    weight = one.layout.learned[0]
    start = one.value(weight).detach().clone()
    found = [n.learn(x, record="stdp.t_post") for n in (one, other)]
    assert float(found[0][0].sum()) > 3 and not torch.equal(one.value(weight), start)
    assert torch.equal(one.value(weight), other.value(weight))
    for a, b in zip(*found, strict=True):
        a, b = ({"out": v} if isinstance(v, torch.Tensor) else v for v in (a, b))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    for target in ("triton", "c"):
        assert "one kernel for all steps" in explain_text(explain(net.build(), target))
    assert [name for name in make_kernels(net.build(), "triton", []).files if "lif_plastic" in name]


def test_what_is_fixed_takes_registers() -> None:
    plain, masked, both = (plastic_case("additive", 1, fixed=f).rule for f in ((), ("mask",), BOTH))
    assert choose_plan(plain, (100, 2500)).resident and choose_plan(masked, (100, 2500)).resident
    streams = choose_plan(both, (100, 2500))
    assert not streams.resident and streams.more(True) == {"maxnreg": 200} and streams.more(False) == {}
    assert choose_plan(both, (100, 784)).resident and choose_plan(both, (100, 784)).more(True) == {}


def compiled(name: str, archs: list[str], conv: Convolution | None, shape: tuple[int, int] = (3, 20)):
    case = plastic_case(name, steps=1, store=False, conv=conv, fixed=BOTH)
    chips = [ARCHS[arch] for arch in archs]
    if conv is None:
        plans = [choose_plan(case.rule, shape, 1, chip.warp) for chip in chips]
    else:
        plans = [choose_conv_plan(fields_of(case.rule.node), chip.warp) for chip in chips]
    source = print_plastic(case.scan, case.rule, _variant(case.scan, case.rule, case.call, plans[0]))
    return compile_jobs([Job("plastic", source, chip, plan) for chip, plan in zip(chips, plans, strict=True)])


def test_convolutions_compile_for_every_chip() -> None:
    for b in compiled("additive", list(ARCHS), Convolution((2, 34, 34), 16, (5, 5), {"padding": (2, 2)})):
        assert b.resources.spills == 0, f"{b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared


def test_dense_layers_compile_for_every_chip() -> None:
    chips, wide = list(ARCHS), (40, 5000)
    for shape, archs in (((4000, 784), chips), (wide, ["sm_80"])):
        for b in compiled("additive", archs, None, shape):
            assert b.settings.resident == (shape != wide)
            assert b.resources.spills == 0, f"{b.arch.name} {b.resources}"
