"""Prints the kernel of a cycle that several programs share: what the writer of a cycle does otherwise there.

The programs of a tile of sequences divide the neurons: block k of COLUMNS of every line belongs to program k modulo
their number. They go through time in blocks of as many steps as the cycle is late, each part of it for the whole block
before the next part. So they wait for each other only where a part reads what others made in this block, and once at
its end, however many steps it has; and whatever has no state of its own, above all a product, takes several steps in
one tile, as if they were sequences.

What a program reads of others was stored before their arrival, and its own wait ends with an acquire, which empties the
L1 cache of its processor: plain loads see it (``targets/triton/meeting.py``).
"""

from __future__ import annotations

from collections.abc import Iterable

from snncompile.targets.cycle_blocks import reads_of
from snncompile.targets.cycle_plan import Conv, CyclePlan, Neurons, Pool, Product, Step
from snncompile.targets.printing import comment
from snncompile.targets.triton.cycle_writer import STEP, CycleKernel, CycleWriter
from snncompile.targets.triton.meeting import APART, MEET, MEET_ALL

#: Compile-time arguments: sequences, steps and neurons of a tile, and how many terms of a sum are loaded at a time.
SHARED_CONSTANTS = ("ROWS", "STEPS", "COLUMNS", "AHEAD")

SHARED_ABOUT = """Programs (b, 0), (b, 1), ... share ROWS sequences, and divide the blocks of COLUMNS neurons.
A block of time has as many steps as the cycle is late: each part is done for all of them, up to STEPS at once, before
the next part. Programs wait for each other where a part reads what others made, and at the end of a block. All programs
of a tile of sequences must run at the same time: the launch is cooperative. A sum takes its terms one after the other.
"""

_LOCALS = "tile share shares arrived met start end step many MANY late r c seen held most given_row list_row list_held"
_LOCALS += " snn_arrive snn_await snn_meet snn_list snn_marked snn_picked snn_sum snn_larger"

#: How a part begins that takes several steps at once, forward and backward, and one that takes one after the other.
_SEVERAL = (
    "nil = (B >> 31) * t  # always 0; it keeps addresses out of registers",
    "b = tile * ROWS + many % ROWS + nil",
)
_FORWARD = ("t = step + many // ROWS", *_SEVERAL, "present = (b < B) & (t < end)")
_BACKWARD = ("t = T - 1 - step - many // ROWS", *_SEVERAL, "present = (b < B) & (t >= T - end)")


class SharedWriter(CycleWriter):
    """A kernel of a cycle that several programs share, being printed.

    Args:
        plan: the cycle.
        name: the kernel's name.
        late: steps of a block.
        reverse: whether it goes backward.

    Attributes:
        meetings: how many times the programs wait for each other in a block.
    """

    walk = "range(share * COLUMNS, {size}, shares * COLUMNS)"

    def __init__(self, plan: CyclePlan, name: str, late: int, reverse: bool) -> None:
        super().__init__(plan, name)
        for local in _LOCALS.split():
            self.names.new(local)
        self.late, self.reverse = late, reverse
        self.blocks = late > 1
        self.meetings = 0
        self.begun: list[str] = []
        self._arrived = self.address(("arrived",), "arrived", "arrivals of programs for each tile, 0 at first", "*i32")
        group = self.integer(("group",), "first_tile", "the first tile of sequences")
        self.program_head = (
            f"tile = {group} + tl.program_id(0)",
            "share = tl.program_id(1)",
            "shares = tl.num_programs(1)",
            f"arrived = {self._arrived} + tile * {APART}",
            "met = 0",
            "own = tile * ROWS + tl.arange(0, ROWS)[:, None]",
        )
        if self.blocks:
            self.integer(("late",), "late_steps", "steps of a block")
        self._near: set[tuple[str, int]] = set()  # what was written since all threads of the program met
        self._far: dict[tuple[str, int], bool] = {}  # and since the programs did; whether each wrote its own neurons
        self._one_by_one = self._reads_own = self._writes_own = True
        self._old: set[int] = set()
        self._open = False

    # -- parts

    def begin_part(self, step: Step | None) -> None:
        """Note what the next part reads and writes: only its own neurons, or others'; and of which steps."""
        self._one_by_one = step is None or isinstance(step, Neurons)
        self._reads_own = not isinstance(step, Product | Conv | Pool)
        scattered = isinstance(step, Product) and step.sparse and step.part != "weight"
        self._writes_own = not (self.reverse and (scattered or isinstance(step, Conv | Pool)))
        self._old = set()
        if step is not None and not self.reverse:
            lags: dict[int, int] = {}
            for read in reads_of(step):
                lags[read.line] = min(read.lag, lags.get(read.line, read.lag))
            self._old = {line for line, lag in lags.items() if lag >= self.late}

    def several(self) -> None:
        """The next part takes several steps at once, and reads and writes only its own neurons."""
        self._one_by_one, self._reads_own, self._writes_own, self._old = False, True, True, set()

    def begin_alone(self, about: str, reads: Iterable[tuple[str, int]], writes: Iterable[tuple[str, int]]) -> None:
        """Begin a part that divides its work in a way of its own, and walks over the steps of a block itself."""
        self._one_by_one, self._reads_own, self._writes_own, self._old = False, False, False, set()
        self._begin(about, set(reads), set(writes))

    def begin_step(self, about: str, reads: Iterable[tuple[str, int]], writes: Iterable[tuple[str, int]]) -> None:
        """Begin a part, with a wait where it reads, or writes again, what others wrote in this block."""
        self._begin(about, {key for key in reads if key[0] == "grad" or key[1] not in self._old}, set(writes))
        self._start()

    def _begin(self, about: str, reads: set[tuple[str, int]], writes: set[tuple[str, int]]) -> None:
        self._close()
        far = any(key in self._far and not (self._reads_own and self._far[key]) for key in reads)
        if far or any(key in self._far and not (self._writes_own and self._far[key]) for key in writes):
            self.meet("what others wrote is read")
        elif self._near & (reads | writes):
            self.block("tl.debug_barrier()  # what was written is read")
            self._near.clear()
        self._near |= writes
        self._far |= dict.fromkeys(writes, self._writes_own)
        self.block(f"# {comment(about)}")

    def _start(self) -> None:
        self.tile = "(ROWS, COLUMNS)"
        if not self.blocks:
            return
        self._open = True
        if self._one_by_one:
            now = "T - 1 - done" if self.reverse else "done"
            head = ["for done in range(start, end):", f"    t = {now}", *(f"    {line}" for line in STEP)]
        else:
            self.tile = "(MANY, COLUMNS)"
            lines = _BACKWARD if self.reverse else _FORWARD
            head = ["for step in range(start, end, STEPS):", *(f"    {line}" for line in lines)]
        for line in head:
            self.block(line)

    def _close(self) -> None:
        """End a part; neurons read at the next step what they wrote at this one."""
        if self._open and self._one_by_one:
            self.line(2, "tl.debug_barrier()  # the next step reads what this one wrote")
        self._open = False

    def block(self, text: str, depth: int = 0) -> None:
        """A line outside of the loops over the steps of a block."""
        self.lines.append("    " * (2 + depth) + text)

    def line(self, depth: int, text: str) -> None:
        """Add a line, which in a block stands inside of a loop over its steps."""
        super().line(depth + 1 if self._open else depth, text)

    def meet(self, why: str) -> None:
        """Wait for the other programs."""
        self._close()
        self.meetings += 1
        self.block("met += shares")
        self.block(f"snn_meet(arrived, met)  # {why}")
        self._near.clear()
        self._far.clear()

    def barrier(self, why: str) -> None:
        """Wait for the other programs; the same part of the step goes on."""
        self.meet(why)

    def settle(self) -> None:
        """Other steps of this block add to the same values."""
        if self.blocks:
            self.line(2, "tl.debug_barrier()  # what was added is added to")

    def carry(self, depth: int, pointer: str, value: str) -> None:
        """Hand a gradient on to a state before, to which others may have added in this block."""
        (self.add if self.blocks else self.store)(depth, pointer, value)

    # -- the module

    def time_loop(self, reverse: bool) -> list[str]:
        """How the loop over time begins; its end."""
        self.meet("the next steps read what these wrote")
        head = ["MANY: tl.constexpr = ROWS * STEPS", "many = tl.arange(0, MANY)[:, None]"] if self.blocks else []
        head += self.begun
        if self.begun:
            head += ["met += shares", "snn_meet(arrived, met)  # what others listed is read"]
        late = self.keys.get(("late",))
        if self.blocks:
            return [*head, f"for start in range(0, T, {late}):", f"    end = tl.minimum(start + {late}, T)"]
        loop = ["for done in range(0, T):", "    t = T - 1 - done"] if reverse else ["for t in range(0, T):"]
        return [*head, *loop, *(f"    {line}" for line in STEP)]

    def kernel(
        self, what: str, about: str, helpers: list[str], reverse: bool, constants: tuple[str, ...] = SHARED_CONSTANTS
    ) -> CycleKernel:
        """The finished kernel."""
        what, helpers = f"{what}, by several programs", [MEET, MEET_ALL, *helpers]
        return super().kernel(what, SHARED_ABOUT, helpers, reverse, constants)
