"""Kernels of layers that learn and read signals late: the same bits as where these are made first; for every chip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.targets.plastic_call import Wiring
from snncompile.targets.plastic_fields import fields_of
from snncompile.targets.scan import Seen
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.plastic import PlasticSequences, _variant, making_in, print_plastic
from snncompile.targets.triton.plastic_conv_plan import choose_conv_plan
from snncompile.targets.triton.plastic_kernels import plastic_kernel
from snncompile.targets.triton.plastic_plan import STREAMED_POSTS, Making, choose_plan
from snncompile.targets.triton.plastic_seen import Shows

from ..late_plastic import DELAYS, HEARD, late_case
from ..plastic_calls import Convolution, PlainPlastic, assert_same, plastic_case
from ..scan_calls import poisoned
from .test_plastic import held, streamed
from .test_plastic_conv import Narrow

DENSE = [choose_plan, streamed, held]
PLAIN, PADDED = Convolution((2, 3, 3), 2, (2, 2)), Convolution((2, 2, 3), 2, (2, 2), {"padding": (1, 0)})


def check(runs: PlasticSequences, name: str, shown: dict, neurons: str = "", strided: bool = False, **sizes) -> None:
    case, plain = late_case(plastic_case(name, elsewhere="pre" in shown, **sizes), shown, neurons, strided=strided)
    assert runs.offsets
    with torch.no_grad():
        got = runs.forward(case.scan, case.rule, case.call)
        assert_same(got, PlainPlastic().forward(case.scan, case.rule, plain))


@pytest.mark.parametrize("x", DELAYS)
def test_what_the_connection_takes(x: str) -> None:
    for choose in DENSE if x in ("whole", "each", "shared between") else [choose_plan]:
        check(PlasticSequences(poisoned, choose), "additive", {"x": x}, steps=7, outs=2, ins=6)


@pytest.mark.parametrize("kind", ["whole", "between", *HEARD])
def test_what_the_rule_hears(kind: str) -> None:
    for choose in DENSE:
        check(PlasticSequences(poisoned, choose), "reward", {"reward": kind}, steps=5, batch=2, outs=2, ins=3)
    check(PlasticSequences(poisoned), "reward", {"reward": kind}, steps=1, batch=3, outs=2, ins=3, strided=True)
    for steps, batch in ((0, 1), (2, 0)):
        check(PlasticSequences(poisoned), "reward", {"reward": kind}, steps=steps, batch=batch, outs=2, ins=3)
    check(PlasticSequences(poisoned), "reward", {"reward": kind}, steps=3, conv=PLAIN, store=False)


@pytest.mark.parametrize("neurons", ["one", "each", "shared"])
@pytest.mark.parametrize("choose", DENSE)
def test_what_neurons_are_fed(neurons: str, choose) -> None:
    check(PlasticSequences(poisoned, choose), "additive", {}, neurons, steps=6, outs=4, ins=3)


@pytest.mark.parametrize("choose", DENSE)
def test_all_at_once_of_several_sequences_chunks_and_blocks(choose) -> None:
    shown, fixed = {"x": "each between", "pre": "shared between"}, ("mask", "sign")
    sizes = {"steps": 4, "batch": 2, "outs": 5, "ins": 150, "bias": True}
    check(PlasticSequences(poisoned, choose), "reward", shown, "each", strided=True, fixed=fixed, **sizes)


@pytest.mark.parametrize("choose", DENSE)
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_runs_shorter_than_the_past(steps: int, choose) -> None:
    for x, neurons in (("whole", "one"), ("each", "shared")):
        check(PlasticSequences(poisoned, choose), "additive", {"x": x}, neurons, steps=steps, outs=2, ins=4)


def test_no_sequences_and_one_feature() -> None:
    for conv in (None, PADDED):
        check(PlasticSequences(poisoned), "additive", {"x": "each between"}, steps=2, batch=0, outs=3, conv=conv)
    check(PlasticSequences(poisoned), "additive", {"x": "between"}, "each", steps=4, outs=1, ins=1)


@pytest.mark.parametrize("x", ["whole", "shared between"])
def test_convolutions(x: str) -> None:
    for conv in (PLAIN, PADDED):
        check(PlasticSequences(poisoned), "additive", {"x": x}, "each", steps=6, conv=conv, store=False)


@pytest.mark.parametrize("conv", [PLAIN, PADDED])
def test_convolutions_of_batches_and_blocks(conv: Convolution) -> None:
    shown = {"x": "each between"}
    check(Narrow(poisoned), "additive", shown, "shared", True, steps=3, batch=2, conv=conv, store=False)


@pytest.mark.parametrize(("x", "pre"), [("each between", "whole"), ("whole", "shared between"), ("", "each")])
def test_convolutions_that_learn_from_something_else(x: str, pre: str) -> None:
    shown = {"pre": pre, **({"x": x} if x else {})}
    for conv in (PLAIN, PADDED):
        check(PlasticSequences(poisoned), "reward", shown, "one", steps=2, conv=conv, fixed=("mask", "sign"))


def test_names_of_delays_are_no_names_of_the_kernel() -> None:
    shown = {"x": "between", "pre": "each"}
    case, plain = late_case(plastic_case("additive", 3, 1, 2, 6, elsewhere=True), shown, "each")
    seen = {side: replace(one, scan=replace(one.scan, name="snn_late_each")) for side, one in case.call.seen.items()}
    got = PlasticSequences(poisoned).forward(case.scan, case.rule, replace(case.call, seen=seen))
    assert_same(got, PlainPlastic().forward(case.scan, case.rule, plain))


@snn.model(dt=1 * ms)
def late_layer(x=snn.Spikes(6, max=1), taught=snn.Spikes((3,), max=1), more=snn.Current(4)):
    """Each of what it reads is late in another way."""
    connection = snn.Linear(4, init=torch.rand(4, 6, generator=torch.Generator().manual_seed(0)))
    taken = x >> snn.Delay(np.linspace(0.5, 3.0, 6) * ms, interpolation="linear")
    watched = taught >> snn.Delay(np.array([[1, 2], [3, 1], [4, 2]]) * ms) >> snn.Flatten()
    fed = more >> snn.Delay(1.5 * ms, interpolation="linear")
    h = (taken >> connection) + fed >> snn.ExpSyn(tau=3 * ms) >> snn.LIF(threshold=1.2)
    snn.learn(connection, snn.STDP(eta_plus=0.05, eta_minus=0.03), pre=watched)
    return h


def test_a_network_hands_in_what_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    forward = PlasticSequences.forward
    monkeypatch.setattr(PlasticSequences, "forward", lambda *given: calls.append(given[3]) or forward(*given))
    draw = torch.Generator().manual_seed(1)
    given = [(torch.rand(2, 7, size, generator=draw) < 0.5).float() for size in (6, 3, 4)]
    nets = [snn.compile(late_layer, target=target) for target in ("torch", "triton")]
    nets[1].load_state_dict(nets[0].state_dict())
    with torch.no_grad():
        found = [net.evolve(*given, record=["stdp.t_pre", "stdp.t_post"]) for net in nets]
    (call,) = calls
    assert {what: kinds_of(one) for what, one in call.seen.items()} == {"x": ("each", "each"), "pre": ("shared",)}
    assert [one and one.kind for one in call.late] == ["one", "one", None]
    assert float(found[0][0].sum()) > 3
    for a, b in zip(*found, strict=True):
        a, b = ({"out": v} if isinstance(v, torch.Tensor) else v for v in (a, b))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def jobs(name: str, shown: dict, neurons: str, shape: tuple[int, int], batch: int, archs: list[str], conv=None):
    plain = plastic_case(name, steps=1, outs=4, ins=20, store=False, conv=conv, elsewhere="pre" in shown)
    case, _ = late_case(plain, shown, neurons)
    found = []
    for chip in (ARCHS[arch] for arch in archs):
        if conv is None:
            plan = choose_plan(case.rule, shape, batch, chip.warp, making_in(case.call))
        else:
            plan = choose_conv_plan(fields_of(case.rule.node), chip.warp)
        variant = _variant(case.scan, case.rule, case.call, plan)
        source = print_plastic(case.scan, case.rule, variant)
        found.append(Job("plastic", source, chip, plan.reading_late() if variant.reads_late else plan))
    return found


def test_compiles_for_every_chip() -> None:
    every, computed = list(ARCHS), {"x": "shared between"}
    image = Convolution((2, 34, 34), 16, (5, 5))
    made = compile_jobs(
        [
            *jobs("additive", {"x": "whole"}, "one", (100, 784), 1, ["gfx942"]),
            *jobs("additive", computed, "each", (100, 784), 1, ["sm_90"]),
            *jobs("additive", computed, "each", (400, 784), 8, ["sm_80"]),
            *jobs("reward", {**computed, "pre": "each"}, "each", (40, 5000), 1, every),
            *jobs("reward", {"reward": "trained"}, "", (40, 5000), 1, ["sm_80", "sm_90"]),
            *jobs("additive", {**computed, "pre": "whole"}, "each", (0, 0), 1, every, image),
        ]
    )
    forms = {(b.settings.resident, b.settings.held, b.settings.posts) for b in made}
    assert {(True, False, 2), (False, True, 4), (False, False, STREAMED_POSTS), (False, False, 1)} == forms
    for b in made:
        assert b.resources.spills == 0, f"{b.arch.name} {b.settings} {b.resources}"
        assert b.resources.shared <= b.arch.shared
        for word in (".ftz", "fma.", ".approx", "div.full"):
            assert b.arch.backend != "cuda" or word not in b.assembly


def test_the_kernel_made_ahead_of_time_is_that_of_a_call() -> None:
    for shown, neurons in (({"x": "whole"}, ""), ({"x": "each between", "pre": "replaced"}, "each")):
        plain = plastic_case("additive", 4, 1, 2, 6, elsewhere="pre" in shown, store=False)
        case, _ = late_case(plain, shown, neurons)
        call = case.call
        variant = _variant(case.scan, case.rule, call, choose_plan(case.rule, call.weight.shape))
        per_neuron = [p for p in case.scan.params if not p.endswith("bias")]
        wiring = Wiring(call.port, call.source, False, False, call.pre is not None)
        seen = {side: Shows(one.scan, kinds_of(one), one.scan.params) for side, one in call.seen.items()}
        chips, late = [ARCHS["sm_90"]], variant.late
        made = plastic_kernel(case.scan, case.rule, wiring, call.store, per_neuron, chips, late, seen)
        assert made.source.text == print_plastic(case.scan, case.rule, variant).text
        assert made.settings["sm_90"].registers == 255


def test_plans() -> None:
    rule = plastic_case("additive", steps=1).rule
    between, several = Making(2, 27), Making(4, 27)
    assert choose_plan(rule, (100, 784), 1, 32, several) == choose_plan(rule, (100, 784))
    assert choose_plan(rule, (4000, 2312)).posts == 4 and choose_plan(rule, (4000, 2312), 1, 32, between).posts == 2
    assert choose_plan(rule, (100, 784), 4).resident and choose_plan(rule, (100, 784), 4, 32, between).held
    assert choose_plan(rule, (100, 2312)).resident and choose_plan(rule, (100, 2312), 1, 32, several).held
    assert choose_plan(rule, (100, 4096), 1, 32, several).resident  # not streamed


def kinds_of(seen: Seen) -> tuple[str, ...]:
    return tuple("" if one is None else one.kind for one in seen.late)
