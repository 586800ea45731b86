"""A contender: one way to run a workload, and how its output compares with the others'."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.workloads.shapes import Data, Workload


class Absent(Exception):
    """The library is not installed, or has no word for this workload; the message says which."""


@dataclass
class Contender:
    """One way to run a workload.

    Attributes:
        name: as it stands in the table.
        group: ``"ours"``, ``"library"``, ``"loop"`` (by hand), ``"compile"`` or ``"floor"`` (the products alone).
        forward: inference, without gradients.
        both: forward and backward, from the gradient that the data holds; None where nothing is trained.
        output: the spikes, time first; None for the floor.
        reset: how its neurons reset, which decides what its output is held against: ``"subtract"``, ``"zero"``, or
            ``"delayed"`` (subtracted in the next step, after the decay).
        note: what a reader of the table should know.
        gradients: weight name -> gradient after ``both``, where they are meant to equal the loop's.
        weights: final weights of a plastic workload.
        built: seconds that building took, before the first run.
    """

    name: str
    group: str
    forward: Callable[[], Any]
    both: Callable[[], Any] | None = None
    output: Callable[[], Tensor] | None = None
    reset: str = "subtract"
    note: str = ""
    gradients: Callable[[], dict[str, Tensor]] | None = None
    weights: Callable[[], Tensor] | None = None
    built: float = 0.0
    keep: list[Any] = field(default_factory=list)


Builder = Callable[[Workload, Data], Contender]


def differentiable(
    name: str,
    group: str,
    run: Callable[[], Tensor],
    parameters: Iterable[Tensor],
    data: Data,
    *,
    time_axis: int = 0,
    reset: str = "subtract",
    note: str = "",
    names: Iterable[str] = (),
) -> Contender:
    """A contender from a function that autograd can follow.

    Args:
        name: as it stands in the table.
        group: as in :class:`Contender`.
        run: input to spikes, in the layout that suits the library.
        parameters: what is trained.
        data: the gradient to start from.
        time_axis: where the output has its time.
        reset: as in :class:`Contender`.
        note: as in :class:`Contender`.
        names: the parameters' names, where their gradients are meant to equal the loop's.
    """
    leaves = list(parameters)
    grad = data.grad if time_axis == 0 else data.grad.transpose(0, 1)
    if data.grad.is_contiguous():
        grad = grad.contiguous()

    def forward() -> Tensor:
        with torch.no_grad():
            return run()

    def both() -> None:
        for leaf in leaves:
            leaf.grad = None
        run().backward(grad)

    def output() -> Tensor:
        out = forward()
        return out if time_axis == 0 else out.transpose(0, 1)

    def gradients() -> dict[str, Tensor]:
        both()
        return {n: leaf.grad for n, leaf in zip(names, leaves, strict=True) if leaf.grad is not None}

    return Contender(
        name, group, forward, both, output, reset, note, gradients if tuple(names) else None
    )  # fmt: skip


def disagreement(spikes: Tensor, expected: Tensor) -> float:
    """Spikes that differ, as a share of those expected."""
    assert spikes.shape == expected.shape, f"output of shape {tuple(spikes.shape)}, not {tuple(expected.shape)}"
    return float((spikes != expected).sum()) / max(1.0, float(expected.sum()))
