"""How a plastic layer is divided over a GPU: outputs of a program, and whether its weights stay in registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from snncompile.ir.definitions import definition
from snncompile.ir.exact import COMPOSITE
from snncompile.ir.ordered import LANES
from snncompile.ir.program import Program
from snncompile.targets.plastic_rule import PlasticRule

#: Outputs of a program whose weights are streamed: with 16, kernels compiled for sm_80 spill.
STREAMED_POSTS = 8

#: Registers of a thread that streams masks or signs, too: left to itself, the assembler stops at fewer, and spills.
_STREAMED_REGISTERS = 200

#: Registers of a thread that holds weights alone, or reads each value late: the assembler may spill likewise.
_MOST_REGISTERS = 255

#: Programs that fill a GPU: outputs of a program are doubled until no more are needed, while registers suffice.
_PROGRAMS = 128

#: Sequences that a kernel with weights in registers may hold the traces of.
_MOST_SEQUENCES = 4

#: Values that a thread may keep from step to step, of 255 registers, for a rule of few operations and for a longer one:
#: with these, no kernel compiled for sm_90 spills.
_KEPT, _KEPT_LONG = 132, 96
#: Weights, where they alone stay, and chunks of them: with these, none compiled for sm_80 or sm_90 does.
_HELD, _HELD_LONG, _HELD_CHUNKS = 64, 40, 20
_SHORT = 8

#: Operations that the unrolled update may have: compile time grows faster than they do.
_UNROLLED = 1000


class Making(NamedTuple):
    """What it costs to make, of late values, what is seen of a chunk of one sequence, beyond a load.

    Attributes:
        registers: that a thread keeps for it.
        work: operations.
    """

    registers: int
    work: int


#: Where nothing is made.
NOTHING = Making(0, 0)


@dataclass(frozen=True)
class PlasticPlan:
    """How a plastic layer runs.

    Attributes:
        posts: outputs that one program owns.
        chunks: chunks of :data:`~snncompile.ir.ordered.LANES` inputs.
        batch: sequences, where all is in registers (unrolled); else 0.
        warps: warps of a program: one thread for each lane.
        reason: why not all that lasts from step to step is in registers, or "".
        stages: how far loads of a loop run ahead, as Triton counts.
        registers: that a thread may take of a chip of NVIDIA; 0 leaves it to the assembler.
        held: whether weights are in registers where the rest is not; else they are streamed.
    """

    posts: int
    chunks: int
    batch: int
    warps: int
    reason: str = ""
    stages: int = 1
    registers: int = 0
    held: bool = False

    def more(self, cuda: bool) -> dict[str, int]:
        """Launch settings besides warps and stages."""
        return {"maxnreg": self.registers} if cuda and self.registers else {}

    def reading_late(self) -> PlasticPlan:
        """The plan where anything is read late."""
        return replace(self, registers=self.registers or _MOST_REGISTERS)

    @property
    def resident(self) -> bool:
        """Whether weights, traces and inputs stay in registers for the whole sequence."""
        return not self.reason

    @property
    def where(self) -> str:
        """Where weights and traces are, in words."""
        if self.resident:
            return "with weights and traces in registers"
        return "with weights in registers and traces in memory" if self.held else "with weights streamed from memory"

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        if not self.resident:
            return {"POSTS": self.posts, **({"CHUNKS": self.chunks} if self.held else {})}
        return {"POSTS": self.posts, "CHUNKS": self.chunks, "BATCH": self.batch}

    def text(self, outs: int) -> str:
        """The plan for ``outs`` outputs in words."""
        programs = -(-outs // self.posts)
        block = f"{programs} program{'s' if programs != 1 else ''} of {self.posts} outputs and {self.warps} warps"
        if self.resident:
            return f"weights in registers, {self.posts * self.chunks} a thread; {block}"
        if self.held:
            return f"weights in registers, {self.posts * self.chunks} a thread, traces in memory {self.reason}; {block}"
        return f"weights streamed from memory, {self.reason}; {block}"


def choose_plan(
    rule: PlasticRule, shape: tuple[int, int], batch: int = 1, warp: int = 32, making: Making = NOTHING
) -> PlasticPlan:
    """The plan of a layer.

    Args:
        rule: the rule.
        shape: outputs and inputs.
        batch: sequences.
        warp: threads of a warp.
        making: what it costs to make what is seen late.
    """
    outs, ins = shape
    chunks, warps = -(-ins // LANES), LANES // warp
    reason, streamed = _why_not_all(rule, chunks, batch, making), _why_streamed(rule, chunks)
    if reason and streamed:  # it had better be made with too few registers than that weights were streamed
        reason = _why_not_all(rule, chunks, batch, NOTHING)
    if not reason:
        posts = _posts(outs, lambda posts: _fits(rule, posts, chunks, batch, making))
        return PlasticPlan(posts, chunks, batch, warps)
    if not streamed:
        posts = _posts(outs, lambda posts: _held(rule, posts, chunks))
        return PlasticPlan(posts, chunks, 0, warps, reason, registers=_MOST_REGISTERS, held=True)
    capped = rule.node.fixed and "synapse" not in rule.programs
    return PlasticPlan(STREAMED_POSTS, chunks, 0, warps, streamed, registers=_STREAMED_REGISTERS if capped else 0)


def _posts(outs: int, fits: Callable[[int], bool]) -> int:
    """Outputs of a program that holds their weights in registers."""
    posts = 2
    while -(-outs // posts) > _PROGRAMS and posts < 8 and fits(2 * posts):
        posts *= 2
    return posts


def _why_not_all(rule: PlasticRule, chunks: int, batch: int, making: Making) -> str:
    if not 1 <= batch <= _MOST_SEQUENCES:
        return f"since those of {batch} sequences do not fit beside them (at most {_MOST_SEQUENCES} do)"
    if not _fits(rule, 2, chunks, batch, making):
        return f"since with {chunks} chunks of {LANES} inputs they do not fit beside them"
    if _unrolled(rule, chunks, batch, making.work) > _UNROLLED:
        return f"since its rule is too long to unroll over {chunks} chunks of {batch} sequences"
    return ""


def _why_streamed(rule: PlasticRule, chunks: int) -> str:
    """Why weights are not in registers where the rest is not, or ""."""
    if not _held(rule, 2, chunks):
        return f"since {chunks} chunks of {LANES} inputs do not fit into registers"
    if _unrolled(rule, chunks, 1) > _UNROLLED:
        work = _work(rule.programs["update"])
        return f"since its update, {work} operations, is too long to unroll over {chunks} chunks"
    return ""


def _unrolled(rule: PlasticRule, chunks: int, batch: int, making: int = 0) -> int:
    """Operations of a rule that is written out for each chunk, and so many sequences."""
    programs = rule.programs
    each = _work(programs["before"]) + (_work(programs["synapse"]) if "synapse" in programs else 0) + 4 + making
    return chunks * (batch * each + _work(programs["update"]))


def _held(rule: PlasticRule, posts: int, chunks: int) -> bool:
    """Whether weights alone fit into the registers of a thread, beside what is loaded for all of them at a time."""
    most = _HELD if _operations(rule) <= _SHORT else _HELD_LONG
    return chunks <= _HELD_CHUNKS and chunks * posts * (2 if rule.node.fixed else 1) <= most


def _operations(rule: PlasticRule) -> int:
    """Of what is done with each weight."""
    return sum(_work(program) for part, program in rule.programs.items() if part in ("synapse", "update"))


def _fits(rule: PlasticRule, posts: int, chunks: int, batch: int, making: Making) -> bool:
    """Whether what lasts from step to step fits into the registers of a thread, which owns one lane of each chunk."""
    weights = chunks * posts * (1 + len(rule.node.fixed) + batch * len(rule.node.of_side("synapse")))
    each = 1 + len(rule.node.of_side("pre")) + making.registers
    inputs = chunks * batch * each  # what arrives, and its traces
    return weights + inputs <= (_KEPT if _operations(rule) <= _SHORT else _KEPT_LONG)


def _work(program: Program) -> int:
    return sum(len(definition(op.op).ops) if op.op in COMPOSITE else 1 for op in program.ops)
