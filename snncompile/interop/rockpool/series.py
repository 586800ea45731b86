"""Signals with a clock: events and samples at times in seconds, by the names that Rockpool gives them.

Rockpool's own ``TSEvent`` and ``TSContinuous`` are taken wherever these are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from snncompile.ir.errors import InputError

#: How far, in steps, a time may lie before a step and still belong to it: rounding of times, not time.
SNAP = 1e-6

INTERPOLATIONS = ("previous", "linear")


class _Series:
    """What every series has: ``times`` in seconds, between ``t_start`` and ``t_stop``."""

    times: Any
    t_start: Any
    t_stop: Any
    periodic: bool

    def contains(self, times: Any) -> bool:
        """Whether the series covers every one of ``times``."""
        at = np.atleast_1d(np.asarray(times, dtype=float))
        slack = SNAP * max(self.duration, 1e-12)
        inside = at.size == 0 or (at.min() >= self.t_start - slack and at.max() <= self.t_stop + slack)
        return bool(self.periodic or inside)

    @property
    def duration(self) -> float:
        """From start to stop, in seconds."""
        return float(self.t_stop - self.t_start)

    def isempty(self) -> bool:
        """Whether nothing is in it."""
        return len(self.times) == 0

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, eq=False)
class TSEvent(_Series):
    """Events: times and the channels they are on.

    Attributes:
        times: in seconds, not decreasing.
        channels: of each event, from 0.
        num_channels: how many channels there are.
        t_start: where the series begins; the first event if None.
        t_stop: where it ends, after the last event.
        periodic: whether it repeats for ever.
        name: for a reader.
    """

    times: Any = ()
    channels: Any = None
    num_channels: Any = None
    t_start: Any = None
    t_stop: Any = None
    periodic: bool = False
    name: str = "unnamed"

    def __post_init__(self) -> None:
        times = _times(self.times, self.name)
        channels = _channels(self.channels, times.size, self.name)
        if times.size and (self.t_stop is None or times[-1] >= self.t_stop):
            raise InputError(f"t_stop of events {self.name!r} must lie after the last of them, at {times[-1]:g} s")
        needed = int(channels.max()) + 1 if channels.size else 0
        count = needed if self.num_channels is None else int(self.num_channels)
        if count < needed or (channels.size and channels.min() < 0):
            raise InputError(f"events {self.name!r} are on channels {channels.min()} to {channels.max()} of {count}")
        start = (times[0] if times.size else 0.0) if self.t_start is None else self.t_start
        _set(self, times=times, channels=channels, num_channels=count, t_start=float(start))
        _set(self, t_stop=self.t_start if self.t_stop is None else float(self.t_stop))

    @staticmethod
    def from_raster(
        raster: Any,
        dt: float = 1.0,
        t_start: float = 0.0,
        t_stop: float | None = None,
        name: str | None = None,
        periodic: bool = False,
        num_channels: int | None = None,
        spikes_at_bin_start: bool = False,
    ) -> TSEvent:
        """Events from counts ``(time, channels)``: each in the middle of its step, or at its start."""
        counts = np.asarray(raster).astype(int)
        counts = counts[:, None] if counts.ndim == 1 else counts
        where = np.argwhere(counts > 0)
        where = np.repeat(where, counts[counts > 0], axis=0)
        times = where[:, 0] * dt + t_start + (0.0 if spikes_at_bin_start else dt / 2)
        stop = counts.shape[0] * dt + t_start if t_stop is None else t_stop
        channels = counts.shape[1] if num_channels is None else num_channels
        return TSEvent(times, where[:, 1], channels, t_start, stop, periodic, name or "unnamed")

    def raster(
        self,
        dt: float,
        t_start: float | None = None,
        t_stop: float | None = None,
        num_timesteps: int | None = None,
        add_events: bool = False,
    ) -> np.ndarray:
        """Counts ``(time, channels)`` in steps ``[t, t + dt)``: whether there is an event, or with ``add_events`` how
        many."""
        start = self.t_start if t_start is None else t_start
        if num_timesteps is None:
            num_timesteps = int(np.ceil(((self.t_stop if t_stop is None else t_stop) - start) / dt - SNAP))
        return events_in(self, dt, start, num_timesteps, self.num_channels, add_events)

    def __repr__(self) -> str:
        return _said(self, "events")


@dataclass(frozen=True, eq=False)
class TSContinuous(_Series):
    """Samples ``(time, channels)`` and what lies between them.

    Attributes:
        times: in seconds, not decreasing.
        samples: one row per time.
        t_start: where the series begins; the first time if None.
        t_stop: where it ends; the last time if None.
        periodic: whether it repeats for ever.
        name: for a reader.
        interp_kind: ``"previous"`` (each sample holds until the next) or ``"linear"``.
    """

    times: Any = ()
    samples: Any = ()
    t_start: Any = None
    t_stop: Any = None
    periodic: bool = False
    name: str = "unnamed"
    interp_kind: str = "previous"

    def __post_init__(self) -> None:
        times = _times(self.times, self.name)
        samples = _numbers(self.samples, f"the samples of {self.name!r}")
        samples = samples.reshape(len(samples), -1) if samples.size else np.zeros((times.size, 0))
        if len(samples) != times.size:
            raise InputError(f"samples {self.name!r} have {times.size} times and {len(samples)} rows")
        if self.interp_kind not in INTERPOLATIONS:
            raise InputError(f"interp_kind is {' or '.join(map(repr, INTERPOLATIONS))}, not {self.interp_kind!r}")
        start = (times[0] if times.size else 0.0) if self.t_start is None else self.t_start
        stop = (times[-1] if times.size else start) if self.t_stop is None else self.t_stop
        _set(self, times=times, samples=samples, t_start=float(start), t_stop=float(stop))

    @staticmethod
    def from_clocked(
        samples: Any,
        dt: float,
        t_start: float = 0.0,
        periodic: bool = False,
        name: str | None = None,
        interp_kind: str = "previous",
    ) -> TSContinuous:
        """Samples ``(time, channels)``, each at the start of its step; the series ends with the last step."""
        array = np.asarray(samples, dtype=float)
        times = np.arange(len(array)) * dt + t_start
        stop = t_start + len(array) * dt
        return TSContinuous(times, array, t_start, stop, periodic, name or "unnamed", interp_kind)

    def __call__(self, times: Any) -> np.ndarray:
        """Samples at ``times``, ``(len(times), channels)``.

        Raises:
            InputError: for times outside the series.
        """
        at = np.atleast_1d(np.asarray(times, dtype=float))
        if not len(self.times):
            raise InputError(f"samples {self.name!r} are none: there is nothing to read at any time")
        if self.periodic and self.duration > 0:
            at = (at - self.t_start) % self.duration + self.t_start
        elif not self.contains(at):
            raise InputError(
                f"samples {self.name!r} go from {self.t_start:g} to {self.t_stop:g} s, but are needed from"
                f" {at.min():g} to {at.max():g} s"
            )
        if self.interp_kind == "linear":
            return np.stack([np.interp(at, self.times, c) for c in self.samples.T], axis=1)
        gaps = np.diff(self.times)
        slack = SNAP * float(gaps[gaps > 0].min()) if np.any(gaps > 0) else 0.0
        before = np.searchsorted(self.times, at + slack, side="right") - 1
        return np.asarray(self.samples[np.maximum(before, 0)])

    def to_clocked(self, dt: float) -> np.ndarray:
        """Samples at every step of ``dt`` from start to stop."""
        steps = int(np.ceil(self.duration / dt - SNAP))
        return self(np.arange(steps) * dt + self.t_start)

    @property
    def num_channels(self) -> int:
        """How many channels there are."""
        return int(self.samples.shape[1])

    def __repr__(self) -> str:
        return _said(self, "samples")


def events_in(series: Any, dt: float, t_start: float, steps: int, channels: int, add_events: bool) -> np.ndarray:
    """Counts ``(steps, channels)`` of a series of events, from ``t_start``; 0 or 1 unless ``add_events``."""
    times, on = np.asarray(series.times, dtype=float), np.asarray(series.channels, dtype=int)
    if series.periodic and series.duration > 0 and times.size:
        first = int(np.floor((t_start - series.t_start) / series.duration))
        last = int(np.ceil((t_start + steps * dt - series.t_start) / series.duration))
        turns = np.arange(first, last + 1)
        times = (times[None, :] + turns[:, None] * series.duration).reshape(-1)
        on = np.tile(on, len(turns))
    step = np.floor((times - t_start) / dt + SNAP).astype(int)
    inside = (step >= 0) & (step < steps)
    counts = np.zeros((steps, channels), int)
    np.add.at(counts, (step[inside], on[inside]), 1)
    return counts if add_events else np.minimum(counts, 1)


def _said(series: TSEvent | TSContinuous, what: str) -> str:
    span = f"from t={series.t_start:g} to {series.t_stop:g}"
    return f"{type(series).__name__} {series.name!r} {span}, {len(series)} {what}, {series.num_channels} channels"


def seconds(what: str, value: Any) -> float:
    """``value`` as a time.

    Raises:
        InputError: where it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"{what} is a time in seconds, not {value!r}")
    return float(value)


def _times(times: Any, name: str) -> np.ndarray:
    array = np.atleast_1d(_numbers(times, f"the times of {name!r}")).reshape(-1)
    if not np.isfinite(array).all():
        raise InputError(f"the times of {name!r} are not all finite")
    if np.any(np.diff(array) < 0):
        raise InputError(f"the times of {name!r} go back")
    return array


def _channels(channels: Any, events: int, name: str) -> np.ndarray:
    array = np.atleast_1d(_numbers(0 if channels is None else channels, f"the channels of {name!r}")).reshape(-1)
    if array.size not in (1, events):
        raise InputError(f"events {name!r} have {events} times and {array.size} channels")
    with np.errstate(invalid="ignore"):
        whole = np.all(np.mod(array, 1.0) == 0.0)
    if not whole:
        raise InputError(f"the channels of {name!r} are whole numbers from 0")
    return np.broadcast_to(array, (events,)).astype(int)


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{what} are numbers, side by side in an array; these are not") from None


def _set(frozen: Any, **values: Any) -> None:
    fields: Mapping[str, Any] = values
    for name, value in fields.items():
        object.__setattr__(frozen, name, value)
