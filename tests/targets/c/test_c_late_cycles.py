"""Cycles, and regions that learn, whose signals from outside come late, in C."""

from snncompile.targets.c.cycle import Cycles
from snncompile.targets.c.plastic_regions import PlasticRegions

from ..cycle_checks import poisoned
from ..late_cycles import LateCycles, LateRegions


class TestLateCycles(LateCycles):
    target = "c"

    def make(self, threads=1):
        return Cycles(threads, poisoned)


class TestLateRegions(LateRegions):
    target = "c"

    def make(self, threads=1):
        return PlasticRegions(threads, poisoned)
