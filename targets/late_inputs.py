"""Late inputs of an operation under autograd: their pasts are inputs, too, and a gradient comes for both together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from snncompile.targets.scan import Late

#: What of a late input is no tensor that takes gradients: how late it is, and how many neurons share a signal.
Lateness = tuple[int | Tensor, int] | None


def pasts_of(late: Iterable[Late | None]) -> list[Tensor]:
    """The pasts of the inputs that are late."""
    return [one.past for one in late if one is not None]


def kept_of(late: Iterable[Late | None]) -> list[Lateness]:
    """What else makes them late."""
    return [None if one is None else (one.steps, one.share) for one in late]


def joined(kept: Iterable[Lateness], pasts: Iterable[Tensor]) -> tuple[Late | None, ...]:
    """What makes inputs late, from both."""
    left = iter(pasts)
    return tuple([None if one is None else Late(next(left), *one) for one in kept])


def wanted(late: Sequence[Late | None], inputs: Iterable[bool], pasts: Iterable[bool]) -> tuple[bool, ...]:
    """Which gradients of inputs are wanted: that of a past comes with its input's."""
    found, left = list(inputs), iter(pasts)
    for i, one in enumerate(late):
        found[i] = (one is not None and next(left)) or found[i]
    return tuple(found)


def parted(
    late: Sequence[Late | None], grads: Iterable[Tensor | None]
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Gradients of inputs, and of the pasts of the late ones; columns of neurons that share a signal are added up."""
    inputs, pasts = list(grads), []
    for i, one in enumerate(late):
        if one is not None:
            whole, reach = inputs[i], len(one.past)
            if whole is not None and whole.shape[2] != one.past.shape[2]:
                whole = whole.unflatten(2, (-1, one.share)).sum(3)
            pasts.append(None if whole is None else whole[:reach])
            inputs[i] = None if whole is None else whole[reach:]
    return inputs, pasts
