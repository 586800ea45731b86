"""Cycles of any form in one Triton kernel, in the interpreter: against the plain reference, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.targets.executor import Executor
from snncompile.targets.triton.cycle import check_size
from snncompile.targets.triton.cycle_design import CycleSettings, choose_settings
from snncompile.targets.triton.target import TritonTarget

from ...compare import assert_close_gradients, assert_same_bits, outcome
from ...mixed_models import counts
from ...plain_target import PlainTarget
from ..cycle_checks import (
    check_as_the_reference,
    check_pieces,
    check_states_and_strides,
    poisoned,
    ring_rows,
    rows_kept,
    run,
)

#: Seed of a network -> batch and steps. Between them: delays of each kind, dense and by synapse, several lags of a
#: line, lines that hold another's values, noise, and cycles that are late by up to five steps.
SHAPES = {1: (1, 3), 3: (2, 3), 5: (2, 3), 6: (0, 4), 8: (1, 1), 9: (2, 0), 11: (3, 5), 12: (3, 3)}


def target(**settings):
    """The target, with launch settings of its own for cycles."""
    made = TritonTarget(empty=poisoned)
    made.cycles._settings = CycleSettings(**settings) if settings else None
    return made


@pytest.mark.parametrize("seed", SHAPES)
def test_as_the_reference(seed):
    check_as_the_reference(seed, SHAPES[seed], target(rows=2, columns=16, ahead=1 + seed % 3))


def small(threshold=0.3, **how):
    """Two populations, one of them larger than a block, that feed each other, one of them late."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(3, max=1)):
        rng = np.random.default_rng(0)
        back = snn.Feedback(2, delay=3 * ms)
        weight = rng.integers(-4, 9, (19, 2)) / 8
        h = (x >> snn.Linear(19)) + (back >> snn.Linear(19, bias=False, init=weight))
        first = h >> snn.LIF(threshold=threshold, max_spikes_per_dt=2, name="first", **how)
        second = first >> snn.Sparse(2, p=0.4, seed=1) >> snn.LIF(threshold=threshold, name="second")
        back.close(second)
        return second

    return model


def test_settings_change_nothing():
    """Neither tiles nor the rest of the batch: not one bit, of gradients either."""
    torch.manual_seed(0)
    net = snn.compile(small(), target="triton")
    x, record = counts(0, 3, 4)[:, :, :3].contiguous(), ["first.v", "second.spikes"]
    ways = ({"rows": 4, "columns": 16, "ahead": 3}, {})
    found = [run(net, x, record, Executor(net.graph, target(**way))) for way in ways]
    assert found[0].values["second.spikes"].any()
    assert_same_bits(*found)
    assert all(torch.equal(g, found[1].gradients[n]) for n, g in found[0].gradients.items())
    alone = run(net, x[1:2], record, Executor(net.graph, target()))
    assert all(torch.equal(v[1:2], alone.values[k]) for k, v in found[0].values.items())


def test_a_sequence_in_pieces_is_the_sequence():
    torch.manual_seed(0)
    net = snn.compile(small(noise_std=0.125), target="triton")
    check_pieces(net, 5, (0, 2, 3), counts(1, 2, 5)[:, :, :3])


def test_the_gradient_of_states_and_strided_inputs():
    check_states_and_strides(target(rows=4, columns=16, ahead=2), 5)


def test_what_is_not_wanted_is_not_kept():
    assert rows_kept("triton", 7) == ring_rows(7, five=8)


def test_checkpoints_change_nothing():
    torch.manual_seed(0)
    model = small()
    x = counts(0, 2, 4)[:, :, :3].contiguous()
    found = []
    for options in ({}, {"checkpoint": 2}):
        torch.manual_seed(0)
        net = snn.compile(model, target="triton", **options)
        found.append(outcome(net, x, []))
    assert_same_bits(*found)
    assert_close_gradients(*found)


@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 1, 32), (128, 1, 32), (129, 2, 32), (5000, 16, 16)])
def test_settings_go_by_the_batch(batch, rows, columns):
    net = snn.compile(small(), target="triton")
    executor = net.executor(torch.device("cpu"))
    (plan,) = executor.runner.plans().values()
    chosen = choose_settings(plan, batch)
    assert (chosen.rows, chosen.columns) == (rows, columns)
    assert chosen.stages == 1  # a load that ran ahead would read what is not written yet


def large(size, late):
    @snn.model
    def model(x=snn.Spikes(4, max=1)):
        back = snn.Feedback(size, delay=late * ms)
        h = (x >> snn.Linear(size)) + (back >> snn.Linear(size)) >> snn.LIF() >> snn.Linear(size) >> snn.LIF()
        back.close(h)
        return h

    return model


def test_a_step_has_no_more_elements_than_32_bits_count():
    net = snn.compile(large(8, 1), target="triton")
    (plan,) = net.executor(torch.device("cpu")).runner.plans().values()
    check_size(plan, 2**27)
    for wide, where in (
        (replace(plan, lines=tuple(replace(line, size=2**20) for line in plan.lines)), ""),
        (replace(plan, sizes=(2**20,) * len(plan.sizes)), r"linear\.out: "),
    ):
        check_size(wide, 2**11 - 1)
        message = f"{where}2048 sequences of 1048576 values are more than 2..31 elements. Split the batch"
        with pytest.raises(snn.UnsupportedError, match=message):
            check_size(wide, 2**11)


@snn.model
def dropping(x=snn.Spikes(4, max=1)):
    back = snn.Feedback(4)
    h = x + (back >> snn.Linear(4) >> snn.Dropout(0.5)) >> snn.LIF(threshold=0.4) >> snn.LIF(threshold=0.5)
    back.close(h)
    return h


def test_dropout_in_training_goes_node_by_node():
    torch.manual_seed(0)
    net = snn.compile(dropping, target="triton")
    x = torch.ones(2, 4, 4)
    net.train()
    assert not torch.equal(torch.manual_seed(0) and net(x), torch.manual_seed(1) and net(x))
    net.eval()
    want = outcome(net, x, [], Executor(net.graph, PlainTarget()))
    got = outcome(net, x, [])
    assert all(torch.allclose(v, got.values[k], atol=1e-5) for k, v in want.values.items())


def test_the_forward_of_inference_trains_later():
    torch.manual_seed(0)
    net = snn.compile(small(), target="triton")
    x = torch.ones(1, 4, 3)
    with torch.inference_mode():
        want = net(x)
    got = net(x)
    got.sum().backward()
    assert torch.equal(got, want)
    assert float(net.linear_1.weight.grad.norm()) > 0
