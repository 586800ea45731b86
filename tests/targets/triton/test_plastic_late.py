"""Kernels of layers that learn and read signals late: the same bits as where these are made first; for every chip."""

from __future__ import annotations

import pytest
import torch

from snncompile.targets.plastic_call import Wiring
from snncompile.targets.plastic_fields import fields_of
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.plastic import PlasticSequences, _variant, print_plastic
from snncompile.targets.triton.plastic_conv_plan import choose_conv_plan
from snncompile.targets.triton.plastic_kernels import plastic_kernel
from snncompile.targets.triton.plastic_plan import STREAMED_POSTS, choose_plan
from snncompile.targets.triton.plastic_seen import Shows

from ..plastic_calls import Convolution, PlainPlastic, assert_same, plastic_case
from ..plastic_seen import DELAYS, late_case
from ..scan_calls import poisoned
from .test_plastic import held, streamed
from .test_plastic_conv import Narrow

DENSE = [choose_plan, streamed, held]
PLAIN, PADDED = Convolution((2, 3, 3), 2, (2, 2)), Convolution((2, 2, 3), 2, (2, 2), {"padding": (1, 0)})


def check(runs: PlasticSequences, name: str, late: dict, **sizes) -> None:
    case, made = late_case(plastic_case(name, **sizes), **late)
    with torch.no_grad():
        got = runs.forward(case.scan, case.rule, case.call)
        want = PlainPlastic().forward(made.scan, made.rule, made.call)
    assert_same(got, want)


@pytest.mark.parametrize("x", DELAYS)
def test_what_the_connection_takes(x: str) -> None:
    for choose in DENSE if x in ("one", "each", "shared between") else [choose_plan]:
        check(PlasticSequences(poisoned, choose), "additive", {"x": x}, steps=4, outs=2, ins=6)


@pytest.mark.parametrize("inputs", ["one", "each", "shared"])
@pytest.mark.parametrize("choose", DENSE)
def test_what_neurons_are_fed(inputs: str, choose) -> None:
    check(PlasticSequences(poisoned, choose), "additive", {"inputs": inputs}, steps=4, outs=4, ins=3)


@pytest.mark.parametrize("choose", DENSE)
def test_all_at_once_of_several_sequences_chunks_and_blocks(choose) -> None:
    late = {"x": "each between", "pre": "shared between", "inputs": "each"}
    sizes = {"steps": 3, "batch": 2, "outs": 5, "ins": 150, "bias": True, "elsewhere": True}
    check(PlasticSequences(poisoned, choose), "reward", late, fixed=("mask", "sign"), strided=True, **sizes)


@pytest.mark.parametrize("choose", DENSE)
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_runs_shorter_than_the_past(steps: int, choose) -> None:
    for late in ({"x": "one", "inputs": "one"}, {"x": "each", "inputs": "shared"}):
        check(PlasticSequences(poisoned, choose), "additive", late, steps=steps, outs=2, ins=4, store=False)


def test_no_sequences_and_one_feature() -> None:
    for conv in (None, PADDED):
        check(PlasticSequences(poisoned), "additive", {"x": "each between"}, steps=2, batch=0, outs=3, conv=conv)
    check(PlasticSequences(poisoned), "additive", {"x": "between", "inputs": "each"}, steps=4, outs=1, ins=1)


@pytest.mark.parametrize("x", ["one", "shared between"])
def test_convolutions(x: str) -> None:
    for conv in (PLAIN, PADDED):
        check(PlasticSequences(poisoned), "additive", {"x": x, "inputs": "each"}, steps=4, conv=conv, store=False)


@pytest.mark.parametrize("conv", [PLAIN, PADDED])
def test_convolutions_of_batches_and_blocks(conv: Convolution) -> None:
    late = {"x": "each between", "inputs": "shared"}
    check(Narrow(poisoned), "additive", late, steps=3, batch=2, conv=conv, strided=True, store=False)


@pytest.mark.parametrize("late", [("each between", "one"), ("one", "shared between"), ("", "each"), ("each", "")])
def test_convolutions_that_learn_from_something_else(late: tuple[str, str]) -> None:
    for conv in (PLAIN, PADDED):
        given = {"x": late[0], "pre": late[1], "inputs": "one"}
        check(PlasticSequences(poisoned), "reward", given, steps=2, conv=conv, elsewhere=True, fixed=("mask", "sign"))


def test_what_is_late_makes_a_difference() -> None:
    plain, runs = plastic_case("additive", 4, 1, 2, 6), PlasticSequences(poisoned)
    first = runs.forward(plain.scan, plain.rule, plain.call).weight
    for late in ({"x": "one"}, {"x": "each between"}, {"inputs": "each"}):
        case, _ = late_case(plain, **late)
        assert not torch.equal(runs.forward(case.scan, case.rule, case.call).weight, first)


def jobs(name: str, late: dict, shape: tuple[int, int], batch: int, archs: list[str], conv: Convolution | None = None):
    plain = plastic_case(name, steps=1, outs=4, ins=20, store=False, conv=conv, elsewhere="pre" in late)
    case, _ = late_case(plain, **late)
    found = []
    for chip in (ARCHS[arch] for arch in archs):
        if conv is None:
            plan = choose_plan(case.rule, shape, batch, chip.warp)
        else:
            plan = choose_conv_plan(fields_of(case.rule.node), chip.warp)
        variant = _variant(case.scan, case.rule, case.call, plan)
        source = print_plastic(case.scan, case.rule, variant)
        found.append(Job("plastic", source, chip, plan.reading_late() if variant.each else plan))
    return found


def test_compiles_for_every_chip() -> None:
    every, computed = list(ARCHS), {"x": "shared between", "inputs": "each"}
    image = Convolution((2, 34, 34), 16, (5, 5))
    made = compile_jobs(
        [
            *jobs("additive", {"x": "one", "inputs": "one"}, (100, 784), 1, ["gfx942"]),
            *jobs("additive", computed, (100, 784), 1, ["sm_90"]),
            *jobs("additive", computed, (400, 784), 8, ["sm_80"]),
            *jobs("reward", {**computed, "pre": "each"}, (40, 5000), 1, every),
            *jobs("additive", {**computed, "pre": "one"}, (0, 0), 1, every, image),
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
    for late in ({"x": "one"}, {"x": "each between", "pre": "replaced", "inputs": "each"}):
        plain = plastic_case("additive", 4, 1, 2, 6, elsewhere="pre" in late, store=False)
        case, _ = late_case(plain, **late)
        call = case.call
        variant = _variant(case.scan, case.rule, call, choose_plan(case.rule, call.weight.shape))
        seen = {
            of: Shows(one.scan, kinds_of(one), [p for p in one.scan.params if late[of] != "one"])
            for of, one in call.seen.items()
        }
        per_neuron = [p for p in case.scan.params if not p.endswith("bias")]
        wiring = Wiring(call.port, call.source, False, False, call.pre is not None)
        made = plastic_kernel(
            case.scan, case.rule, wiring, call.store, per_neuron, [ARCHS["sm_90"]], variant.late, seen
        )
        assert made.source.text == print_plastic(case.scan, case.rule, variant).text
        assert made.settings["sm_90"].registers == (255 if "pre" in late else 0)


def kinds_of(seen) -> tuple[str, ...]:
    return tuple("" if one is None else one.kind for one in seen.late)
