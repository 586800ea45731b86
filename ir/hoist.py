"""Splitting a program: what depends on parameters alone is computed once, outside the loop over time.

Of a step like ``v * exp(-dt/tau) + x`` only ``v * decay + x`` stays inside: ``decay`` is *derived*, by torch's own
``exp`` on the CPU. For the gradient the same holds at both ends: factors made of parameters enter as derived values,
and factors that multiply a parameter's gradient at its end are applied once, after the sum over time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from snncompile.ir.ops import OPS
from snncompile.ir.program import Arg, Op, Program, dce, simplify


@dataclass(frozen=True)
class Split:
    """A program in two: ``derived`` from parameters alone, and ``body`` for every step.

    Attributes:
        derived: parameters -> derived values (its outputs are named as the body's inputs are).
        body: the rest; its inputs are the original ones that are not parameters, then the parameters and derived
            values it still uses.
        coefs: names of those parameters and derived values, in order.
    """

    derived: Program
    body: Program
    coefs: tuple[str, ...]


def hoist(program: Program, params: Collection[str]) -> Split:
    """Split ``program`` at what depends only on ``params``."""
    fixed: set[str] = set(params)
    host: list[Op] = []
    rest: list[Op] = []
    for op in program.ops:
        if _all_fixed(op.args, fixed):
            fixed.add(op.name)
            host.append(op)
        else:
            rest.append(op)
    used = _used(rest, program)
    bools = {op.name for op in host if OPS[op.op].result == "bool"}
    kept, host_results = _keep_bools_inside(host, used, bools)
    body_ops = (*kept, *rest)
    used = _used(body_ops, program)
    coefs = tuple(p for p in program.inputs if p in params and p in used)
    derived_names = tuple(op.name for op in host if op.name in used and op.name in host_results)
    derived = dce(
        Program(tuple(p for p in program.inputs if p in params), tuple(host), tuple((n, n) for n in derived_names))
    )
    inputs = tuple(n for n in program.inputs if n not in params) + coefs + derived_names
    return Split(derived, Program(inputs, body_ops, program.outputs), coefs + derived_names)


def misplaced(program: Program, params: Collection[str]) -> Op | None:
    """The first operation that exists on parameters alone, but would stand inside the step."""
    fixed = set(params)
    for op in program.ops:
        if _all_fixed(op.args, fixed):
            fixed.add(op.name)
        elif OPS[op.op].host_only:
            return op
    return None


def _all_fixed(args: tuple[Arg, ...], fixed: set[str]) -> bool:
    names = [a for a in args if isinstance(a, str)]
    return bool(names) and all(a in fixed for a in names)


def _used(ops: Collection[Op], program: Program) -> set[str]:
    used = {a for op in ops for a in op.args if isinstance(a, str)}
    return used | {a for _, a in program.outputs if isinstance(a, str)}


def _keep_bools_inside(host: list[Op], used: set[str], bools: set[str]) -> tuple[list[Op], set[str]]:
    """Derived values are float tensors: a comparison of parameters that the body needs stays in the body."""
    kept: list[Op] = []
    needed = {n for n in used if n in bools}
    for op in reversed(host):
        if op.name in needed:
            kept.append(op)
            needed.update(a for a in op.args if isinstance(a, str) and a in bools)
    kept.reverse()
    inside = {op.name for op in kept}
    return kept, {op.name for op in host if op.name not in inside}


@dataclass(frozen=True)
class Sunk:
    """A reverse program with its parameter gradients cut at the sum over time.

    Attributes:
        body: gives state and input gradients, and one accumulator ``acc_<k>`` per sum that is needed.
        epilogue: accumulators, parameters and derived values -> ``grad_<parameter>``.
        accumulators: names of the sums.
    """

    body: Program
    epilogue: Program
    accumulators: tuple[str, ...]


def sink(body: Program, params: Collection[str], coefs: Collection[str]) -> Sunk:
    """Move parameter-only factors at the end of each parameter's gradient behind the sum over time.

    The gradient of a sum is linear: ``sum_t(g_t * c) = sum_t(g_t) * c`` for a factor ``c`` made of parameters.
    """
    by_name = {op.name: op for op in body.ops}
    fixed = set(coefs)
    peeled: dict[str, list[Op]] = {}
    cores: dict[str, Arg] = {}
    for p in params:
        cores[p], peeled[p] = _peel(body.output(f"grad_{p}"), by_name, fixed)
    fresh = _Fresh({*body.inputs, *by_name, *body.output_names})
    names: dict[Arg, str] = {}
    for core in cores.values():
        if isinstance(core, str) and core not in names:
            names[core] = fresh.name(f"acc_{len(names)}")
    outputs = [pair for pair in body.outputs if pair[0] not in {f"grad_{p}" for p in params}]
    outputs += [(acc, core) for core, acc in names.items()]
    epilogue = _epilogue(params, cores, peeled, names, tuple(coefs), fresh)
    return Sunk(dce(Program(body.inputs, body.ops, tuple(outputs))), epilogue, tuple(names.values()))


class _Fresh:
    """Names that a user's step has not taken."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = set(taken)

    def name(self, wanted: str) -> str:
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted


def _peel(value: Arg, by_name: dict[str, Op], fixed: set[str]) -> tuple[Arg, list[Op]]:
    """Strip factors made of constants and ``fixed`` values off ``value``; the operations stripped, outermost first."""
    stripped: list[Op] = []

    def is_fixed(arg: Arg) -> bool:
        return not isinstance(arg, str) or arg in fixed

    while isinstance(value, str) and value in by_name:
        op = by_name[value]
        if op.op == "neg" or (op.op in ("mul", "div") and is_fixed(op.args[1])):
            stripped.append(op)
            value = op.args[0]
        elif op.op == "mul" and is_fixed(op.args[0]):
            stripped.append(op)
            value = op.args[1]
        else:
            break
    return value, stripped


def _epilogue(
    params: Collection[str],
    cores: dict[str, Arg],
    peeled: dict[str, list[Op]],
    names: dict[Arg, str],
    coefs: tuple[str, ...],
    fresh: _Fresh,
) -> Program:
    ops: list[Op] = []
    outputs: list[tuple[str, Arg]] = []
    for p in params:
        core = cores[p]
        value: Arg = names[core] if isinstance(core, str) else core
        table: dict[Arg, Arg] = {core: value} if isinstance(core, str) else {}
        for op in reversed(peeled[p]):
            name = fresh.name(f"e{len(ops)}")
            ops.append(Op(name, op.op, tuple(table.get(a, a) for a in op.args), op.where))
            table = {op.name: name}
            value = name
        outputs.append((f"grad_{p}", value))
    return simplify(Program((*names.values(), *coefs), tuple(ops), tuple(outputs)))
