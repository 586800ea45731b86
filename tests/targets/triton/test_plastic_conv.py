"""The kernel of a convolution that learns: the same bits as the plainest run, interpreted; compiled for every chip."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.kernels import make_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.plastic_fields import Fields, fields_of
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.plastic import PlasticSequences, _variant, print_plastic
from snncompile.targets.triton.plastic_conv_plan import ConvPlan, choose_conv_plan

from ..plastic_calls import RULES, Convolution, PlainPlastic, assert_same, plastic_case
from ..scan_calls import poisoned

SMALL = Convolution((2, 3, 4), 3, (2, 2), {"padding": (1, 0), "stride": (1, 2)})


class Narrow(PlasticSequences):
    """Blocks so small that all loops turn more than once."""

    def _plan(self, *_: object) -> ConvPlan:
        return ConvPlan(posts=2, places=4, taps=4, pixels=16, warps=4)


def check(name: str, runs: type[PlasticSequences] = PlasticSequences, **sizes) -> None:
    case = plastic_case(name, **sizes)
    given = {t: value.clone() for t, value in case.call.traces.items()}
    weight = case.call.weight.clone()
    with torch.no_grad():
        got = runs(poisoned).forward(case.scan, case.rule, case.call)
        assert_same(got, PlainPlastic().forward(case.scan, case.rule, case.call))
    assert torch.equal(case.call.weight, weight), "the weights given are written to"
    assert all(torch.equal(case.call.traces[t], value) for t, value in given.items()), "a trace given is written to"


@pytest.mark.parametrize("name", ["additive", "free", "step", "root", "relu", "triplet", "reward", "namesakes"])
def test_every_rule_has_the_bits_of_the_loop(name: str) -> None:
    check(name, steps=3, batch=1, bias=True, conv=SMALL)


@pytest.mark.parametrize("name", ["additive", "reward"])
def test_batches_strides_and_blocks(name: str) -> None:
    check(name, Narrow, steps=2, batch=2, strided=True, store=False, conv=SMALL)


@pytest.mark.parametrize("options", [{}, {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}])
def test_geometries(options: dict) -> None:
    check("additive", steps=2, conv=Convolution((1, 4, 5), 2, (3, 1), options))


@pytest.mark.parametrize(("steps", "batch"), [(0, 1), (1, 3), (2, 0)])
def test_no_steps_one_and_no_sequences(steps: int, batch: int) -> None:
    check("additive", steps=steps, batch=batch, conv=SMALL)


@snn.plasticity(pre={"seen": 0.0})
class Forgetting:
    """Weights decay, whatever the spikes: it takes no factor."""

    def pre(z, seen):
        return {"seen": seen * 0.5 + z}

    def post(z):
        return {}

    def update(w, *, keep=0.75):
        return {"w": w * keep}


@snn.plasticity(synapse={"left": 1.0}, signals=("reward",))
class Told:
    """Likewise, with synapses that only hear a signal."""

    def pre(z):
        return {}

    def post(z):
        return {}

    def synapse(w, left, reward):
        return {"left": left * 0.5, "change": left * reward - w}

    def update(w, change, *, rate=0.1):
        return {"w": w + rate * change}


@pytest.mark.parametrize("rule", [Forgetting(), Told()])
@pytest.mark.parametrize("batch", [0, 2])
def test_rules_that_take_no_factor(rule, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "own", rule)
    check("own", steps=2, batch=batch, conv=SMALL)


def test_what_is_no_number_spreads_as_in_the_plain_run() -> None:
    case = plastic_case("relu", steps=3, batch=2, rate=0.2, conv=SMALL)
    weight = case.call.weight.clone()
    weight[1, 2] = float("inf")
    traces = {name: t.clone() for name, t in case.call.traces.items()}
    traces["t_post"][1, 3] = float("nan")
    call = replace(case.call, weight=weight, traces=traces)
    with torch.no_grad():
        want = PlainPlastic().forward(case.scan, case.rule, call)
        got = PlasticSequences(poisoned).forward(case.scan, case.rule, call)
    assert want.weight.isnan().any() and want.product.isinf().any()
    for a, b in ((got.weight, want.weight), (got.product, want.product)):
        assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) and torch.equal(a.isnan(), b.isnan())


def test_a_network_learns_the_same_on_both_targets() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes((1, 5, 4))):
        start = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        connection = snn.Conv2d(3, 2, bias=False, init=start)
        h = x >> connection >> snn.LIF(threshold=1.5)
        snn.learn(connection, snn.STDP(eta_plus=0.02, eta_minus=0.03))
        return h

    x = (torch.rand(1, 5, 1, 5, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    found = [snn.compile(net, target=target).learn(x, record="stdp.t_post") for target in ("torch", "triton")]
    assert float(found[0][0].sum()) > 3 and found[0][0].shape == (1, 5, 3, 4, 3)
    for a, b in zip(*found, strict=True):
        a, b = ({"out": v} if isinstance(v, torch.Tensor) else v for v in (a, b))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_an_artifact_has_the_kernel_and_explain_the_plan() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes((1, 28, 28))):
        connection = snn.Conv2d(32, 5)
        h = x >> connection >> snn.LIF()
        snn.learn(connection, snn.STDP())
        return h

    made = make_kernels(net.build(), "triton", ["sm_90"])
    assert [(r.node, r.kernel, r.spills) for r in made.reports] == [("lif", "lif_plastic", 0)]
    said = explain_text(explain(net.build(), "triton"))
    assert "one kernel for all steps (Triton)" in said
    assert "whole output channels, and so needs nothing of the others; 32 programs of 1 output channel and 4" in said


def test_plans_and_what_does_not_run() -> None:
    rule = plastic_case("additive", steps=1, conv=SMALL).rule
    fields = fields_of(rule.node)
    assert fields == Fields(2, (3, 4), 3, (4, 2), (2, 2), (1, 2), (1, 0), (1, 1))
    assert choose_conv_plan(fields) == ConvPlan(posts=1, places=128, taps=16, pixels=128, warps=4)
    many = choose_conv_plan(replace(fields, outs=512, places=(40, 40), channels=64))
    assert many == ConvPlan(posts=4, places=128, taps=64, pixels=512, warps=4)
    assert many.text(512).endswith("128 programs of 4 output channels and 4 warps")
    scan = plastic_case("additive", steps=1, conv=SMALL).scan
    assert PlasticSequences().why_not(scan, rule, (3, 8), 2**26) != ""
    assert "more than 2**31 elements" in PlasticSequences().why_not(scan, rule, (3, 8), 2**27)


def compiled(name: str, conv: Convolution, archs: list[str]):
    case = plastic_case(name, steps=1, store=False, conv=conv)
    plans = [choose_conv_plan(fields_of(case.rule.node), ARCHS[arch].warp) for arch in archs]
    source = print_plastic(case.scan, case.rule, _variant(case.scan, case.rule, case.call, plans[0]))
    jobs = [Job("plastic", source, ARCHS[arch], plan) for arch, plan in zip(archs, plans, strict=True)]
    return compile_jobs(jobs)


@pytest.mark.parametrize("name", ["additive", "reward"])
def test_compiles_for_every_chip(name: str) -> None:
    for b in compiled(name, Convolution((2, 34, 34), 16, (5, 5), {"padding": (2, 2)}), list(ARCHS)):
        assert b.resources.spills == 0, f"{b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared
        for word in (".ftz", "fma.", ".approx", "div.full"):
            assert b.arch.backend != "cuda" or word not in b.assembly


def test_many_channels_do_not_spill() -> None:
    (b,) = compiled("triplet", Convolution((64, 16, 16), 512, (3, 3), {"padding": (1, 1)}), ["sm_90"])
    assert b.settings.posts == 4 and b.resources.spills == 0


