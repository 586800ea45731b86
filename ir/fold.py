"""Folding: operations on constants, and those that one constant operand decides. Exact to the bit."""

from __future__ import annotations

from dataclasses import replace

import torch

from snncompile.ir.interp import constant
from snncompile.ir.ops import OPS
from snncompile.ir.program import Arg, Op, Program


def fold_constants(program: Program) -> Program:
    """``program`` without operations on constants alone, and without those that one decides, such as ``x * 1``."""
    alias: dict[str, Arg] = {}
    ops: list[Op] = []
    for op in program.ops:
        args = tuple(alias.get(a, a) if isinstance(a, str) else a for a in op.args)
        value = _value(op.op, args)
        if value is None:
            ops.append(replace(op, args=args))
        else:
            alias[op.name] = value
    outputs = tuple((n, alias.get(a, a) if isinstance(a, str) else a) for n, a in program.outputs)
    return Program(program.inputs, tuple(ops), outputs)


def _value(op: str, args: tuple[Arg, ...]) -> Arg | None:
    """What the operation always gives: a constant or one of its operands; None where neither."""
    if OPS[op].random:
        return None
    known = [a for a in args if not isinstance(a, str)]
    if len(known) == len(args) and not OPS[op].host_only:
        result = OPS[op].step(*[constant(a, torch.device("cpu")) for a in known])
        return bool(result) if result.dtype is torch.bool else result.item()
    if op in ("mul", "div") and args[1] == 1.0:
        return args[0]
    if op == "mul" and args[0] == 1.0:
        return args[1]
    if op == "where" and isinstance(args[0], bool):
        return args[1] if args[0] else args[2]
    if op in ("and", "or"):
        return _logic(op, args)
    return None


def _logic(op: str, args: tuple[Arg, ...]) -> Arg | None:
    """``and`` and ``or`` with one constant operand: that constant, or the other operand."""
    for known, other in (args, args[::-1]):
        if isinstance(known, bool):
            return other if known == (op == "and") else known
    return None
