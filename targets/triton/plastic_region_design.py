"""Launch settings of the kernels that run whole regions that learn. Figures are reasoned: nobody has timed them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from snncompile.ir.ordered import LANES
from snncompile.targets.cycle_limits import way_of
from snncompile.targets.cycle_plan import Product
from snncompile.targets.plastic_plan import PlasticPlan
from snncompile.targets.triton.arch import Arch
from snncompile.targets.triton.cycle_design import CycleSettings
from snncompile.targets.triton.cycle_shared_design import PROCESSORS

#: Threads of the program; outputs whose weights it takes at a time, and for how many sequences each.
_THREADS, _OUTS, _SEQUENCES = 256, 16, 4

#: Weights of a convolution that change at a time, each with 8 partial sums.
_TAPS = 128

#: Values of a tile of neurons, and its sequences, at most.
_ELEMENTS, _ROWS = 1024, 64

#: Of programs that share a region: as few outputs, values and taps as give each thread something.
_LEAST_OUTS, _LEAST_ELEMENTS, _LEAST_TAPS = 2, 256, 32

#: Times that programs may arrive: they are counted in 32 bits.
_MOST_ARRIVALS = 2**31


@dataclass(frozen=True)
class RegionSettings(CycleSettings):
    """Launch settings of a region's kernel.

    Attributes:
        outs: outputs of a tile of weights.
        sequences: for how many of them a product takes such a tile at a time.
        taps: weights of a convolution that change at a time.
        shares: programs that share the region.
    """

    outs: int = _OUTS
    sequences: int = 1
    taps: int = _TAPS
    shares: int = 1

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {**super().constants, "OUTS": self.outs, "SEQUENCES": self.sequences, "TAPS": self.taps}


def choose_region_settings(
    plan: PlasticPlan, batch: int, warp: int = 32, processors: int = 1, steps: int = 1, form: str | None = None
) -> RegionSettings:
    """Settings for so many sequences. Results do not depend on them.

    Args:
        plan: the region.
        batch: sequences.
        warp: threads of a warp.
        processors: programs that run at the same time, and may wait for each other.
        steps: time steps.
        form: ``"one"`` program or ``"several"``, whatever is reckoned to be quicker.
    """
    rows = min(_power(batch), _ROWS)
    largest = max((line.size for line in plan.lines), default=1)
    columns = max(16, min(_ELEMENTS // rows, _power(largest)))
    alone = RegionSettings(rows, columns, warps=_THREADS // warp, sequences=min(rows, _SEQUENCES))
    arrivals = steps * (2 * len(plan.order) + 2) * processors  # at most
    few = form == "one" or (form is None and batch < way_of(plan, "triton").shared_from)
    if processors < 2 or few or arrivals >= _MOST_ARRIVALS:
        return alone
    outs, each, elements, taps = _OUTS, -(-batch // alone.sequences), _ELEMENTS, _TAPS
    while outs > _LEAST_OUTS and 2 * -(-_widest(plan) // outs) * each <= processors:
        outs //= 2
    while elements > _LEAST_ELEMENTS and 2 * -(-batch * largest // elements) <= processors:
        elements //= 2
    most = _most_taps(plan)
    while taps > _LEAST_TAPS and most and 2 * -(-most // taps) <= processors:
        taps //= 2
    columns = max(16, min(elements // rows, _power(largest)))
    chosen = replace(alone, columns=columns, outs=outs, taps=taps)
    return replace(chosen, shares=max(2, min(processors, _most_tiles(plan, batch, chosen))))


def settings_of_chip(plan: PlasticPlan, chip: Arch) -> RegionSettings:
    """Settings for one sequence on a chip that kernels are compiled for ahead of time."""
    return choose_region_settings(plan, 1, chip.warp, PROCESSORS.get(chip.name, 1))


def _widest(plan: PlasticPlan) -> int:
    """Outputs of the widest dense product."""
    lines = [p.line for p in plan.products if isinstance(p, Product)]
    lines += [p.line for p in plan.plastic_products if p.sliding is None]
    return max((plan.lines[line].size for line in lines), default=1)


def _most_taps(plan: PlasticPlan) -> int:
    """Weights of the largest convolution that learns."""
    found = (p.sliding for p in plan.plastic_products)
    return max((s.outputs[0] * s.inputs[0] * s.taps for s in found if s is not None), default=0)


def _most_tiles(plan: PlasticPlan, batch: int, s: RegionSettings) -> int:
    """Tiles of the part of a step that has most of them."""
    largest = max((line.size for line in plan.lines), default=1)
    tiles = [-(-batch // s.rows) * -(-largest // s.columns), -(-batch // s.sequences) * -(-_widest(plan) // s.outs)]
    tiles.append(-(-_most_taps(plan) // s.taps))
    for product in plan.plastic_products:
        if product.sliding is None:
            outs, ins = plan.lines[product.line].size, plan.size_read(product.read)
            tiles.append(-(-outs // s.outs) * -(-ins // LANES))
    return max(tiles)


def _power(count: int) -> int:
    """The smallest power of two that is at least ``count``."""
    return 1 << max(count - 1, 0).bit_length()
