"""The contract between the executor and a target that runs a plastic region of any form as one function.

It adds weights that change to that of cycles (``targets/cycle_call.py``), of which it takes the forward half;
:class:`~snncompile.targets.plastic_plan.PlasticPlan` says what is computed. At every step ``t``

1. the steps of the plan's ``order``, each for all sequences. Dense products are those of
   :func:`snncompile.ir.ordered.ordered_product`, one for each lag, added up in the order of the lags, then the bias;
   convolutions those of :func:`~snncompile.ir.ordered.ordered_taps`, each group by itself, then the bias; sums over
   windows those of :func:`~snncompile.ir.ordered.ordered_windows`, divided by what they are divided by. A product with
   a weight that changes reads it as it was before the step, times its mask where it has one. A rule runs its programs
   ``before`` and ``after``, which give traces and factors;
2. once all are done, every rule changes its weight as :class:`~snncompile.ir.plasticity.Plasticity` says: products of
   factors (of a convolution summed over positions by :func:`~snncompile.ir.ordered.ordered_positions`) or the changes
   of synapses, summed over the batch from the first sequence to the last, starting from +0.

Results must equal those of the loop in ``targets/plastic.py`` bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from snncompile.targets.cycle_call import CycleForwardCall, CycleForwardResult
from snncompile.targets.plastic_plan import PlasticPlan


@dataclass(frozen=True)
class Taught:
    """A weight that changes, and its rule's numbers.

    A weight is ``(N, M)``, outputs and inputs, or of a convolution ``(O, C, kh, kw)``.

    Attributes:
        weight: ``(*weight,)`` float32 contiguous: before the first step. Not to be written to.
        bias: ``(N,)``, of a convolution ``(O,)``, contiguous, or None.
        fixed: ``"mask"`` and ``"sign"``, those that the connection has: ``(*weight,)`` contiguous.
        synapses: trace of side ``"synapse"`` -> its value before the first step, ``(B, *weight)`` contiguous.
        coefs: program name -> coefficient -> ``()``.
    """

    weight: Tensor
    bias: Tensor | None
    fixed: Mapping[str, Tensor]
    synapses: Mapping[str, Tensor]
    coefs: Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class PlasticRegionCall:
    """Everything that a plastic region reads.

    Attributes:
        cycle: as for a cycle; traces of neurons are among the lines with a depth.
        taught: one per rule of the plan.
    """

    cycle: CycleForwardCall
    taught: tuple[Taught, ...]


@dataclass(frozen=True)
class PlasticRegionResult:
    """What a plastic region gives, in memory of its own.

    Attributes:
        cycle: as of a cycle.
        weights: one ``(*weight,)`` per rule, after the last step.
        synapses: per rule, its traces of side ``"synapse"`` after the last step.
    """

    cycle: CycleForwardResult
    weights: tuple[Tensor, ...]
    synapses: tuple[Mapping[str, Tensor], ...]


class PlasticRegionTarget(Protocol):
    """Runs plastic regions of any form.

    A target that can read signals from outside some steps late has an attribute ``offsets`` that is true.
    """

    def forward(self, plan: PlasticPlan, call: PlasticRegionCall) -> PlasticRegionResult:
        """Run from the first step to the last."""
        ...
