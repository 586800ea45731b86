"""The targets by name: which exist, which can run here, and why another cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.scan import ScanTarget

TARGETS = ("torch", "triton", "c")
CHOICES = (*TARGETS, "auto")


@dataclass(frozen=True)
class Availability:
    """Whether a target can run on this machine, and the reason in words."""

    ok: bool
    reason: str


def _torch(precision: str) -> ScanTarget:
    from snncompile.targets.torch.loop import LoopTarget

    return LoopTarget()


def _triton(precision: str) -> ScanTarget:
    from snncompile.targets.triton.target import TritonTarget

    return TritonTarget(precision=precision)


def _c(precision: str) -> ScanTarget:
    from snncompile.targets.c.target import CTarget

    return CTarget()


_MAKERS: dict[str, Callable[[str], ScanTarget]] = {"torch": _torch, "triton": _triton, "c": _c}


def checked_name(name: str) -> str:
    """``name`` if it is a target or ``"auto"``.

    Raises:
        UnsupportedError: listing the targets there are.
    """
    if name not in CHOICES:
        raise UnsupportedError(f"there is no target {name!r}; the targets are {', '.join(CHOICES)}")
    return name


def make_target(name: str, precision: str = "auto") -> ScanTarget:
    """A new runner for target ``name`` (not ``"auto"``).

    Args:
        name: the target.
        precision: of the products inside recurrent layers; only Triton knows another one than float32.

    Raises:
        UnsupportedError: where there is no such target.
    """
    return _MAKERS[checked_name(name)](precision)


def availability(name: str) -> Availability:
    """Whether target ``name`` can run here."""
    if name == "torch":
        return Availability(True, "runs on every device torch knows")
    if name == "c":
        from snncompile.targets.c.availability import availability as c_availability

        return Availability(*c_availability())
    from snncompile.targets.triton.availability import availability as triton_availability

    return Availability(*triton_availability())


def automatic(device_type: str) -> str:
    """What ``"auto"`` means for data on a device: Triton on a GPU, on a CPU C where there is a compiler."""
    if device_type == "cuda":
        return "triton"
    return "c" if device_type == "cpu" and _has_compiler() else "torch"


@cache
def _has_compiler() -> bool:
    return availability("c").ok
