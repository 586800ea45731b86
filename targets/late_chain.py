"""Delays that read what another delay shows: the steps of both add up, and what came before is composed of both pasts.

What is ``k`` steps late of a signal that is ``j`` steps late is that signal ``j + k`` steps ago. Before the first step
there is the second delay's history, which ends where the first one would begin to show its signal; then, for as long
as the first is late, the first one's. So those that read the second delay read the signal that the first one delays,
late by the sum; neither late signal is made. All that is computed here is as large as states are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.graph import Ref
from snncompile.ir.interpolated import moves_only
from snncompile.targets.evaluation import Evaluation, Shown

Lag = tuple[int | Tensor, int]


def source_of(ev: Evaluation, name: str) -> Ref:
    """What a delay reads."""
    (edge,) = ev.sources(name)
    return edge.source


def first_of(ev: Evaluation, name: str) -> Shown | None:
    """The delay before a delay whose signal is not made, and which that one can read through."""
    found = ev.late.get(source_of(ev, name)) if ev.late else None
    return found if found is not None and moves_only(found.op) and len(found.lags) == 1 else None


def further(first: Shown, lags: Sequence[Lag], share: int) -> list[Lag]:
    """How late what is late by ``lags`` of what ``first`` shows is of the signal, ``share`` values of each channel."""
    ((steps, reach),) = first.lags
    each = steps if isinstance(steps, int) or share == 1 else steps.repeat_interleave(share)
    return [(lag + each, most + reach) for lag, most in lags]


def joined(first: Shown, history: Tensor, most: int) -> Tensor:
    """What came before the signal for those that read it so late, ``(most + reach of the first, B, channels)``.

    Args:
        first: the first delay.
        history: the second one's, ``(depth, B, channels)``, oldest first.
        most: how late the second one is at most.
    """
    ((steps, reach),) = first.lags
    rows = torch.cat([history[len(history) - most :], first.before[len(first.before) - reach :]])
    if isinstance(steps, int):
        return rows
    # a channel's own first delay: its signal begins so many steps before step 0, the history ends there
    now = torch.arange(-most - reach, 0, device=rows.device)[:, None]
    which = torch.where(now >= -steps, now + reach, now + steps).add_(most).clamp_(min=0)
    return torch.gather(rows, 0, which[:, None].expand(rows.shape))


def kept(first: Shown | None, history: Tensor, x: Tensor, op: Connection) -> Tensor:
    """The history of a delay after a run, as a state.

    Args:
        first: the delay before it, where ``x`` is what that one delays.
        history: before the run, ``(depth, B, *features)``.
        x: what it reads, ``(T, B, *features)``, or what ``first`` does.
        op: the delay.
    """
    depth = op.depth
    last = x[max(len(x) - depth, 0) :] if first is None else _last(first, x, depth).unflatten(2, op.input.shape)
    last = last.float()
    if len(last) >= depth:
        return last.transpose(0, 1).clone(memory_format=torch.contiguous_format)
    return torch.cat([history[len(last) :], last]).transpose(0, 1).contiguous()


def _last(first: Shown, x: Tensor, depth: int) -> Tensor:
    """The last ``depth`` values of what a delay shows of ``x``, or all where there are fewer."""
    ((steps, reach),) = first.lags
    many = min(len(x), depth)
    begin = len(x) - many - reach
    rows = x[max(begin, 0) :]
    if begin < 0:
        rows = torch.cat([first.before[begin:], rows.float()])
    if isinstance(steps, int):
        return rows[:many]
    which = torch.arange(many, device=x.device)[:, None] + (reach - steps)
    return torch.gather(rows, 0, which[:, None].expand(many, *x.shape[1:]))
