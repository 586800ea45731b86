"""A reverse program without the gradients that nobody gives and those that nobody wants.

An absent gradient is an exact zero, also where it would meet an infinity: so products with it vanish. Nothing else is
simplified, since ``x * 0`` is not 0 for every float.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from snncompile.ir.program import Arg, Op, Program, dce
from snncompile.targets.scan import Scan


@dataclass(frozen=True)
class Pruned:
    """What is left of a scan's reverse program.

    Attributes:
        program: gives some of ``grad_<state>``, ``grad_<input>`` and the accumulators.
        carried: states whose gradient is not zero at every step: only those go from step to step.
    """

    program: Program
    carried: tuple[str, ...]


def prune_reverse(scan: Scan, given: Collection[str], finals: Collection[str], wanted: Collection[str]) -> Pruned:
    """Reduce ``scan.reverse`` to one combination of gradients.

    Args:
        scan: the scan.
        given: results whose course has a gradient.
        finals: states whose final value has a gradient.
        wanted: outputs of the reverse program that are wanted besides the gradients of the states.
    """
    silent = {s for s in scan.states if s not in given and s not in finals}
    absent = {r for r in scan.results if r not in scan.states and r not in given}
    while True:
        program, zeros = _without(scan.reverse, {f"grad_{r}" for r in absent | silent})
        awake = {s for s in silent if f"grad_{s}" not in zeros}
        if not awake:
            break
        silent -= awake  # a gradient reaches this state from another one, a step later
    carried = tuple(s for s in scan.states if s not in silent)
    kept = {*wanted, *(f"grad_{s}" for s in carried)}
    return Pruned(dce(program.select(n for n in program.output_names if n in kept)), carried)


def _without(program: Program, absent: Collection[str]) -> tuple[Program, set[str]]:
    """``program`` with the inputs ``absent`` taken as zero, and the outputs that are zero because of that."""
    zero = set(absent)
    alias: dict[str, Arg] = {}
    ops: list[Op] = []
    for op in program.ops:
        raw = tuple(alias.get(a, a) if isinstance(a, str) else a for a in op.args)
        is_zero = tuple(a in zero for a in raw)
        if not any(is_zero):
            ops.append(Op(op.name, op.op, raw, op.where))
            continue
        args = tuple(0.0 if z else a for a, z in zip(raw, is_zero, strict=True))
        match op.op, is_zero:
            case ("mul", _) | ("div", (True, _)) | (("neg" | "abs"), _) | (("add" | "sub"), (True, True)):
                zero.add(op.name)
            case ("add", (True, False)):
                alias[op.name] = args[1]
            case (("add" | "sub"), (False, True)):
                alias[op.name] = args[0]
            case ("sub", (True, False)):
                ops.append(Op(op.name, "neg", (args[1],), op.where))
            case ("where", _) if all(not isinstance(a, str) and a == 0.0 for a in args[1:]):
                zero.add(op.name)
            case _:
                ops.append(Op(op.name, op.op, args, op.where))
    resolved = [(n, alias.get(a, a) if isinstance(a, str) else a) for n, a in program.outputs]
    outputs = tuple((n, 0.0 if a in zero else a) for n, a in resolved)
    inputs = tuple(n for n in program.inputs if n not in absent)
    # a literal zero is as good as an absent gradient for what it means to the step before
    zeros = {n for n, a in outputs if not isinstance(a, str) and a == 0.0}
    return dce(Program(inputs, tuple(ops), outputs)), zeros
