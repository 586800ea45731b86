"""What distinguishes one kernel of a scan from another: the keys under which kernels are printed and cached.

They are named tuples since they are made and hashed at every call, where a data class would cost several times more.
"""

from __future__ import annotations

from typing import NamedTuple


class Layout(NamedTuple):
    """How the operands of a scan lie in memory.

    Attributes:
        inputs: per input, whether the elements of a time step lie one after the other (else batch and neuron strides
            are arguments).
        coefs: per coefficient, whether it is one number for all neurons.
    """

    inputs: tuple[bool, ...]
    coefs: tuple[bool, ...]


class ForwardVariant(NamedTuple):
    """A forward kernel.

    Attributes:
        layout: of inputs and coefficients.
        store: results whose course is stored.
        sums: results that are summed over time.
        save: ``"none"``, ``"all"`` states, or every K-th (``"some"``).
    """

    layout: Layout
    store: tuple[str, ...]
    sums: tuple[str, ...]
    save: str


class BackwardVariant(NamedTuple):
    """A backward kernel.

    Attributes:
        layout: of inputs and reverse coefficients.
        forward_coefs: per forward coefficient, whether it is one number; empty unless the forward steps are replayed.
        replay: whether only every K-th state was saved.
        grads: results whose course has a gradient, each with whether a time step of it is contiguous.
        finals: states whose final value has a gradient.
        need_inputs: inputs whose gradient is wanted.
        need_accumulators: whether the accumulators are wanted.
    """

    layout: Layout
    forward_coefs: tuple[bool, ...]
    replay: bool
    grads: tuple[tuple[str, bool], ...]
    finals: tuple[str, ...]
    need_inputs: tuple[str, ...]
    need_accumulators: bool
