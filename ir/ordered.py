"""Sums in a defined order, so that what learns has the same bits on every target.

A spike more or less changes a weight, and the weight every later spike: in a region that learns, a product that sums in
another order gives another network. So the order is part of the meaning there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

#: Inputs of a product are dealt to so many partial sums, one after the other.
LANES = 128

#: Positions of a convolution that learns are dealt to so many partial sums of what changes a weight.
POSITION_LANES = 8

#: Chunks that must be left out for it to be worth finding what is not zero.
_WORTH_FINDING = 16


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
        return x.new_zeros(x.shape[0], weight.shape[0]).index_copy_(0, busy, _product(weight, x[busy], LANES))
    return _product(weight, x, LANES)


def ordered_taps(weight: Tensor, fields: Tensor) -> Tensor:
    """The product of a convolution: each position's taps added up from the first to the last, starting from +0.

    Args:
        weight: ``(out, taps)``; taps in the order of channel, row and column.
        fields: ``(B, taps, positions)``, the unfolded input; 0 where it is padded.

    Returns:
        ``(B, out, positions)``.
    """
    batch, taps, positions = fields.shape
    rows = fields.transpose(0, 1).reshape(taps, batch * positions).t()
    return _either(weight, rows, 1).unflatten(0, (batch, positions)).transpose(1, 2)


def ordered_positions(after: Tensor, fields: Tensor) -> Tensor:
    """What the positions of a convolution give for its weights: ``after @ fields.T`` for each sequence.

    The order is that of :func:`ordered_product` with positions, in the order of row and column, as inputs, and
    :data:`POSITION_LANES` lanes.

    Args:
        after: ``(B, out, positions)``.
        fields: ``(B, taps, positions)``.

    Returns:
        ``(B, out, taps)``.
    """
    each = [_over_positions(one, other) for one, other in zip(after, fields, strict=True)]
    return torch.stack(each) if each else after.new_zeros(0, after.shape[1], fields.shape[1])


def ordered_windows(x: Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Sums over windows of images: each adds its values row by row, from the first to the last, starting from +0.

    Args:
        x: ``(B, channels, height, width)``.
        size: height and width of a window.
        stride: how far apart windows begin.
        padding: zeros around an image.

    Returns:
        ``(B, channels, rows, columns)``.
    """
    (height, width), (down, across), (above, aside) = size, stride, padding
    around = pad(x, (aside, aside, above, above))
    rows, columns = (around.shape[2] - height) // down + 1, (around.shape[3] - width) // across + 1
    total = x.new_zeros(*x.shape[:2], rows, columns)
    for i in range(height):
        for j in range(width):
            last = i + (rows - 1) * down + 1, j + (columns - 1) * across + 1
            total = total + around[:, :, i : last[0] : down, j : last[1] : across]
    return total


def _over_positions(after: Tensor, fields: Tensor) -> Tensor:
    """Of one sequence; which of the two is the sparse one changes no bit."""
    found = _sparse_product(fields, after, POSITION_LANES)
    return _either(after, fields, POSITION_LANES).t() if found is None else found


def _either(weight: Tensor, x: Tensor, most: int) -> Tensor:
    """The product of ``most`` lanes, from what is not zero in ``x`` where that is less."""
    found = _sparse_product(weight, x, most)
    return _product(weight, x, most) if found is None else found


def _sparse_product(weight: Tensor, x: Tensor, most: int) -> Tensor | None:
    """The same as :func:`_product`, bit for bit, from what is not zero in ``x``; None where that is no less work.

    What is left out has no gradient, and 0 times infinity is not 0.
    """
    if torch.is_grad_enabled() or x.shape[1] < _WORTH_FINDING * most or not weight.isfinite().all():
        return None
    lanes = pad(x, (0, -x.shape[1] % most)).unflatten(1, (-1, most)).transpose(1, 2)  # (B, lanes, chunks)
    rank = (lanes != 0).cumsum(2)  # the how manieth of its lane each is
    longest = int(rank[..., -1].max()) if len(rank) else 0
    if 3 * longest > lanes.shape[2]:
        return None
    row, lane, chunk = lanes.nonzero(as_tuple=True)
    place = (rank[row, lane, chunk] - 1, row, lane)
    at = row.new_zeros(longest, *lanes.shape[:2]).index_put_(place, chunk * most + lane)
    values = x.new_zeros(longest, *lanes.shape[:2]).index_put_(place, lanes[row, lane, chunk])
    columns = weight.t().contiguous()
    total = x.new_zeros(*lanes.shape[:2], weight.shape[0])
    for index, value in zip(at, values, strict=True):
        total = total + columns[index] * value.unsqueeze(-1)
    return _tree(total.transpose(1, 2))


def _product(weight: Tensor, x: Tensor, most: int) -> Tensor:
    wide = _lanes(weight.shape[1], most)
    missing = -weight.shape[1] % wide
    chunks = pad(weight, (0, missing)).unflatten(1, (-1, wide)).unbind(1)
    given = pad(x, (0, missing)).unflatten(1, (-1, wide)).unbind(1)
    lanes = x.new_zeros(x.shape[0], weight.shape[0], wide)
    for w, z in zip(chunks, given, strict=True):
        lanes = lanes + w * z.unsqueeze(1)
    return _tree(lanes)


def _tree(lanes: Tensor) -> Tensor:
    """Neighbours of the last axis added until one is left."""
    while lanes.shape[-1] > 1:
        even, odd = lanes.unflatten(-1, (-1, 2)).unbind(-1)
        lanes = even + odd
    return lanes.squeeze(-1)


def _lanes(ins: int, most: int) -> int:
    """How many lanes ``ins`` inputs need: the others hold +0, and adding +0 to a sum that is not -0 changes no bit."""
    return min(most, 1 << max(0, ins - 1).bit_length())


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
