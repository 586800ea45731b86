"""Where traces in progress are found by functions that are one operation to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class Recording(Protocol):
    """A trace in progress."""

    def custom(self, op: str, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """``compute(x)``, recorded as operation ``op``."""
        ...

    def uniform(self) -> Tensor:
        """A number drawn at every step, recorded as the operation ``uniform``."""
        ...


active: list[Recording] = []
"""Traces in progress, the innermost last."""


def elementary(op: str, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """``compute(x)``, which a trace in progress records as the single operation ``op``."""
    if not active:
        return compute(x)
    return active[-1].custom(op, x, compute)
