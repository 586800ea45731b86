"""What the forward and the backward kernel of a cycle have in common: arguments, rows of lines, tiles, barriers.

A program takes ROWS sequences through all steps, and walks over blocks of COLUMNS neurons. Values go from one part of a
step to the next through memory, so a barrier stands wherever a part reads what an earlier one wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snncompile.targets.cycle_plan import Copy, CyclePlan, Read, Step
from snncompile.targets.printing import DRAWN, comment
from snncompile.targets.triton.kernel import KernelSource, Writer, comment_block, jit_head
from snncompile.targets.triton.printer import DRAWN_ARGUMENTS, Function, literal, print_called

#: What an argument is: what is meant, and which one.
Key = tuple[str | int, ...]

#: Compile-time arguments: sequences and neurons of a tile, and how many terms of a sum are loaded at a time.
CYCLE_CONSTANTS = ("ROWS", "COLUMNS", "AHEAD")

_LOCALS = (
    "b own nil present there l total part to now row value back groups g place"
    " snn_row snn_dense snn_gather snn_most snn_pick snn_seen"
)

#: How a step begins. What is computed from a 0 that the compiler does not know, and that seems to change, it cannot
#: keep from step to step: the places of each line's elements would take more registers than there are.
STEP = (
    "nil = (B >> 31) * t  # always 0; it keeps addresses out of registers",
    "b = own + nil",
    "present = b < B",
)

ROW = '''@triton.jit
def snn_row(line, number, ring, B, size):
    """Where value `number` of a line stands, (B, size)."""
    return line + (number & ring).to(tl.int64) * B * size
'''


@dataclass(frozen=True)
class CycleKernel(KernelSource):
    """A printed kernel of a cycle.

    Attributes:
        given: what each of its arguments is, in order.
    """

    given: tuple[Key, ...] = ()


class CycleWriter(Writer):
    """A kernel of a cycle being printed.

    Args:
        plan: the cycle.
        name: the kernel's name.

    Attributes:
        tile: the shape of a tile of the part of a step that is printed.
        blocks: whether each part is printed for several steps, before the next part.
        needed: device functions that what was printed calls, besides those of every kernel.
    """

    #: How a program begins, and each step.
    program_head: tuple[str, ...] = ("own = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]",)
    step_head: tuple[str, ...] = STEP
    #: The blocks of a tile that a program walks over.
    walk = "range(0, {size}, COLUMNS)"

    def __init__(self, plan: CyclePlan, name: str) -> None:
        super().__init__()
        for local in _LOCALS.split():
            self.names.new(local)
        self.plan = plan
        self.tile = "(ROWS, COLUMNS)"
        self.blocks = False
        self.name = self.names.new(name)
        self.keys: dict[Key, str] = {}
        self.functions: list[Function] = []
        self.needed: dict[str, None] = {}
        self._stems = [line.key.replace(".", "_") for line in plan.lines]
        self._written: set[tuple[str, int]] = set()

    # -- arguments

    def address(self, key: Key, wanted: str, about: str, type: str = "*fp32") -> str:
        """A pointer argument; its name."""
        if key not in self.keys:
            self.keys[key] = self.pointer(wanted, about, type)
        return self.keys[key]

    def integer(self, key: Key, wanted: str, about: str) -> str:
        """An integer argument; its name."""
        if key not in self.keys:
            self.keys[key] = self.number(self.names.new(wanted), about)
        return self.keys[key]

    def stem(self, line: int) -> str:
        """What the names of a line begin with."""
        return self._stems[line]

    def line_of(self, what: str, line: int) -> tuple[str, str]:
        """A line's pointer, and the bits that a row's number has.

        ``what`` is ``"line"``, or ``"grad"`` for its gradient. A ring has a power of two of rows,
        since a remainder by any number is slow, and takes registers.
        """
        it, stem = self.plan.lines[line], self._stems[line]
        stem = f"grad_{stem}" if what == "grad" else stem
        about = f"{'gradient of ' if what == 'grad' else ''}{it.key}, (rows, B, {it.size})"
        pointer = self.address((what, line), stem, about)
        about = f"rows of {pointer} less 1, if it is a ring"
        return pointer, self.integer((f"{what} ring", line), f"{stem}_ring", about)

    def offset(self, line: int, lag: int) -> str:
        """By how much the number of a line's value, ``lag`` steps ago, exceeds that of the step, as ``" + number"``.

        It is an argument, so that another delay is no other kernel; but for the states of neurons, one step each.
        """
        it = self.plan.lines[line]
        if not it.depth or it.is_state:
            return f" + {it.depth - lag}" if it.depth - lag else ""
        about = f"what to add to a step for {it.key}{f' {lag} steps ago' if lag else ''}"
        return f" + {self.integer(('offset', line, lag), f'{self._stems[line]}_from', about)}"

    def row(self, what: str, read: Read, depth: int = 2) -> str:
        """Where a line's values stand, so many steps ago: a local, computed here."""
        pointer, ring = self.line_of(what, read.line)
        name = self.names.new(f"{pointer.removesuffix('_ptr')}_{'before' if read.lag else 'now'}")
        number = f"t{self.offset(read.line, read.lag)}"
        self.call(depth, f"{name} = snn_row", [pointer, number, ring, "B", str(self.plan.lines[read.line].size)])
        return name

    def outside_name(self, index: int) -> str:
        """What the names of an input from outside begin with."""
        source = self.plan.outside[index].source
        return f"{source.node}_{source.port}"

    def outside_course(self, index: int) -> tuple[str, str, str]:
        """The arguments of an input from outside: its pointer, and its strides over time and over the batch."""
        name, source = self.outside_name(index), self.plan.outside[index].source
        late = ", read late" if self.plan.offset(index) else ""
        pointer = self.address(("input", index), name, f"{source}, (T, B, N), its neurons one after the other{late}")
        step = self.integer(("input step", index), f"{name}_t", f"stride of {pointer} over time")
        return pointer, step, self.integer(("input row", index), f"{name}_b", f"stride of {pointer} over the batch")

    def outside(self, index: int) -> tuple[str, str]:
        """The step of an input from outside, a local computed here, and its stride from sequence to sequence.

        One that is late is, for its first steps, in its past.
        """
        name, (pointer, step, stride) = self.outside_name(index), self.outside_course(index)
        now = self.names.new(f"{name}_now")
        if not self.plan.offset(index):
            self.line(2, f"{now} = {pointer} + t * ({step} + nil).to(tl.int64)")
            return now, stride
        size = self.plan.sizes[index]
        late = self.integer(("late", index), f"{name}_late", f"by how many steps {pointer} is read late")
        past = self.address(("past", index), f"{name}_past", f"what is read of it before that step, (steps, B, {size})")
        row = self.names.new(f"{name}_row")
        old, new = f"{past} + t * ((B + nil).to(tl.int64) * {size})", f"{pointer} + (t - {late}) * {step}.to(tl.int64)"
        self.call(2, f"{now} = tl.where", [f"t < {late}", old, new])
        self.line(2, f"{row} = tl.where(t < {late}, {size}, {stride} + nil)")
        return now, row

    # -- lines of the kernel

    def begin_part(self, step: Step | None) -> None:
        """What is printed next: a part of a step, or what comes before or after all of them."""

    def settle(self) -> None:
        """What was added to a line is added to again, for other steps of a block."""

    def carry(self, depth: int, pointer: str, value: str) -> None:
        """Hand a gradient on to a state before."""
        self.store(depth, pointer, value)

    def begin_step(self, about: str, reads: Iterable[tuple[str, int]], writes: Iterable[tuple[str, int]]) -> None:
        """Begin a part of a step, with a barrier where it reads, or writes again, what an earlier part wrote."""
        writes = set(writes)
        if self._written & ({*reads} | writes):
            self.barrier("what was written is read")
        self._written |= writes
        self.line(2, f"# {comment(about)}")

    def barrier(self, why: str) -> None:
        """Wait until all threads of the program have come here."""
        self.line(2, f"tl.debug_barrier()  # {why}")
        self._written.clear()

    def tiles(self, size: int | str, depth: int = 2) -> None:
        """Open the loop over the blocks of ``size`` neurons."""
        self.line(depth, f"for first in {self.walk.format(size=size)}:")
        self.line(depth + 1, "n = first + tl.arange(0, COLUMNS)[None, :]")
        self.line(depth + 1, f"there = n < {size}")
        self.line(depth + 1, "active = present & there")
        self.line(depth + 1, f"at = b * {size} + n")

    def load(self, depth: int, target: str, pointer: str, offset: str = "at") -> None:
        """Load a tile."""
        self.call(depth, f"{target} = tl.load", [f"{pointer} + {offset}", "mask=active", "other=0.0"])

    def store(self, depth: int, pointer: str, value: str, offset: str = "at") -> None:
        """Store a tile, or a number into all of it."""
        self.call(depth, "tl.store", [f"{pointer} + {offset}", value, "mask=active"])

    def add(self, depth: int, pointer: str, value: str) -> None:
        """Add a tile to what is there."""
        self.store(depth, pointer, f"tl.load({pointer} + at, mask=active, other=0.0) + {value}")

    def coefficient(self, local: str, pointer: str, scalar: bool) -> None:
        """Load a coefficient of a node's tile."""
        where = "" if scalar else " + n, mask=there, other=1.0"
        self.line(3, f"{local} = tl.load({pointer}{where})")

    def call_step(self, depth: int, function: Function, values: dict[str, str], size: int) -> dict[str, str]:
        """Call a node's function on a tile; output -> its value: a new local, or the number that it always is."""
        made = {r: self.names.new(f"{r}_new") for r in function.results}
        if DRAWN in function.args:
            self.address(("random",), "random", "seed and number of the first step, for random numbers", "*i64")
            self.line(depth, "moment = (first_step + t).to(tl.uint32)")
            self.line(depth, f"element = (b * {size} + n).to(tl.uint32)")
            values = {**values, DRAWN: ", ".join(DRAWN_ARGUMENTS)}
        if made:
            head = f"{', '.join(made.values())}{',' if len(made) == 1 else ''} = {function.name}"
            self.call(depth, head, [values[a] for a in function.args])
        return {**made, **{r: literal(c) for r, c in function.constants.items()}}

    # -- the module

    def time_loop(self, reverse: bool) -> list[str]:
        """How the loop over time begins, once its lines are printed; this ends them."""
        self.line(2, "tl.debug_barrier()  # the next step reads what this one wrote")
        head = ["for done in range(0, T):", "    t = T - 1 - done"] if reverse else ["for t in range(0, T):"]
        return [*head, *(f"    {line}" for line in self.step_head)]

    def kernel(
        self, what: str, about: str, helpers: list[str], reverse: bool, constants: tuple[str, ...] = CYCLE_CONSTANTS
    ) -> CycleKernel:
        """The finished kernel.

        Args:
            what: which one it is, for the header.
            about: how it works, for the header.
            helpers: device functions that it calls, besides those of the nodes.
            reverse: whether it goes backward.
            constants: compile-time arguments.
        """
        self.keys[("T",)] = self.number("T", "time steps")
        self.keys[("B",)] = self.number("B", "sequences")
        head = [*self.program_head]
        if ("random",) in self.keys:
            pointer = self.keys[("random",)]
            head += [
                f"seed = tl.load({pointer})",
                "seed_low = seed.to(tl.uint32)",
                "seed_high = (seed >> 32).to(tl.uint32)",
                f"first_step = tl.load({pointer} + 1)",
            ]
        head += self.time_loop(reverse)
        body = [*(f"    {line}" for line in head), *self.lines]
        nodes = ", ".join(dict.fromkeys(s.name for s in self.plan.steps if not isinstance(s, Copy)))
        width = max(len(p.name) for p in self.params)
        arguments = "\n".join(f"    {p.name:<{width}}  {p.about}" for p in self.params)
        header = f'''"""{comment(self.plan.name)}: {what}. Generated by snncompile.

Nodes: {comment(nodes)}.
{about}
A line holds a signal over time, a row for each step: all of them (then its `ring` is -1), or as many as a power of two,
which begin again when it is full.

{comment_block(arguments)}
"""

import triton
import triton.language as tl
'''
        helpers = [*helpers, *self.needed]
        parts = [header, print_called(self.functions), *(f.text for f in self.functions), ROW, *helpers]
        text = "\n\n".join(p for p in [*parts, jit_head(self.name, self.params, constants)] if p)
        text += "\n".join(["", *body]) + "\n"
        work = sum(f.size for f in self.functions)
        return CycleKernel(
            self.name, text, tuple(self.params), inputs=(), coefs=(), states=(), by_chunk=False, by_neuron=False,
            streams=0, work=work, given=tuple(self.keys),
        )  # fmt: skip
