"""An event-driven convolution of what a delay shows, and the neurons that it feeds, as one operation.

As of images that are there (``targets/conv_scan.py``); but each is made, or looked up, where it is read, from the
signal that is delayed. Where the signal's gradient is wanted, that of the images is made a panel at a time, and goes
back to where the values came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from snncompile.targets.autograd import BoundScan, Kept, flow, keep, named
from snncompile.targets.conv_scan import ConvPair, ConvScanTarget, made_again
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.event_conv import ImageCourse, input_gradient
from snncompile.targets.late_panels import Panels, Piece, gradient_room
from snncompile.targets.late_scan import panels, shower
from snncompile.targets.linear_scan import LinearScan
from snncompile.targets.panel_readers import turns_weights
from snncompile.targets.pooling import Windows
from snncompile.targets.scan import BackwardCall, BackwardResult, Late, Scan, Seen
from snncompile.targets.torch.products import folded


@dataclass(frozen=True)
class _LatePair:
    """What both directions know.

    Attributes:
        pair: the neurons and the convolution.
        panels: what the delay shows, for gradients.
        shows: what computes it.
    """

    pair: ConvPair
    panels: Panels
    shows: BoundScan

    @property
    def tokens(self) -> tuple[Tensor, ...]:
        """Of what is computed."""
        return () if self.panels.bound is None else self.panels.bound.tokens

    def conv(self, x: Tensor, before: Tensor, weight: Tensor, bias: Tensor | None) -> ImageCourse:
        """The convolution of what is shown of ``x (T, B, channels)``, before which came ``before``."""
        p, rows = self.panels, len(before)
        late = [Late(before[rows - most :], lag, p.share) if most else None for lag, most in p.lags]
        seen = Seen(self.shows.prepared.scan, self.shows.coefs, tuple(late))
        return replace(self.pair.conv(x, weight, bias), seen=seen, shown=p.features)


def run_late_conv_scan(
    ev: Evaluation, pair: LinearScan, bound: BoundScan, target: ConvScanTarget, rest: tuple[Any, ...],
    windows: Windows | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:  # fmt: skip
    """What :func:`~snncompile.targets.conv_scan.run_conv_scan` gives where the images are what a delay shows.

    Args:
        ev: the run.
        pair: the convolution.
        bound: the neurons.
        target: runs both.
        rest: what :meth:`BoundScan.call` takes from the states on, but for what makes inputs late.
        windows: pooling of a result.
    """
    late, x = ev.late[pair.edge.source], ev.course(pair.edge).float()
    weight, bias = folded(pair.op, ev.params(pair.connection))
    shown = panels(ev, late, x, turns_weights(pair.op))
    before = late.before.contiguous()
    tokens = () if shown.bound is None else shown.bound.tokens
    leaves = [t for t in (x, before, weight, bias, *tokens) if t is not None]
    call, wants_grad = bound.call((), *rest, (), *leaves)
    one = ConvPair(bound, replace(call, windows=windows), target, pair.op)
    whole = _LatePair(one, shown, shower(ev, late) if shown.bound is None else shown.bound)
    if wants_grad:
        tensors = (*tokens, *bound.tokens, *call.states)
        return named(call, _LateConvScan.apply(whole, x, before, weight, bias, *tensors))
    with torch.no_grad():
        made, _ = one.forward(whole.conv(x, before, weight, bias), False)
    return made.stored, made.sums, list(made.finals)


class _LateConvScan(Function):
    """The convolution and the scan, and the gradients of both and of what the delay reads."""

    @staticmethod
    def forward(
        ctx: Any, late: _LatePair, x: Tensor, before: Tensor, weight: Tensor, bias: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        pair, conv = late.pair, late.conv(x, before, weight, bias)
        wanted = any(ctx.needs_input_grad[1 : 5 + len(late.tokens)])
        pair.target.expect_backward(pair.bound.prepared.scan, pair.expected(x, wanted), conv)
        result, current = pair.forward(conv, not made_again(pair.op))
        ctx.pair = late
        return keep(ctx, pair.bound, pair.call, result, (x, before, weight, bias, current))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        late: _LatePair = ctx.pair
        x, before, weight, bias, current, *saved = ctx.saved_tensors
        _, need_x, need_before, need_weight, need_bias, *needs = ctx.needs_input_grad
        shows, needs = needs[: len(late.tokens)], needs[len(late.tokens) :]
        tokens, signal = ctx.counts[0], need_x or need_before
        conv = late.conv(x, before, weight, bias)
        weights: list[Tensor] = []

        def run(scan: Scan, call: BackwardCall) -> BackwardResult:
            whole, weighted = signal or any(shows), need_weight or need_bias
            result, found = late.pair.target.backward(scan, call, conv, current, whole, weighted)
            weights.extend(found or ())
            return result

        wanted = signal or any(shows) or need_weight or need_bias
        piece = Kept(late.pair.bound, ctx.call, [], (tokens, 1, 0))
        found = flow(piece, (x, *saved), (*needs[:tokens], wanted, *needs[tokens:]), grads, run)
        d_x = d_before = None
        sums: list[Tensor | None] = [None] * len(late.tokens)
        if (signal or any(shows)) and found[tokens] is not None:
            d_x, d_before, sums = _back(late, found[tokens], conv, before, (signal, any(shows)))
        d_weight, d_bias = weights or (None, None)
        own = (d_weight if need_weight else None, d_bias if need_bias else None)
        return None, d_x, d_before, *own, *sums, *found[:tokens], *found[tokens + 1 :]


def _back(
    late: _LatePair, grad: Tensor, conv: ImageCourse, before: Tensor, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
    """The gradients of the signal, of what came before it, and of what the values are combined with, from that of what
    the convolution makes, ``(T, B, N)``; ``needs`` says whether those of signals are wanted, and those sums."""
    panels, x = late.panels, conv.x
    whole = gradient_room(panels, x) if needs[0] else None
    size = prod(panels.features)
    sums = [x.new_zeros(size) for _ in range(len(late.tokens) if needs[1] else 0)]
    swapped = not grad.is_contiguous()  # sequence by sequence in memory
    for piece in _pieces(panels):
        part = grad[piece.steps, piece.rows].unflatten(2, late.pair.op.output.shape)
        rows = (part.transpose(0, 1) if swapped else part).flatten(0, 1)
        images = x.new_empty(()).expand(len(rows), *panels.features)
        found = input_gradient(rows, images, conv.weight, conv.window).flatten(1)
        found = found.unflatten(0, piece.shape[::-1] if swapped else piece.shape)
        panels.give(found.transpose(0, 1) if swapped else found, x, before, piece, whole, sums)
    d_before = None
    if whole is not None:
        unread = x.new_zeros((len(before) - panels.reach, *before.shape[1:]))
        d_before = torch.cat([unread, whole[: panels.reach]])
    return None if whole is None else whole[panels.reach :], d_before, [*sums] or [None] * len(late.tokens)


def _pieces(panels: Panels) -> Iterator[Piece]:
    """Panels; where they are views, as large ones."""
    if panels.bound is not None:
        yield from panels.pieces()
        return
    steps, batch, _ = panels.shape
    each = max(1, panels.size[0] * panels.size[1] // batch)
    for first in range(0, steps, each):
        yield Piece(slice(first, min(first + each, steps)), slice(0, batch))
