"""Cycles, and regions that learn, whose signals from outside come late, in C."""

import pytest
import torch

import snncompile as snn
from snncompile.targets.c.cycle import Cycles
from snncompile.targets.c.cycle_forward import CycleForward, print_cycle_forward
from snncompile.targets.c.cycle_printed import cycle_sources
from snncompile.targets.c.plastic_regions import PlasticRegions
from snncompile.targets.c.target import CTarget

from ..cycle_checks import poisoned
from ..late_cycles import KINDS, LateCycles, LateRegions, fed, late_plan, taken
from ..late_networks import check_cycle, check_region, cycle_with


class TestLateCycles(LateCycles):
    target = "c"

    def make(self, threads=1):
        return Cycles(threads, poisoned)


class TestLateRegions(LateRegions):
    target = "c"

    def make(self, threads=1):
        return PlasticRegions(threads, poisoned)


@pytest.mark.parametrize(
    ("kinds", "offsets"),
    [
        (("trained", "one", "several between"), ("each", "each", "one", "shared")),
        (("several", "too far", "all between"), ("shared", "each", "one", "one")),
    ],
)
def test_networks(kinds, offsets):
    check_cycle(kinds, [(2, 13), (1, 30), (3, 2)], CTarget(2, poisoned), offsets)


def test_networks_that_learn():
    check_region([(2, 11), (1, 5), (1, 1)], CTarget(2, poisoned), ("each", "one", "each", "each", "one", "one", "one"))


def test_what_is_printed_without_a_call_is_what_runs():
    net = snn.compile(cycle_with("trained", "one", "several"), target="c")
    sum(v.sum() for v in net(torch.ones(2, 9, 5)).values()).backward()
    ((plan, made),) = net.executor(torch.device("cpu")).runner.cycles._kernels.items()
    forward, backward = made
    one = {n.name: [c for c, is_one in zip(plan.scans[n.name].coefs, flags, strict=True) if is_one]
           for n, flags in zip(plan.neurons, forward.scalar, strict=True)}  # fmt: skip
    one_reverse = {n.name: [c for c, is_one in zip(plan.scans[n.name].reverse_coefs, flags, strict=True) if is_one]
                   for n, flags in zip(plan.neurons, backward.scalar, strict=True)}  # fmt: skip
    shown = cycle_sources(plan, backward.grads, one, one_reverse)
    assert [made[forward].source.text, made[backward].source.text] == [s.text for s in shown.values()]
    assert "snn_late_row" in shown["forward"].text and "snn_late_back" in shown["backward"].text


def test_what_is_not_late_is_printed_as_ever():
    plan, call = taken(fed, "c", "cycles")["forward"]
    variant = CycleForward(tuple((False,) * len(call.coefs[n.name]) for n in plan.neurons), plan.live(call.store))
    plain, same, late = (
        print_cycle_forward(one, variant).text for one in (plan, late_plan(plan, ("",) * 4), late_plan(plan, KINDS[0]))
    )
    assert plain == same and "snn_late_row" in late and "snn_late" not in plain
