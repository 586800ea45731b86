"""The targets by name: which exist, which can run here, and why another cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.scan import ScanTarget

TARGETS = ("torch", "triton")
CHOICES = (*TARGETS, "auto")


@dataclass(frozen=True)
class Availability:
    """Whether a target can run on this machine, and the reason in words."""

    ok: bool
    reason: str


def _torch() -> ScanTarget:
    from snncompile.targets.torch.loop import LoopTarget

    return LoopTarget()


def _triton() -> ScanTarget:
    from snncompile.targets.triton.target import TritonTarget

    return TritonTarget()


_MAKERS: dict[str, Callable[[], ScanTarget]] = {"torch": _torch, "triton": _triton}


def checked_name(name: str) -> str:
    """``name`` if it is a target or ``"auto"``.

    Raises:
        UnsupportedError: listing the targets there are.
    """
    if name not in CHOICES:
        raise UnsupportedError(f"there is no target {name!r}; the targets are {', '.join(CHOICES)}")
    return name


def make_target(name: str) -> ScanTarget:
    """A new runner for target ``name`` (not ``"auto"``)."""
    return _MAKERS[name]()


def availability(name: str) -> Availability:
    """Whether target ``name`` can run here."""
    if name == "torch":
        return Availability(True, "runs on every device torch knows")
    from snncompile.targets.triton.availability import availability as triton_availability

    return Availability(*triton_availability())
