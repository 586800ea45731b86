"""Launch settings of the kernels that run whole regions that learn."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.targets.plastic_plan import PlasticPlan
from snncompile.targets.triton.cycle_design import CycleSettings

#: Threads of the program; outputs whose weights it takes at a time.
_THREADS, _OUTS = 256, 16

#: Values of a tile of neurons, at most.
_ELEMENTS = 1024


@dataclass(frozen=True)
class RegionSettings(CycleSettings):
    """Launch settings of a region's kernel: its rows are all sequences.

    Attributes:
        outs: outputs of a tile of weights.
    """

    outs: int = _OUTS

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {**super().constants, "OUTS": self.outs}


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
