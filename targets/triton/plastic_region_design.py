"""Launch settings of the kernels that run whole regions that learn."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.targets.plastic_plan import PlasticPlan
from snncompile.targets.triton.cycle_design import CycleSettings

#: Threads of the program; outputs whose weights it takes at a time, and for how many sequences each.
_THREADS, _OUTS, _SEQUENCES = 256, 16, 4

#: Weights of a convolution that change at a time.
_TAPS = 256

#: Values of a tile of neurons, and its sequences, at most.
_ELEMENTS, _ROWS = 1024, 64


@dataclass(frozen=True)
class RegionSettings(CycleSettings):
    """Launch settings of a region's kernel.

    Attributes:
        outs: outputs of a tile of weights.
        sequences: for how many of them a product takes such a tile at a time.
        taps: weights of a convolution that change at a time.
    """

    outs: int = _OUTS
    sequences: int = 1
    taps: int = _TAPS

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {**super().constants, "OUTS": self.outs, "SEQUENCES": self.sequences, "TAPS": self.taps}


def choose_region_settings(plan: PlasticPlan, batch: int, warp: int = 32) -> RegionSettings:
    """Settings for so many sequences. Results do not depend on them.

    Args:
        plan: the region.
        batch: sequences.
        warp: threads of a warp.
    """
    rows = min(1 << max(0, batch - 1).bit_length(), _ROWS)
    largest = max((line.size for line in plan.lines), default=1)
    columns = max(16, min(_ELEMENTS // rows, 1 << (largest - 1).bit_length()))
    return RegionSettings(rows, columns, warps=_THREADS // warp, sequences=min(rows, _SEQUENCES))
