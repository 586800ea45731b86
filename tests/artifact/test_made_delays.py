"""What an artifact shows of networks where a late signal is made after all: the kernels that then run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.targets.c import compiler

EACH = np.arange(18).reshape(2, 3, 3) * 5 % 4


@snn.model(dt=1 * ms)
def scanned(x=snn.Spikes((2, 3, 3))):
    late = x >> snn.Delay((EACH + 0.5) * ms, interpolation="linear")
    return late >> snn.SumPool2d(3), late >> snn.LIF(threshold=0.5)


@snn.model(dt=1 * ms)
def learning(x=snn.Spikes((2, 3, 3), max=1)):
    late = x >> snn.Delay(EACH * ms)
    learnt = snn.Conv2d(2, 2, bias=False, init=torch.full((2, 2, 2, 2), 0.25))
    inhibition = snn.Feedback((2, 2, 2))
    h = (late >> learnt) + inhibition * -0.5 >> snn.LIF(max_spikes_per_dt=1)
    inhibition.close(h)
    snn.learn(learnt, snn.STDP(), post=h)
    return h, late >> snn.SumPool2d(3)


@pytest.mark.parametrize("model", [scanned, learning])
def test_kernels_in_an_artifact_are_those_that_run(model, monkeypatch):
    net, ran, library = snn.compile(model, target="c"), {}, compiler.library
    monkeypatch.setattr(compiler, "library", lambda name, text, *a: ran.update({name: text}) or library(name, text, *a))
    compiler.function.cache_clear()
    with torch.no_grad():
        net.evolve(torch.ones(2, 12, 2, 3, 3))
    printed = {kernel.source.text for kernel in printed_kernels(net.graph, None, "c")}
    made = [name for name in ran if name != "trial" and not name.startswith("snn_pool")]
    assert len(made) == 2 and all(ran[name] in printed for name in made), made


def test_a_delay_that_everything_reads_late_is_printed_so():
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((2, 3, 3))):
        return x >> snn.Delay(EACH * ms) >> snn.LIF()

    printed = printed_kernels(snn.compile(model, target="c").graph, None, "c")
    assert not any(kernel.node == "delay" for kernel in printed)
    assert any("steps late" in kernel.source.text for kernel in printed)
