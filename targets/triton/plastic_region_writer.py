"""A kernel of a region that learns, being printed: that of a cycle whose only program takes the whole batch.

A weight that changes is shared by all sequences, so these cannot be dealt out to programs that do not wait for each
other. The tiles of one part of a step are one loop, over sequences and then over neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from snncompile.targets.cycle_plan import Read
from snncompile.targets.plastic_plan import PlasticPlan
from snncompile.targets.triton.cycle_writer import STEP, CycleWriter


class RegionWriter(CycleWriter):
    """As :class:`CycleWriter`; a tile says for itself which sequences it has.

    Attributes:
        helpers: device functions that the kernel calls, by what they are.
    """

    program_head = ()
    step_head = STEP[:1]

    def __init__(self, plan: PlasticPlan, name: str) -> None:
        super().__init__(plan, name)
        self.plan: PlasticPlan = plan
        self.helpers: dict[Hashable, tuple[str, str]] = {}

    def helper(self, what: Hashable, wanted: str, printed: Callable[[str], str]) -> str:
        """The name of a device function, which is ``printed`` when first asked for."""
        if what not in self.helpers:
            name = self.names.new(f"snn_{wanted}")
            self.helpers[what] = name, printed(name)
        return self.helpers[what][0]

    def loop(self, count: str, depth: int = 2) -> None:
        """Open the loop over so many tiles; ``turn`` is the number of one."""
        self.line(depth, f"for turn in range(0, {count}):")

    def tiles(self, size: int | str, depth: int = 2) -> None:
        """Open the loop over the tiles of ``size`` neurons of all sequences."""
        line, blocks = self.line, _blocks(size, "COLUMNS")
        self.loop(f"((B + ROWS - 1) // ROWS) * ({blocks})", depth)
        line(depth + 1, f"blocks = {blocks}")
        line(depth + 1, "b = turn // blocks * ROWS + tl.arange(0, ROWS)[:, None]")
        line(depth + 1, "n = turn % blocks * COLUMNS + tl.arange(0, COLUMNS)[None, :]")
        line(depth + 1, "present = b < B")
        line(depth + 1, f"there = n < {size}")
        line(depth + 1, "active = present & there")
        line(depth + 1, f"at = b * {size} + n")

    def sequences(self, width: int) -> None:
        """Open the loop over tiles of SEQUENCES sequences and OUTS outputs of ``width``."""
        self.loop(f"((B + SEQUENCES - 1) // SEQUENCES) * ({_blocks(width, 'OUTS')})")
        self.line(3, f"blocks = {_blocks(width, 'OUTS')}")
        self.line(3, "each = turn // blocks * SEQUENCES + tl.arange(0, SEQUENCES)")
        self.line(3, "out = turn % blocks * OUTS + tl.arange(0, OUTS)")

    def values_of(self, source: Read | int, size: int, which: str) -> str:
        """Where the values of the sequences ``which`` of a signal stand at this step."""
        if isinstance(source, Read):
            return f"{self.row('line', source)} + {which} * {size}"
        now, stride = self.outside(source)
        return f"{now} + {which} * {stride}.to(tl.int64)"


def _blocks(size: int | str, block: str) -> str:
    return f"({size} + {block} - 1) // {block}"
