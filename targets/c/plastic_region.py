"""Prints the function that runs a plastic region: a loop over time around products, neurons and learning.

Threads share a step in phases, with a barrier between them: products with weights that change, and the change itself,
by outputs; everything else by sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from snncompile.ir.plasticity import FACTORS
from snncompile.ir.program import Program
from snncompile.targets.c.cycle_forward import lag_names, print_neurons, print_sparse
from snncompile.targets.c.cycle_images import helpers, mask_forward
from snncompile.targets.c.cycle_source import LINES, SPARSE
from snncompile.targets.c.cycle_writer import CycleSource, CycleWriter, RowFunction
from snncompile.targets.c.kernel import PREAMBLE
from snncompile.targets.c.plastic_kernel import bounded
from snncompile.targets.c.plastic_parts import print_every, print_learning, print_synapses
from snncompile.targets.c.plastic_product import NAMES as PRODUCT_NAMES
from snncompile.targets.c.plastic_product import PAD, PRODUCT
from snncompile.targets.c.plastic_region_source import FIXED, MASKED, REGION
from snncompile.targets.c.plastic_region_source import NAMES as REGION_NAMES
from snncompile.targets.c.plastic_source import NAMES as LEARNING_NAMES
from snncompile.targets.c.plastic_source import TAKING_PART
from snncompile.targets.c.printer import Function, call_lines, print_called, print_function
from snncompile.targets.c.products import EVENTS
from snncompile.targets.cycle_plan import Copy, Mask, Neurons, Product, Read
from snncompile.targets.plastic_plan import Learn, PlasticPlan, PlasticProduct
from snncompile.targets.plastic_rule import PlasticRule

#: Argument types of every function: the table, T, B, threads.
TYPES = "pqqi"

_SIDES = {"before": "the input's side", "after": "the output's side", "synapse": "a synapse of one sequence"}
_FIXED_ROLES = ("mask", "sign")


class RegionForward(NamedTuple):
    """A function of a plastic region.

    Attributes:
        scalar: per elementwise node and coefficient, whether that is one number for all neurons.
        live: the lines that anybody reads.
        sums: what is summed over time.
    """

    scalar: tuple[tuple[bool, ...], ...]
    live: tuple[int, ...]
    sums: tuple[Read, ...] = ()


def padded(outputs: int) -> int:
    """So many outputs, padded to whole vectors."""
    return -(-outputs // PAD) * PAD


def print_plastic_region(plan: PlasticPlan, variant: RegionForward) -> CycleSource:
    """The file with the function of a plastic region."""
    return _Printer(plan, variant).print()


class _Printer:
    def __init__(self, plan: PlasticPlan, variant: RegionForward) -> None:
        self.plan, self.variant = plan, variant
        names = f"{PRODUCT_NAMES} {LEARNING_NAMES} {REGION_NAMES}"
        self.w = CycleWriter(plan, f"{plan.name}_forward", writes_lines=True, locals=names)
        self.scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
        self.learning = [_Learning(self.w, plan, i) for i in range(len(plan.learns))]
        self.fixed = [s for s in plan.steps if isinstance(s, Product) and not s.sparse]
        self.by_blocks: bool | None = None  # how the last phase was shared
        self.made: set[int] = set()  # lines that a part of is made in this phase

    def print(self) -> CycleSource:
        w, plan = self.w, self.plan
        for step in plan.order:
            if isinstance(step, PlasticProduct):
                if step.line in self.variant.live:
                    self._phase(True)
                    self._product(step)
                continue
            self._phase(False)
            if isinstance(step, Learn):
                self.learning[plan.learns.index(step)].sides()
            elif isinstance(step, Neurons):
                print_neurons(w, step, self.scalar[step.name], self.variant.live)
            elif isinstance(step, Copy):
                size = plan.lines[step.line].size
                w.each_sequence(3, "snn_copy", [w.row("line", step.line), w.row("line", *step.read), str(size)])
            elif isinstance(step, Mask):
                mask_forward(w, step)
            elif isinstance(step, Product) and step.sparse:
                print_sparse(w, step)
            elif isinstance(step, Product):
                self._fixed(step)
        for i, read in enumerate(self.variant.sums):
            self._phase(False)
            size = plan.lines[read.line].size
            total = w.pointer(("sum", i), f"{w.stems[read.line]}_sum", "sum over time, (B, N)", "float")
            w.each_sequence(3, "snn_add", [f"{total} + b * {size}", w.row("line", *read), str(size)])
        self._phase(True)
        for learning in self.learning:
            learning.update()
        w.line(0, "#pragma omp barrier")
        w.random(w.functions)
        return CycleSource(w.name, self._file(), tuple(w.given), TYPES)

    def _phase(self, by_blocks: bool) -> None:
        """Wait for the others where the work is shared in another way from here on."""
        if self.by_blocks not in (None, by_blocks):
            self.w.line(0, "#pragma omp barrier")
            self.made.clear()
        self.by_blocks = by_blocks

    def _product(self, step: PlasticProduct) -> None:
        w, learning = self.w, self.learning[step.rule]
        if isinstance(step.read, Read) and step.read.line in self.made:
            w.line(0, "#pragma omp barrier")
        self.made.add(step.line)
        x, row = rows_of(w, step.read)
        bias = w.pointer(("bias", step.name), f"{step.name}_bias", f"bias of {step.name}, or nothing")
        to = w.row("line", step.line, sequence="0")
        items = [f"&{learning.block}", x, row, "B", str(learning.ins), bias, to, str(learning.outs), "&room"]
        w.call(3, "snn_block_product", items)

    def _fixed(self, step: Product) -> None:
        w, plan = self.w, self.plan
        ins, outs = plan.lines[step.read.line].size, plan.lines[step.line].size
        wide, key = padded(outs), (step.name, step.part)
        lags, count = lag_names(w, step)
        weight = w.pointer(("weight", *key), f"{step.name}_weight", f"weight of {step.name}, (lags, in, {wide})")
        about = f"whether a weight of {step.name} is infinite or none"
        wild = w.number(("wild", *key), f"{step.name}_wild", about)
        bias = w.pointer(("bias", *key), f"{step.name}_bias", f"bias of {step.name}, or nothing")
        out = w.row("line", step.line)
        w.each_sequence(3, "snn_fill", [out, "0.0f", str(outs)])
        w.line(3, f"for (int64_t l = 0; l < {count}; l++)")
        x = w.row("line", step.read.line, f"{lags}[l]")
        items = [x, f"{weight} + l * {ins * wide}", str(ins), str(outs), str(wide), f"(int){wild}", "B == 1", "l > 0"]
        w.each_sequence(4, "snn_fixed_row", [*items, "&room", out])
        w.line(3, f"if ({bias})")
        w.each_sequence(4, "snn_add", [out, bias, str(outs)])

    def _room(self) -> list[str]:
        """A thread's room for products."""
        w, (outs, ins) = self.w, most(self.plan)
        numbers = w.pointer(("product numbers",), "product_numbers", "scratch of products", "float")
        marks = w.pointer(("product marks",), "product_marks", "scratch of products", "int32_t")
        identity = w.pointer(("identity",), "identity", "0, 1, 2, ...", "const int32_t")
        lanes = f"{numbers} + rank * (SUMS * CHUNK + {outs + ins})"
        return [
            f"        float *lanes = {lanes}, *found = lanes + SUMS * CHUNK, *now = found + {ins};",
            f"        const struct snn_room room = {{lanes, found, now, {marks} + rank * {ins}, {identity}}};",
        ]

    def _file(self) -> str:
        w = self.w
        room = self._room()
        blocks = [line for learning in self.learning for line in learning.begin()]
        header = w.header(
            "over a whole sequence",
            """Threads share each step: products with weights that change, and the change itself, by outputs, all else
 * by sequences. Products sum in the order that every target keeps, and leave out what is zero.""",
        )
        body = [
            *call_lines(f"void {w.name}", ["const int64_t *given", "int64_t T", "int64_t B", "int threads"]),
            "{",
            *w.taken(),
            "    (void)threads;",
            "#pragma omp parallel num_threads(threads) if (threads > 1)",
            "    {",
            "#ifdef _OPENMP",
            "        const int64_t rank = omp_get_thread_num(), team = omp_get_num_threads();",
            "#else",
            "        const int64_t rank = 0, team = 1;",
            "#endif",
            "        const int64_t begin = rank * B / team, end = (rank + 1) * B / team;",
            *room,
            *blocks,
            *(f"        int64_t {name}_at = {depth} % {name}_rows;" for name, (depth, _) in w.used.items()),
            "        (void)begin, (void)end, (void)room;",
            "        for (int64_t t = 0; t < T; t++) {",
            *w.lines,
            *(f"            SNN_AFTER({name});" for name in w.used),
            "        }",
            *(line for learning in self.learning for line in learning.end()),
            "    }",
            "}",
        ]
        functions = [*w.functions, *(f for learning in self.learning for f in learning.functions)]
        parts = [
            header, PREAMBLE, LINES, EVENTS, PRODUCT, TAKING_PART if any(g.plain for g in self.learning) else "",
            SPARSE, REGION, MASKED if any("mask" in g.fixed for g in self.learning) else "",
            FIXED if self.fixed else "", *helpers(self.plan, forward=True), print_called(functions),
            *(f.text for f in functions), *w.rows,
            *(text for learning in self.learning for text in learning.texts), "\n".join(body) + "\n",
        ]  # fmt: skip
        return "\n".join(p for p in parts if p)


def most(plan: PlasticPlan) -> tuple[int, int]:
    """The most outputs, padded, and inputs, and one, of a dense product."""
    fixed = [s for s in plan.steps if isinstance(s, Product) and not s.sparse]
    outs = [plan.lines[s.line].size for s in fixed] + [r.node.weight.shape[0] for r in plan.rules.values()]
    ins = [plan.lines[s.read.line].size for s in fixed] + [r.node.weight.shape[1] for r in plan.rules.values()]
    return padded(max(outs)), max(ins) + 1


def rows_of(w: CycleWriter, read: Read | int) -> tuple[str, str]:
    """Where the first sequence's values are, and how far those of the next."""
    if isinstance(read, Read):
        return w.row("line", *read, sequence="0"), str(w.plan.lines[read.line].size)
    name, step, row = w.outside_names(read)
    return f"{name} + t * {step}", row


class _Learning:
    """One rule of the region, being printed."""

    def __init__(self, w: CycleWriter, plan: PlasticPlan, place: int) -> None:
        self.w, self.plan, self.learn = w, plan, plan.learns[place]
        self.rule: PlasticRule = plan.rules[self.learn.name]
        name, node = self.learn.name, self.rule.node
        self.outs, self.ins = node.weight.shape
        self.wide, self.deep = padded(self.outs), padded(self.ins)
        self.block, self.name = w.new(f"{name}_block"), w.new(f"{name}_learn")
        for part in ("some", "rest", "many", "sum"):
            w.new(f"{self.name}_{part}")
        programs = self.rule.programs
        read = {a for op in programs["update"].ops for a in op.args} | {a for _, a in programs["update"].outputs}
        unread = [] if "synapse" in programs else [f for f in FACTORS if f not in read]
        self.parts = {
            part: self._function(part, _silent(programs[part], unread) if part != "synapse" else programs[part])
            for part in _SIDES
            if part in programs
        }
        self.update_function = print_function(
            w.new(f"{name}_update"), programs["update"], "A new weight.", bare=True, bounds=self.rule.coefs["update"]
        )
        self.functions: list[Function] = [*self.parts.values(), self.update_function]
        self.fixed = [r for r in _FIXED_ROLES if r in node.params]
        #: whether weights that nobody reaches are left out
        self.plain = "synapse" not in programs and not self.fixed
        self.held = [t.local for t in node.of_side("synapse")]
        heard = self.parts["synapse"].args if "synapse" in self.parts else ()
        signals = zip(node.signals, self.learn.signals, strict=True)
        self.signals = {s: read for s, read in signals if s in heard}
        self.texts = [self._text()]

    def _function(self, part: str, program: Program) -> Function:
        return print_function(self.w.new(f"{self.learn.name}_{part}"), program, f"One step of {_SIDES[part]}.")

    def _coefs(self, part: str, function: Function) -> list[str]:
        return [c for c in self.rule.coefs.get(part, ()) if c in function.args]

    def _text(self) -> str:
        """The function of the update."""
        own, update = self.parts.get("synapse"), self.update_function
        coefs = self._coefs("update", update)
        fixed = [r for r in self.fixed if r in update.args]
        if own is not None:
            both = self._coefs("synapse", own), coefs
            return print_synapses(self.name, own, update, self.held, list(self.signals), both, fixed)
        if self.fixed:
            return print_every(self.name, update, coefs, fixed)
        return print_learning(self.name, update, coefs, bounded(self.rule))

    def _pointer(self, what: str, about: str, kind: str = "float") -> str:
        name = self.learn.name
        return self.w.pointer((what, name), f"{name}_{what.replace(' ', '_')}", about, kind)

    def factor(self, side: str, factor: str) -> str:
        """The factors of one side."""
        about = f"scratch: factors of {self.learn.name}, (B, {self.deep if side == 'before' else self.wide})"
        return self._pointer(f"{side} {factor}", about)

    def sides(self) -> None:
        """One step of either side: traces and factors."""
        learn = self.learn
        ends = (
            ("before", learn.pre, learn.pre_traces, self.ins, self.deep),
            ("after", learn.post, learn.post_traces, self.outs, self.wide),
        )
        for part, read, lines, size, step in ends:
            self._side(part, read, lines, size, step)

    def _side(self, part: str, read: Read | int, lines: Sequence[int], size: int, step: int) -> None:
        w, function, name = self.w, self.parts[part], self.learn.name
        f = RowFunction(w.new(f"{name}_{part}_row"))
        values: dict[str, str] = {}
        if "z" in function.args:
            x, row = rows_of(w, read)
            values["z"] = f"{f.pointer('z', f'{x} + b * {row}')}[j]"
        for c in self._coefs(part, function):
            values[c] = w.coefficient(f, name, f"{part}_{c}", True, f"coefficient of {part}")
        side = {"before": "pre", "after": "post"}[part]
        traces = [t.local for t in self.rule.node.of_side(side)]
        ends = {}
        for t, line in zip(traces, lines, strict=True):
            if t in function.args:
                values[t] = f"{f.pointer(f'{t}_before', w.row('line', line, 1))}[j]"
            ends[t] = f.pointer(f"{t}_after", w.row("line", line), write=True)
        for factor in FACTORS:
            ends[factor] = f.pointer(factor, f"{self.factor(part, factor)} + b * {step}", write=True)
        made = {r: f.names.new(f"{r}_new") for r in function.results}
        f.call(function, values, made)
        for r, pointer in ends.items():
            f.line(2, f"{pointer}[j] = {made[r]};")
        w.rows.append(f.text(f"One step of one sequence of {name}: {_SIDES[part]}."))
        w.each_sequence(3, f.name, [*f.passed, str(size)])

    def begin(self) -> list[str]:
        """A thread's part of the weight."""
        name, turned = self.learn.name, f"turned: blocks of ({self.ins}, outputs)"
        items = [
            "rank", "team", str(self.outs), str(self.ins), str(self.wide), str(self.deep),
            self._pointer("weight", f"weight of {name}, ({self.outs}, {self.ins}), read and written"),
            self._pointer("turned", f"scratch: the same {turned}"),
            self._pointer("columns", f"scratch: weights of some outputs, ({self.wide}, {self.deep})"),
            self._pointer("numbers", f"scratch, (threads, {2 * max(self.wide, self.deep)})"),
            self._pointer("marks", f"scratch, (threads, {3 * self.wide + 2 * self.deep + 1})", "int32_t"),
            "&room",
        ]  # fmt: skip
        lines = call_lines(f"struct snn_block {self.block} = snn_block_of", items, 2, ";")
        for c in self.rule.coefs["update"]:
            lines.append(f"        {self.block}.wild |= snn_wild({self._coefficient('update', c)}, 1);")
        for r in self.fixed:
            items = [f"&{self.block}", str(self.ins), self._rows(r), "&room", self._turned(r)]
            lines += call_lines("snn_turn", items, 2, ";")
        if "mask" in self.fixed:
            lines += self._masked(2)
        for t in self.held:
            items = [f"&{self.block}", str(self.ins), self._rows(f"{t} trace", True), "&room", self._of_sequence(t)]
            lines += ["        for (int64_t b = 0; b < B; b++)", *call_lines("snn_turn", items, 3, ";")]
        return lines

    def end(self) -> list[str]:
        """What a thread does after the last step: its part goes back where it came from."""
        own, ins = self.block, str(self.ins)
        size = [f"{own}.m", f"{own}.wide"]
        lines = [f"        if ({own}.m > 0) {{"]
        items = [self._rows("weight"), ins, "room.identity", ins, *size, f"{own}.weight"]
        lines += call_lines("snn_put_columns", items, 3, ";")
        for t in self.held:
            items = [self._rows(f"{t} trace", True), ins, "room.identity", ins, *size, self._of_sequence(t)]
            lines += ["            for (int64_t b = 0; b < B; b++)", *call_lines("snn_put_columns", items, 4, ";")]
        return [*lines, "        }"]

    def _rows(self, what: str, batch: bool = False) -> str:
        """A thread's rows of the weight or something like it, of sequence b."""
        kind = "float" if batch or what == "weight" else "const float"
        shape = f"({'B, ' if batch else ''}{self.outs}, {self.ins}){', read and written' if kind == 'float' else ''}"
        pointer = self._pointer(what, f"{what} of {self.learn.name}, {shape}", kind)
        row = f"(b * {self.outs} + {self.block}.first)" if batch else f"{self.block}.first"
        return f"{pointer} + {row} * {self.ins}"

    def _turned(self, what: str, place: str = "") -> str:
        """Where these are turned; ``place``: the column, but for a weight of a thread's own."""
        pointer = self._pointer(f"turned {what}", f"scratch: {what} of {self.learn.name}, turned")
        return f"{pointer} + {place or f'{self.block}.first'} * {self.ins}"

    def _of_sequence(self, trace: str) -> str:
        """Where a sequence's trace of synapses is turned."""
        return self._turned(trace, f"(B * {self.block}.first + b * {self.block}.wide)")

    def _masked(self, depth: int) -> list[str]:
        mask = self._turned("mask")
        seen = self._pointer("seen", "scratch: the weight times its mask")
        return call_lines("snn_seen", [f"&{self.block}", str(self.ins), mask, seen], depth, ";")

    def _coefficient(self, part: str, c: str) -> str:
        name = self.learn.name
        about = f"coefficient of {part} of {name}, one number"
        return self.w.pointer((f"coefficient of {part}", name, f"{part}_{c}"), f"{name}_{part}_{c}", about)

    def update(self) -> None:
        """The change of a thread's part of the weight."""
        w, own = self.w, self.block
        # rows of the weight are the inputs', so the output's side lies along them
        factors = [f"{self.factor('after', f)} + {own}.first" for f in FACTORS]
        factors += [self.factor("before", f) for f in FACTORS]
        update = [f"*{self._coefficient('update', c)}" for c in self._coefs("update", self.update_function)]
        fixed = [self._turned(r) for r in self.fixed if r in self.update_function.args]
        head = [f"{own}.weight", f"{own}.wide", f"{own}.wide", str(self.wide)]
        w.line(3, f"if ({own}.m > 0) {{")
        if self.plain:
            items = [*head, str(self.deep), "B", str(self.ins), str(self.deep), *factors, f"{own}.columns"]
            items += [f"{own}.marks", "-1", *(f"{own}.{n}" for n in ("values", "marks", "still"))]
            w.call(4, f"{own}.still = {self.name}", [*items, f"&{own}.usual", f"&{own}.wild", *update])
        elif "synapse" in self.parts:
            items = [*head, str(self.ins), str(self.deep), "B", str(self.ins), *factors, f"{own}.values"]
            held = [self._turned(t, f"B * {own}.first") for t in self.held]
            heard = [rows_of(w, read) for read in self.signals.values()]
            coefs = self._coefs("synapse", self.parts["synapse"])
            items += [f"&{own}.wild", *held, *(x for x, _ in heard), *(r for _, r in heard)]
            synapse = [f"*{self._coefficient('synapse', c)}" for c in coefs]
            w.call(4, self.name, [*items, *fixed, *synapse, *update])
        else:
            items = [*head, str(self.deep), "B", str(self.ins), *factors, f"{own}.values", f"&{own}.wild"]
            w.call(4, self.name, [*items, *fixed, *update])
        if "mask" in self.fixed:
            w.lines += self._masked(4)
        w.line(3, "}")


def _silent(program: Program, unread: Sequence[str]) -> Program:
    """``program`` giving 0 for the factors that nobody reads."""
    return replace(program, outputs=tuple((n, 0.0 if n in unread else a) for n, a in program.outputs))
