"""Kernels of layers that learn: the same bits as the plainest run, in the interpreter; compiled for every chip."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.kernels import make_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.plastic import PlasticSequences, _variant, print_plastic
from snncompile.targets.triton.plastic_plan import PlasticPlan, choose_plan

from ..plastic_calls import RULES, PlainPlastic, assert_same, plastic_case
from ..scan_calls import poisoned


def streamed(rule: PlasticRule, shape: tuple[int, int], batch: int = 1, warp: int = 32, *_: object) -> PlasticPlan:
    reason = "since a test says so"
    return replace(choose_plan(rule, shape, batch, warp), posts=4, batch=0, reason=reason, held=False)


def held(rule: PlasticRule, shape: tuple[int, int], batch: int = 1, warp: int = 32, *_: object) -> PlasticPlan:
    return replace(streamed(rule, shape, batch, warp), held=True)


def check(name: str, choose=choose_plan, **sizes) -> None:
    case = plastic_case(name, **sizes)
    given = {t: value.clone() for t, value in case.call.traces.items()}
    weight = case.call.weight.clone()
    got = PlasticSequences(poisoned, choose).forward(case.scan, case.rule, case.call)
    assert_same(got, PlainPlastic().forward(case.scan, case.rule, case.call))
    assert torch.equal(case.call.weight, weight), "the weights given are written to"
    assert all(torch.equal(case.call.traces[t], value) for t, value in given.items()), "a trace given is written to"


# a power is long to interpret, and its kernel no other than that of a root
@pytest.mark.parametrize("name", [name for name in RULES if name != "power"])
@pytest.mark.parametrize("choose", [choose_plan, streamed, held])
def test_every_rule_has_the_bits_of_the_loop(name: str, choose) -> None:
    check(name, choose, steps=4, outs=3)


@pytest.mark.parametrize("name", ["additive", "reward"])
@pytest.mark.parametrize("choose", [choose_plan, streamed, held])
def test_batches_chunks_and_strides(name: str, choose) -> None:
    check(name, choose, steps=3, batch=2, outs=3, ins=150, bias=True, strided=True, store=False)


@pytest.mark.parametrize("choose", [choose_plan, streamed, held])
@pytest.mark.parametrize("steps", [0, 1])
def test_no_steps_and_one(steps: int, choose) -> None:
    check("additive", choose, steps=steps, outs=3)


def test_no_sequences_still_bound_the_weights() -> None:
    check("additive", batch=0, steps=2, outs=3)
    check("reward", batch=0, steps=2, outs=3)


def test_more_sequences_than_registers_hold() -> None:
    check("additive", batch=5, steps=2, outs=2, ins=5)


@snn.plasticity(pre={"t": 0.0})
class Oja:
    """Hebb's rule with Oja's decay: factors that are constants, weights below 0."""

    def pre(z, t, *, tau=snn.Param(20 * ms), dt):
        t = t * torch.exp(-dt / tau) + z
        return {"t": t, "potentiation": t, "depression": 1.0}

    def post(z):
        return {"potentiation": z, "depression": z}

    def update(w, potentiation, depression, *, rate=0.1):
        return {"w": w + rate * (potentiation - w * depression)}


@snn.plasticity(signals=("reward",), synapse={"seen": 0.0})
class Told:
    """No traces on either side; the change is one number for all weights, and padding would become 1."""

    def pre(z):
        return {"potentiation": z, "depression": 0.0}

    def post(z):
        return {"potentiation": z, "depression": 0.0}

    def synapse(potentiation, seen, reward, *, rate=0.5):
        return {"seen": seen + potentiation, "change": rate * reward}

    def update(w, change):
        return {"w": torch.exp(w + change)}


@pytest.mark.parametrize("rule", [Oja(), Told()])
@pytest.mark.parametrize("choose", [choose_plan, streamed, held])
def test_rules_of_a_user(rule, choose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "own", rule)
    check("own", choose, steps=3, outs=3, ins=5, batch=2)


def test_an_artifact_has_the_kernel_and_explain_the_plan() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(20)):
        connection = snn.Linear(5)
        h = x >> connection >> snn.LIF()
        snn.learn(connection, snn.STDP())
        return h

    made = make_kernels(net.build(), "triton", ["sm_90"])
    assert [(r.node, r.kernel, r.spills) for r in made.reports] == [("lif", "lif_plastic", 0)]
    assert "kernels/lif_plastic.sm_90.cubin" in made.files and list(made.sources.values()) == ["lif"]
    said = explain_text(explain(net.build(), "triton"))
    assert "one kernel for all steps (Triton)" in said and "weights in registers, 2 a thread; 3 programs" in said


def test_a_network_learns_the_same_on_both_targets() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(20)):
        connection = snn.Linear(5, bias=False, init=torch.rand(5, 20, generator=torch.Generator().manual_seed(0)))
        h = x >> connection >> snn.LIF(threshold=2.5)
        snn.learn(connection, snn.STDP(eta_plus=0.02, eta_minus=0.03))
        return h

    x = (torch.rand(1, 6, 20, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    found = [snn.compile(net, target=target).learn(x, record="stdp.t_pre") for target in ("torch", "triton")]
    assert float(found[0][0].sum()) > 3
    for a, b in zip(*found, strict=True):
        a, b = ({"out": v} if isinstance(v, torch.Tensor) else v for v in (a, b))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_plans() -> None:
    rules = {name: plastic_case(name, steps=1).rule for name in ("additive", "power", "reward")}
    plan = choose_plan(rules["additive"], (100, 784))
    assert plan == PlasticPlan(posts=2, chunks=7, batch=1, warps=4)
    assert plan.text(100) == "weights in registers, 14 a thread; 50 programs of 2 outputs and 4 warps"
    assert choose_plan(rules["additive"], (4000, 784)).posts == 8
    assert choose_plan(rules["additive"], (4000, 2312)).posts == 4
    assert choose_plan(rules["additive"], (4000, 4096)).posts == 2
    assert choose_plan(rules["additive"], (100, 784), warp=64).warps == 2
    assert choose_plan(rules["additive"], (100, 784), 4).batch == 4
    assert choose_plan(rules["reward"], (100, 784)).resident and not choose_plan(rules["reward"], (100, 4096)).resident
    for name, shape, batch, reason in (
        ("additive", (10, 5000), 1, "since 40 chunks of 128 inputs do not fit into registers"),
        ("power", (10, 784), 1, "since its update, 334 operations, is too long to unroll over 7 chunks"),
    ):
        plan = choose_plan(rules[name], shape, batch)
        said = f"weights streamed from memory, {reason}; 2 programs of 8 outputs and 4 warps"
        assert not plan.resident and not plan.held and plan.text(10) == said


def test_plans_with_weights_alone_in_registers() -> None:
    rules = {name: plastic_case(name, steps=1).rule for name in ("additive", "reward")}
    for name, shape, batch, posts, reason in (
        ("additive", (10, 784), 5, 2, "since those of 5 sequences do not fit beside them (at most 4 do)"),
        ("additive", (4000, 784), 64, 8, "since those of 64 sequences do not fit beside them (at most 4 do)"),
        ("reward", (10, 2500), 1, 2, "since with 20 chunks of 128 inputs they do not fit beside them"),
    ):
        plan = choose_plan(rules[name], shape, batch)
        each = posts * -(-shape[1] // 128)
        said = f"weights in registers, {each} a thread, traces in memory {reason}; {-(-shape[0] // posts)} programs of "
        assert plan.held and not plan.resident and plan.text(shape[0]).startswith(said)


def test_a_large_batch_keeps_the_weights_in_registers() -> None:
    case = plastic_case("additive", steps=3, batch=7, outs=3, ins=150)
    assert choose_plan(case.rule, (3, 150), 7).held
    check("additive", steps=3, batch=7, outs=3, ins=150, bias=True, strided=True)
    check("reward", steps=2, batch=5, outs=3, ins=20)


def test_from_how_many_sequences_on_it_runs_otherwise_is_told() -> None:
    case, long, root = (plastic_case(name, steps=1) for name in ("additive", "reward", "power"))
    runner = PlasticSequences()
    held, streamed = "weights in registers and traces in memory", "weights streamed from memory"
    assert runner.plan(case.scan, case.rule, (100, 784)).endswith(f"; of more than 4 sequences with {held}")
    assert runner.plan(case.scan, case.rule, (10, 4224)).endswith(f"; of more than 1 sequence with {streamed}")
    assert runner.plan(long.scan, long.rule, (10, 784)).endswith(f"; of more than 2 sequences with {held}")
    assert "of more than" not in runner.plan(root.scan, root.rule, (10, 784))


def test_what_does_not_run() -> None:
    case = plastic_case("additive", steps=1)
    runner = PlasticSequences()
    assert runner.why_not(case.scan, case.rule, (400, 784), 64) == ""
    assert runner.why_not(case.scan, case.rule, (400, 784)) == ""
    assert "keeps the inputs' traces of 8192 sequences for itself, together 16 GiB" in runner.why_not(
        case.scan, case.rule, (4096, 1024), 8192
    )
    assert "more than 2**31 elements" in runner.why_not(case.scan, case.rule, (10, 2**20), 2**11)


def compiled(name: str, shape: tuple[int, int], archs: list[str], choose=choose_plan, batch: int = 1):
    case = plastic_case(name, steps=1, ins=20, outs=3, store=False)
    chips = [ARCHS[arch] for arch in archs]
    plans = [choose(case.rule, shape, batch, chip.warp) for chip in chips]
    source = print_plastic(case.scan, case.rule, _variant(case.scan, case.rule, case.call, plans[0]))
    return compile_jobs([Job("plastic", source, chip, plan) for chip, plan in zip(chips, plans, strict=True)])


def test_compiles_for_every_chip_with_the_weights_in_registers() -> None:
    for b in compiled("additive", (4000, 784), list(ARCHS)):
        assert b.settings.resident and b.settings.posts == 8
        assert b.resources.spills == 0, f"{b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared
        for word in (".ftz", "fma.", ".approx", "div.full"):
            assert b.arch.backend != "cuda" or word not in b.assembly


def test_compiles_with_the_weights_alone_in_registers() -> None:
    for name, posts, archs in (("additive", 8, list(ARCHS)), ("reward", 4, ["sm_90"])):
        for b in compiled(name, (4000, 784), archs, batch=64):
            assert b.settings.held and b.settings.posts == posts
            assert b.resources.spills == 0 and b.resources.shared <= b.arch.shared, f"{b.arch.name} {b.resources}"


def test_compiles_streamed_for_every_chip() -> None:
    for b in compiled("reward", (40, 5000), list(ARCHS)):
        assert not b.settings.resident and not b.settings.held
        assert b.resources.spills == 0, f"{b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared


@pytest.mark.parametrize("shape", [(4000, 2312), pytest.param((4000, 4096), marks=pytest.mark.slow)])
def test_many_inputs_do_not_spill(shape: tuple[int, int]) -> None:
    (b,) = compiled("additive", shape, ["sm_90"])
    assert b.settings.resident and b.resources.spills == 0 and b.resources.registers <= 255
