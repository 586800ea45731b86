"""How many elements a program owns, and how many steps it loads ahead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Launch settings of a scan kernel.

    Attributes:
        block: elements per program: one per thread.
        warps: warps per program.
        ahead: time steps loaded ahead.
    """

    block: int
    warps: int
    ahead: int


#: Below this many elements a device is not full: small blocks spread over it, and more loads per thread hide latency.
FULL = 65_536


def choose(count: int, streams: int, steps: int = 2, warp: int = 32) -> Config:
    """Settings for ``count`` elements and a kernel that loads ``streams`` courses.

    Only whether there is more than one step counts: kernels are not compiled again for another length.

    Args:
        count: elements of a time step.
        streams: courses loaded ahead at the same time; each costs two registers a step loaded ahead.
        steps: time steps.
        warp: threads of a warp.
    """
    small = count < FULL
    most, budget = (16, 32) if small else (8, 8)
    ahead = 1 if steps == 1 else most
    while ahead > 2 and ahead * streams > budget:
        ahead //= 2
    warps = 1 if small else 4
    return Config(warps * warp, warps, ahead)
