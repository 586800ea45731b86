"""The contract between the executor and a target that runs plastic layers with kernels of its own.

A plastic layer is a connection that learns, the neurons it feeds, and its rule. At every step ``t``

1. the scan's input ``port`` is the product of the layer's input with the weights before the step's update, each times
   its mask where there is one, in the order of :func:`snncompile.ir.ordered.ordered_product`, of a convolution
   :func:`~snncompile.ir.ordered.ordered_taps`, then the bias added;
2. the scan's step gives the neurons' new states and results;
3. the rule learns from the layer's input, or another signal instead (``pre``), and the scan's result ``source``
   (``post``), as
   :class:`~snncompile.ir.plasticity.Plasticity` says: traces and factors of either side, their products (of a
   convolution summed over positions by :func:`~snncompile.ir.ordered.ordered_positions`) summed over the batch from the
   first sequence to the last, starting from +0, and the update of the weights, which reads mask and sign, too.

Results must equal those of the loop in ``targets/plastic.py`` bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Late, Scan, Seen


def heard(signal: str) -> str:
    """What a signal that the rule hears is called among what a delay shows of a layer's inputs."""
    return f"signal.{signal}"


class Wiring(NamedTuple):
    """What decides which kernel of its neurons and its rule a layer needs.

    Attributes:
        port: the scan's input that is the product.
        source: the scan's result that the rule watches.
        bias: whether there is a bias.
        product: whether something else reads the product.
        other: whether the rule watches another input than the connection takes.
    """

    port: str
    source: str
    bias: bool
    product: bool
    other: bool


@dataclass(frozen=True)
class PlasticForwardCall:
    """Everything a plastic forward reads. N outputs, M inputs.

    Of a convolution N are its output channels times their positions, M its input's pixels, both in memory order; what
    is said to be ``(N, M)`` is ``(channels, taps)`` there, with taps in the order of channel, row and column
    (``targets/plastic_fields.py``).

    Attributes:
        port: the scan's input that is the product.
        source: the scan's result that the rule watches.
        weight: ``(N, M)`` float32 contiguous: before the first step. Not to be written to.
        bias: ``(N,)`` contiguous, of a convolution ``(channels,)``, or None.
        fixed: ``"mask"`` and ``"sign"``, those that the rule's node has: ``(N, M)`` float32 contiguous.
        x: ``(T, B, M)`` float32, any strides: what the connection multiplies; any numbers.
        pre: what the rule watches, likewise; None where that is ``x``.
        inputs: one tensor per input of the scan, ``(T, B, N)`` float32, any strides; None for ``port``. What neurons
            draw at random is among them (:func:`snncompile.targets.drawn.reading`).
        coefs: as in a scan's forward call.
        states: as in a scan's forward call, ``(B, N)`` contiguous.
        traces: trace -> its value before the first step, contiguous: ``(B, M)``, ``(B, N)`` or ``(B, N, M)``.
        signals: port -> ``(T, B)`` float32, any strides.
        rule_coefs: program name -> coefficient -> ``()``.
        shape: T, B, N, M. T and B may be 0.
        store: results of the scan whose whole course is wanted.
        store_traces: traces of neurons whose whole course is wanted.
        store_product: whether the course of ``port`` is wanted.
        late: per input of the scan what makes it late, or None; empty where none is. Such an input is
            ``(T, B, N / share)`` with its neurons one after the other. This and ``seen`` are only for targets that say
            ``offsets``.
        seen: ``"x"``, ``"pre"`` and, by :func:`heard`, signals, those that are made of a course where they are read:
            then that is the course, of as many features as it has, one after the other. A signal has one.
    """

    port: str
    source: str
    weight: Tensor
    bias: Tensor | None
    fixed: Mapping[str, Tensor]
    x: Tensor
    pre: Tensor | None
    inputs: tuple[Tensor | None, ...]
    coefs: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    traces: Mapping[str, Tensor]
    signals: Mapping[str, Tensor]
    rule_coefs: Mapping[str, Mapping[str, Tensor]]
    shape: tuple[int, int, int, int]
    store: tuple[str, ...] = ()
    store_traces: tuple[str, ...] = ()
    store_product: bool = False
    late: tuple[Late | None, ...] = ()
    seen: Mapping[str, Seen] = field(default_factory=dict)


@dataclass(frozen=True)
class PlasticForwardResult:
    """What a plastic forward gives, in memory of its own.

    Attributes:
        stored: result of the scan -> ``(T, B, N)``.
        stored_traces: trace -> ``(T, B, M)`` or ``(T, B, N)``.
        finals: one ``(B, N)`` tensor per state of the scan, after the last step.
        traces: trace -> its value after the last step.
        weight: ``(N, M)`` after the last step.
        product: the course of ``port``, ``(T, B, N)``, or None.
    """

    stored: dict[str, Tensor]
    stored_traces: dict[str, Tensor]
    finals: tuple[Tensor, ...]
    traces: dict[str, Tensor]
    weight: Tensor
    product: Tensor | None


class PlasticTarget(Protocol):
    """Runs plastic layers.

    A target that can read inputs some steps late has an attribute ``offsets`` that is true.
    """

    def why_not(self, scan: Scan, rule: PlasticRule, shape: tuple[int, ...], batch: int | None = None) -> str:
        """Why this layer runs step by step instead (a rule it has no kernel for, too many weights), or "".

        Args:
            scan: the neurons.
            rule: the rule.
            shape: of the weight: N, M, or that of a convolution's.
            batch: B where it is known; None asks for any.
        """
        ...

    def forward(self, scan: Scan, rule: PlasticRule, call: PlasticForwardCall) -> PlasticForwardResult:
        """Run from the first step to the last."""
        ...
