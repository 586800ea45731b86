"""What a NIR file does not say and a network needs: the time step, the discretisation, the kind of reset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from snncompile.ir.errors import InterchangeError

CHOICES = {
    "method": ("exact", "euler"),
    "reset": ("zero", "subtract"),
    "current": ("after", "before"),
}


@dataclass(frozen=True)
class Discretisation:
    """How the equations of a NIR graph become steps.

    Attributes:
        dt: the time step, in the unit of the file's time constants (seconds).
        method: ``"exact"``, the solution for an input constant over the step, or ``"euler"``.
        reset: ``"zero"`` goes to the node's ``v_reset``; ``"subtract"`` subtracts the threshold.
        current: whether a membrane sees the synaptic current ``"after"`` its update in the same step, or ``"before"``.
    """

    dt: float
    method: str = "exact"
    reset: str = "zero"
    current: str = "after"


#: How the last step's value in a cycle is written.
CYCLES = ("delay", "bare")


def checked_writing(dt: Any, method: str | None, cycles: str) -> None:
    """Raise :class:`InterchangeError` for options of writing that are none."""
    if dt is not None:
        _check_dt(dt)
    if method is not None and method not in CHOICES["method"]:
        raise InterchangeError(f"method is {' or '.join(map(repr, CHOICES['method']))}, not {method!r}")
    if cycles not in CYCLES:
        raise InterchangeError(f"cycles is {' or '.join(map(repr, CYCLES))}, not {cycles!r}")


def checked(dt: Any, method: str, reset: str, current: str) -> Discretisation:
    """The options, or what is wrong with them.

    Raises:
        InterchangeError: for a missing time step or an unknown choice.
    """
    if dt is None:
        raise InterchangeError("a NIR file names no time step: give one in seconds, dt=1e-4 (--dt 1e-4)")
    _check_dt(dt)
    for name, value in (("method", method), ("reset", reset), ("current", current)):
        if value not in CHOICES[name]:
            raise InterchangeError(f"{name} is {' or '.join(map(repr, CHOICES[name]))}, not {value!r}")
    return Discretisation(float(dt), method, reset, current)


def _check_dt(dt: Any) -> None:
    if isinstance(dt, bool) or not isinstance(dt, (int, float)) or not math.isfinite(dt) or dt <= 0:
        raise InterchangeError(f"dt is a time in seconds greater than 0, not {dt!r}")
