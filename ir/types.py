"""Types of signals: what flows along the edges of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Any

from snncompile.ir.errors import ModelError

KINDS = ("spikes", "current", "membrane", "any")

#: The cap on spikes per step that the library's neurons have by default (Rockpool's 2**16).
DEFAULT_MAX_SPIKES = 65536


@dataclass(frozen=True)
class SignalType:
    """The type of a signal of shape ``(batch, time, *shape)``, float32.

    Attributes:
        kind: ``"spikes"`` (whole numbers from 0 to ``max``), ``"current"``, ``"membrane"`` or ``"any"``.
        shape: the feature shape, without batch and time.
        max: the largest spike count in one step; None for other kinds.
    """

    kind: str
    shape: tuple[int, ...]
    max: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"unknown signal kind {self.kind!r}; use one of {', '.join(KINDS)}")
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in self.shape) or not self.shape:
            raise ModelError(f"a feature shape holds positive whole numbers, not {self.shape!r}")
        if self.kind == "spikes" and (not isinstance(self.max, int) or isinstance(self.max, bool) or self.max < 1):
            raise ModelError(f"spikes need a maximum count per step, a whole number of at least 1, not {self.max!r}")

    @property
    def size(self) -> int:
        """Number of features."""
        return prod(self.shape)

    def __str__(self) -> str:
        dims = "x".join(map(str, self.shape))
        return f"{self.kind}[{dims}]" + (f"<={self.max}" if self.max is not None else "")


def as_shape(shape: Any) -> tuple[int, ...]:
    """A feature shape from what a user writes: ``64`` or ``(2, 34, 34)``."""
    if isinstance(shape, bool) or not isinstance(shape, (Integral, tuple, list)):
        raise ModelError(f"a feature shape is a whole number or a tuple of them, not {shape!r}")
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return tuple(n if isinstance(n, bool) or not isinstance(n, Integral) else int(n) for n in sizes)
