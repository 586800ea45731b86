"""Regions that learn, with images, in one Triton kernel: against the loop that defines them, interpreted."""

from __future__ import annotations

import pytest
import torch

from snncompile.artifact.printed_cycles import taught_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.plastic_region_design import RegionSettings, choose_region_settings
from snncompile.targets.triton.plastic_regions import PlasticRegions

from .. import plastic_images as models
from ..plastic_regions import RULES
from ..scan_calls import poisoned
from .test_plastic_regions import check, given, pair, region


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list:
    """The plans that ran as one kernel, with outputs of NaN, by tiles so small that all loops turn more than once."""
    found = []

    def forward(self, plan, call, run=PlasticRegions.forward):
        found.append(plan)
        settings = RegionSettings(2, 128, outs=4, warps=4, sequences=2, taps=32)
        return run(PlasticRegions(poisoned, settings), plan, call)

    monkeypatch.setattr(PlasticRegions, "forward", forward)
    return found


@pytest.mark.parametrize(
    ("model", "batch", "steps"),
    [(models.rivals, 3, 3), (models.rivals, 1, 1), (models.rivals, 2, 0), (models.lines, 2, 3)],
)
def test_every_form_is_that_of_the_loop(ran: list, model, batch: int, steps: int) -> None:
    nets = pair(model)
    state = check(nets, batch, steps)[1]
    assert len(ran) == 1
    assert steps < 2 or all(not torch.equal(state[n], nets[0].value(n)) for n in nets[0].layout.learned)


@pytest.mark.parametrize(("rules", "batch", "steps"), [(("reward", "additive"), 2, 2), (("decaying", "reward"), 1, 2)])
def test_every_rule_is_that_of_the_loop(ran: list, rules: tuple[str, str], batch: int, steps: int) -> None:
    nets = pair(models.layered(*(RULES[r]() for r in rules)))
    state = check(nets, batch, steps)[1]
    assert ran
    assert all(not torch.equal(state[n], nets[0].value(n)) for n in nets[0].layout.learned)


@pytest.mark.parametrize("seed", [1, 5])
def test_random_regions(ran: list, seed: int) -> None:
    nets = pair(models.some_region(seed))
    for net in nets:
        net.train(seed == 5)  # where one has a Dropout
    check(nets, 1 + seed % 3, 2)
    assert ran


def test_a_batch_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = PlasticRegions.forward
    monkeypatch.setattr(PlasticRegions, "forward", lambda _, *given: forward(PlasticRegions(poisoned), *given))
    check(pair(models.rivals), 67, 1)


def test_weights_that_are_no_numbers(ran: list) -> None:
    nets = pair(models.layered(RULES["decaying"](), RULES["reward"]()))
    for net in nets:
        with torch.no_grad():
            net.value("conv2d_1.weight")[3, 1, 0, 1] = float("inf")
            net.value("conv2d_3.weight")[2, 2, 0, 0] = float("nan")
    x = given(nets[0], 1, 2)
    with torch.no_grad():
        want, got = (net.evolve(**x, record=True) for net in nets)
    assert ran
    for a, b in zip(got, want, strict=True):
        for name, wanted in b.items():
            assert torch.equal(a[name].isnan(), wanted.isnan()), name
            assert torch.equal(a[name].nan_to_num(7.0), wanted.nan_to_num(7.0)), name


def test_explain_says_so() -> None:
    said = explain_text(explain(models.rivals.build(), "triton"))
    assert "one kernel for all steps, weights updated at each: 2 kernels, 3 products, 1 rule inside, in one" in said


def test_compiles_for_every_chip() -> None:
    graph, plan = region(models.layered(RULES["reward"](), RULES["power"]()))
    ((_, name, source, settings),) = taught_kernels(graph, plan, list(ARCHS))
    jobs = [Job(name, source, ARCHS[arch], s) for arch, s in settings.items()]
    jobs.append(Job(name, source, ARCHS["sm_90"], choose_region_settings(plan, 67)))
    for b in compile_jobs(jobs):
        assert b.resources.spills == 0, f"{b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared
        for word in (".ftz", "fma.", ".approx", "div.full"):
            assert b.arch.backend != "cuda" or word not in b.assembly
