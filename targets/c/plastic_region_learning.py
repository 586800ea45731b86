"""What a rule of a plastic region prints: either side of it, and of a dense connection its product and its change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from math import prod

from snncompile.ir.plasticity import FACTORS
from snncompile.ir.program import Program
from snncompile.targets.c.cycle_writer import CycleWriter, RowFunction
from snncompile.targets.c.plastic_kernel import bounded
from snncompile.targets.c.plastic_parts import print_every, print_learning, print_synapses
from snncompile.targets.c.plastic_product import PAD
from snncompile.targets.c.printer import Function, call_lines, print_function
from snncompile.targets.cycle_plan import Read
from snncompile.targets.plastic_plan import PlasticPlan, PlasticProduct
from snncompile.targets.plastic_rule import PlasticRule

_SIDES = {"before": "the input's side", "after": "the output's side", "synapse": "a synapse of one sequence"}
_FIXED_ROLES = ("mask", "sign")


def padded(outputs: int) -> int:
    """So many outputs, padded to whole vectors."""
    return -(-outputs // PAD) * PAD


def rows_of(w: CycleWriter, read: Read | int) -> tuple[str, str]:
    """Where the first sequence's values are, and how far those of the next."""
    if isinstance(read, Read):
        return w.row("line", *read, sequence="0"), str(w.plan.lines[read.line].size)
    return w.outside_rows(read)


class Learning(ABC):
    """One rule of the region, being printed.

    Attributes:
        outs: neurons of the output's side.
        ins: of the input's.
        wide: how far sequences of the output's factors are apart.
        deep: of the input's.
        texts: the functions that it calls.
    """

    def __init__(self, w: CycleWriter, plan: PlasticPlan, place: int) -> None:
        self.w, self.plan, self.learn = w, plan, plan.learns[place]
        self.rule: PlasticRule = plan.rules[self.learn.name]
        name, node = self.learn.name, self.rule.node
        self.outs, self.ins = prod(node.post), prod(node.pre)
        self.wide, self.deep = self.outs, self.ins
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
        self.held = [t.local for t in node.of_side("synapse")]
        heard = self.parts["synapse"].args if "synapse" in self.parts else ()
        signals = zip(node.signals, self.learn.signals, strict=True)
        self.signals = {s: read for s, read in signals if s in heard}
        self.texts: list[str] = []

    @abstractmethod
    def product(self, step: PlasticProduct) -> None:
        """The product of a step, a thread's part of it for all sequences."""

    @abstractmethod
    def begin(self) -> list[str]:
        """A thread's part of the weight."""

    @abstractmethod
    def update(self) -> None:
        """The change of a thread's part of the weight."""

    def end(self) -> list[str]:
        """What a thread does after the last step."""
        return []

    def _function(self, part: str, program: Program) -> Function:
        return print_function(self.w.new(f"{self.learn.name}_{part}"), program, f"One step of {_SIDES[part]}.")

    def _coefs(self, part: str, function: Function) -> list[str]:
        return [c for c in self.rule.coefs.get(part, ()) if c in function.args]

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

    def _coefficient(self, part: str, c: str) -> str:
        name = self.learn.name
        about = f"coefficient of {part} of {name}, one number"
        return self.w.pointer((f"coefficient of {part}", name, f"{part}_{c}"), f"{name}_{part}_{c}", about)

    def _passed(self, part: str, function: Function) -> list[str]:
        """The coefficients of a program, as its function takes them."""
        return [f"*{self._coefficient(part, c)}" for c in self._coefs(part, function)]

    @property
    def _fixed_read(self) -> list[str]:
        """Mask and sign, those that the update reads."""
        return [r for r in self.fixed if r in self.update_function.args]

    @property
    def _told(self) -> list[str]:
        """What the synapses are handed of the signals."""
        heard = [rows_of(self.w, read) for read in self.signals.values()]
        return [*(x for x, _ in heard), *(r for _, r in heard)]

    def _ends(self, step: PlasticProduct) -> tuple[str, str, str, str]:
        """Where the first sequence's values are that a product reads, how far those of the next, the bias, and where
        what it makes goes."""
        w = self.w
        bias = w.pointer(("bias", step.name), f"{step.name}_bias", f"bias of {step.name}, or nothing")
        return *rows_of(w, step.read), bias, w.row("line", step.line, sequence="0")


class DenseLearning(Learning):
    """A rule of a dense connection."""

    def __init__(self, w: CycleWriter, plan: PlasticPlan, place: int) -> None:
        super().__init__(w, plan, place)
        self.wide, self.deep = padded(self.outs), padded(self.ins)
        #: whether weights that nobody reaches are left out
        self.plain = "synapse" not in self.parts and not self.fixed
        self.texts = [self._text()]

    def _text(self) -> str:
        """The function of the update."""
        own, update = self.parts.get("synapse"), self.update_function
        coefs, fixed = self._coefs("update", update), self._fixed_read
        if own is not None:
            both = self._coefs("synapse", own), coefs
            return print_synapses(self.name, own, update, self.held, list(self.signals), both, fixed)
        if self.fixed:
            return print_every(self.name, update, coefs, fixed)
        return print_learning(self.name, update, coefs, bounded(self.rule))

    def product(self, step: PlasticProduct) -> None:
        """The product of a step, a thread's outputs for all sequences."""
        x, row, bias, to = self._ends(step)
        items = [f"&{self.block}", x, row, "B", str(self.ins), bias, to, str(self.outs), "&room"]
        self.w.call(3, "snn_block_product", items)

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

    def update(self) -> None:
        """The change of a thread's part of the weight."""
        w, own = self.w, self.block
        # rows of the weight are the inputs', so the output's side lies along them
        factors = [f"{self.factor('after', f)} + {own}.first" for f in FACTORS]
        factors += [self.factor("before", f) for f in FACTORS]
        update = self._passed("update", self.update_function)
        fixed = [self._turned(r) for r in self._fixed_read]
        head = [f"{own}.weight", f"{own}.wide", f"{own}.wide", str(self.wide)]
        w.line(3, f"if ({own}.m > 0) {{")
        if self.plain:
            items = [*head, str(self.deep), "B", str(self.ins), str(self.deep), *factors, f"{own}.columns"]
            items += [f"{own}.marks", "-1", *(f"{own}.{n}" for n in ("values", "marks", "still"))]
            w.call(4, f"{own}.still = {self.name}", [*items, f"&{own}.usual", f"&{own}.wild", *update])
        elif "synapse" in self.parts:
            items = [*head, str(self.ins), str(self.deep), "B", str(self.ins), *factors, f"{own}.values"]
            held = [self._turned(t, f"B * {own}.first") for t in self.held]
            items += [f"&{own}.wild", *held, *self._told, *fixed]
            w.call(4, self.name, [*items, *self._passed("synapse", self.parts["synapse"]), *update])
        else:
            items = [*head, str(self.deep), "B", str(self.ins), *factors, f"{own}.values", f"&{own}.wild"]
            w.call(4, self.name, [*items, *fixed, *update])
        if "mask" in self.fixed:
            w.lines += self._masked(4)
        w.line(3, "}")


def _silent(program: Program, unread: Sequence[str]) -> Program:
    """``program`` giving 0 for the factors that nobody reads."""
    return replace(program, outputs=tuple((n, 0.0 if n in unread else a) for n, a in program.outputs))
