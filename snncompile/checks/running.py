"""What checks run on, and what a run leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snncompile.ir.types import SignalType
from snncompile.network import Network
from snncompile.states import initial_state
from snncompile.targets.executor import Executor, Run


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        status: ``"ok"``, ``"failed"`` or ``"skipped"``.
        detail: what was found, in words.
    """

    name: str
    status: str
    detail: str


@dataclass(frozen=True)
class Sample:
    """A random input, ``(T, B, *features)`` by name."""

    inputs: dict[str, Tensor]
    steps: int
    batch: int


def random_sample(types: Mapping[str, SignalType], steps: int, batch: int, seed: int) -> Sample:
    """Random input: spikes with probability 0.3 (counts where the type allows them), normal currents."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for name, t in types.items():
        shape = (steps, batch, *t.shape)
        if t.kind == "spikes":
            counts = torch.poisson(torch.full(shape, 0.36, dtype=torch.float32), generator=generator)
            inputs[name] = counts.clamp_(max=float(t.max or 1))
        else:
            inputs[name] = torch.randn(shape, generator=generator, dtype=torch.float32)
    return Sample(inputs, steps, batch)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: courses and outputs by name, final state, and gradients of a loss over all of them."""

    courses: dict[str, Tensor]
    state: dict[str, Tensor]
    gradients: dict[str, Tensor]


def outcome(net: Network, executor: Executor, sample: Sample, record: Sequence[str]) -> Outcome:
    """What a run of ``executor`` with the parameters of ``net`` leaves, with the signals ``record``; without gradients
    where something learns, since none flow through that."""
    declared = net.graph.parameters()
    fixed = bool(net.graph.learned())
    values = {n: v.detach().requires_grad_(declared[n].trainable and not fixed) for n, v in net.state_dict().items()}
    inputs = {n: x.clone().requires_grad_(not fixed) for n, x in sample.inputs.items()}
    state = initial_state(net.graph.states(), sample.batch, torch.device("cpu"), values.__getitem__, seed=0)
    run = Run(
        values,
        inputs,
        state,
        sample.steps,
        sample.batch,
        torch.device("cpu"),
        courses=record,
        checkpoint=net.checkpoint,
    )
    with torch.enable_grad():
        result = executor.run(run)
        courses = {**{f"output {k}": v for k, v in result.outputs.items()}, **result.courses}
        terms = [(v * _weighting(v)).sum() for v in (*courses.values(), *result.state.values()) if v.requires_grad]
        gradients: dict[str, Tensor] = {}
        if terms:
            leaves = {
                **{f"input {n}": x for n, x in inputs.items()},
                **{n: v for n, v in values.items() if v.requires_grad},
            }
            grads = torch.autograd.grad(sum(terms[1:], terms[0]), list(leaves.values()), allow_unused=True)
            gradients = {n: g for n, g in zip(leaves, grads, strict=True) if g is not None}
    return Outcome(
        {n: v.detach() for n, v in courses.items()}, {n: v.detach() for n, v in result.state.items()}, gradients
    )


def _weighting(v: Tensor) -> Tensor:
    return torch.linspace(-1.0, 1.3, max(v.numel(), 1), dtype=torch.float32)[: v.numel()].reshape(v.shape)
