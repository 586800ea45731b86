"""Delays: which past values a signal shows. One rule, for every node and for reading a record afterwards.

A *record* holds one value a step; value 0 is the present one, value ``k`` that of ``k`` steps ago. Times here are in
steps: a model's seconds are converted once, in float64 (:func:`to_steps`), since float32 seconds would miss half of
the whole steps. Source of the rule: Inferno, ``inferno.RecordTensor.select``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snncompile.ir.errors import ModelError

#: How far from a whole step a time still is one, in steps.
SNAP = 1e-6

#: Steps beyond which a delay is refused.
MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class Rule:
    """How a time before the present is read from a record. All times are in steps.

    With ``k`` whole steps and a rest ``r``: within ``tolerance`` of a record, that record. Between two, ``"previous"``
    takes the older, ``"nearest"`` the newer if the sample lies more than half a step after the older, ``"expdecay"``
    the older, decayed by ``exp(-(1 - r)/tau)``, and ``"linear"`` the mean weighted by distance.

    Attributes:
        limit: the longest time; what lies outside ``[0, limit]`` is moved to its end.
        interpolation: one of :data:`~snncompile.ir.connection.INTERPOLATIONS`.
        tau: time constant of ``"expdecay"``, a number or a tensor that broadcasts.
        overbound: what is read where a time lies outside by more than ``tolerance``; None reads the value at the end.
        tolerance: the largest distance to a record that counts as none.
        trained: whether the times are trained. Then nothing snaps to the grid, where it would have no gradient.
    """

    limit: float
    interpolation: str = "exact"
    tau: Any = 1.0
    overbound: float | None = None
    tolerance: float = 0.0
    trained: bool = False

    @property
    def depth(self) -> int:
        """Past values that a record must hold, besides the present one."""
        return ceil(self.limit - SNAP)


@dataclass(frozen=True)
class Reading:
    """What is read: ``gain * record[index] + other_gain * record[other]``, or the overbound where not ``valid``.

    Attributes:
        index: steps ago, int64.
        gain: float32, or None for 1.
        other: a second value, or None.
        other_gain: its factor.
        valid: False where the overbound is read; None where it is nowhere.
    """

    index: Tensor
    gain: Tensor | None = None
    other: Tensor | None = None
    other_gain: Tensor | None = None
    valid: Tensor | None = None


def to_steps(seconds: Any, dt: float, what: str = "a delay") -> np.ndarray:
    """Times in steps, computed in float64; what is a whole step within :data:`SNAP` becomes exactly that.

    So does what is half a step: there ``"nearest"`` goes from one record to the other.

    Raises:
        ModelError: where ``seconds`` holds no finite numbers.
    """
    try:
        plain = seconds.detach().cpu().numpy() if hasattr(seconds, "detach") else seconds
        steps = np.asarray(plain, dtype=np.float64) / dt
    except (TypeError, ValueError):
        raise ModelError(f"{what} is {seconds!r}, not a time in seconds or an array of them") from None
    if seconds is None or isinstance(seconds, str):
        raise ModelError(f"{what} is {seconds!r}, not a time in seconds or an array of them")
    if isinstance(seconds, bool) or not np.all(np.isfinite(steps)):
        raise ModelError(f"{what} holds a value that is no finite time")
    if steps.size and np.max(np.abs(steps)) > MAX_STEPS:
        raise ModelError(f"{what} is over {MAX_STEPS:,} steps long")
    single = isinstance(plain, (np.ndarray, np.generic)) and plain.dtype == np.float32
    near = np.round(2.0 * steps) / 2.0
    # float32 seconds carry an error of their own, relative to their size
    off = np.maximum(SNAP, np.abs(steps) * 1.2e-7) if single else SNAP
    return np.where(np.abs(steps - near) <= off, near, steps)


def read(steps: Tensor, rule: Rule) -> Reading:
    """What times before the present read from a record; differentiable in ``steps`` for ``"linear"``.

    Args:
        steps: times in steps.
        rule: how.
    """
    steps = steps.double()
    bounded = steps.clamp(0.0, rule.limit)
    valid = None
    if rule.overbound is not None:
        inside = (steps - bounded).abs() <= max(rule.tolerance, SNAP)
        valid = None if bool(inside.all()) else inside
    if rule.interpolation == "linear":
        return _linear(bounded, rule, valid)
    time = bounded.detach().nan_to_num()
    near = time.round()
    on_grid = (time - near).abs() <= max(rule.tolerance, SNAP)
    if rule.interpolation == "exact":
        return Reading(near.long(), valid=valid)
    newer = time.floor()
    after = 1.0 - (time - newer)  # how long after the older record the sample lies
    if rule.interpolation == "nearest":
        return Reading(torch.where(on_grid, near, newer + (after <= 0.5)).long(), valid=valid)
    index = torch.where(on_grid, near, newer + 1.0).long()
    if rule.interpolation == "previous":
        return Reading(index, valid=valid)
    decayed = torch.exp(-after / torch.as_tensor(rule.tau, dtype=torch.float64, device=time.device))
    return Reading(index, torch.where(on_grid, torch.ones_like(decayed), decayed).float(), valid=valid)


def combined(
    near: Tensor,
    gain: Tensor | None = None,
    far: Tensor | None = None,
    far_gain: Tensor | None = None,
    valid: Tensor | None = None,
    over: float | None = None,
) -> Tensor:
    """What is seen of the values that a :class:`Reading` reads; the arguments are as there.

    Kernels that read these values themselves compute this function, traced (``ir/interpolated.py``).
    """
    y = near if gain is None else near * gain
    if far is not None and far_gain is not None:
        y = y + far * far_gain
    return y if valid is None or over is None else torch.where(valid, y, over)


def _linear(bounded: Tensor, rule: Rule, valid: Tensor | None) -> Reading:
    time = bounded.detach().nan_to_num()
    last = max(rule.depth - 1, 0)
    newer = time.floor().clamp(max=last)
    rest = bounded - newer
    if not rule.trained:
        near = time.round()
        on_grid = (time - near).abs() <= max(rule.tolerance, SNAP)
        newer = torch.where(on_grid, near.clamp(max=last), newer)
        rest = torch.where(on_grid, near - newer, rest)
    newer = newer.long()
    older = (newer + 1).clamp(max=rule.depth)
    return Reading(newer, (1.0 - rest).float(), older, rest.float(), valid)
