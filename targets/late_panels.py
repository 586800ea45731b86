"""What a delay shows, a panel at a time, for those that read all steps at once: so much of it as stays in the cache.

A scan reads earlier steps of the signal itself (``targets/late_scan.py``). A product or a pooling wants rows that lie
one after the other. The same kernel that would make the late signal writes them, from the signal at offsets, into a
panel that is used again for the next steps; where all channels are late by the same whole steps, a panel is a view of
what lies there. Of the late signal no more than a panel exists, and nothing of it is kept: backward, panels are filled
again where they are needed, and their gradients go back to where the values came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from snncompile.targets.autograd import BoundScan, over_batch
from snncompile.targets.scan import BackwardCall, ForwardCall, Late


class PanelGradient(NamedTuple):
    """What the gradients of one panel are made of.

    Attributes:
        grad: that of what was made of the panel.
        panel: it; something of the same shape where :meth:`PanelReader.looks_back` says that nobody reads it.
        tensors: as going forward.
        needs: of which gradients are wanted: of the panel, and of the tensors.
        room: where the gradient of the panel may go, contiguous, where it is wanted.
        totals: gradients of the tensors, from the panels after this one.
        which: the panel's number.
    """

    grad: Tensor
    panel: Tensor
    tensors: Sequence[Tensor | None]
    needs: Sequence[bool]
    room: Tensor | None
    totals: list[Tensor | None]
    which: int

    def add(self, i: int, more: Tensor | None) -> None:
        """Add to the gradient of the i-th tensor."""
        total = self.totals[i]
        if more is not None:
            self.totals[i] = more if total is None else total.add_(more)


class PanelReader(Protocol):
    """Something that maps each step of its input for itself.

    Attributes:
        tensors: what it takes besides, as autograd knows it: weights.
    """

    tensors: tuple[Tensor | None, ...]

    def forward(self, panel: Tensor, tensors: Sequence[Tensor | None], room: Tensor | None, which: int) -> Tensor:
        """What it makes of ``panel (steps, B, *features)``, the ``which``-th; in ``room`` if it likes, where that is
        given."""
        ...

    def looks_back(self, needs: Sequence[bool]) -> bool:
        """Whether its gradients, as ``needs`` says of its input and of its tensors, read the input."""
        ...

    def backward(self, p: PanelGradient) -> Tensor | None:
        """The gradient of its input, where ``p.needs`` says so; those of its tensors are added to ``p.totals``."""
        ...


class Piece(NamedTuple):
    """What a panel holds.

    Attributes:
        steps: from which step to before which.
        rows: likewise, of the sequences.
    """

    steps: slice
    rows: slice

    @property
    def shape(self) -> tuple[int, int]:
        """How many steps and sequences."""
        return self.steps.stop - self.steps.start, self.rows.stop - self.rows.start


@dataclass(frozen=True)
class Panels:
    """A late signal, to be read a panel at a time.

    Attributes:
        lags: for each value that it shows of the past: how many steps ago, one number or one for each value shown,
            int32, and the most that any is.
        bound: what computes what is shown of them; None where that is the one value, and the same steps for all.
        shape: T, B and the number of channels of the signal.
        features: of what is shown.
        size: steps and sequences of a panel.
    """

    lags: tuple[tuple[int | Tensor, int], ...]
    bound: BoundScan | None
    shape: tuple[int, int, int]
    features: tuple[int, ...]
    size: tuple[int, int]

    @property
    def share(self) -> int:
        """How many values of each channel are shown."""
        return prod(self.features) // self.shape[2]

    @property
    def reach(self) -> int:
        """How far back is read."""
        return max(reach for _, reach in self.lags)

    def pieces(self) -> list[Piece]:
        """The panels."""
        steps, batch, _ = self.shape
        if self.bound is None:
            parts = (slice(0, self.reach), slice(self.reach, steps))
            return [Piece(part, slice(0, batch)) for part in parts if part.stop > part.start]
        rows = _parts(batch, self.size[1])
        return [Piece(part, some) for some in rows for part in _parts(steps, self.size[0])]

    def take(self, x: Tensor, before: Tensor, piece: Piece, room: Tensor | None) -> Tensor:
        """A panel, ``(steps, B, *features)``, in ``room`` if it is no view."""
        if self.bound is None or room is None:
            first, last, reach = piece.steps.start, piece.steps.stop, self.reach
            found = before[len(before) - reach :] if first < reach else x[first - reach : last - reach]
            return found.unflatten(2, self.features)
        inputs, late, _ = self._reads(x, before, piece)
        shape = (*piece.shape, prod(self.features))
        panel = _first(room, piece, shape[2])
        call = ForwardCall(inputs, self.bound.coefs, (), shape, ("seen",), late=late, room={"seen": panel})
        self.bound.prepared.target.forward(self.bound.prepared.scan, call)
        return panel.unflatten(2, self.features)

    def give(
        self, grad: Tensor, x: Tensor, before: Tensor, piece: Piece, whole: Tensor | None, sums: list[Tensor]
    ) -> None:
        """Add the gradient of a panel to that of what was read.

        Args:
            grad: that of the panel.
            x: the signal.
            before: what came before it.
            piece: which panel.
            whole: the gradient of what came before and of the signal, ``(reach + T, B, channels)``, or None.
            sums: those of what the values are combined with, ``(shown,)`` for each accumulator of the scan; empty where
                they are not wanted.
        """
        if self.bound is None:
            if whole is not None and whole[piece.steps].data_ptr() != grad.data_ptr():
                whole[piece.steps].copy_(grad.flatten(2))
            return
        scan, target = self.bound.prepared.scan, self.bound.prepared.target
        inputs, late, begins = self._reads(x, before, piece)
        steps, batch = piece.shape
        given = grad.reshape(steps, batch, prod(self.features))
        alone = self.share == 1 and len(late) == 1  # then no value goes where another one went
        call = BackwardCall(
            inputs, self.bound.reverse_coefs, self.bound.coefs, (), (*piece.shape, given.shape[2]), 1, {"seen": given},
            (), (False,) * len(inputs), False, late=late, add=not alone,
        )  # fmt: skip
        for i, begin in enumerate(begins if whole is not None else begins[:1]):
            call = replace(call, need_accumulators=bool(sums) and i == 0)
            if whole is not None:  # each value apart, since they go to the same place
                need = tuple([n == i for n in range(len(inputs))])
                one = late[i]
                rows = steps if one is None or isinstance(one.steps, int) else steps + 2 * len(one.past)
                to = whole[begin : begin + rows, piece.rows]
                call = replace(call, need_inputs=need, room={i: to} if one is not None else {})
            found = target.backward(scan, call)
            if whole is not None and late[i] is None:  # the present value: its gradient is not moved
                whole[begin : begin + steps, piece.rows] += found.inputs[i]
            for total, name in zip(sums, scan.accumulators, strict=False):
                if name in found.accumulators:
                    total += over_batch(found.accumulators[name])

    def _reads(
        self, x: Tensor, before: Tensor, piece: Piece
    ) -> tuple[tuple[Tensor, ...], tuple[Late | None, ...], list[int]]:
        """For each value: the part of the signal that a panel reads, how late it is there, and the row of the gradient
        of everything that is the kernel's first."""
        first, last, reach = piece.steps.start, piece.steps.stop, self.reach
        before = before[:, piece.rows]
        inputs, late, begins = [], [], []
        for lag, most in self.lags:
            back = min(first, most)
            inputs.append(x[first - back : last, piece.rows])
            past = before[len(before) - most :].contiguous()
            late.append(Late(past, lag - back if back else lag, self.share) if most else None)
            # a kernel writes the gradient of step s to row s, or to the past's length and s less its steps
            begins.append(reach - most + first - (0 if isinstance(lag, int) else back))
        return tuple(inputs), tuple(late), begins


def _parts(whole: int, most: int) -> list[slice]:
    """``whole`` cut into parts of at most so much, of about the same size."""
    each = -(-whole // -(-whole // most))
    return [slice(a, min(a + each, whole)) for a in range(0, whole, each)]


def _first(room: Tensor, piece: Piece, size: int) -> Tensor:
    """The beginning of ``room`` as what a piece needs, ``(steps, B, size)``."""
    steps, batch = piece.shape
    return room[: steps * batch * size].view(steps, batch, size)


def read_panels(panels: Panels, reader: PanelReader, x: Tensor, before: Tensor) -> Tensor:
    """What ``reader`` makes of a late signal, ``(T, B, *its features)``; differentiable.

    Args:
        panels: the late signal.
        reader: what reads it.
        x: the signal, ``(T, B, channels)`` float32, channels one after the other.
        before: what came before it, ``(depth, B, channels)`` of any strides, oldest first.
    """
    tokens = panels.bound.tokens if panels.bound is not None else ()
    tensors = [x, before, *tokens, *reader.tensors]
    if torch.is_grad_enabled() and any([t is not None and t.requires_grad for t in tensors]):
        return _Panels.apply(panels, reader, *tensors)
    with torch.no_grad():
        room = _room(panels, x) if panels.bound is not None else None
        return _read(panels, reader, x, before, reader.tensors, room)


def _room(panels: Panels, x: Tensor) -> Tensor:
    """Memory for any of the panels."""
    return x.new_empty(max(prod(piece.shape) for piece in panels.pieces()) * prod(panels.features))


def _read(
    panels: Panels,
    reader: PanelReader,
    x: Tensor,
    before: Tensor,
    tensors: Sequence[Tensor | None],
    room: Tensor | None,
) -> Tensor:
    """What the reader makes of all panels, which are filled in ``room``."""
    pieces = panels.pieces()
    y: Tensor | None = None
    for which, piece in enumerate(pieces):
        panel = panels.take(x, before, piece, room)
        to = None if y is None else y[piece]
        part = reader.forward(panel, tensors, to, which)
        if len(pieces) == 1:
            return part
        if y is None:
            y, to = part.new_empty((*panels.shape[:2], *part.shape[2:])), None
        if to is None or part.data_ptr() != to.data_ptr():
            y[piece] = part
    assert y is not None
    return y


class _Panels(Function):
    """A late signal and what reads it, as one operation."""

    @staticmethod
    def forward(
        ctx: Any, panels: Panels, reader: PanelReader, x: Tensor, before: Tensor, *tensors: Tensor | None
    ) -> Tensor:
        own = tensors[len(tensors) - len(reader.tensors) :]
        ctx.panels, ctx.reader, ctx.tokens = panels, reader, len(tensors) - len(own)
        ctx.save_for_backward(x, before, *own)
        room = _room(panels, x) if panels.bound is not None else None
        needs = ctx.needs_input_grad[2:]
        looks = reader.looks_back((any(needs[: 2 + ctx.tokens]), *needs[2 + ctx.tokens :]))
        ctx.room = room if looks else None  # the last panel is the first to be read again
        return _read(panels, reader, x, before, own, room)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        panels, reader, n_tokens = ctx.panels, ctx.reader, ctx.tokens
        x, before, *tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        need_signal, need_sums = any(needs[:2]), any(needs[2 : 2 + n_tokens])
        wanted = (need_signal or need_sums, *needs[2 + n_tokens :])
        pieces, fills, looks = panels.pieces(), panels.bound is not None, reader.looks_back(wanted)
        whole = gradient_room(panels, x) if need_signal else None
        sums = [x.new_zeros(prod(panels.features)) for _ in range(n_tokens if need_sums else 0)]
        kept, ctx.room = ctx.room, None
        room = (_room(panels, x) if kept is None else kept) if fills and looks else None
        back = _room(panels, x) if fills and wanted[0] else None
        totals: list[Tensor | None] = [None] * len(tensors)
        for which in reversed(range(len(pieces))):
            piece = pieces[which]
            to: Tensor | None = None
            if back is not None:
                to = _first(back, piece, prod(panels.features)).unflatten(2, panels.features)
            elif whole is not None:
                to = whole[piece.steps].unflatten(2, panels.features)
            if looks and piece is pieces[-1] and kept is not None:
                panel = _first(kept, piece, prod(panels.features)).unflatten(2, panels.features)
            elif looks:
                panel = panels.take(x, before, piece, room)
            else:
                panel = x.new_empty(()).expand(*piece.shape, *panels.features)
            found = reader.backward(PanelGradient(grad[piece], panel, tensors, wanted, to, totals, which))
            if found is not None:
                panels.give(found, x, before, piece, whole, sums)
        d_x = d_before = None
        if whole is not None:
            reach = panels.reach
            d_x = whole[reach:]
            if needs[1]:
                unread = x.new_zeros((len(before) - reach, *before.shape[1:]))
                d_before = torch.cat([unread, whole[:reach]])
        return None, None, d_x, d_before, *(sums or [None] * n_tokens), *totals


def gradient_room(panels: Panels, x: Tensor) -> Tensor:
    """Zeros for the gradient of what came before and of the signal, ``(reach + T, B, channels)``, in its own order."""
    steps, batch, size = panels.shape
    rows = panels.reach + steps
    if panels.bound is None:
        whole = x.new_empty((rows, batch, size))
        whole[steps:] = 0.0
        return whole
    if panels.size[1] < batch and x.stride(0) < x.stride(1):
        return x.new_zeros((batch, rows, size)).transpose(0, 1)
    return x.new_zeros((rows, batch, size))
