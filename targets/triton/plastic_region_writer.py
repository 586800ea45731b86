"""A kernel of a region that learns, being printed: that of a cycle whose programs take the whole batch.

A weight that changes is shared by all sequences, so these cannot be dealt out to programs that wait for nobody. The
tiles of one part of a step are one loop, over sequences and then over neurons; where several programs share the region,
each takes every so-manieth tile, and they wait for each other where a part reads what others made.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from snncompile.targets.cycle_plan import Read
from snncompile.targets.plastic_plan import PlasticPlan
from snncompile.targets.printing import comment
from snncompile.targets.triton.cycle_writer import STEP, CycleWriter
from snncompile.targets.triton.plastic_region_order import Part

#: Names that mean something in what is printed here.
LOCALS = "turn blocks share shares met snn_arrive snn_await snn_meet"


class RegionWriter(CycleWriter):
    """As :class:`CycleWriter`; a tile says for itself which sequences it has.

    Args:
        plan: the region.
        name: the kernel's name.
        shared: whether several programs share it.

    Attributes:
        helpers: device functions that the kernel calls, by what they are.
        part: what is printed now, if that is no change of a weight.
        meetings: how many times programs wait for each other in a step.
    """

    program_head: tuple[str, ...] = ()
    step_head = STEP[:1]

    def __init__(self, plan: PlasticPlan, name: str, shared: bool = False) -> None:
        super().__init__(plan, name)
        for local in LOCALS.split():
            self.names.new(local)
        self.plan: PlasticPlan = plan
        self.shared = shared
        self.helpers: dict[Hashable, tuple[str, str]] = {}
        self.part: Part | None = None
        self.meetings = 0
        self._others: dict[tuple[str, int], Hashable] = {}  # what was written since programs met -> in which tiles
        self._first: dict[Hashable, str] = {}  # tiles -> the program that takes the first of them
        if shared:
            self.arrived = self.address(("arrived",), "arrived", "arrivals of programs, 0 at first", "*i32")
            self.program_head = ("share = tl.program_id(0)", "shares = tl.num_programs(0)", "met = 0")

    # -- parts

    def begin_step(self, about: str, reads: Iterable[tuple[str, int]], writes: Iterable[tuple[str, int]]) -> None:
        """Begin a part of a step; it waits where it reads what others, or other threads, wrote at this step."""
        part = self.part
        reads = {key for key in reads if key[0] != "line" or part is None or key[1] in part.reads}
        writes = set(writes)
        own = part is not None and part.own
        made = None if part is None else part.tiles
        if self.shared and any(k in self._others and not (own and self._others[k] == made) for k in reads | writes):
            self.barrier("what others wrote is read")
        elif self._written & (reads | writes):
            super().barrier("what was written is read")
        self._written |= writes
        self._others |= dict.fromkeys(writes, made)
        self.line(2, f"# {comment(about)}")

    def barrier(self, why: str) -> None:
        """Wait until all threads, and programs, have come here."""
        if not self.shared:
            super().barrier(why)
            return
        self.meetings += 1
        self.line(2, "met += shares")
        self.line(2, f"snn_meet({self.arrived}, met)  # {why}")
        self._written.clear()
        self._others.clear()

    def helper(self, what: Hashable, wanted: str, printed: Callable[[str], str]) -> str:
        """The name of a device function, which is ``printed`` when first asked for."""
        if what not in self.helpers:
            name = self.names.new(f"snn_{wanted}")
            self.helpers[what] = name, printed(name)
        return self.helpers[what][0]

    # -- loops

    def turns(self, count: str, depth: int = 2, weight: int = 0) -> None:
        """Open the loop over so many tiles, of the part or of the ``weight``-th that changes; ``turn`` numbers them."""
        if not self.shared:
            self.line(depth, f"for turn in range(0, {count}):")
            return
        tiles = ("weight", weight) if self.part is None else self.part.tiles
        k = len(self._first) % _APART
        first = self._first.setdefault(tiles, f"(share + shares * {k} // {_APART}) % shares" if k else "share")
        self.line(depth, f"for turn in range({first}, {count}, shares):")

    def tiles(self, size: int | str, depth: int = 2) -> None:
        """Open the loop over the tiles of ``size`` neurons of all sequences."""
        line, blocks = self.line, _blocks(size, "COLUMNS")
        self.turns(f"((B + ROWS - 1) // ROWS) * ({blocks})", depth)
        line(depth + 1, f"blocks = {blocks}")
        line(depth + 1, "b = turn // blocks * ROWS + tl.arange(0, ROWS)[:, None]")
        line(depth + 1, "n = turn % blocks * COLUMNS + tl.arange(0, COLUMNS)[None, :]")
        line(depth + 1, "present = b < B")
        line(depth + 1, f"there = n < {size}")
        line(depth + 1, "active = present & there")
        line(depth + 1, f"at = b * {size} + n")

    def sequences(self, width: int) -> None:
        """Open the loop over tiles of SEQUENCES sequences and OUTS outputs of ``width``."""
        self.turns(f"((B + SEQUENCES - 1) // SEQUENCES) * ({_blocks(width, 'OUTS')})")
        self.line(3, f"blocks = {_blocks(width, 'OUTS')}")
        self.line(3, "each = turn // blocks * SEQUENCES + tl.arange(0, SEQUENCES)")
        self.line(3, "out = turn % blocks * OUTS + tl.arange(0, OUTS)")

    def values_of(self, source: Read | int, size: int, which: str) -> str:
        """Where the values of the sequences ``which`` of a signal stand at this step."""
        if isinstance(source, Read):
            return f"{self.row('line', source)} + {which} * {size}"
        now, stride = self.outside(source)
        return f"{now} + {which} * {stride}.to(tl.int64)"


#: Parts with different tiles begin with different programs, so many of them before the first one's turn comes again.
_APART = 4


def _blocks(size: int | str, block: str) -> str:
    return f"({size} + {block} - 1) // {block}"
