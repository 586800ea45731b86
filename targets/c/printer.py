"""Prints elementwise programs as C99 functions.

One line an operation, in IEEE float32: files are compiled without contraction to fused multiply-adds, minimum and
maximum propagate NaN. Everything is written so that a loop around it can be vectorised: selections instead of
branches, and no call into the mathematical library that has no instruction of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from snncompile.ir.definitions import definition
from snncompile.ir.exact import COMPOSITE
from snncompile.ir.ops import OPS
from snncompile.ir.program import Arg, Op, Program
from snncompile.ir.random import MULTIPLIERS, ROUNDS, UNIFORM, WEYL, draw_of
from snncompile.targets.printing import DRAWN, INFIX, Names, check_printable, comment, fold, function_args

_KEYWORDS = """auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm typeof
bool true false main sqrtf floorf ceilf fabsf int32_t int64_t uint32_t size_t"""
#: Names that generated C may not give to anything else.
RESERVED = frozenset(_KEYWORDS.split())

_LINES = {
    **INFIX,
    "div": "{0} / {1}",
    "min": "snn_min({0}, {1})",
    "max": "snn_max({0}, {1})",
    "at_most": "snn_at_most({0}, {1})",
    "at_least": "snn_at_least({0}, {1})",
    "neg": "-{0}",
    "abs": "fabsf({0})",
    "floor": "floorf({0})",
    "ceil": "ceilf({0})",
    "sqrt": "sqrtf({0})",
    "exp2i": "snn_exp2i({0})",
    "not": "!{0}",
    "where": "{0} ? {1} : {2}",
    "float": "{0} ? 1.0f : 0.0f",
}
_HELPERS = {
    "min": """/* The smaller of two numbers; NaN if one of them is. */
SNN_INLINE float snn_min(float a, float b)
{
    const float least = a < b ? a : b; /* b where b is NaN */
    return a != a ? a : least;
}
""",
    "max": """/* The larger of two numbers; NaN if one of them is. */
SNN_INLINE float snn_max(float a, float b)
{
    const float most = a > b ? a : b; /* b where b is NaN */
    return a != a ? a : most;
}
""",
    "at_most": """/* As snn_min, with a bound that is the same all along a loop: only asked once whether it is NaN. */
SNN_INLINE float snn_at_most(float a, float bound)
{
    const float least = a >= bound ? bound : a; /* a where it is NaN */
    return bound != bound ? bound : least;
}
""",
    "at_least": """/* As snn_max, with a bound that is the same all along a loop: only asked once whether it is NaN. */
SNN_INLINE float snn_at_least(float a, float bound)
{
    const float most = a <= bound ? bound : a; /* a where it is NaN */
    return bound != bound ? bound : most;
}
""",
    "exp2i": """/* 2 to the power of a whole number from -126 to 127, by writing the exponent. */
SNN_INLINE float snn_exp2i(float n)
{
    union { uint32_t bits; float value; } power;
    power.bits = ((uint32_t)(int32_t)n + 127u) << 23;
    return power.value;
}
""",
    "uniform": f"""/* A random number in [0, 1): Philox 4x32-10, keyed by the seed (k, m), of the counter a, b, c, d. */
#define SNN_ROUND(a, b, c, d, k, m) do {{ \\
    const uint64_t p_ = (uint64_t)0x{MULTIPLIERS[0]:X}u * a, q_ = (uint64_t)0x{MULTIPLIERS[1]:X}u * c; \\
    a = (uint32_t)(q_ >> 32) ^ b ^ k; \\
    b = (uint32_t)q_; \\
    c = (uint32_t)(p_ >> 32) ^ d ^ m; \\
    d = (uint32_t)p_; \\
    k += 0x{WEYL[0]:X}u; \\
    m += 0x{WEYL[1]:X}u; \\
}} while (0)
SNN_INLINE float snn_uniform(
    uint32_t k, uint32_t m, uint32_t b, uint32_t a, uint32_t c, uint32_t d, int word)
{{
{"".join("    SNN_ROUND(a, b, c, d, k, m);" + chr(10) for _ in range(ROUNDS))}\
    const uint32_t bits = word == 0 ? a : word == 1 ? b : word == 2 ? c : d;
    return (float)(int32_t)(bits >> 8) * 5.9604644775390625e-08f;
}}
""",
}

#: Operations that have a form for a second operand that is the same all along a loop.
_BOUNDS = {"min": "at_most", "max": "at_least"}

#: Names of the functions that stand for operations.
FUNCTION_NAMES = frozenset(f"snn_{op}" for op in (*COMPOSITE, *_HELPERS))


#: What a function that draws takes in place of :data:`~snncompile.targets.printing.DRAWN`, each 32 bits.
DRAWN_ARGUMENTS = ("seed_low", "seed_high", "moment", "element")


@dataclass(frozen=True)
class Function:
    """A printed function.

    Attributes:
        name: its name.
        args: the program's inputs it takes, in order: those that it uses.
        results: the program's outputs, in order: pointers that it writes through, after the inputs.
        text: its source.
        calls: operations that are functions of their own.
    """

    name: str
    args: tuple[str, ...]
    results: tuple[str, ...]
    text: str
    calls: tuple[str, ...]


def literal(value: float | bool) -> str:
    """C source of a float32 constant, exact; of a bool, 0 or 1."""
    if isinstance(value, bool):
        return str(int(value))
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    text = f"{value:.9g}"
    text = f"{text}f" if "." in text or "e" in text else f"{text}.0f"
    return f"({text})" if text.startswith("-") else text


def identifier(wanted: str) -> str:
    """``wanted``, or a variant of it that no macro and no name of the compiler's has."""
    return f"v_{wanted}" if wanted.startswith("_") or wanted.isupper() else wanted


def print_function(
    name: str, program: Program, about: str, bare: bool = False, bounds: Collection[str] | None = None
) -> Function:
    """Print ``program`` as the function ``name``.

    Args:
        name: its name, a valid identifier.
        program: what it computes.
        about: a comment, one line.
        bare: return the only result, instead of writing it through a pointer.
        bounds: inputs that are the same all along the loop that it is called in, to be bounds in a form of their own,
            as constants are; None where there are no such forms: a loop with a reduction does not take them well.
    """
    check_printable(program, name)
    program = fold(program)
    args = function_args(program)
    names = Names([*RESERVED, *FUNCTION_NAMES, *DRAWN_ARGUMENTS, name])
    table: dict[Arg, str] = {n: names.new(identifier(n)) for n in args if n != DRAWN}
    out = {} if bare else {n: names.new(identifier(f"{n}_out")) for n in program.output_names}
    drawn = [f"uint32_t {n}" for n in DRAWN_ARGUMENTS] if DRAWN in args else []
    parameters = [*(f"float {n}" for n in table.values()), *drawn, *(f"float *{n}" for n in out.values())]
    lines = [f"/* {safe(about)} */", *call_lines(f"SNN_INLINE {'float' if bare else 'void'} {name}", parameters)]
    lines.append("{")
    where, calls = "", set()
    for op in program.ops:
        if op.where != where:
            lines.append(f"    /* {safe(op.where) or 'the gradient of the lines above'} */")
            where = op.where
        operands = [table[a] if isinstance(a, str) else literal(a) for a in op.args]
        table[op.name] = names.new(identifier(op.name))
        kind = "float" if OPS[op.op].result == "f32" else "int"
        called = _form(op, bounds)
        calls.add(called)
        made = uniform(op) if op.op == UNIFORM else _expression(called, operands)
        lines.append(f"    const {kind} {table[op.name]} = {made};")
    values = {n: table[a] if isinstance(a, str) else literal(a) for n, a in program.outputs}
    lines += [f"    *{pointer} = {values[n]};" for n, pointer in out.items()]
    lines += [f"    return {value};" for value in values.values() if bare]
    needed = tuple(sorted(call for call in calls if call in COMPOSITE or call in _HELPERS))
    return Function(name, args, program.output_names, "\n".join([*lines, "}"]) + "\n", needed)


def _form(op: Op, bounds: Collection[str] | None) -> str:
    """The operation that ``op`` is printed as."""
    if bounds is None or op.op not in _BOUNDS:
        return op.op
    return _BOUNDS[op.op] if not isinstance(op.args[1], str) or op.args[1] in bounds else op.op


def uniform(op: Op) -> str:
    """The call that draws what ``op`` does."""
    draw = draw_of(op)
    return f"snn_uniform({', '.join(DRAWN_ARGUMENTS)}, 0x{draw.stream:X}u, {draw.block}u, {draw.word})"


def print_called(functions: Iterable[Function]) -> str:
    """The functions of all operations that ``functions`` call."""
    called = {call for function in functions for call in function.calls}
    # sigmoid and tanh are made of elementary operations too, so none of these calls another
    composites = [
        print_function(f"snn_{op}", definition(op), f"{op}, the same bits on every target.", bare=True)
        for op in sorted(called & COMPOSITE.keys())
    ]
    called |= {call for function in composites for call in function.calls}
    return "\n".join([*(text for op, text in _HELPERS.items() if op in called), *(f.text for f in composites)])


def call_lines(head: str, items: list[str], depth: int = 0, end: str = "") -> list[str]:
    """``head(items)`` on one line, or over several where it is long."""
    indent = "    " * depth
    one = f"{indent}{head}({', '.join(items) or ('void' if not end else '')}){end}"
    if len(one) <= 118:
        return [one]
    lines = [f"{indent}{head}(", f"{indent}   "]
    for i, item in enumerate(items):
        text = f" {item}{',' if i + 1 < len(items) else ')' + end}"
        if len(lines[-1]) + len(text) > 118:
            lines.append(f"{indent}   ")
        lines[-1] += text
    return lines


def safe(text: str) -> str:
    """``text`` for a comment on one line; a trigraph is a backslash to strict C99."""
    return comment(text).replace("??", "? ?")


def _expression(op: str, operands: list[str]) -> str:
    return f"snn_{op}({operands[0]})" if op in COMPOSITE else _LINES[op].format(*operands)
