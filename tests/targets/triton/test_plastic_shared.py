"""Regions that learn, shared by several programs: against the loop that defines them, interpreted in turns."""

from __future__ import annotations

from random import Random

import pytest
import torch

import snncompile as snn
from snncompile.artifact.printed_cycles import taught_kernels
from snncompile.targets.triton import turns
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.plastic_region_design import RegionSettings, choose_region_settings
from snncompile.targets.triton.plastic_region_order import phases_of
from snncompile.targets.triton.plastic_region_writer import RegionWriter
from snncompile.targets.triton.plastic_regions import PlasticRegions

from .. import plastic_images as images
from .. import plastic_regions as models
from ..scan_calls import poisoned
from .apart import own_caches
from .test_plastic_regions import check, pair, region


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three programs share every region, in any order of turns, with outputs of NaN."""
    random = Random(0)
    monkeypatch.setattr(turns.Turns, "following", staticmethod(lambda now, waiting: random.choice(waiting)))

    def forward(self, plan, call, run=PlasticRegions.forward):
        settings = RegionSettings(2, 32, outs=4, warps=4, sequences=2, taps=16, shares=3)
        return run(PlasticRegions(poisoned, settings), plan, call)

    monkeypatch.setattr(PlasticRegions, "forward", forward)


@pytest.mark.parametrize(
    ("model", "batch", "steps"),
    [
        (models.two_ways, 3, 3), (models.chained, 2, 3), (models.delayed, 1, 4), (models.taught, 3, 3),
        (images.rivals, 2, 3), (images.lines, 1, 3), (models.two_ways, 2, 0), (models.chained, 0, 2),
    ],
)  # fmt: skip
def test_every_form_is_that_of_the_loop(model, batch: int, steps: int) -> None:
    nets = pair(model)
    state = check(nets, batch, steps)[1]
    assert batch * steps == 0 or all(not torch.equal(state[n], nets[0].value(n)) for n in nets[0].layout.learned)


@pytest.mark.parametrize("name", ["triplet", "reward", "decaying"])
def test_every_rule_is_that_of_the_loop(name: str) -> None:
    nets = pair(models.competing(models.RULES[name](), rate=1.5))
    assert check(nets, 2, 4, record=["exc.spikes:sum", "exc.theta", "linear.out"])[0].sum() > 5


@pytest.mark.parametrize("model", [models.two_ways, models.delayed])
def test_memory_that_is_seen_as_late_as_may_be(monkeypatch: pytest.MonkeyPatch, model) -> None:
    monkeypatch.setattr(turns, "_switching", own_caches(1))
    check(pair(model), 2, 2)


@pytest.mark.parametrize("why", ["what others wrote is read", "the next step reads what this one wrote"])
def test_programs_wait_for_each_other(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def barrier(self, because: str, wait=RegionWriter.barrier) -> None:
        if not because.startswith(why):
            wait(self, because)

    monkeypatch.setattr(RegionWriter, "barrier", barrier)
    with pytest.raises(AssertionError):
        for _ in range(3):
            check(pair(models.competing(models.RULES["decaying"](), rate=1.5)), 2, 4)


def test_programs_seldom_wait() -> None:
    plan = region(models.competing(models.RULES["additive"]()))[1]
    first, second = phases_of(plan)
    names = [[getattr(p.step, "name", "") + p.side for p in phase] for phase in (first, second)]
    assert names == [["linear", "linear_1", "stdppre"], ["exc_inh", "stdppost"]]


@snn.model
def large(x=snn.Spikes((2, 12, 12), max=1)):
    """Enough for several programs."""
    seen = x >> snn.Conv2d(8, 3, padding=1, init=0.2 * models.drawn(8, 2, 3, 3)) >> snn.LIF(name="seen")
    wide = snn.Linear(300, bias=False, init=0.02 * models.drawn(300, 1152))
    back = snn.Feedback(300)
    h = (seen >> snn.Flatten() >> wide) + (back >> snn.Linear(300, trainable=False)) >> snn.LIF(name="wide")
    back.close(h)
    snn.learn(wide, snn.STDP(), post=h)
    return h


def test_compiles_for_every_chip_that_can() -> None:
    graph, plan = region(large)
    alone, several = taught_kernels(graph, plan, list(ARCHS))
    assert set(alone[3]) == {"gfx942"} and set(several[3]) == {"sm_80", "sm_90", "sm_100"}
    jobs = [Job(name, source, ARCHS[arch], s) for _, name, source, each in (alone, several) for arch, s in each.items()]
    jobs.append(Job(several[1], several[2], ARCHS["sm_90"], choose_region_settings(plan, 67, processors=132)))
    for b in compile_jobs(jobs):
        assert b.resources.spills == 0, f"{b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared
        if b.arch.backend == "cuda":
            assert "atom.release.gpu" in b.assembly or "atom.global.gpu.release" in b.assembly
