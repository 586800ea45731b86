"""What the forward and the backward function of a cycle have in common: what they are given, lines, and the file.

A function gets one table of addresses and numbers, since it takes many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snncompile.targets.c.cycle_late import LateInputs
from snncompile.targets.c.kernel import PREAMBLE
from snncompile.targets.c.late_row import LATE_NAMES
from snncompile.targets.c.printer import FUNCTION_NAMES, RESERVED, Function, call_lines, identifier, print_called, safe
from snncompile.targets.cycle_plan import Copy, CyclePlan
from snncompile.targets.printing import DRAWN, Lines

#: What an entry of the table is: what is meant, and which one.
Key = tuple[str | int, ...]

#: Argument types of every function: the table, T, B, how many sequences a thread takes at once, threads.
TYPES = "pqqqi"

_LOCALS = f"""{LATE_NAMES}
given T B together threads tile tiles begin end t b j l m n x weight inputs out to from value at back
rows line bias apart grad sources starts targets sum count active random seed_low seed_high moment element TILE
LANES AHEAD NOW BACK SNN_MADD SNN_INLINE SNN_APART SNN_FETCH SNN_AFTER SNN_BEFORE snn_row snn_fill snn_copy snn_add
snn_begin snn_event_row snn_dense_row snn_dense_tile snn_dense_rows snn_sparse_add snn_sparse_back snn_add_course
snn_active snn_add_rows snn_add_far_rows work work_of_all work_size sums snn_pack snn_unpack snn_unpack_add
snn_four_outputs snn_one_output SNN_PLACES SNN_TAPS snn_conv_planes snn_pool_planes snn_most_planes snn_most_back
snn_masked snn_masked_back snn_turn snn_turn_eight snn_eight SNN_TURN_EIGHT SNN_LOW SNN_HIGH SNN_LOW_PAIRS
SNN_HIGH_PAIRS SNN_LOW_HALF SNN_HIGH_HALF late_rooms late_room late_places"""


@dataclass(frozen=True)
class CycleSource:
    """A printed file that exports one function.

    Attributes:
        name: the function's name.
        text: its source.
        given: what the table holds, in order.
        types: its argument types.
    """

    name: str
    text: str
    given: tuple[Key, ...]
    types: str = TYPES


class RowFunction(Lines):
    """The function of one step of one sequence of a node, being printed.

    Attributes:
        declared: its arguments.
        passed: what it is called with.
        before: what is done before it is called, for each sequence.
        after: what is done then.
    """

    def __init__(self, name: str) -> None:
        super().__init__([*RESERVED, *FUNCTION_NAMES, *_LOCALS.split(), name])
        self.name = name
        self.declared: list[str] = []
        self.passed: list[str] = []
        self.before: list[str] = []
        self.after: list[str] = []

    def pointer(self, wanted: str, passed: str, write: bool = False) -> str:
        """A row that it reads or writes; the name it has inside."""
        name = self.names.new(identifier(wanted))
        self.declared.append(f"{'' if write else 'const '}float *restrict {name}")
        self.passed.append(passed)
        return name

    def number(self, wanted: str, passed: str) -> str:
        """One number."""
        name = self.names.new(identifier(wanted))
        self.declared.append(f"float {name}")
        self.passed.append(passed)
        return name

    def drawing(self, function: Function, size: int) -> None:
        """Where ``function`` draws: what its numbers depend on."""
        if DRAWN in function.args:
            self.declared += ["uint32_t seed_low", "uint32_t seed_high", "uint32_t moment", "uint32_t element"]
            self.passed += ["seed_low", "seed_high", "(uint32_t)(random[1] + t)", f"(uint32_t)(b * {size})"]

    def call(self, function: Function, values: dict[str, str], targets: dict[str, str]) -> None:
        """Call ``function``; its results go to new variables named in ``targets``."""
        self.line(2, f"float {', '.join(targets[r] for r in function.results)};")
        values = {**values, DRAWN: "seed_low, seed_high, moment, element + (uint32_t)j"}
        items = [*(values[a] for a in function.args), *(f"&{targets[r]}" for r in function.results)]
        self.lines += call_lines(function.name, items, 2, ";")

    def text(self, about: str) -> str:
        """Its source: the loop over the neurons around the lines."""
        lines = [
            f"/* {safe(about)} */",
            *call_lines(f"SNN_APART void {self.name}", [*self.declared, "int m"]),
            "{",
            "#pragma omp simd",
            "    for (int j = 0; j < m; j++) {",
            *self.lines,
            "    }",
            "}",
        ]
        return "\n".join(lines) + "\n"


class CycleWriter(Lines):
    """A function of a cycle being printed.

    Args:
        plan: the cycle.
        name: the function's name.
        writes_lines: whether it writes the lines, or only reads them.
        locals: more names that mean something in it.
    """

    def __init__(self, plan: CyclePlan, name: str, writes_lines: bool, locals: str = "") -> None:
        super().__init__([*RESERVED, *_LOCALS.split(), *locals.split(), *FUNCTION_NAMES])
        self.plan, self.writes_lines = plan, writes_lines
        self.name = self.new(name)
        self.given: dict[Key, tuple[str, str, str]] = {}
        self.stems = [line.key.replace(".", "_") for line in plan.lines]
        self.used: dict[str, tuple[int, int]] = {}  # name of a line -> its depth and size
        self.functions: list[Function] = []
        self.rows: list[str] = []
        self.late = LateInputs(self)

    def new(self, wanted: str) -> str:
        """A new name."""
        return self.names.new(identifier(wanted))

    def pointer(self, key: Key, wanted: str, about: str, kind: str = "const float") -> str:
        """An address in the table; its name."""
        if key not in self.given:
            self.given[key] = (self.new(wanted), f"{kind} *", about)
        return self.given[key][0]

    def number(self, key: Key, wanted: str, about: str) -> str:
        """A number in the table; its name."""
        if key not in self.given:
            self.given[key] = (self.new(wanted), "int64_t ", about)
        return self.given[key][0]

    def row(self, what: str, line: int, lag: int | str = 0, sequence: str = "b") -> str:
        """The row of a line (``what`` is ``"line"``, or ``"grad"`` for its gradient), so many steps ago."""
        name = self.array(what, line)
        size = self.used[name][1]
        return f"NOW({name}, {sequence}, {size})" if lag == 0 else f"BACK({name}, {lag}, {sequence}, {size})"

    def array(self, what: str, line: int) -> str:
        """The name of a line's values, or of its gradient's."""
        if (what, line) not in self.given:
            it, stem = self.plan.lines[line], self.stems[line]
            name = self._line_name(f"grad_{stem}" if what == "grad" else stem)
            about = f"{'gradient of ' if what == 'grad' else ''}{it.key}, (rows, B, {it.size})"
            kind = "float" if what == "grad" or self.writes_lines else "const float"
            self.given[(what, line)] = (name, f"{kind} *", about)
            self.given[(f"{what} rows", line)] = (f"{name}_rows", "int64_t ", f"rows of {name}")
            self.used[name] = (it.depth, it.size)
        return self.given[(what, line)][0]

    def _line_name(self, wanted: str) -> str:
        """A name to which the macros can append something."""
        while True:
            name = self.new(wanted)
            if all(self.new(f"{name}{end}") == f"{name}{end}" for end in ("_at", "_rows")):
                return name
            wanted += "_"

    def outside(self, index: int, reader: RowFunction) -> str:
        """The row of an input from outside for one sequence, which ``reader`` reads."""
        if self.plan.offset(index) in ("each", "shared"):
            return self.late.gathered(index, reader)
        first, row = self.outside_rows(index)
        return f"{first} + b * {row}"

    def outside_rows(self, index: int) -> tuple[str, str]:
        """Where the first sequence's values of an input from outside are, and how far those of the next."""
        if self.plan.offset(index):
            return self.late.moved(index)
        name, step, row = self.outside_names(index)
        return f"{name} + t * {step}", row

    def outside_names(self, index: int) -> tuple[str, str, str]:
        """The names of an input from outside, and of its strides over time and batch."""
        edge = self.plan.outside[index]
        about = f"what {edge.source} shows late, (T, B, N)" if self.plan.offset(index) else f"{edge.source}, (T, B, N)"
        name = self.pointer(("input", index), f"{edge.source.node}_{edge.source.port}", about)
        step = self.number(("input step", index), f"{name}_t", f"stride of {name} over time")
        row = self.number(("input row", index), f"{name}_b", f"stride of {name} over the batch")
        return name, step, row

    def coefficient(self, function: RowFunction, node: str, name: str, scalar: bool, what: str) -> str:
        """A coefficient of a node; the source of a lane's value inside ``function``."""
        about = f"{what} of {node}, {'one number' if scalar else '(N,)'}"
        pointer = self.pointer((what, node, name), f"{node}_{name}", about)
        if scalar:
            return function.number(name, f"*{pointer}")
        return f"{function.pointer(name, pointer)}[j]"

    def random(self, functions: Iterable[Function]) -> None:
        """What random numbers depend on, where one of ``functions`` draws."""
        if any(DRAWN in f.args for f in functions):
            self.given[("random",)] = ("random", "const int64_t *", "seed and number of the first step")

    def work(self) -> str:
        """Room for a thread to work in."""
        self.given[("work",)] = ("work_of_all", "float *", "scratch: what threads work in")
        self.given[("work size",)] = ("work_size", "int64_t ", "values in it, for each thread")
        return "work"

    def call(self, depth: int, head: str, items: list[str]) -> None:
        """A call."""
        self.lines += call_lines(head, items, depth, ";")

    def each_sequence(self, depth: int, head: str, items: list[str]) -> None:
        """A call for each sequence of the tile."""
        self.line(depth, "for (int64_t b = begin; b < end; b++)")
        self.call(depth + 1, head, items)

    def each_row(self, function: RowFunction, size: int) -> None:
        """The calls of the function of a node, for each sequence of the tile."""
        items = [*function.passed, str(size)]
        if not (function.before or function.after):
            self.each_sequence(3, function.name, items)
            return
        self.line(3, "for (int64_t b = begin; b < end; b++) {")
        self.lines += function.before
        self.call(4, function.name, items)
        self.lines += function.after
        self.line(3, "}")

    def file(self, what: str, about: str, helpers: Sequence[str], first: str, loop: str, reverse: bool) -> CycleSource:
        """The whole file.

        Args:
            what: which function it is, for the header.
            about: how it works, for the header.
            helpers: functions that it calls.
            first: the number of rows before that of the first step that runs, as a format string of a line's depth.
            loop: the loop over time.
            reverse: whether it goes backward.
        """
        header = self.header(what, about)
        body = [
            *call_lines(
                f"void {self.name}",
                ["const int64_t *given", "int64_t T", "int64_t B", "int64_t together", "int threads"],
            ),
            "{",
            *self.taken(),
            "    const int64_t tiles = (B + together - 1) / together;",
            "    (void)threads;",
            "#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)",
            "    for (int64_t tile = 0; tile < tiles; tile++) {",
            "        const int64_t begin = tile * together, end = begin + together < B ? begin + together : B;",
        ]
        if ("work",) in self.given:
            body += [
                "#ifdef _OPENMP",
                "        float *work = work_of_all + omp_get_thread_num() * work_size;",
                "#else",
                "        float *work = work_of_all;",
                "#endif",
            ]
        if ("late room",) in self.given:
            body += [
                "#ifdef _OPENMP",
                *self.late.taken(2, "omp_get_thread_num()"),
                "#else",
                *self.late.taken(2, ""),
                "#endif",
            ]
        for name, (depth, _) in self.used.items():
            body.append(f"        int64_t {name}_at = {first.format(depth=depth)} % {name}_rows;")
        body += [f"        {loop}", *self.late.at_step, *self.lines]
        for name in self.used:
            body.append(f"            {'SNN_BEFORE' if reverse else 'SNN_AFTER'}({name});")
        body += ["        }", "    }", "}"]
        steps = [f.text for f in self.functions]
        helpers = [*helpers, self.late.helpers]
        parts = [header, PREAMBLE, *helpers, print_called(self.functions), *steps, *self.rows, "\n".join(body) + "\n"]
        return CycleSource(self.name, "\n".join(p for p in parts if p), tuple(self.given))

    def header(self, what: str, about: str) -> str:
        """The comment that a file begins with; ``what`` and ``about`` as for :meth:`file`."""
        width = max((len(n) for n, _, _ in self.given.values()), default=0)
        listed = "\n".join(f" *   {n:<{width}}  {safe(text)}" for n, _, text in self.given.values())
        steps = getattr(self.plan, "order", self.plan.steps)
        nodes = ", ".join(dict.fromkeys(s.name for s in steps if not isinstance(s, Copy)))
        return f"""/* {safe(self.plan.name)}: {what}. Generated by snncompile.
 *
 * Nodes: {safe(nodes)}.
 * {about}
 * A line of so many rows holds a signal over time, step after step, and begins again when it is full.
 *
 * The table `given` holds:
{listed}
 */
"""

    def taken(self) -> list[str]:
        """What a function begins with: everything in the table by its name."""
        lines = [_taken(i, n, kind) for i, (n, kind, _) in enumerate(self.given.values())]
        if ("random",) in self.given:
            lines += [
                "    const uint32_t seed_low = (uint32_t)random[0];",
                "    const uint32_t seed_high = (uint32_t)((uint64_t)random[0] >> 32);",
            ]
        return [*lines, *self.late.at_start]


def _taken(index: int, name: str, kind: str) -> str:
    if kind.endswith("*"):
        return f"    {kind}{name} = ({kind.strip()})(intptr_t)given[{index}];"
    return f"    const {kind}{name} = given[{index}];"

