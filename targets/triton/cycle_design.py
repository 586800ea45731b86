"""Launch settings of the kernels that run whole cycles."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.targets.cycle_plan import CyclePlan

#: Programs side by side up to which each takes one sequence: about as many as a large GPU runs at once.
SIDE_BY_SIDE = 128
#: Sequences of a tile at most.
MOST_ROWS = 16
#: Elements of a tile: one for each thread of eight warps.
ELEMENTS = 256
#: Terms of a sum that are loaded at a time.
AHEAD = 8


@dataclass(frozen=True)
class CycleSettings:
    """Launch settings of a cycle's kernel.

    Attributes:
        rows: sequences of a tile.
        columns: neurons of a tile.
        ahead: terms of a sum loaded at a time.
        warps: warps per program.
        stages: how far Triton runs loads of a loop ahead: not at all, since they may read what the loop writes.
        registers: that a thread may take of a chip of NVIDIA: left to itself the assembler stops at fewer, and spills.
    """

    rows: int
    columns: int
    ahead: int = AHEAD
    warps: int = 8
    stages: int = 1
    registers: int = 255

    def more(self, cuda: bool) -> dict[str, int]:
        """Launch settings besides warps and stages."""
        return {"maxnreg": self.registers} if cuda else {}

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {"ROWS": self.rows, "COLUMNS": self.columns, "AHEAD": self.ahead}


def choose_settings(plan: CyclePlan, batch: int, warp: int = 32) -> CycleSettings:
    """Settings for so many sequences: as many programs as the device runs at once, then as few as there must be.

    Results do not depend on them.

    Args:
        plan: the cycle.
        batch: sequences.
        warp: threads of a warp.
    """
    rows = 1
    while rows < MOST_ROWS and rows * SIDE_BY_SIDE < batch:
        rows *= 2
    largest = max((line.size for line in plan.lines), default=1)
    columns = min(ELEMENTS // rows, max(16, 1 << (largest - 1).bit_length()))
    return CycleSettings(rows, columns, warps=max(1, min(8, rows * columns // warp)))
