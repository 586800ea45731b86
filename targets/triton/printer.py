"""Prints elementwise programs as Triton device functions.

One line an operation, in IEEE float32: no fused multiply-add (kernels are compiled with ``enable_fp_fusion=False``),
correctly rounded division and square root, minimum and maximum that propagate NaN. Only functions of Triton's core are
used, never its own ``@jit`` library, so that the same text runs in Triton's interpreter.
"""

from __future__ import annotations

import builtins
import keyword
import math
from collections.abc import Iterable
from dataclasses import dataclass

from snncompile.ir.definitions import definition
from snncompile.ir.exact import COMPOSITE
from snncompile.ir.program import Arg, Op, Program
from snncompile.ir.random import MULTIPLIERS, ROUNDS, UNIFORM, WEYL, draw_of
from snncompile.targets.printing import DRAWN, INFIX, Names, check_printable, comment, fold, function_args

#: Names that generated Python may not give to anything else.
RESERVED = frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins)) | {"tl", "triton"}

_NAN_WINS = "propagate_nan=tl.PropagateNan.ALL"
_LINES = {
    **INFIX,
    "div": "tl.div_rn({0}, {1})",
    "min": f"tl.minimum({{0}}, {{1}}, {_NAN_WINS})",
    "max": f"tl.maximum({{0}}, {{1}}, {_NAN_WINS})",
    "neg": "{0} * -1.0",  # Triton's own minus is 0 - x, which loses the sign of zero
    "abs": "tl.abs({0})",
    "floor": "snn_floor({0})",
    "ceil": "snn_floor({0} * -1.0) * -1.0",
    "sqrt": "tl.sqrt_rn({0})",
    "exp2i": "(({0}.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)",
    "not": "~{0}",
    "where": "tl.where({0}, {1}, {2})",
    "float": "{0}.to(tl.float32)",
}
# tl.floor becomes NVIDIA's library function, which Triton compiles to flush subnormal numbers: floor(-1e-40) would be 0
_FLOOR = '''@triton.jit
def snn_floor(x):
    """The largest whole number not above x, subnormal numbers not flushed."""
    cut = x.to(tl.int32).to(tl.float32)
    below = tl.where(cut > x, cut - 1.0, cut)
    # from 2**23 on every float is whole; NaN and -0.0 stay what they are
    return tl.where((tl.abs(x) < 8388608.0) & (cut != x), below, x)
'''
_UNIFORM = f'''@triton.jit
def snn_uniform(k, m, b, a, stream: tl.constexpr, block: tl.constexpr, word: tl.constexpr):
    """A random number in [0, 1): Philox 4x32-10, keyed by the seed (k, m), of the counter a, b, stream, block."""
    c = tl.full((), stream, tl.uint32)
    d = tl.full((), block, tl.uint32)
    for _ in tl.static_range({ROUNDS}):
        p = a.to(tl.uint64) * {MULTIPLIERS[0]:#x}
        q = c.to(tl.uint64) * {MULTIPLIERS[1]:#x}
        a = (q >> 32).to(tl.uint32) ^ b ^ k
        b = q.to(tl.uint32)
        c = (p >> 32).to(tl.uint32) ^ d ^ m
        d = p.to(tl.uint32)
        k = k + tl.full((), {WEYL[0]:#x}, tl.uint32)
        m = m + tl.full((), {WEYL[1]:#x}, tl.uint32)
    words = (a, b, c, d)
    return (words[word] >> 8).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08
'''
_SMALLEST_NORMAL = 2.0**-126
_CALLED = {*COMPOSITE, "floor", "ceil", UNIFORM}
#: What a function that draws takes in place of :data:`~snncompile.targets.printing.DRAWN`, each 32 bits.
DRAWN_ARGUMENTS = ("seed_low", "seed_high", "moment", "element")

#: Names of the device functions that stand for operations.
FUNCTION_NAMES = frozenset(f"snn_{op}" for op in (*COMPOSITE, "floor", UNIFORM))


@dataclass(frozen=True)
class Function:
    """A printed device function.

    Attributes:
        name: its name.
        args: the program's inputs it takes, in order: those that it uses.
        results: the program's outputs it returns, in order.
        constants: outputs that are constants; the function does not return them.
        flat: outputs that are one number for all neurons (made of scalar coefficients alone).
        text: its source.
        calls: operations that are functions of their own.
        size: its operations, those of the functions it calls included.
    """

    name: str
    args: tuple[str, ...]
    results: tuple[str, ...]
    constants: dict[str, float]
    flat: frozenset[str]
    text: str
    calls: tuple[str, ...]
    size: int


def literal(value: float) -> str:
    """Python source of a float32 constant, exact."""
    if math.isnan(value) or math.isinf(value):
        return f'float("{value}")'
    if value == 0.0 and math.copysign(1.0, value) < 0.0:
        return "tl.full((), -2147483648, tl.int32).to(tl.float32, bitcast=True)"  # a bare -0.0 would become 0.0
    if 0.0 < abs(value) < _SMALLEST_NORMAL:
        return f"tl.full((), {value!r}, tl.float32)"  # Triton would make a bare subnormal number a float64
    return repr(value)


def print_function(
    name: str, program: Program, about: str, scalars: Iterable[str] = (), bare: bool = False
) -> Function:
    """Print ``program`` as the device function ``name``.

    Args:
        name: its name, a valid identifier.
        program: what it computes.
        about: its docstring, one line.
        scalars: inputs that are one number for all neurons.
        bare: return the only result itself rather than a tuple.
    """
    check_printable(program, name)
    program = fold(program)
    args = function_args(program)
    constants = {n: a for n, a in program.outputs if isinstance(a, float)}
    results = tuple(n for n, a in program.outputs if isinstance(a, str))
    names = Names([*RESERVED, *FUNCTION_NAMES, *DRAWN_ARGUMENTS, name])
    table: dict[Arg, str] = {n: names.new(n) for n in args if n != DRAWN}
    parameters = [*table.values(), *(DRAWN_ARGUMENTS if DRAWN in args else ())]
    flat = {n for n in args if n in set(scalars)}
    lines = ["@triton.jit", f"def {name}({', '.join(parameters)}):", f'    """{comment(about)}"""']
    where = ""
    for op in program.ops:
        if op.where != where:
            lines.append(f"    # {comment(op.where) or 'the gradient of the lines above'}")
            where = op.where
        operands = [table[a] if isinstance(a, str) else _constant(a) for a in op.args]
        table[op.name] = names.new(op.name)
        made = _uniform(op) if op.op == UNIFORM else _expression(op.op, operands)
        lines.append(f"    {table[op.name]} = {made}")
        if op.op != UNIFORM and all(a in flat for a in op.args if isinstance(a, str)):
            flat.add(op.name)
    values = [table[a] for _, a in program.outputs if isinstance(a, str)]
    tail = "," if len(values) == 1 else ""
    lines.append(f"    return {values[0]}" if bare else f"    return ({', '.join(values)}{tail})")
    calls = tuple(sorted({op.op for op in program.ops if op.op in _CALLED}))
    uniform = frozenset(n for n, a in program.outputs if a in flat)
    return Function(name, args, results, constants, uniform, "\n".join(lines) + "\n", calls, _size(program))


def _size(program: Program) -> int:
    sizes = {UNIFORM: 10 * ROUNDS}
    return sum(len(definition(op.op).ops) if op.op in COMPOSITE else sizes.get(op.op, 1) for op in program.ops)


def print_called(functions: Iterable[Function]) -> str:
    """The device functions of all operations that ``functions`` call."""
    called = {call for function in functions for call in function.calls}
    composites = [
        print_function(f"snn_{op}", definition(op), f"{op}, the same bits on every target.", bare=True)
        for op in sorted(called & COMPOSITE.keys())
    ]
    needs_floor = called | {call for function in composites for call in function.calls}
    floor = [_FLOOR] if needs_floor & {"floor", "ceil"} else []
    uniform = [_UNIFORM] if UNIFORM in called else []
    return "\n\n".join([*floor, *uniform, *(function.text for function in composites)])


def _uniform(op: Op) -> str:
    draw = draw_of(op)
    return f"snn_uniform({', '.join(DRAWN_ARGUMENTS)}, {draw.stream:#x}, {draw.block}, {draw.word})"


def _constant(value: float | bool) -> str:
    return repr(value) if isinstance(value, bool) else literal(value)


def _expression(op: str, operands: list[str]) -> str:
    if op in COMPOSITE:
        return f"snn_{op}({operands[0]})"
    # a sign would bind to what stands before it: `--1.0`, `-1.0.to(...)`
    operands = [f"({a})" if a.startswith("-") else a for a in operands]
    return _LINES[op].format(*operands)
