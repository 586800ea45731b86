"""What must hold for one elementwise node on its own, and for names, sizes and parameters of any node."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod

from snncompile.ir.elementwise import Elementwise, OutPort, State
from snncompile.ir.hoist import misplaced
from snncompile.ir.params import CONSTRAINTS, INITS, Parameter
from snncompile.ir.program import IDENTIFIER, Program
from snncompile.ir.types import SignalType
from snncompile.ir.verify_program import verify_program

_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,119}\.[A-Za-z_][A-Za-z0-9_]{0,119}\Z")


@dataclass(frozen=True)
class Limits:
    """Sizes beyond which a graph is refused: a damaged or hostile file must not exhaust the machine.

    Attributes:
        nodes: nodes in a graph.
        rank: axes of a feature shape or parameter.
        steps: steps of a delay.
        features: elements of a signal at one step; kernels index them with 32 bits.
        values: elements of a parameter.
    """

    nodes: int = 10_000
    rank: int = 8
    steps: int = 1_000_000
    features: int = 2**31 - 1
    values: int = 2**34


LIMITS = Limits()


class Fault(Exception):
    """What is wrong with a node; the caller knows its name."""


def dotted(name: str) -> bool:
    """Whether ``name`` is ``"<node>.<name>"``, of two identifiers."""
    return bool(_DOTTED.match(name))


def check_type(signal: SignalType, what: str) -> None:
    """A signal of a size that can be."""
    _size(signal.shape, LIMITS.features, what)


def _size(shape: Sequence[int], limit: int, what: str) -> None:
    if len(shape) > LIMITS.rank:
        raise Fault(f"{what} has {len(shape)} axes, more than the limit of {LIMITS.rank}")
    if prod(shape) > limit:
        raise Fault(f"{what} has {prod(shape)} elements, more than the limit of {limit}")


def check_identifiers(names: Iterable[str], what: str) -> None:
    """Names that can reach generated code."""
    for name in names:
        if not isinstance(name, str) or not IDENTIFIER.match(name):
            raise Fault(f"{name!r} cannot name {what}: use letters, digits and _")


def check_distinct(names: Sequence[str], what: str) -> None:
    """No name twice."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise Fault(f"{name!r} names two {what}")


def check_params(params: Mapping[str, Parameter]) -> None:
    """Parameters of names, sizes and first values that can be."""
    check_identifiers(params, "a parameter's role")
    for role, p in params.items():
        if not dotted(p.name):
            raise Fault(f"the parameter {role!r} is called {p.name!r}, not '<node>.<role>'")
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in p.shape):
            raise Fault(f"the parameter {role!r} has shape {p.shape!r}, which holds no positive whole numbers")
        _size(p.shape, LIMITS.values, f"the parameter {role!r}")
        if p.constraint is not None and p.constraint not in CONSTRAINTS:
            raise Fault(f"the parameter {role!r} has an unknown constraint {p.constraint!r}")
        count = {"given": 0}.get(p.init.kind, 1)
        if p.init.kind not in INITS or len(p.init.args) != count or not all(map(_is_single, p.init.args)):
            raise Fault(f"the parameter {role!r} is initialised by {p.init.kind}{p.init.args!r}, which cannot be")


def _is_single(number: float) -> bool:
    return isfinite(number) and ctypes.c_float(number).value == number


def check_elementwise(op: Elementwise) -> None:
    """Raise :class:`Fault` or ``VerificationError`` where ``op`` breaks a rule."""
    check_identifiers([op.kind], "a kind of node")
    _size(op.shape, LIMITS.features, "it")
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in op.shape) or not op.shape:
        raise Fault(f"its shape {op.shape!r} holds no positive whole numbers")
    states = [s.local for s in op.states]
    outputs = [o.local for o in op.outputs]
    given = [*states, *op.inputs, *op.params]
    if not outputs:
        raise Fault("it has no output")
    check_identifiers([*given, *outputs], "a value")
    check_identifiers(op.members, "a source node")
    check_distinct(given, "of its states, inputs and parameters")
    check_distinct(outputs, "outputs")
    _names_and_types(op, states, given)
    check_params(op.params)
    for role, p in op.params.items():
        padded = (1,) * (len(op.shape) - len(p.shape)) + p.shape
        if len(padded) != len(op.shape) or any(a not in (1, b) for a, b in zip(padded, op.shape, strict=True)):
            raise Fault(f"the parameter {role!r} of shape {p.shape} does not broadcast to the features {op.shape}")
    for pair in op.ordered:
        for role in pair:
            if role not in op.params:
                raise Fault(f"the order {' < '.join(pair)} names {role!r}, which is no parameter")
    fixed = list(op.params)
    if op.derived is not None:
        check_program("what is derived", op.derived, fixed, op.derived.output_names, fixed)
        fixed += op.derived.output_names
        check_distinct([*given, *op.derived.output_names], "of its inputs and derived values")
    check_program("the step", op.forward, [*given, *fixed], op.results, fixed)
    gradients = [*given, *(f"grad_{r}" for r in op.results)]
    check_program("the gradient", op.reverse, [*gradients, *fixed], [f"grad_{n}" for n in given], fixed)


def _names_and_types(op: Elementwise, states: list[str], given: list[str]) -> None:
    for out in op.outputs:
        if out.local in given and out.local not in states:
            raise Fault(f"the output {out.local!r} has the name of an input or parameter")
        if out.type.shape != op.shape:
            raise Fault(f"the output {out.local!r} has features {out.type.shape}, the node {op.shape}")
    items: list[State | OutPort] = [*op.states, *op.outputs]
    for item in items:
        if not dotted(item.name) and not IDENTIFIER.match(item.name):  # a fused feedback keeps its own name
            raise Fault(f"{item.local!r} is recorded as {item.name!r}, not '<node>.<name>'")
    for state in op.states:
        if not isfinite(state.init):
            raise Fault(f"the state {state.local!r} starts from {state.init}, which is not finite")
    records = {(item.local, item.name) for item in items}
    check_distinct(sorted(name for _, name in records), "of its records")


def check_program(
    what: str, program: Program, given: Sequence[str], results: Sequence[str], params: Collection[str]
) -> None:
    """A program that reads what is given, gives what it must, and computes on signals what exists there."""
    verify_program(program)
    for name in program.inputs:
        if name not in given:
            raise Fault(f"{what} reads {name!r}, which is none of {', '.join(given)}")
    if sorted(program.output_names) != sorted(results):
        raise Fault(f"{what} gives {', '.join(program.output_names)}; it must give {', '.join(results)}")
    wrong = misplaced(program, params)
    if wrong is not None:
        at = f" ({wrong.where})" if wrong.where else ""
        raise Fault(f"{what} uses {wrong.op} on a signal or state{at}; it exists on parameters only")
