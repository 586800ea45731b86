"""Cycles, and regions that learn, whose signals from outside come late, in Triton kernels of all forms, interpreted."""

from dataclasses import replace

import pytest

from snncompile.artifact.printed_cycles import cycle_plans, plastic_plans, taught_kernels, triton_cycle
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.triton import turns
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.cycle import Cycles
from snncompile.targets.triton.cycle_design import CycleSettings
from snncompile.targets.triton.cycle_shared_design import SharedSettings
from snncompile.targets.triton.plastic_region_design import RegionSettings
from snncompile.targets.triton.plastic_regions import PlasticRegions
from snncompile.targets.triton.target import TritonTarget

from ..cycle_checks import poisoned
from ..late_cycles import KINDS, LateCycles, LateRegions, fed, fit, heard, late_plan
from ..late_networks import check_cycle, check_region
from .apart import own_caches

#: Steps and sequences of regions that learn.
SHAPES = [(5, 1), (1, 2), (0, 2)]


class TestLateCycles(LateCycles):
    target = "triton"

    @pytest.mark.parametrize(("kinds", "shape"), [(KINDS[0], (5, 2)), (KINDS[1], (2, 1)), (KINDS[2], (0, 2))])
    def test_kinds_and_shapes(self, kinds, shape):
        self.check(kinds, shape, strided=shape[1] > 1)

    def make(self, threads=1):
        return Cycles(poisoned, CycleSettings(rows=2, columns=8, ahead=2))


class TestLateCyclesOfSeveralPrograms(LateCycles):
    target = "triton"

    @pytest.fixture(autouse=True)
    def _apart(self, monkeypatch):
        monkeypatch.setattr(turns, "_switching", own_caches(1))

    def make(self, threads=1):
        return Cycles(poisoned, SharedSettings(rows=2, columns=8, ahead=2, steps=2, shares=2), least=1)

    def test_kinds_and_shapes(self):
        self.check(KINDS[2], (3, 2), strided=True)


class TestLateRegions(LateRegions):
    target = "triton"
    shapes = SHAPES

    def make(self, threads=1):
        return PlasticRegions(poisoned, RegionSettings(2, 16, outs=4, warps=4, sequences=2, taps=16, shares=threads))


@pytest.mark.parametrize(
    ("kinds", "offsets"),
    [
        (("trained", "one", "several between"), ("each", "each", "one", "shared")),
        (("several", "too far", "all between"), ("shared", "each", "one", "one")),
    ],
)
def test_networks(kinds, offsets):
    check_cycle(kinds, [(1, 6), (2, 2)], TritonTarget(empty=poisoned), offsets)


def test_networks_that_learn():
    offsets = ("each", "one", "each", "each", "one", "one", "one")
    check_region([(1, 11), (1, 1)], TritonTarget(empty=poisoned), offsets)


def compiled(model):
    return compile_graph(model.build(), Request())


def cycle_kernels(*kinds):
    graph = compiled(fed)
    (plan,) = cycle_plans(graph, (), "triton")
    return [kernel for _, _, kernel in triton_cycle(graph, late_plan(plan, kinds), tuple(ARCHS))]


def test_what_is_not_late_is_printed_as_ever():
    texts, same, late = ([k.source.text for k in cycle_kernels(*kinds)] for kinds in ((), ("",) * 4, KINDS[0]))
    assert texts == same and all(a != b for a, b in zip(texts, late, strict=True))
    assert not any("snn_seen" in text or "_past" in text for text in texts)


def test_kernels_compile_for_every_chip():
    _, backward = cycle_kernels("one", "each", "shared", "each")  # it loads as the forward does, and stores besides
    jobs = [Job("backward", backward.source, ARCHS[a], how) for a, how in backward.settings.items()]
    graph = compiled(heard)
    (plan,) = plastic_plans(graph, (), "triton")
    plan = replace(plan, offsets=fit(plan, ("each", "shared")))
    ((_, name, source, settings),) = taught_kernels(graph, plan, ["sm_90", "gfx942"])
    jobs += [Job(name, source, ARCHS[arch], how) for arch, how in settings.items()]
    for b in compile_jobs(jobs):
        assert b.resources.spills == 0, f"{b.role} {b.arch.name}: {b.resources}"
        for word in (".ftz", "fma.", ".approx", "div.full", "ld.global.nc", "cp.async"):
            assert b.arch.backend != "cuda" or word not in b.assembly, f"{b.role} {b.arch.name} holds {word}"
