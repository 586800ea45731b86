"""Launch settings: how much a program owns, and how far it loads ahead."""

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

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {"BLOCK": self.block, "AHEAD": self.ahead}


@dataclass(frozen=True)
class Tile:
    """Launch settings of a recurrent step kernel.

    Attributes:
        rows: sequences per program.
        columns: neurons per program.
        inner: terms of the product summed at a time.
        warps: warps per program.
    """

    rows: int
    columns: int
    inner: int
    warps: int

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {"ROWS": self.rows, "COLUMNS": self.columns, "INNER": self.inner}


def choose_tile(size: int) -> Tile:
    """Settings for a layer of ``size`` neurons: small tiles while they do not fill the device."""
    return Tile(16, 16 if size < 512 else 32, 32, 4)


#: Below this many elements a device is not full: small blocks spread over it, and more loads per thread hide latency.
FULL = 65_536


#: Operations that an unrolled loop may have: Triton's compile time grows with more than the square of them.
_UNROLLED = 300


def choose(count: int, streams: int, work: int, steps: int = 2, warp: int = 32) -> Config:
    """Settings for ``count`` elements and a kernel that loads ``streams`` courses.

    Only whether there is more than one step counts: kernels are not compiled again for another length.

    Args:
        count: elements of a time step.
        streams: courses loaded ahead at the same time; each costs two registers a step loaded ahead.
        work: operations of a step.
        steps: time steps.
        warp: threads of a warp.
    """
    small = count < FULL
    most, budget = (16, 32) if small else (8, 8)
    ahead = 1 if steps == 1 else most
    while ahead > 2 and (ahead * streams > budget or ahead * (work + 4 * streams) > _UNROLLED):
        ahead //= 2
    warps = 1 if small else 4
    return Config(warps * warp, warps, ahead)
