"""What forward and backward functions have in common: arguments, the loop over blocks, and the file around them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from snncompile.targets.c.late_row import LATE_NAMES, late_address
from snncompile.targets.c.printer import FUNCTION_NAMES, RESERVED, Function, call_lines, identifier, print_called, safe
from snncompile.targets.printing import DRAWN, Lines, PrintedScan
from snncompile.targets.scan import Scan

#: The most neurons of a block, and the fewest where there are more.
LANES, FEW_LANES = 512, 64
#: Neurons of a block that are late by steps of their own: what they read over these steps shall stay close.
LATE_LANES = 128

_LOCALS = "T K B N t m j b at first own block blocks per_row cells threads scratch since saves begin end chunk"
_LOCALS += " source row old width tile tiles current listed before given end count found"
_LOCALS += " TILE SNN_LOWEST snn_mask snn_active snn_add_rows snn_add_far_rows snn_dense_row snn_dense_tile"
_LOCALS += " POOL_HEIGHT POOL_WIDTH POOL_DIVISOR POOL_ROW POOL_AREA POOL_BAND"
_LOCALS += " snn_pool_row snn_spread_row snn_pool_block snn_spread_block"
_LOCALS += " random seed_low seed_high moment element"
_LOCALS += f" {LATE_NAMES}"

#: What every file begins with.
PREAMBLE = f"""#include <math.h>
#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define LANES {LANES} /* most neurons of a block */
#define AHEAD 4 /* steps that a replaying backward fetches before their use */

#if defined(__GNUC__)
#define SNN_INLINE static inline __attribute__((always_inline, unused))
#define SNN_FETCH(address) __builtin_prefetch(address)
#define SNN_SINGLY __asm__ volatile("") /* keeps a loop from being vectorised: gathers take longer than loads */
#else
#define SNN_INLINE static inline
#define SNN_FETCH(address) ((void)0)
#define SNN_SINGLY ((void)0)
#endif
"""


@dataclass(frozen=True)
class KernelSource(PrintedScan):
    """A printed file that exports one function.

    Attributes:
        types: the function's argument types in order: ``"p"`` pointer, ``"q"`` 64-bit integer, ``"i"`` int.
        scratch: how many states a replaying backward keeps in scratch memory.
    """

    types: str
    scratch: int = 0


@dataclass(frozen=True)
class Argument:
    """An argument of the exported function, and how the function of one block gets its part of it.

    Attributes:
        declaration: in the exported function.
        part: the expression for one block, or "" where the block does without.
        part_declaration: in the function of one block.
        type: as in :attr:`KernelSource.types`.
        about: what it is, for the header.
    """

    declaration: str
    part: str
    part_declaration: str
    type: str
    about: str


@dataclass(frozen=True)
class Course:
    """Names of an operand ``(T, B, N)`` in the function of one block.

    Attributes:
        pointer: the block's first neuron at step 0.
        step: stride over time.
        column: stride over neurons, or "" where that is 1.
    """

    pointer: str
    step: str
    column: str

    @property
    def lanes(self) -> str:
        """How many values a step has in a block."""
        return "m"

    def at(self, lane: str) -> str:
        """Index of a lane."""
        return f"{lane} * {self.column}" if self.column else lane

    def prepare(self) -> list[str]:
        """The statements before the loop over time."""
        return []

    @property
    def address(self) -> str:
        """The address of its values at step ``t``."""
        return f"{self.pointer} + t * {self.step}"

    def row(self, now: str) -> list[str]:
        """The statements that make ``now`` its values at step ``t``."""
        return [f"const float *{now} = {self.address};"]


@dataclass(frozen=True)
class LateCourse(Course):
    """A course that is read some steps late: before its first step, its past.

    Attributes:
        past: the first neuron of the block at step 0 of the course, whose past lies before.
        late: how many steps; an array where ``each`` lane has its own.
        each: whether it has.
        share: name of the number of neurons that read one signal, or "" where each has its own.
        most: name of the longest of these steps in the block.
        at_late: name of an array: where each lane's value lies, from its row on.
    """

    past: str
    late: str
    each: bool
    share: str = ""
    most: str = ""
    at_late: str = ""

    @property
    def address(self) -> str:
        """See :class:`Course`; only where all lanes are equally late."""
        return late_address(self.pointer, self.step, self.past, "cells", self.late)

    def row(self, now: str) -> list[str]:
        """See :class:`Course`. Lanes that are late by steps of their own are gathered first, in a loop of its own."""
        late, step = self.late, self.step
        j, cells = (f"j / {self.share}", f"(cells / {self.share})") if self.share else ("j", "cells")
        if not self.each:
            return super().row(now)
        return [
            "for (int j = 0; j < m; j += 16) /* values that are gathered from now on lie far apart */",
            f"    SNN_FETCH({self.pointer} + (t + AHEAD) * {step} + {j});",
            f"float {now}[LANES];",
            f"if (t < {self.most}) {{",
            "    for (int j = 0; j < m; j++) {",
            f"        const int64_t source = t - {late}[j];",
            f"        const float *old = {self.past} + source * {cells}, *row = {self.pointer} + source * {step};",
            f"        {now}[j] = (source < 0 ? old : row)[{j}];",
            "        SNN_SINGLY;",
            "    }",
            "} else {",
            f"    const float *row = {self.pointer} + t * {step};",
            "    for (int j = 0; j < m; j++) {",
            f"        {now}[j] = row[{self.at_late}[j]];",
            "        SNN_SINGLY;",
            "    }",
            "}",
        ]

    def prepare(self) -> list[str]:
        """The statements before the loop over time."""
        if not self.each:
            return []
        late, most = self.late, self.most
        j = f"j / (int32_t){self.share}" if self.share else "j"
        return [
            f"int32_t {self.at_late}[LANES];",
            f"int64_t {most} = 0;",
            "for (int j = 0; j < m; j++) {",
            f"    {self.at_late}[j] = {j} - {late}[j] * (int32_t){self.step};",
            f"    {most} = {late}[j] > {most} ? {late}[j] : {most};",
            "}",
        ]


class Writer(Lines):
    """A function of one block being printed: its arguments and its lines.

    Args:
        locals: more names that mean something in it.
    """

    def __init__(self, locals: str = "") -> None:
        super().__init__([*RESERVED, *_LOCALS.split(), *locals.split(), *FUNCTION_NAMES])
        self.arguments: list[Argument] = []

    def name(self, wanted: str) -> str:
        """A new name."""
        return self.names.new(identifier(wanted))

    def course(self, wanted: str, unit: bool, about: str, write: bool = False, share: str = "") -> Course:
        """Add an operand ``(T, B, N)`` of any strides; with fewer neurons, N by ``share``."""
        const = "" if write else "const "
        name = self.name(wanted)
        step, row = self.name(f"{name}_t"), self.name(f"{name}_b")
        column = "" if unit else self.name(f"{name}_n")
        first = f"first * {column}" if column else f"first / {share}" if share else "first"
        pointer = f"{const}float *restrict {name}"
        self.arguments += [
            Argument(f"{const}float *{name}", f"{name} + b * {row} + {first}", pointer, "p", f"{about}, (T, B, N)"),
            Argument(f"int64_t {step}", step, f"int64_t {step}", "q", f"stride of {name} over time"),
            Argument(f"int64_t {row}", "", "", "q", f"stride of {name} over the batch"),
        ]
        if column:
            about = f"stride of {name} over neurons"
            self.arguments.append(Argument(f"int64_t {column}", column, f"int64_t {column}", "q", about))
        return Course(name, step, column)

    def input_course(self, wanted: str, unit: bool, late: str) -> Course:
        """Add an input ``(T, B, N)``; ``late`` as in :class:`~snncompile.targets.variant.Layout`."""
        if not late:
            return self.course(wanted, unit, "input")
        share = self.number(self.name(f"{wanted}_share"), "neurons that read one value") if late == "shared" else ""
        plain = self.course(wanted, True, "input, read late", share=share)
        past = self.cells(f"{wanted}_past", f"where what came before {wanted} ends, (L, B, N)", share=share)
        name, each = f"{wanted}_late", late != "one"
        steps = self.steps(name) if each else self.number(self.name(name), f"steps that {wanted} is late")
        own = [self.name(f"{wanted}_{what}") for what in ("most", "at")] if each else []
        return LateCourse(plain.pointer, plain.step, "", past, steps, each, share, *own)

    def steps(self, wanted: str) -> str:
        """Add whole numbers of steps, one for each neuron."""
        name = self.name(wanted)
        part = f"const int32_t *restrict {name}"
        self.arguments.append(Argument(f"const int32_t *{name}", f"{name} + first", part, "p", "steps late, (N,)"))
        return name

    def cells(self, wanted: str, about: str, write: bool = False, share: str = "") -> str:
        """Add a contiguous operand whose last two axes are batch and neurons; with fewer of these, N by ``share``."""
        name = self.name(wanted)
        const = "" if write else "const "
        at = f"at / {share}" if share else "at"
        self.arguments.append(
            Argument(f"{const}float *{name}", f"{name} + {at}", f"{const}float *restrict {name}", "p", about)
        )
        return name

    def coefficient(self, wanted: str, scalar: bool, about: str) -> str:
        """Add a coefficient; the source of a lane's value."""
        name = self.name(wanted)
        if scalar:
            argument = Argument(f"const float *{name}", f"*{name}", f"float {name}", "p", f"{about}, one number")
        else:
            part = f"const float *restrict {name}"
            argument = Argument(f"const float *{name}", f"{name} + first", part, "p", f"{about}, (N,)")
        self.arguments.append(argument)
        return name if scalar else f"{name}[j]"

    def number(self, name: str, about: str) -> str:
        """Add an integer argument."""
        self.arguments.append(Argument(f"int64_t {name}", name, f"int64_t {name}", "q", about))
        return name

    def whole(self, wanted: str, about: str, kind: str = "const float", *, number: bool = False) -> str:
        """Add an argument that blocks do not get: a pointer, or a number."""
        name = self.name(wanted) if wanted not in _LOCALS.split() else wanted
        declaration = f"int64_t {name}" if number else f"{kind} *{name}"
        self.arguments.append(Argument(declaration, "", "", "q" if number else "p", about))
        return name

    def random(self) -> None:
        """Add the seed and the number of the first step, and what a block knows of them."""
        about = "seed and number of the first step, for random numbers"
        pointer = "const int64_t *random"
        self.arguments.append(Argument(pointer, "random, (uint32_t)at", f"{pointer}, uint32_t element", "p", about))
        self.line(1, "const uint32_t seed_low = (uint32_t)random[0];")
        self.line(1, "const uint32_t seed_high = (uint32_t)((uint64_t)random[0] >> 32);")

    def moment(self, depth: int, functions: Iterable[Function | None]) -> None:
        """Inside a loop over ``t``: the number of the step, if one of ``functions`` draws."""
        if any(f is not None and DRAWN in f.args for f in functions):
            self.line(depth, "const uint32_t moment = (uint32_t)(random[1] + t);")

    def lanes(self, depth: int) -> None:
        """Open the loop over the neurons of the block."""
        self.line(depth, "#pragma omp simd")
        self.line(depth, "for (int j = 0; j < m; j++) {")

    def fetch(self, depth: int, course: Course, step: str) -> None:
        """Have the memory begin to bring what step ``step`` reads: a step lies far from the one before it."""
        if not course.column:
            self.line(depth, f"for (int j = 0; j < {course.lanes}; j += 16)")
            self.line(depth + 1, f"SNN_FETCH({course.pointer} + ({step}) * {course.step} + j);")

    def call(self, depth: int, function: Function, values: dict[str, str], targets: dict[str, str]) -> None:
        """Call ``function`` on ``values``; its results go to new variables named in ``targets``."""
        self.line(depth, f"float {', '.join(targets[r] for r in function.results)};")
        values = {**values, DRAWN: "seed_low, seed_high, moment, element + (uint32_t)j"}
        items = [*(values[a] for a in function.args), *(f"&{targets[r]}" for r in function.results)]
        self.lines += call_lines(function.name, items, depth, ";")


class Blocks(NamedTuple):
    """What runs the blocks of a scan.

    Attributes:
        function: the name of the function of one block.
        arguments: of the exported function.
        scratch: states that each thread keeps in scratch memory, for K steps.
    """

    function: str
    arguments: list[Argument]
    scratch: int

    @property
    def declared(self) -> list[str]:
        """The arguments of the exported function, with those that all have."""
        own = ["float *scratch"] if self.scratch else []
        given = [a.declaration for a in self.arguments]
        return [*given, *own, "int64_t B", "int64_t N", "int64_t width", "int threads"]

    def call(self, depth: int) -> list[str]:
        """Call it for the block ``at``, whose ``m`` neurons begin with ``first`` of sequence ``b``."""
        passed = [a.part for a in self.arguments if a.part] + (["own"] if self.scratch else []) + ["B * N", "m"]
        return call_lines(self.function, passed, depth, ";")


class Frame(Protocol):
    """A function around the blocks of a scan that does more than to run them."""

    @property
    def locals(self) -> str:
        """Names that mean something in it."""
        ...

    @property
    def types(self) -> str:
        """Those of the arguments that it adds, before those of the scan."""
        ...

    @property
    def about(self) -> str:
        """What it does, for the header."""
        ...

    def lines(self, name: str, blocks: Blocks, source: Course | None, grad: Course | None) -> list[str]:
        """The function ``name``, and what it needs; ``source`` is the scan's input and ``grad`` its gradient, where the
        scan has them."""
        ...


def file_text(
    scan: Scan,
    what: str,
    w: Writer,
    name: str,
    functions: list[Function],
    scratch: int = 0,
    helpers: str = "",
    frame: tuple[Frame, Course | None, Course | None] | None = None,
) -> str:
    """The whole file: header, step functions, the function of one block, the exported function.

    Args:
        scan: what it runs.
        what: which function it is, for the header.
        w: arguments and body of the function of one block.
        name: the exported function's name.
        functions: step functions it calls.
        scratch: states that each thread keeps in scratch memory, for K steps.
        helpers: more functions, which blocks call.
        frame: what is around the blocks, with its input and its gradient; None only runs them.
    """
    block = w.name(f"{name}_block")
    header = f"""/* {safe(scan.name)}: {what}. Generated by snncompile.
 *
 * Nodes: {safe(", ".join(scan.members)) or "one node"}.
 * A thread takes a block of `width` neurons of one sequence through all steps. The states of a block lie in local
 * arrays, so that the loop over its neurons is vectorised. Courses are float32 (T, B, N); those written without a
 * stride are contiguous.
 *{frame[0].about if frame else ""}
{listed(w)}
 *   width  neurons of a block, at most LANES
 */
"""
    own = [*(["float *scratch"] if scratch else []), "int64_t cells", "int m"]
    inner = [a.part_declaration for a in w.arguments if a.part]
    if frame is not None:  # which may have the gradient written over the input
        shared = [f"*restrict {course.pointer}" for course in frame[1:] if course is not None]
        inner = [d.replace("restrict ", "") if d.endswith(tuple(shared)) else d for d in inner]
    lines = [
        "/* One block: m neurons; a step of a course that is written lies `cells` behind the step before it. */",
        *call_lines(f"static void {block}", [*inner, *own]),
        "{",
        *w.lines,
        "}",
        "",
    ]
    blocks = Blocks(block, w.arguments, scratch)
    lines += _every_block(name, blocks) if frame is None else frame[0].lines(name, blocks, *frame[1:])
    called = print_called(functions)
    parts = [header, PREAMBLE, helpers, called, *(f.text for f in functions), "\n".join(lines) + "\n"]
    return "\n".join(p for p in parts if p)


def _every_block(name: str, blocks: Blocks) -> list[str]:
    """The function that runs all blocks."""
    lines = [
        *call_lines(f"void {name}", blocks.declared),
        "{",
        "    const int64_t per_row = (N + width - 1) / width, blocks = B * per_row;",
        "    (void)threads;",
        "#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)",
        "    for (int64_t block = 0; block < blocks; block++) {",
        "        const int64_t b = block / per_row, first = block % per_row * width, at = b * N + first;",
        "        const int m = (int)(N - first < width ? N - first : width);",
    ]
    if blocks.scratch:
        lines += [
            "#ifdef _OPENMP",
            f"        float *own = scratch + omp_get_thread_num() * K * {blocks.scratch} * width;",
            "#else",
            "        float *own = scratch;",
            "#endif",
        ]
    return [*lines, *blocks.call(2), "    }", "}"]


def listed(w: Writer) -> str:
    """The arguments, for the header."""
    width = max((len(_variable(a)) for a in w.arguments), default=0)
    return "\n".join(f" *   {_variable(a):<{width}}  {safe(a.about)}" for a in w.arguments)


def _variable(argument: Argument) -> str:
    return argument.declaration.split()[-1].lstrip("*")
