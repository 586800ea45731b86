"""Elementwise programs: what a step function is once it has been traced.

A program is straight-line SSA over float32 and bool elements. It has no shapes: every value is one element, and a
target maps the program over however many neurons there are. ``ir/ops.py`` lists the operations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

#: The one pattern for names that reach generated code.
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,119}\Z")

Arg = str | float | bool
"""An operand: the name of a value, or a constant (already rounded to float32)."""

MAX_OPS = 20_000


@dataclass(frozen=True)
class Op:
    """One operation: ``name = op(args)``.

    Attributes:
        name: the value defined, unique in its program.
        op: a key of :data:`snncompile.ir.ops.OPS`.
        args: operands.
        where: ``file:line`` of the source that this came from, or "".
    """

    name: str
    op: str
    args: tuple[Arg, ...]
    where: str = ""


@dataclass(frozen=True)
class Program:
    """``inputs -> outputs`` by a list of operations in order.

    Attributes:
        inputs: names of the values given.
        ops: operations; each uses inputs and earlier results only.
        outputs: pairs of output name and the operand it is.
    """

    inputs: tuple[str, ...]
    ops: tuple[Op, ...]
    outputs: tuple[tuple[str, Arg], ...]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(name for name, _ in self.outputs)

    def output(self, name: str) -> Arg:
        """The operand that output ``name`` is."""
        return dict(self.outputs)[name]

    def renamed(self, rename: Callable[[str], str]) -> Program:
        """The same program with every value (not output) name passed through ``rename``."""
        return substitute(self, rename=rename)

    def select(self, outputs: Iterable[str]) -> Program:
        """The program that computes only ``outputs`` (dead operations removed)."""
        wanted = set(outputs)
        return dce(replace(self, outputs=tuple(pair for pair in self.outputs if pair[0] in wanted)))


def dce(program: Program) -> Program:
    """Without the operations that no output needs."""
    live = {arg for _, arg in program.outputs if isinstance(arg, str)}
    kept: list[Op] = []
    for op in reversed(program.ops):
        if op.name in live:
            kept.append(op)
            live.update(arg for arg in op.args if isinstance(arg, str))
    return replace(program, ops=tuple(reversed(kept)))


def cse(program: Program) -> Program:
    """With each expression computed once. Constants compare by their bits, so ``0.0`` and ``-0.0`` differ."""
    seen: dict[tuple, str] = {}
    alias: dict[str, Arg] = {}
    ops: list[Op] = []
    for op in program.ops:
        args = tuple(alias.get(a, a) if isinstance(a, str) else a for a in op.args)
        key = (op.op, *(_key(a) for a in args))
        if key in seen:
            alias[op.name] = seen[key]
        else:
            seen[key] = op.name
            ops.append(replace(op, args=args))
    outputs = tuple((n, alias.get(a, a) if isinstance(a, str) else a) for n, a in program.outputs)
    return Program(program.inputs, tuple(ops), outputs)


def _key(arg: Arg) -> tuple:
    if isinstance(arg, float):
        return ("const", arg.hex() if not math.isnan(arg) else "nan", math.copysign(1.0, arg))
    return (type(arg).__name__, arg)


def substitute(
    program: Program, values: Mapping[str, Arg] | None = None, rename: Callable[[str], str] = lambda n: n
) -> Program:
    """Replace inputs by operands (they leave the input list) and pass the other value names through ``rename``."""
    table: dict[str, Arg] = dict(values or {})
    inputs = tuple(rename(n) for n in program.inputs if n not in table)
    table.update((n, rename(n)) for n in program.inputs if n not in table)
    ops = []
    for op in program.ops:
        args = tuple(table[a] if isinstance(a, str) else a for a in op.args)
        table[op.name] = rename(op.name)
        ops.append(replace(op, name=rename(op.name), args=args))
    outputs = tuple((n, table[a] if isinstance(a, str) else a) for n, a in program.outputs)
    return Program(inputs, tuple(ops), outputs)


def simplify(program: Program) -> Program:
    """Common subexpressions once, dead operations removed."""
    return dce(cse(program))


def unused(base: str, taken: set[str]) -> str:
    """``base``, or the first free one of ``base_1``, ``base_2``, ...; it is added to ``taken``."""
    name, k = base, 0
    while name in taken:
        k += 1
        name = f"{base}_{k}"
    taken.add(name)
    return name
