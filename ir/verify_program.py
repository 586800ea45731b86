"""The rules of an elementwise program."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Mapping

from snncompile.ir.errors import VerificationError
from snncompile.ir.ops import OPS
from snncompile.ir.program import IDENTIFIER, MAX_OPS, Arg, Program
from snncompile.ir.random import is_draw_operand


def verify_program(program: Program) -> None:
    """Raise :class:`VerificationError` unless ``program`` obeys every rule of its form."""
    types: dict[str, str] = {}
    if len(program.ops) > MAX_OPS:
        raise VerificationError(f"a program of {len(program.ops)} operations is over the limit of {MAX_OPS}")
    for name in program.inputs:
        _define(types, name, "f32")
    for op in program.ops:
        _check_constants(op.args)
        spec = OPS.get(op.op)
        if spec is None:
            raise VerificationError(f"unknown operation {op.op!r}")
        if len(op.args) != len(spec.args):
            raise VerificationError(f"{op.op} takes {len(spec.args)} operands, not {len(op.args)}")
        kinds = [arg_type(arg, types) for arg in op.args]
        for kind, expected in zip(kinds, spec.args, strict=True):
            if kind != expected:
                raise VerificationError(f"{op.name} = {op.op}: operand is {kind}, expected {expected}")
        if spec.random and not all(is_draw_operand(a) for a in op.args):
            raise VerificationError(f"{op.name} = {op.op}: its operands are whole numbers of 16 bits, not {op.args}")
        _define(types, op.name, spec.result)
    seen: set[str] = set()
    _check_constants(arg for _, arg in program.outputs)
    for name, arg in program.outputs:
        if name in seen:
            raise VerificationError(f"output {name!r} is defined twice")
        seen.add(name)
        if not IDENTIFIER.match(name):
            raise VerificationError(f"{name!r} is not a valid output name")
        if arg_type(arg, types) != "f32":
            raise VerificationError(f"output {name!r} is not float32")


def arg_type(arg: Arg, types: Mapping[str, str]) -> str:
    """``"f32"`` or ``"bool"``, for an operand."""
    if isinstance(arg, bool):
        return "bool"
    if isinstance(arg, float):
        return "f32"
    if not isinstance(arg, str) or arg not in types:
        raise VerificationError(f"operand {arg!r} is not defined before its use")
    return types[arg]


def _check_constants(args: Iterable[Arg]) -> None:
    for arg in args:
        if isinstance(arg, float) and math.isfinite(arg) and ctypes.c_float(arg).value != arg:
            raise VerificationError(f"the constant {arg!r} is not a float32")


def _define(types: dict[str, str], name: str, kind: str) -> None:
    if not IDENTIFIER.match(name):
        raise VerificationError(f"{name!r} is not a valid name for a value")
    if name in types:
        raise VerificationError(f"value {name!r} is defined twice")
    types[name] = kind
