"""Cycles that several programs share, in the interpreter: turns in any order, and memory as each of them may see it.

Blocks of a few neurons, so that the smallest networks are shared. They are compared with the reference, and with the
form of one program.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.explain import explain
from snncompile.ir.errors import UnsupportedError
from snncompile.targets.cycle_blocks import blocks_of, made_by, reads_of
from snncompile.targets.cycle_limits import MEETING_WEIGHTS, way_of
from snncompile.targets.cycle_weights import Synapses
from snncompile.targets.executor import Executor
from snncompile.targets.triton import cycle, recurrent_launch, turns
from snncompile.targets.triton.cycle import Cycles
from snncompile.targets.triton.cycle_shared_design import SharedSettings, choose_shared, listed_products
from snncompile.targets.triton.cycle_tables import in_order, marks_table
from snncompile.targets.triton.target import TritonTarget

from ...compare import assert_close_gradients, assert_same_bits
from ...mixed_models import counts
from ...plain_target import PlainTarget
from ..cycle_checks import (
    check_as_the_reference,
    check_images_as_the_reference,
    check_states_and_strides,
    poisoned,
    run,
)
from .apart import own_caches
from .test_cycle import large

#: Seed of a network -> batch, steps, and sequences, steps and neurons of a tile. They are late by 4, 1 and 5 steps, and
#: have among them: lists for dense and sparse products, delays of each kind, copies, noise.
SHAPES = {10: (1, 5, 1, 2, 4), 13: (2, 1, 2, 2, 2), 29: (1, 6, 1, 4, 2)}


def target(least=1, **settings):
    """The target, whose cycles are shared."""
    made = TritonTarget(empty=poisoned)
    chosen = {"rows": 2, "columns": 1, "ahead": 2, "steps": 2, "shares": 3, "at_once": 1, **settings}
    made.cycles = Cycles(poisoned, SharedSettings(**chosen), least=least)
    return made


@pytest.mark.parametrize("seed", SHAPES)
def test_as_the_reference(monkeypatch, seed):
    monkeypatch.setattr(turns, "_switching", own_caches(seed))
    batch, steps, rows, together, columns = SHAPES[seed]
    how = target(rows=rows, steps=together, columns=columns, shares=2 + seed % 2, at_once=1 + seed % 2)
    check_as_the_reference(seed, (batch, steps), how)


@pytest.mark.parametrize("seed", [22, 31])
def test_images_as_the_reference(monkeypatch, seed):
    monkeypatch.setattr(turns, "_switching", own_caches(seed))
    check_images_as_the_reference(seed, [(2, 3)], target(columns=32, steps=1 + seed % 2))


@snn.model(dt=1 * ms)
def ring(x=snn.Spikes(3, max=1)):
    """Two populations that feed each other, three steps late: products of every kind that reads lists, and a copy."""
    rng = np.random.default_rng(0)
    back, own = snn.Feedback(5, delay=3 * ms), snn.Feedback(12, delay=4 * ms)
    weight = rng.integers(-4, 9, (12, 5)) / 8
    h = (x >> snn.Linear(12)) + (back >> snn.Linear(12, init=weight)) + (own >> snn.Sparse(12, p=0.3, seed=2))
    first = h >> snn.LIF(threshold=0.3, max_spikes_per_dt=2, noise_std=0.01, name="first")
    second = first >> snn.Sparse(5, p=0.4, seed=1) >> snn.LIF(threshold=0.3, name="second")
    back.close(second)
    own.close(first)
    return second


def compiled():
    torch.manual_seed(0)
    return snn.compile(ring, target="triton"), ["first.v", "first.spikes", "second.spikes", "first.v:sum"]


def test_as_one_program():
    """Bit for bit, with lists and without, however it is divided; gradients within rounding."""
    net, record = compiled()
    x = counts(0, 2, 4)[:, :, :3].contiguous()
    one = TritonTarget(empty=poisoned)
    one.cycles = Cycles(poisoned, form="one")
    want = run(net, x, record, Executor(net.graph, one))
    assert_same_bits(run(net, x, record, Executor(net.graph, PlainTarget())), want)
    assert want.values["second.spikes"].any() and want.values["first.spikes"].max() > 1
    for least, how in ((1, {"columns": 8}), (100, {"rows": 1, "columns": 8, "at_once": 2, "ahead": 3})):
        got = run(net, x, record, Executor(net.graph, target(least, **how)))
        assert_same_bits(want, got)
        assert_close_gradients(want, got)


def printed(monkeypatch, change):
    """Have ``change`` rewrite the source of each kernel."""
    load = cycle.load
    monkeypatch.setattr(
        cycle, "load", lambda source, interpret: load(replace(source, text=change(source.text)), interpret)
    )


WAIT = "met += shares\n        snn_meet(arrived, met)  # {}"


@pytest.mark.parametrize(
    ("which", "why"),
    [
        ("forward", "what others wrote is read"),
        ("forward", "the next steps read what these wrote"),
        ("backward", "what others wrote is read"),
    ],
)
def test_a_wait_that_is_missing_is_found(monkeypatch, which, why):
    """In the middle of a block and at its end; without lists, since damaged ones lead anywhere."""
    net, record = compiled()
    dropped = []

    def change(text):
        wait = WAIT.format(why)
        if f"_{which}_shared(" not in text or wait not in text:
            return text
        dropped.append(wait)
        return text.replace(wait, "pass", 1)

    x = counts(0, 1, 4)[:, :, :3].contiguous()
    want = run(net, x, record, Executor(net.graph, PlainTarget()))
    printed(monkeypatch, change)
    with pytest.raises(AssertionError):
        for seed in range(3):
            monkeypatch.setattr(turns, "_switching", own_caches(seed))
            got = run(net, x, record, Executor(net.graph, target(100, columns=4, rows=1)))
            assert_same_bits(want, got)
            assert_close_gradients(want, got)
    assert dropped


def test_how_often_programs_wait(monkeypatch):
    """Once before each product that needs it, and at the end; here for three steps at a time."""
    texts = []
    printed(monkeypatch, lambda text: texts.append(text) or text)
    net, record = compiled()
    x = counts(0, 1, 2)[:, :, :3].contiguous()
    run(net, x, record, Executor(net.graph, target(100, columns=4)))
    run(net, x, record, Executor(net.graph, target(columns=4)))
    waits = [text.count("snn_meet(arrived, met)  #") for text in texts]
    assert waits == [2, 4, 5, 4]  # forward and backward; with lists of the past, and of two populations, too
    assert all("for start in range(0, T, late_steps):" in text for text in texts)


def test_the_gradient_of_states_and_strided_inputs():
    check_states_and_strides(target(rows=4, columns=4, shares=2), 5)


def plan_of(model, name="triton"):
    executor = snn.compile(model, target=name).executor(torch.device("cpu"))
    (plan,) = executor.runner.plans().values()
    return plan


def test_blocks():
    """As long as the cycle is late all around, whatever delays there are inside of it."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(4, max=1)):
        back = snn.Feedback(4, delay=5 * ms)
        first = x + (back >> snn.Linear(4)) >> snn.LIF(name="first")
        late = first >> snn.Delay(2 * ms)
        second = (late >> snn.Linear(4)) + (first >> snn.Delay(1 * ms)) >> snn.LIF(name="second")
        back.close(second)
        return first

    plan = plan_of(model)
    order, late = blocks_of(plan)
    assert late == 5 > plan.late == 1 and sorted(map(str, order)) == sorted(map(str, plan.steps))
    made = {line: i for i, step in enumerate(order) for line in made_by(step)}
    for i, step in enumerate(order):
        assert all(made[r.line] < i or r.lag >= late for r in reads_of(step))
    assert blocks_of(plan_of(large(8, 1))).late == 1


def test_marks():
    dense = torch.rand(50, 70, generator=torch.Generator().manual_seed(0)) < 0.3
    _, targets = dense.nonzero(as_tuple=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), dense.sum(1).cumsum(0)])
    synapses = Synapses(torch.tensor([0, 50]), torch.arange(50, dtype=torch.int32), starts, targets.int())
    assert in_order(synapses, 70)
    table = marks_table(synapses, 50, 70)
    assert table.shape == (50, 3)
    for source in (0, 31, 49):
        found = [n for n in range(70) if table[source, n // 32] >> n % 32 & 1]
        assert found == dense[source].nonzero().flatten().tolist()
        assert (table[source] >> 32)[0] == starts[source]
        assert (table[source] >> 32)[2] == starts[source] + dense[source, :64].sum()
    twice = replace(synapses, targets=targets.int().clone().index_fill_(0, torch.tensor([1]), int(targets[0])))
    assert not in_order(twice, 70)


def test_large_cycles_are_shared():
    def said(size, late):
        regions = explain(large(size, late).build(), "triton").regions
        return next(r.runs_as for r in regions if r.kind == "recurrent")

    one = "one kernel for the cycle, over all steps: 2 populations and 2 connections inside (Triton)"
    assert said(256, 1) == one
    assert said(256, 9) == (
        f"{one}, in several programs, 9 steps at a time, since its 131,072 weights are read quicker by many programs"
    )
    plan = plan_of(large(256, 9))
    assert plan.weights <= 3 * MEETING_WEIGHTS < plan.weights * plan.late
    runner, cpu = Cycles(), torch.device("cpu")
    assert recurrent_launch.processors(cpu) == 8
    assert runner._late(plan, (20, 64), cpu, back=False) == 9
    assert runner._late(plan, (20, 65), cpu, back=False) == 0  # five tiles, of which each would get one program
    assert runner._late(plan_of(large(1024, 9)), (20, 5000), cpu, back=False) == 9  # in lots
    assert Cycles(form="one")._late(plan, (20, 1), cpu, back=False) == 0
    assert Cycles(form="several")._late(plan, (20, 65), cpu, back=False) == 9
    assert Cycles()._late(plan_of(large(32, 2)), (20, 1), cpu, back=False) == 0
    assert Cycles()._late(plan, (2**31 - 1, 1), cpu, back=False) == 0  # arrivals are counted in 32 bits


def test_an_amd_gpu_takes_the_largest_node_by_node(monkeypatch):
    plan = plan_of(large(1024, 9))
    assert way_of(plan, "triton").suits(plan, 1, training=False)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert way_of(plan, "triton").why == "its 2,097,152 weights are read quicker by many programs for 9 steps at once"
    assert not way_of(plan, "triton").suits(plan, 1, training=False)
    assert not way_of(plan_of(large(256, 9)), "triton").several
    with pytest.raises(UnsupportedError, match="programs that share a cycle need an NVIDIA GPU"):
        Cycles(form="several")._late(plan, (20, 1), torch.device("cuda"), back=False)


def test_forms(monkeypatch):
    monkeypatch.setenv("SNNCOMPILE_CYCLE_FORM", "several")
    assert Cycles()._form == "several"
    monkeypatch.setenv("SNNCOMPILE_CYCLE_FORM", "many")
    with pytest.raises(UnsupportedError, match="there is no form 'many' of a cycle's kernels; there are one, several"):
        Cycles()


@pytest.mark.parametrize(
    ("batch", "rows", "steps", "shares", "at_once"),
    [(1, 1, 16, 64, 1), (3, 4, 4, 64, 1), (16, 16, 1, 64, 1), (100, 16, 1, 18, 7), (5000, 16, 1, 2, 66)],
)
def test_settings(batch, rows, steps, shares, at_once):
    chosen = choose_shared(plan_of(large(1024, 9)), batch, 9, 132)
    assert (chosen.rows, chosen.steps, chosen.columns) == (rows, steps, 16)
    assert (chosen.shares, chosen.at_once) == (shares, at_once)
    assert chosen.at_once * chosen.shares <= 132  # all of them run at the same time
    assert chosen.stages == 1  # a load that ran ahead would read what is not written yet


def test_what_reads_lists():
    plan = plan_of(large(64, 2))
    assert listed_products(plan, [None, None], 64) == (True, True)
    assert listed_products(plan, [None, None], 65) == (False, False)
    assert listed_products(plan, [64 * 2 // 4, 64 * 2 // 4 - 1], 64) == (True, False)
