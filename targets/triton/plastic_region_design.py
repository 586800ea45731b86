"""Launch settings of the kernels that run whole regions that learn."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.targets.plastic_plan import PlasticPlan

#: Threads of the program; outputs whose weights it takes at a time; terms of a sparse sum that are loaded at a time.
_THREADS, _OUTS, _AHEAD = 256, 16, 8

#: Values of a tile of neurons, at most.
_ELEMENTS = 1024


@dataclass(frozen=True)
class RegionSettings:
    """Launch settings of a region's kernel.

    Attributes:
        rows: sequences of a tile of neurons: all of them.
        columns: neurons of a tile.
        outs: outputs of a tile of weights.
        warps: warps of the program.
        ahead: terms of a sparse sum loaded at a time.
        stages: how far loads of a loop run ahead: not at all, since they may read what the loop writes.
        registers: that a thread may take of a chip of NVIDIA: left to itself the assembler stops at fewer, and spills.
    """

    rows: int
    columns: int
    outs: int = _OUTS
    warps: int = 8
    ahead: int = _AHEAD
    stages: int = 1
    registers: int = 255

    def more(self, cuda: bool) -> dict[str, int]:
        """Launch settings besides warps and stages."""
        return {"maxnreg": self.registers} if cuda else {}

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {"ROWS": self.rows, "COLUMNS": self.columns, "AHEAD": self.ahead, "OUTS": self.outs}


def choose_region_settings(plan: PlasticPlan, batch: int, warp: int = 32) -> RegionSettings:
    """Settings for so many sequences. Results do not depend on them.

    Args:
        plan: the region.
        batch: sequences.
        warp: threads of a warp.
    """
    rows = 1 << max(0, batch - 1).bit_length()
    largest = max((line.size for line in plan.lines), default=1)
    columns = max(16, min(_ELEMENTS // rows, 1 << (largest - 1).bit_length()))
    return RegionSettings(rows, columns, warps=_THREADS // warp)
