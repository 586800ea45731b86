"""Whether several programs share a cycle, and the launch settings of their kernels.

Figures are reasoned: nobody has timed either form on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.cycle_plan import CyclePlan
from snncompile.targets.triton.cycle_design import MOST_ROWS, CycleSettings
from snncompile.targets.triton.cycle_events import can_be_listed, words_of

#: Names the form of the kernels of every cycle, to compare them.
FORM_VARIABLE = "SNNCOMPILE_CYCLE_FORM"
#: One program for each tile of sequences, or several.
FORMS = ("one", "several")

#: Processors of the chips that kernels are compiled for ahead of time.
PROCESSORS = {"sm_80": 108, "sm_90": 132, "sm_100": 148}
#: Elements of a tile: four for each thread of eight warps.
SHARED_ELEMENTS = 1024
#: Terms of a sum that are loaded at a time, for each of these elements.
SHARED_AHEAD = 4
#: Inputs from which on a product reads lists of what is not zero: fewer are read in the time in which a list is made
#: and waited for.
LISTED = 2048
#: How many times the memory of its synapses the marks of a sparse product may take.
MARKED = 4


@dataclass(frozen=True)
class SharedSettings(CycleSettings):
    """Launch settings of a cycle's kernel that several programs share.

    Attributes:
        steps: time steps of a tile.
        shares: programs that share a tile of sequences.
        at_once: tiles of sequences that run at the same time.
    """

    steps: int = 1
    shares: int = 2
    at_once: int = 1

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {"ROWS": self.rows, "STEPS": self.steps, "COLUMNS": self.columns, "AHEAD": self.ahead}


def choose_shared(plan: CyclePlan, batch: int, late: int, processors: int) -> SharedSettings:
    """Settings for so many sequences: tiles as large as their sums stay in registers, neurons over all processors.

    Results do not depend on them.

    Args:
        plan: the cycle.
        batch: sequences.
        late: steps of a block.
        processors: programs that the device runs at the same time.
    """
    rows = min(MOST_ROWS, _power(batch))
    steps = min(MOST_ROWS // rows, _power(late))
    largest = max((line.size for line in plan.lines), default=1)
    columns = max(16, min(SHARED_ELEMENTS // (rows * steps), _power(-(-largest // processors))))
    tiles = -(-max(batch, 1) // rows)
    shares = min(-(-largest // columns), max(2, processors // tiles))
    return SharedSettings(
        rows, columns, SHARED_AHEAD, steps=steps, shares=shares, at_once=max(1, min(tiles, processors // shares))
    )


def listed_products(plan: CyclePlan, synapses: Sequence[int | None], least: int = LISTED) -> tuple[bool, ...]:
    """Per product, whether it reads lists of what is not zero: of signals that are mostly zero, from ``least`` values
    on; sparse ones where marks of each word of 32 outputs, as large as a synapse, do not take too much memory.

    Args:
        plan: the cycle.
        synapses: per product, how many synapses it lists, or None where it is dense.
        least: values of a signal.
    """
    found = []
    for product, count in zip(plan.products, synapses, strict=True):
        size, width = plan.lines[product.read.line].size, plan.lines[product.line].size
        marked = count is None or size * words_of(width) <= MARKED * count
        found.append(can_be_listed(product) and size >= least and marked)
    return tuple(found)


def check_form(form: str | None) -> str | None:
    """``form``, if there is such a one.

    Raises:
        UnsupportedError: if not.
    """
    if form is not None and form not in FORMS:
        raise UnsupportedError(f"there is no form {form!r} of a cycle's kernels; there are {', '.join(FORMS)}")
    return form


def _power(count: int) -> int:
    """The smallest power of two that is at least ``count``."""
    return 1 << max(count - 1, 0).bit_length()
