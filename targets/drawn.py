"""Random numbers as courses: a scan that draws, as one that reads what was drawn from further inputs.

It is how the torch target draws, and every kernel that has no random numbers of its own. The bits are the same.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace

from snncompile.ir.program import Arg, Op, Program
from snncompile.ir.random import UNIFORM, Draw, courses, draw_of
from snncompile.targets.scan import BackwardCall, BackwardResult, ForwardCall, Scan


@dataclass(frozen=True)
class _Reading:
    """The scan that reads, and what its further inputs are."""

    scan: Scan
    draws: tuple[Draw, ...]


_known: weakref.WeakKeyDictionary[Scan, _Reading] = weakref.WeakKeyDictionary()


def reading(scan: Scan) -> Scan:
    """``scan`` with an input for each number that it draws, after its own inputs, in the order of ``scan.draws``."""
    return _reading(scan).scan if scan.draws else scan


def drawn_forward(scan: Scan, call: ForwardCall) -> tuple[Scan, ForwardCall]:
    """``scan`` and ``call`` as they are where nothing is drawn; else with what is drawn as courses."""
    if not scan.draws:
        return scan, call
    assert call.random is not None
    found = _reading(scan)
    return found.scan, replace(call, inputs=(*call.inputs, *courses(call.random, found.draws, call.shape)), random=None)


def drawn_backward(scan: Scan, call: BackwardCall) -> tuple[Scan, BackwardCall]:
    """As :func:`drawn_forward`; nobody wants a gradient of what is drawn."""
    if not scan.draws:
        return scan, call
    assert call.random is not None
    found = _reading(scan)
    more = courses(call.random, found.draws, call.shape)
    inputs, need = (*call.inputs, *more), (*call.need_inputs, *(False for _ in more))
    return found.scan, replace(call, inputs=inputs, need_inputs=need, random=None)


def without_draws(scan: Scan, result: BackwardResult) -> BackwardResult:
    """What a backward of the reading scan gave, without the inputs that ``scan`` does not have."""
    return replace(result, inputs=result.inputs[: len(scan.inputs)])


def _reading(scan: Scan) -> _Reading:
    if scan not in _known:
        _known[scan] = _make(scan)
    return _known[scan]


def _make(scan: Scan) -> _Reading:
    taken = {n for p in (scan.forward, scan.reverse) for n in (*p.inputs, *p.output_names, *(op.name for op in p.ops))}
    names: dict[Draw, str] = {}
    for i, draw in enumerate(scan.draws):
        name = f"uniform_{i}"
        while name in taken or f"grad_{name}" in taken:
            name += "_"
        names[draw] = name
    inputs = tuple(names.values())
    reverse = _read(scan.reverse, names)
    silent: tuple[tuple[str, Arg], ...] = tuple((f"grad_{name}", 0.0) for name in inputs)
    made = replace(
        scan,
        inputs=(*scan.inputs, *inputs),
        forward=_read(scan.forward, names),
        reverse=replace(reverse, outputs=(*reverse.outputs, *silent)),
    )
    return _Reading(made, tuple(names))


def _read(program: Program, names: Mapping[Draw, str]) -> Program:
    """``program`` with inputs in place of what it draws."""
    alias: dict[Arg, Arg] = {op.name: names[draw_of(op)] for op in program.ops if op.op == UNIFORM}
    ops = tuple(
        Op(op.name, op.op, tuple(alias.get(a, a) if isinstance(a, str) else a for a in op.args), op.where)
        for op in program.ops
        if op.op != UNIFORM
    )
    outputs = tuple((n, alias.get(a, a) if isinstance(a, str) else a) for n, a in program.outputs)
    return Program((*program.inputs, *names.values()), ops, outputs)
