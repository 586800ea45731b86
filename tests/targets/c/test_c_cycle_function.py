"""Cycles of any form in one C function: against the plain reference, bit for bit, and its gradients."""

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.c.target import CTarget
from snncompile.targets.executor import Executor

from ...compare import assert_same_bits
from ...mixed_models import counts
from ..cycle_checks import (
    check_as_the_reference,
    check_pieces,
    check_states_and_strides,
    compiled,
    delayed,
    poisoned,
    ring_rows,
    rows_kept,
    run,
)

#: Batch and steps.
SHAPES = [(2, 13), (1, 1), (3, 7), (2, 0), (1, 3), (5, 9), (0, 4)]


@pytest.mark.parametrize("seed", range(9))
def test_as_the_reference(seed):
    check_as_the_reference(seed, SHAPES[seed % len(SHAPES)], CTarget(threads=1 + seed % 3, empty=poisoned))


@pytest.mark.parametrize("seed", [3, 5])
def test_threads_and_the_batch_change_nothing(seed):
    net, record = compiled(seed, "c")
    x = counts(seed, 7, 12)
    found = [run(net, x, record, Executor(net.graph, CTarget(threads=k, empty=poisoned))) for k in (1, 2, 5)]
    for other in found[1:]:
        assert_same_bits(found[0], other)
        assert all(torch.equal(g, other.gradients[n]) for n, g in found[0].gradients.items())


@pytest.mark.parametrize("seed", [2, 7])
@pytest.mark.parametrize("cut", [(0, 13), (1, 12), (4, 9), (1,) * 13])
def test_a_sequence_in_pieces_is_the_sequence(seed, cut):
    check_pieces(compiled(seed, "c")[0], 13, cut)


def test_the_gradient_of_states_and_strided_inputs():
    check_states_and_strides(CTarget(2, poisoned), 12)


def test_what_is_not_wanted_is_not_kept():
    assert rows_kept("c", 50) == ring_rows(50)


def test_it_is_explained():
    text = explain_text(explain(delayed.build(), "c"))
    assert "one function for the cycle, over all steps" in text


def late_layer(size, steps, node):
    @snn.model
    def model(x=snn.Spikes(4, max=1)):
        return x >> snn.Linear(size) >> snn.recurrent(node, via=snn.Linear(size), delay=steps * ms)

    return model


def test_large_dense_products_of_very_late_cycles_are_made_for_many_steps_at_once():
    text = {n: explain_text(explain(late_layer(n, 40, snn.LI()).build(), "c")) for n in (256, 512)}
    assert "one function for the cycle" in text[256]
    assert "since its dense products are quicker for 40 steps at once" in text[512]
    assert "one function for the cycle" in explain_text(explain(late_layer(512, 40, snn.LIF()).build(), "c"))

    @snn.model
    def wide(x=snn.Spikes(4)):
        return x >> snn.Linear(1100) >> snn.recurrent(snn.LIF(), via=snn.Sparse(1100, indegree=1000), delay=9 * ms)

    text = explain_text(explain(wide.build(), "c"))
    assert "one function for the cycle" in text and "of fewer than 4 sequences 1 kernel and 1 product" in text
    net = snn.compile(wide, target="c")
    executor, ran = net.executor(torch.device("cpu")), []
    forward = executor.runner.cycles.forward
    executor.runner.cycles.forward = lambda plan, call: ran.append(call.shape) or forward(plan, call)
    x = (torch.rand(4, 3, 4) < 0.5).float()
    with torch.no_grad():
        whole, part = net(x), net(x[:2])
    assert ran == [(3, 4)]
    assert torch.equal(whole[:2], part)


def test_an_artifact_shows_the_function():
    """What is printed to be read is what runs, as a usual caller calls it."""
    shown = {k.stem: k.source for k in printed_kernels(delayed.build(), None, "c")}
    assert set(shown) == {"cycle_linear_1_forward", "cycle_linear_1_backward"}
    net = snn.compile(delayed, target="c")
    net(torch.ones(2, 5, 6))["second"].sum().backward()
    executor = net.executor(torch.device("cpu"))
    (made,) = executor.runner.cycles._kernels.values()
    ran = {kernel.source.name: kernel.source for kernel in made.values()}
    assert ran["cycle_linear_1_forward"].text == shown["cycle_linear_1_forward"].text
    assert "gradient of slow" in ran["cycle_linear_1_backward"].text


@snn.model(dt=1 * ms)
def decayed(x=snn.Spikes(4, max=1)):
    times = np.arange(16).reshape(4, 4) * 1.25 * ms  # more steps than are dense products
    via = snn.Linear(4, delay=times, interpolation="expdecay", tau=5 * ms)
    return x >> snn.recurrent(snn.LIF(threshold=0.4), via=via, delay=2 * ms)


def test_what_inference_keeps_is_there_to_train_with():
    net = snn.compile(decayed, target="c")
    x = torch.ones(2, 20, 4)
    with torch.inference_mode():
        want = net(x)
    got = net(x)
    got.sum().backward()
    assert torch.equal(got, want)
    assert float(net.linear.weight.grad.norm()) > 0
