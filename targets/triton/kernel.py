"""What forward and backward kernels have in common: arguments, loads ahead of time, and the module around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from snncompile.targets.printing import DRAWN, Lines, PrintedScan, comment
from snncompile.targets.scan import Scan
from snncompile.targets.triton.printer import DRAWN_ARGUMENTS, FUNCTION_NAMES, RESERVED, Function, literal, print_called

#: Version of the generated code; part of every cache key.
CODEGEN = 2

LINE = 118

LOAD_AHEAD = '''@triton.jit
def snn_load_ahead(pointer, at, stride, first, end, active, AHEAD: tl.constexpr):
    """Steps first, first + 1, ... of a course: the loads are in flight together. Nothing is read from `end` on."""
    values = ()
    for u in tl.static_range(AHEAD):
        t = first + u
        values = values + (tl.load(pointer + t * stride + at, mask=active & (t < end), other=0.0),)
    return values
'''

LOAD_BEHIND = '''@triton.jit
def snn_load_behind(pointer, at, stride, last, begin, active, AHEAD: tl.constexpr):
    """Steps last, last - 1, ... of a course: the loads are in flight together. Nothing is read before `begin`."""
    values = ()
    for u in tl.static_range(AHEAD):
        t = last - u
        values = values + (tl.load(pointer + t * stride + at, mask=active & (t >= begin), other=0.0),)
    return values
'''

LOAD_AHEAD_LATE = '''@triton.jit
def snn_load_ahead_late(
    pointer, at, stride, past, reach, late, cells_at, cells, first, end, active, AHEAD: tl.constexpr
):
    """As snn_load_ahead, `late` steps earlier; before step 0, from `past`, which holds the `reach` steps before."""
    values = ()
    for u in tl.static_range(AHEAD):
        t = first + u
        source = t - late
        there = active & (t < end)
        new = tl.load(pointer + source * stride + at, mask=there & (source >= 0), other=0.0)
        old = tl.load(past + (source + reach) * cells + cells_at, mask=there & (source < 0), other=0.0)
        values = values + (tl.where(source >= 0, new, old),)
    return values
'''

LOAD_BEHIND_LATE = '''@triton.jit
def snn_load_behind_late(
    pointer, at, stride, past, reach, late, cells_at, cells, last, begin, active, AHEAD: tl.constexpr
):
    """As snn_load_behind, `late` steps earlier; before step 0, from `past`, which holds the `reach` steps before."""
    values = ()
    for u in tl.static_range(AHEAD):
        t = last - u
        source = t - late
        there = active & (t >= begin)
        new = tl.load(pointer + source * stride + at, mask=there & (source >= 0), other=0.0)
        old = tl.load(past + (source + reach) * cells + cells_at, mask=there & (source < 0), other=0.0)
        values = values + (tl.where(source >= 0, new, old),)
    return values
'''

_LOCALS = (
    "T K N B BLOCK AHEAD ROWS COLUMNS INNER count cells at n t u active start begin end chunk chunks done since saves "
    "row column inner across product current before limit snn_load_ahead snn_load_behind seed seed_low seed_high "
    "first_step moment element WIDTH TOGETHER high low part rest up down sums scale block blocks place first done "
    "snn_load_ahead_late snn_load_behind_late later following late source arrived snn_halves snn_larger "
    "snn_scales snn_together tile group origin slot slots ring cell seen k snn_arrive snn_await "
    "snn_seen snn_load_late snn_store_late"
)

SCAN_LAYOUT = """One program owns BLOCK elements of batch * neurons, keeps their states in registers and walks
through time. Courses are float32 (T, B, N); those written are contiguous. AHEAD steps are loaded while the AHEAD
before them are computed, since a step would otherwise wait for memory."""


@dataclass(frozen=True)
class Param:
    """One kernel argument.

    Attributes:
        name: its name.
        type: Triton's type: ``"*fp32"``, ``"*fp16"``, ``"*i32"``, ``"*i64"`` or ``"i32"``.
        about: what it is, for the header.
        own: whether it is memory of our own, as all in float16 is: its address is a multiple of 16 and the compiler is
            told so, for loads of 16 bytes.
    """

    name: str
    type: str
    about: str
    own: bool = False

    @property
    def aligned(self) -> bool:
        """Whether its address is known to be a multiple of 16."""
        return self.own or self.type == "*fp16"


@dataclass(frozen=True)
class KernelSource(PrintedScan):
    """A printed kernel module.

    Attributes:
        params: the kernel's arguments without the constexprs ``BLOCK`` and ``AHEAD``, which come last.
        by_neuron: whether it takes N.
        streams: courses that are loaded ahead at the same time: what AHEAD costs registers for.
        work: operations of a step: what AHEAD costs compile time for.
        scratch: states that a replaying backward keeps in scratch memory.
    """

    params: tuple[Param, ...]
    by_neuron: bool
    streams: int
    work: int
    scratch: tuple[str, ...] = ()


class Writer(Lines):
    """A kernel being printed: its parameters and its lines."""

    def __init__(self) -> None:
        super().__init__([*RESERVED, *_LOCALS.split(), *FUNCTION_NAMES])
        self.params: list[Param] = []

    def call(self, depth: int, head: str, arguments: list[str]) -> None:
        """Add ``head(arguments)``, over several lines if it is long."""
        line = f"{head}({', '.join(arguments)})"
        if 4 * depth + len(line) <= LINE:
            self.line(depth, line)
            return
        self.line(depth, f"{head}(")
        for part in _fill(arguments, LINE - 4 * depth).strip("\n").split("\n"):
            self.line(depth, part)
        self.line(depth, ")")

    def pointer(self, wanted: str, about: str, type: str = "*fp32", own: bool = False) -> str:
        """Add a pointer argument; its name."""
        name = self.names.new(f"{wanted}_ptr")
        self.params.append(Param(name, type, about, own))
        return name

    def random(self) -> None:
        """Add the seed and the number of the first step, for random numbers; :meth:`seed` reads them."""
        self.params.append(Param("random_ptr", "*i64", "seed and number of the first step, for random numbers"))

    def seed(self) -> None:
        """Read what :meth:`random` added."""
        self.line(1, "seed = tl.load(random_ptr)")
        self.line(1, "seed_low = seed.to(tl.uint32)")
        self.line(1, "seed_high = (seed >> 32).to(tl.uint32)")
        self.line(1, "first_step = tl.load(random_ptr + 1)")
        self.line(1, "element = at.to(tl.uint32)")

    def number(self, name: str, about: str) -> str:
        """Add an integer argument; its name."""
        self.params.append(Param(name, "i32", about))
        return name

    def course(self, wanted: str, contiguous: bool, about: str) -> Course:
        """Add the arguments of an operand ``(T, B, N)``."""
        base = self.names.new(wanted)
        pointer = self.pointer(wanted, f"{about}, (T, B, N)")
        step = self.number(self.names.new(f"{base}_t"), f"stride of {wanted} over time")
        if contiguous:
            return Course(base, pointer, step, None, None)
        row = self.number(self.names.new(f"{base}_b"), f"stride of {wanted} over the batch")
        column = self.number(self.names.new(f"{base}_n"), f"stride of {wanted} over neurons")
        return Course(base, pointer, step, row, column)

    def input_course(self, wanted: str, contiguous: bool, late: str) -> Course:
        """Add an input ``(T, B, N)``; ``late`` as in :class:`~snncompile.targets.variant.Layout`."""
        course = self.course(wanted, contiguous, "input, read late" if late else "input")
        if not late:
            return course
        past = self.pointer(f"{wanted}_past", f"what came before step 0 of {wanted}, (L, B, N)")
        reach = self.number(self.names.new(f"{wanted}_reach"), "L")
        course = replace(course, past=past, reach=reach, late=self.lateness(f"{wanted}_late", late))
        if late != "shared":
            return course
        share = self.number(self.names.new(f"{wanted}_share"), f"neurons that read one value of {wanted}")
        return replace(course, share=share, cell=self.names.new(f"{wanted}_cell"))

    def lateness(self, wanted: str, kind: str) -> str:
        """Add numbers of steps: one, or one for each neuron (to be loaded by :meth:`load_steps`); the name of them."""
        name = self.names.new(wanted)
        if kind == "one":
            return self.number(name, "steps late")
        self.params.append(Param(f"{name}_ptr", "*i32", "steps late, (N,)"))
        return name

    def load_steps(self, name: str) -> None:
        """Load numbers of steps of each neuron."""
        if any(p.name == f"{name}_ptr" for p in self.params):
            self.line(1, f"{name} = tl.load({name}_ptr + n, mask=active, other=0)")

    def elements(self, need_neuron: bool) -> None:
        """Compute which elements this program owns."""
        self.line(1, "at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # element b * N + n of a time step")
        self.line(1, "active = at < count")
        if need_neuron:
            self.line(1, "n = at % N")
        self.line(1, "cells = count.to(tl.int64)  # time offsets exceed 32 bits")

    def strides(self, course: Course) -> str:
        """Compute a course's offsets inside a time step; the name of them."""
        self.line(1, f"{course.step} = {course.step}.to(tl.int64)")
        if course.share:
            self.line(1, f"{course.cell} = at // {course.share}")
            if course.row is None:
                return course.cell
            name = self.names.new(f"{course.base}_at")
            column = f"(n // {course.share}) * {course.column}.to(tl.int64)"
            self.line(1, f"{name} = (at // N) * {course.row}.to(tl.int64) + {column}")
            return name
        if course.row is None:
            return "at"
        name = self.names.new(f"{course.base}_at")
        self.line(1, f"{name} = (at // N) * {course.row}.to(tl.int64) + n * {course.column}.to(tl.int64)")
        return name

    def coefficient(self, local: str, pointer: str, scalar: bool) -> None:
        """Load a coefficient, before the loop."""
        where = "" if scalar else " + n, mask=active, other=1.0"
        self.line(1, f"{local} = tl.load({pointer}{where})")


@dataclass(frozen=True)
class Course:
    """Names of the arguments of an operand ``(T, B, N)``: without row and column strides, a time step is contiguous.

    One that is read late has its past, how many steps that is, and how many steps late it is; where several neurons
    read one value of it, how many, and which value that is.
    """

    base: str
    pointer: str
    step: str
    row: str | None
    column: str | None
    past: str = ""
    reach: str = ""
    late: str = ""
    share: str = ""
    cell: str = ""

    def load(self, load: str, at: str, first: str, bound: str) -> tuple[str, list[str]]:
        """The call of the helper ``load`` that loads steps from ``first``: its name and arguments."""
        begin = [self.pointer, at, self.step]
        if not self.late:
            return load, [*begin, first, bound, "active", "AHEAD"]
        own = [self.cell, f"cells // {self.share}"] if self.share else ["at", "cells"]
        past = [self.past, self.reach, self.late, *own]
        return f"{load}_late", [*begin, *past, first, bound, "active", "AHEAD"]


def block_of(value: float) -> str:
    """Source of a block that holds ``value`` everywhere."""
    text = literal(value)
    return f"tl.broadcast_to({text}, (BLOCK,))" if text.startswith("tl.") else f"tl.full((BLOCK,), {text}, tl.float32)"


def assign(writer: Writer, depth: int, function: Function, values: dict[str, str], targets: dict[str, str]) -> None:
    """Print ``targets = function(values)``, constants and numbers for all neurons made into blocks.

    Args:
        writer: the kernel.
        depth: indentation.
        function: the device function.
        values: source of each of its arguments.
        targets: names of its outputs' values; an output not in it is dropped.
    """
    left = [targets.get(r, "_") for r in function.results]
    if DRAWN in function.args:
        writer.line(depth, "moment = (first_step + t).to(tl.uint32)")
        values = {**values, DRAWN: ", ".join(DRAWN_ARGUMENTS)}
    arguments = [values[a] for a in function.args]
    if left:
        writer.call(depth, f"{', '.join(left)}{',' if len(left) == 1 else ''} = {function.name}", arguments)
    for result, target in targets.items():
        if result in function.constants:
            writer.line(depth, f"{target} = {block_of(function.constants[result])}")
        elif result in function.flat:
            writer.line(depth, f"{target} = tl.broadcast_to({target}, (BLOCK,))")


def module_text(
    scan: Scan,
    what: str,
    writer: Writer,
    name: str,
    functions: list[Function],
    helpers: list[str],
    layout: str = SCAN_LAYOUT,
    constexprs: tuple[str, ...] = ("BLOCK", "AHEAD"),
) -> str:
    """The whole module: header, device functions, kernel.

    Args:
        scan: what the kernel runs.
        what: which kernel it is, for the header.
        writer: the kernel's parameters and body.
        name: the kernel's name.
        functions: device functions it calls.
        helpers: sources of further ones.
        layout: how work is divided, for the header.
        constexprs: names of the compile-time arguments, which come last.
    """
    width = max(len(p.name) for p in writer.params)
    arguments = "\n".join(f"    {p.name:<{width}}  {p.about}" for p in writer.params)
    header = f'''"""{comment(scan.name)}: {what}. Generated by snncompile.

Nodes: {comment(", ".join(scan.members)) or "one node"}.
{layout}

{comment_block(arguments)}
"""

import triton
import triton.language as tl
'''
    head = jit_head(name, writer.params, constexprs)
    called = print_called(functions)
    parts = [header, called, *(f.text for f in functions), *helpers, "\n".join([head, *writer.lines]) + "\n"]
    return "\n\n".join(p for p in parts if p)


def jit_head(name: str, params: Sequence[Param], constexprs: Sequence[str]) -> str:
    """The first lines of the kernel ``name``: its decorator and its arguments, the compile-time ones last."""
    listed = _fill([f'"{p.name}"' for p in params if not p.aligned])
    signature = _fill([*(p.name for p in params), *(f"{c}: tl.constexpr" for c in constexprs)])
    return f"@triton.jit(do_not_specialize=[{listed}])\ndef {name}({signature}):"


def comment_block(text: str) -> str:
    """Several lines for a docstring, each of them safe."""
    return "\n".join(comment(line).replace('"""', "'''") for line in text.split("\n"))


def _fill(items: list[str], width: int = LINE) -> str:
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) + 6 > width:
            lines.append("")
        lines[-1] += f"{item}, "
    body = "\n".join(f"    {line.rstrip()}" for line in lines if line)
    return f"\n{body}\n"
