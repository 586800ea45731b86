"""The loop over time that one would write by hand: what compiled networks are held against.

It is the usual one: inputs unbound over time, decays and threshold as fixed numbers, spikes from an autograd function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snncompile import ms

TAU_SYN, TAU_MEM = 5 * ms, 20 * ms
DECAY_SYN, DECAY_MEM = math.exp(-1 * ms / TAU_SYN), math.exp(-1 * ms / TAU_MEM)
WINDOW = 0.5


@dataclass(frozen=True)
class Workload:
    """Shapes: batch, steps, neurons; and whether a synapse stands before the neuron."""

    name: str
    batch: int
    steps: int
    size: int
    synapse: bool = False


class Spike(torch.autograd.Function):
    """The step function, with the surrogate that ``snn.StepPWL`` is."""

    @staticmethod
    def forward(ctx, v):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(v)
        return (v >= 1.0).float()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (v,) = ctx.saved_tensors
        return torch.where(v >= 1.0 - WINDOW, grad, 0.0)


def step(i: Tensor | None, v: Tensor, x: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """One time step: new current, new potential, spikes. Without a synapse ``i`` is None."""
    if i is not None:
        i = (i + x) * DECAY_SYN
        x = i
    v = v * DECAY_MEM + x
    s = Spike.apply(v)
    return i, v - s, s


def plain_loop(currents: Tensor, time: int, synapse: bool) -> Tensor:
    """Currents to spikes, time on axis ``time``, from states that are zero."""
    steps = currents.unbind(time)
    v = torch.zeros_like(steps[0])
    i = v if synapse else None
    spikes = []
    for x in steps:
        i, v, s = step(i, v, x)
        spikes.append(s)
    return torch.stack(spikes, time)
