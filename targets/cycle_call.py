"""The contract between the executor and a target that runs a whole cycle as one function.

It mirrors that of scans (``targets/scan.py``); :class:`~snncompile.targets.cycle_plan.CyclePlan` says what is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from snncompile.targets.cycle_plan import CyclePlan, Read
from snncompile.targets.cycle_weights import Synapses, Weights
from snncompile.targets.scan import Late


@dataclass(frozen=True)
class CycleForwardCall:
    """Everything that a cycle reads going forward.

    Attributes:
        shape: T and B, any of which may be 0.
        inputs: per outside edge ``(T, B, N)`` float32, any strides.
        starts: line with a depth -> its values before the first step, ``(depth, B, N)`` contiguous.
        coefs: elementwise node -> one tensor per coefficient of its scan, ``()`` or ``(N,)`` contiguous.
        weights: one per product of the plan.
        store: what is wanted at every step.
        sums: what is wanted as a sum over time.
        keep: lines that the backward reads.
        random: where something draws: ``(2,)`` int64, the seed and the number of the first step.
        masks: what each Dropout multiplies with, ``(B, N)``.
        late: per outside edge what makes its signal late, or None, as the plan's ``offsets`` say; empty where none is.
            Such an input is ``(T, B, N / share)`` with its neurons one after the other.
    """

    shape: tuple[int, int]
    inputs: tuple[Tensor, ...]
    starts: Mapping[int, Tensor]
    coefs: Mapping[str, tuple[Tensor, ...]]
    weights: tuple[Weights, ...]
    store: tuple[Read, ...]
    sums: tuple[Read, ...] = ()
    keep: frozenset[int] = frozenset()
    random: Tensor | None = None
    masks: tuple[Tensor, ...] = ()
    late: tuple[Late | None, ...] = ()


@dataclass(frozen=True)
class CycleForwardResult:
    """What a cycle gives.

    Attributes:
        lines: per line, its values: all of them, ``(depth + T, B, N)`` from the first before the first step on, or the
            last few, ``(rows, B, N)``, in which step t stands at ``(depth + t) % rows``; None of one that nobody needs.
        sums: one ``(B, N)`` for each of the sums wanted.
    """

    lines: tuple[Tensor | None, ...]
    sums: tuple[Tensor, ...]


@dataclass(frozen=True)
class CycleBackwardCall:
    """Everything that a cycle reads going backward.

    Attributes:
        shape: T and B.
        inputs: as in the forward call.
        coefs: elementwise node -> one tensor per *reverse* coefficient.
        weights: as in the forward call.
        lines: as the forward gave them, trained.
        grads: gradients of courses, ``(T, B, N)`` of any strides (of a sum over time with time stride 0).
        finals: line with a depth -> the gradient of its last ``depth`` values, ``(depth, B, N)``.
        need_inputs: which gradients of inputs are wanted.
        need_accumulators: elementwise nodes whose parameters' gradients are wanted.
        need_products: products whose gradient is wanted at every step.
        random: as in the forward call.
        masks: as in the forward call.
        late: as in the forward call.
    """

    shape: tuple[int, int]
    inputs: tuple[Tensor, ...]
    coefs: Mapping[str, tuple[Tensor, ...]]
    weights: tuple[Weights, ...]
    lines: tuple[Tensor | None, ...]
    grads: tuple[tuple[Read, Tensor], ...]
    finals: Mapping[int, Tensor]
    need_inputs: tuple[bool, ...]
    need_accumulators: tuple[str, ...]
    need_products: tuple[bool, ...]
    random: Tensor | None = None
    masks: tuple[Tensor, ...] = ()
    late: tuple[Late | None, ...] = ()


@dataclass(frozen=True)
class CycleBackwardResult:
    """What a cycle gives going backward.

    Attributes:
        inputs: one ``(T, B, N)`` gradient per input, None where not wanted; that of a late one is of its past and of
            it together, ``(L + T, B, N)``, with a column for each neuron also where some share a signal.
        starts: line with a depth -> the gradient of its values before the first step, ``(depth, B, N)``.
        products: the gradient of each product, ``(T, B, N)``, None where not wanted.
        accumulators: elementwise node -> accumulator -> ``(B, N)`` sum over time.
    """

    inputs: tuple[Tensor | None, ...]
    starts: Mapping[int, Tensor]
    products: tuple[Tensor | None, ...]
    accumulators: Mapping[str, Mapping[str, Tensor]]


class CycleTarget(Protocol):
    """Runs cycles of any form.

    A target that can read signals from outside some steps late has an attribute ``offsets`` that is true.
    """

    def forward(self, plan: CyclePlan, call: CycleForwardCall) -> CycleForwardResult:
        """Run from the first step to the last."""
        ...

    def backward(self, plan: CyclePlan, call: CycleBackwardCall) -> CycleBackwardResult:
        """Run the gradient from the last step to the first."""
        ...

    def synapse_gradient(self, synapses: Synapses, grad: Tensor, courses: Sequence[Tensor]) -> Tensor:
        """The gradient ``(synapses,)`` of a sparse product's weights.

        Args:
            synapses: where they are.
            grad: the gradient of the product, ``(T, B, out)``.
            courses: what it reads, for each lag ``(T, B, in)`` contiguous.
        """
        ...


def values_at(line: Tensor, depth: int, read_lag: int, steps: int) -> Tensor:
    """The course ``(T, B, N)`` of a whole line, so many steps late."""
    return line[depth - read_lag : depth - read_lag + steps]


def last_values(line: Tensor, depth: int, steps: int) -> Tensor:
    """The last ``depth`` values of a line after so many steps, ``(depth, B, N)``, as a tensor of its own."""
    rows = len(line)
    first = steps % rows if rows else 0
    if first + depth <= rows:
        return line[first : first + depth].clone()
    at = [(steps + k) % rows for k in range(depth)]
    return line[at]
