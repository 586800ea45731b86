"""Cycles with convolutions, poolings and Dropout in one Triton kernel, in the interpreter: against the reference."""

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.targets.sliding import Sliding
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.cycle_design import CycleSettings
from snncompile.targets.triton.cycle_images import sliding_synapses
from snncompile.targets.triton.target import TritonTarget

from ..cycle_checks import check_images_as_the_reference, poisoned

#: Seed -> batch and steps. Among them: every pooling, by windows that overlap, too; strides, groups, Dropout.
SEEDS = {22: [(3, 3), (0, 2)], 26: [(2, 4), (2, 0)], 31: [(1, 5)], 50: [(2, 3)]}


@pytest.mark.parametrize("seed", SEEDS)
def test_as_the_reference(seed):
    target = TritonTarget(empty=poisoned)
    target.cycles._settings = CycleSettings(rows=2, columns=32, ahead=1 + seed % 3)
    check_images_as_the_reference(seed, SEEDS[seed], target)


@pytest.mark.parametrize("groups", [1, 2])
def test_synapses_are_the_convolution(groups):
    weight = torch.randn(6, 4 // groups, 2, 3)
    x = torch.randn(1, 4, 7, 6)
    stride, padding, dilation = (2, 1), (1, 2), (1, 2)
    want = torch.conv2d(x, weight, None, stride, padding, dilation, groups)
    sliding = Sliding((4, 7, 6), tuple(want.shape[1:]), (2, 3), stride, padding, dilation, groups)
    synapses, number = sliding_synapses(sliding, torch.device("cpu"))
    sources = synapses.sources.long().repeat_interleave(synapses.starts.diff())
    products = weight.flatten()[number] * x.flatten()[sources]
    got = torch.zeros(want.numel()).index_add(0, synapses.targets.long(), products)
    assert torch.allclose(got.reshape(want.shape), want, atol=1e-5)


@snn.model(dt=1 * ms)
def looking(x=snn.Spikes((2, 12, 12), max=1)):
    """Images that come back through a pooling, a Dropout and a convolution, two steps late."""
    back = snn.Feedback((8, 12, 12), delay=2 * ms)
    seen = (x >> snn.Conv2d(8, 3, padding=1)) + (back >> snn.Conv2d(8, 3, padding=1)) >> snn.LIF(threshold=0.4)
    small = seen >> snn.MaxPool2d(3, 1, 1) >> snn.Dropout(0.5) >> snn.Conv2d(8, 3, padding=1)
    back.close(small >> snn.CubaLIF(threshold=0.4))
    return seen


def test_compiles_for_a_chip():
    """One program, and several that share it, which need a few bytes to tell each other a number."""
    printed = printed_kernels(looking.build(), None, archs=["sm_90", "gfx942"])
    assert len(printed) == 8  # forward and backward, for inference and training, where a Dropout drops; for each chip
    drops = [p for p in printed if p.stem.endswith("_training")]
    assert sum("shared" in p.stem for p in drops) == 2
    for b in compile_jobs([Job(p.stem, p.source, ARCHS[a], s) for p in drops for a, s in p.settings.items()]):
        assert b.resources.spills == 0 and b.resources.shared <= 4, b.resources
