"""What distinguishes one C function of a scan from another: the keys under which they are printed and cached.

They are named tuples since they are made and hashed at every call, where a data class would cost several times more.
"""

from __future__ import annotations

from typing import NamedTuple


class ForwardVariant(NamedTuple):
    """A forward function.

    Attributes:
        unit: per input, whether neurons lie one after the other (else their stride is an argument).
        scalar: per coefficient, whether it is one number for all neurons.
        store: results whose course is stored.
        sums: results that are summed over time.
        save: ``"none"``, ``"all"`` states, or every K-th (``"some"``).
    """

    unit: tuple[bool, ...]
    scalar: tuple[bool, ...]
    store: tuple[str, ...]
    sums: tuple[str, ...]
    save: str


class BackwardVariant(NamedTuple):
    """A backward function.

    Attributes:
        unit: as in a forward function.
        scalar: per reverse coefficient, whether it is one number for all neurons.
        forward_scalar: per forward coefficient likewise; empty unless the forward steps are replayed.
        replay: whether only every K-th state was saved.
        grads: results whose course has a gradient, each with whether its neurons lie one after the other.
        finals: states whose final value has a gradient.
        need_inputs: inputs whose gradient is wanted.
        need_accumulators: whether the accumulators are wanted.
    """

    unit: tuple[bool, ...]
    scalar: tuple[bool, ...]
    forward_scalar: tuple[bool, ...]
    replay: bool
    grads: tuple[tuple[str, bool], ...]
    finals: tuple[str, ...]
    need_inputs: tuple[str, ...]
    need_accumulators: bool
