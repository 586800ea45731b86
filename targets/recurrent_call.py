"""The contract between the executor and a target that runs recurrent layers with kernels of its own.

It mirrors that of scans (``targets/scan.py``). A scan's input ``port`` is, at every step, the product of the value that
its result ``source`` had ``late`` steps before: ``x[port][t] = source[t - late] @ weight.T + bias``. All its other
inputs are ordinary courses (a feed-forward current, say).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from snncompile.targets.event_linear import EventTarget
from snncompile.targets.scan import Late, Scan


@dataclass(frozen=True)
class RecurrentForwardCall:
    """Everything a recurrent forward reads.

    Attributes:
        port: the scan's input that is the product.
        source: the scan's result that is multiplied, ``late`` steps later.
        weight: ``(N, N)`` float32, rows are outputs; any strides.
        bias: ``(N,)`` contiguous, or None.
        start: ``(late, B, N)`` contiguous: the source's values before the first step, oldest first.
        inputs: one tensor per input of the scan, ``(T, B, N)`` float32, any strides; None for ``port``.
        coefs: as in a scan's forward call.
        states: as in a scan's forward call.
        shape: T, B, N.
        store: results whose whole course is wanted; the source's is always given.
        train: whether to keep what the backward needs.
        most: the source's largest value where its type says that it is whole numbers from 0 on, else None. It decides
            in how many parts of a lower precision it can be taken without losing anything.
        late: K: how many steps late the source comes back, at least 1. More than 1 only for targets that say ``ring``.
        offsets: per input what makes it late, or None; empty where none is. Only for targets that say ``offsets``. Such
            an input is ``(T, B, N / share)`` with its neurons one after the other.
    """

    port: str
    source: str
    weight: Tensor
    bias: Tensor | None
    start: Tensor
    inputs: tuple[Tensor | None, ...]
    coefs: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    shape: tuple[int, int, int]
    store: tuple[str, ...] = ()
    train: bool = False
    most: int | None = None
    late: int = 1
    offsets: tuple[Late | None, ...] = ()


@dataclass(frozen=True)
class RecurrentForwardResult:
    """What a recurrent forward gives.

    Attributes:
        stored: result name -> ``(T, B, N)``; the source is always among them.
        finals: one ``(B, N)`` tensor per state, after the last step.
        saved: states before every step, ``(T, B, N)`` each, or empty.
        product: the course of ``port``, ``(T, B, N)``, or None.
    """

    stored: dict[str, Tensor]
    finals: tuple[Tensor, ...]
    saved: tuple[Tensor, ...]
    product: Tensor | None


@dataclass(frozen=True)
class RecurrentBackwardCall:
    """Everything a recurrent backward reads.

    Attributes:
        port: as in the forward call.
        source: as in the forward call.
        weight: as in the forward call.
        inputs: as in the forward call.
        coefs: one tensor per *reverse* coefficient.
        saved: as the forward gave them.
        product: as the forward gave it.
        shape: T, B, N.
        grads: result name -> gradient of its course, ``(T, B, N)``, any strides. The gradient of the source's values
            of the last steps (carried on as the next call's ``start``) is to be added to its last rows.
        grad_finals: one gradient per final state, ``(B, N)`` contiguous, or None.
        need_inputs: which input gradients are wanted (the port's entry is ignored).
        need_accumulators: whether parameter gradients are wanted.
        late: as in the forward call.
        offsets: as in the forward call.
    """

    port: str
    source: str
    weight: Tensor
    inputs: tuple[Tensor | None, ...]
    coefs: tuple[Tensor, ...]
    saved: tuple[Tensor, ...]
    product: Tensor
    shape: tuple[int, int, int]
    grads: Mapping[str, Tensor]
    grad_finals: tuple[Tensor | None, ...]
    need_inputs: tuple[bool, ...]
    need_accumulators: bool
    late: int = 1
    offsets: tuple[Late | None, ...] = ()


@dataclass(frozen=True)
class RecurrentBackwardResult:
    """What a recurrent backward gives.

    Attributes:
        inputs: one ``(T, B, N)`` gradient per input, None where not wanted and for ``port``; that of a late one is of
            its past and of it together, ``(L + T, B, N)``: a column for each neuron, also where some share a signal.
        product: the gradient of ``port``, ``(T, B, N)``.
        start: the gradient of ``start``, ``(late, B, N)``.
        states: one ``(B, N)`` gradient per initial state.
        accumulators: accumulator name -> ``(B, N)`` sum over time, empty where not wanted.
    """

    inputs: tuple[Tensor | None, ...]
    product: Tensor
    start: Tensor
    states: tuple[Tensor, ...]
    accumulators: dict[str, Tensor]


class RecurrentTarget(Protocol):
    """Runs recurrent layers.

    A target that runs layers whose source comes back more than one step late has an attribute ``ring`` that is true;
    one that can read inputs some steps late (:class:`~snncompile.targets.scan.Late`) an attribute ``offsets``.
    """

    def forward(self, scan: Scan, call: RecurrentForwardCall) -> RecurrentForwardResult:
        """Run from the first step to the last."""
        ...

    def backward(self, scan: Scan, call: RecurrentBackwardCall) -> RecurrentBackwardResult:
        """Run the gradient from the last step to the first."""
        ...


def weight_gradients(
    product: Tensor, start: Tensor, course: Tensor, events: EventTarget | None = None
) -> tuple[Tensor, Tensor]:
    """Gradients of weight and bias.

    Args:
        product: the gradient of the product, as the backward gave it.
        start: the source's values before the first step, ``(late, B, N)``.
        course: the source's course.
        events: computes the product where the source is sparse.
    """
    late, steps = len(start), len(product)
    if not steps:
        return product.sum((0, 1)).expand(start.shape[2], -1), product.sum((0, 1))
    first = product[:late].flatten(0, 1).T @ start[:steps].flatten(0, 1)
    if steps <= late:
        return first, product.sum((0, 1))
    later, before = product[late:].flatten(0, 1), course[: steps - late].flatten(0, 1)
    if events is not None:
        return events.gradients(later, before, False)[0] + first, product.sum((0, 1))
    return torch.addmm(first, later.T, before), product.sum((0, 1))
