"""Sums in a defined order, so that what learns has the same bits on every target.

A spike more or less changes a weight, and the weight every later spike: in a region that learns, a product that sums in
another order gives another network. So the order is part of the meaning there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

#: Inputs of a product are dealt to so many partial sums, one after the other.
LANES = 128


def ordered_product(weight: Tensor, x: Tensor) -> Tensor:
    """``x @ weight.T`` in the order that every target keeps.

    Inputs are padded with zeros to a multiple of :data:`LANES`. Lane ``l`` sums ``weight[:, k * LANES + l] *
    x[k * LANES + l]`` over ``k`` from the first to the last, starting from +0; then neighbouring lanes are added, then
    neighbouring sums, until one is left. An input of 0 may be left out: it changes no bit.

    Args:
        weight: ``(out, in)``.
        x: ``(B, in)``.

    Returns:
        ``(B, out)``.
    """
    busy = not_zero(x)
    if busy is not None:
        return x.new_zeros(x.shape[0], weight.shape[0]).index_copy_(0, busy, _product(weight, x[busy]))
    return _product(weight, x)


def _product(weight: Tensor, x: Tensor) -> Tensor:
    wide = _lanes(weight.shape[1])
    missing = -weight.shape[1] % wide
    chunks = pad(weight, (0, missing)).unflatten(1, (-1, wide)).unbind(1)
    given = pad(x, (0, missing)).unflatten(1, (-1, wide)).unbind(1)
    lanes = x.new_zeros(x.shape[0], weight.shape[0], wide)
    for w, z in zip(chunks, given, strict=True):
        lanes = lanes + w * z.unsqueeze(1)
    while lanes.shape[-1] > 1:
        even, odd = lanes.unflatten(-1, (-1, 2)).unbind(-1)
        lanes = even + odd
    return lanes.squeeze(-1)


def _lanes(ins: int) -> int:
    """How many lanes ``ins`` inputs need: the others hold +0, and adding +0 to a sum that is not -0 changes no bit."""
    return min(LANES, 1 << max(0, ins - 1).bit_length())


def not_zero(x: Tensor) -> Tensor | None:
    """Which sequences of ``x``, ``(B, *)``, are worth computing: those where something is not 0.

    Returns:
        Their indices; or None where all of them are to be computed: to ask costs a device that runs ahead more than
        it saves, and what is left out has no gradient.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or x.shape[0] < 2:
        return None
    busy = x.flatten(1).any(1).nonzero().squeeze(1)
    return None if len(busy) == x.shape[0] else busy


def summed_over_batch(terms: Tensor) -> Tensor:
    """The sum over the first axis, from the first entry to the last, starting from +0."""
    total = terms.new_zeros(terms.shape[1:])
    for term in terms:
        total = total + term
    return total
