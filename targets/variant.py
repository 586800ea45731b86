"""What distinguishes one generated function of a scan from another: the keys under which they are printed and cached.

They are named tuples since they are made and hashed at every call, where a data class would cost several times more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from snncompile.targets.pooling import Windows
from snncompile.targets.scan import BackwardCall, ForwardCall, Scan

#: Whether a course ``(T, B, N)`` of that shape is flat, as a target's functions like it best.
IsFlat = Callable[[Tensor, tuple[int, int, int]], bool]


class Layout(NamedTuple):
    """How the operands of a scan lie in memory.

    Attributes:
        inputs: per input, whether it is flat. For Triton: whether the elements of a time step lie one after the other
            (else batch and neuron strides are arguments). For C: whether neurons do (else so is their stride).
        coefs: per coefficient, whether it is one number for all neurons.
        late: per input how late it is: ``""`` not at all, ``"one"`` number of steps for all neurons, ``"each"`` its
            own, or ``"shared"``, several of one signal; empty where none is.
    """

    inputs: tuple[bool, ...]
    coefs: tuple[bool, ...]
    late: tuple[str, ...] = ()

    def late_of(self, inputs: tuple[str, ...]) -> dict[str, str]:
        """Input -> how late it is, for those that are."""
        return {x: kind for x, kind in zip(inputs, self.late, strict=False) if kind}


class ForwardVariant(NamedTuple):
    """A forward function.

    Attributes:
        layout: of inputs and coefficients.
        store: results whose course is stored.
        sums: results that are summed over time.
        save: ``"none"``, ``"all"`` states, or every K-th (``"some"``).
        windows: pooling of one of the stored results.
    """

    layout: Layout
    store: tuple[str, ...]
    sums: tuple[str, ...]
    save: str
    windows: Windows | None = None


class BackwardVariant(NamedTuple):
    """A backward function.

    Attributes:
        layout: of inputs and reverse coefficients.
        forward_coefs: per forward coefficient, whether it is one number; empty unless the forward steps are replayed.
        replay: whether only every K-th state was saved.
        grads: results whose course has a gradient, each with whether that is flat.
        finals: states whose final value has a gradient.
        need_inputs: inputs whose gradient is wanted.
        need_accumulators: whether the accumulators are wanted.
        windows: pooling of a result whose gradient is that of its pooled course.
        room: inputs whose gradient goes where the caller says.
        add: whether it is added to what is there.
    """

    layout: Layout
    forward_coefs: tuple[bool, ...]
    replay: bool
    grads: tuple[tuple[str, bool], ...]
    finals: tuple[str, ...]
    need_inputs: tuple[str, ...]
    need_accumulators: bool
    windows: Windows | None = None
    room: tuple[str, ...] = ()
    add: bool = False


def forward_variant(call: ForwardCall, is_flat: IsFlat) -> ForwardVariant:
    """The forward function that ``call`` needs."""
    save = "none" if not (call.checkpoint and call.states) else "all" if call.checkpoint == 1 else "some"
    return ForwardVariant(_layout(call, is_flat), tuple(call.store), tuple(call.sums), save, call.windows)


def backward_variant(scan: Scan, call: BackwardCall, is_flat: IsFlat) -> BackwardVariant:
    """The backward function that ``call`` needs."""
    replay = call.checkpoint > 1
    return BackwardVariant(
        _layout(call, is_flat),
        _one_number(call.forward_coefs) if replay else (),
        replay,
        tuple([(r, is_flat(call.grads[r], call.shape)) for r in scan.results if r in call.grads]),
        tuple([s for s, g in zip(scan.states, call.grad_finals, strict=True) if g is not None]),
        tuple([x for x, need in zip(scan.inputs, call.need_inputs, strict=True) if need]),
        call.need_accumulators,
        call.windows,
        tuple([scan.inputs[i] for i in call.room]),
        call.add,
    )


def _layout(call: ForwardCall | BackwardCall, is_flat: IsFlat) -> Layout:
    late = tuple(["" if one is None else one.kind for one in call.late])
    flat = tuple([is_flat(x, call.shape) for x in call.inputs])
    if "shared" in late:  # such an input is narrower
        flat = tuple([is_flat(x, (*call.shape[:2], x.shape[2])) for x in call.inputs])
    return Layout(flat, _one_number(call.coefs), late)


def _one_number(coefs: tuple[Tensor, ...]) -> tuple[bool, ...]:
    return tuple([not c.dim() for c in coefs])
