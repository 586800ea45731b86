"""What printers share: constant folding, infix operations, names, lines, comments, and what a printed scan reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace

from snncompile.ir.errors import UnsupportedError
from snncompile.ir.ops import OPS
from snncompile.ir.program import Arg, Op, Program, dce
from snncompile.ir.random import draws_in

_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "and": "&", "or": "|",
}  # fmt: skip
#: Operations that are infix in Python and in C, as format strings of their operands.
INFIX = {op: f"{{0}} {sign} {{1}}" for op, sign in _SIGNS.items()}

#: Stands among a printed function's arguments for seed, time step and element, where it draws random numbers.
DRAWN = "%random"


class Names:
    """Gives out names that are unique and none of ``reserved``.

    Args:
        reserved: names that mean something else in the generated text.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self._taken = set(reserved)

    def new(self, wanted: str) -> str:
        """``wanted``, or the first free one of ``wanted_``, ``wanted_2``, ``wanted_3``, ..."""
        name, k = wanted, 1
        while name in self._taken:
            k += 1
            name = f"{wanted}_" if k == 2 and not wanted.endswith("_") else f"{wanted}_{k}"
        self._taken.add(name)
        return name


class Lines:
    """Text being printed: its names and its lines.

    Args:
        reserved: names that mean something else in it.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.names = Names(reserved)
        self.lines: list[str] = []

    def line(self, depth: int, text: str) -> None:
        """Add a line, indented by ``depth`` levels."""
        self.lines.append("    " * depth + text)


@dataclass(frozen=True)
class PrintedScan:
    """A printed file that runs a scan forward or backward.

    Attributes:
        name: name of the function in it that does.
        text: its source.
        inputs: positions of the inputs that it reads.
        coefs: positions of the coefficients that it reads.
        states: positions of the states whose saved values (backward) or initial values (forward) it reads.
        by_chunk: whether it takes K.
        forward_coefs: positions of the forward coefficients that a replaying backward reads.
        grads: results whose gradient's course it reads.
        carried: states whose gradient it carries from step to step.
        random: whether it takes a pointer to the seed and the number of the first step.
    """

    name: str
    text: str
    _: KW_ONLY
    inputs: tuple[int, ...]
    coefs: tuple[int, ...]
    states: tuple[int, ...]
    by_chunk: bool
    forward_coefs: tuple[int, ...] = ()
    grads: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    random: bool = False


def used_inputs(program: Program) -> tuple[str, ...]:
    """The inputs of ``program`` that anything in it reads, in order."""
    used = {a for op in program.ops for a in op.args} | {a for _, a in program.outputs}
    return tuple(n for n in program.inputs if n in used)


def function_args(program: Program) -> tuple[str, ...]:
    """What a printed function of ``program`` takes: the inputs that it reads, and :data:`DRAWN` where it draws."""
    return used_inputs(program) + ((DRAWN,) if draws_in(program) else ())


def comment(text: str) -> str:
    """``text`` on one line of printable ASCII, so that it cannot end a comment or hide anything in it."""
    safe = "".join(c if " " <= c <= "~" else "?" for c in text)
    return safe.replace("*/", "* /").replace("\\", "/")[:200]


def check_printable(program: Program, what: str) -> None:
    """Raise :class:`UnsupportedError` if ``program`` holds an operation that exists only outside a step."""
    for op in program.ops:
        if OPS[op.op].host_only:
            place = f" ({op.where})" if op.where else ""
            raise UnsupportedError(
                f"{what}: {op.op}{place} may be applied to parameters only, since it has no exact definition inside a "
                "time step. Compute it from parameters, or write it with exp, sigmoid, tanh and arithmetic"
            )


def fold(program: Program) -> Program:
    """``program`` with the operations on constants alone done, in float32 as a step would do them."""
    import torch

    known: dict[str, Arg] = {}
    ops: list[Op] = []
    for op in program.ops:
        args = tuple(known.get(a, a) if isinstance(a, str) else a for a in op.args)
        if any(isinstance(a, str) for a in args) or OPS[op.op].random:
            ops.append(replace(op, args=args))
            continue
        tensors = [torch.tensor(a) if isinstance(a, bool) else torch.tensor(a, dtype=torch.float32) for a in args]
        known[op.name] = OPS[op.op].step(*tensors).item()
    outputs = tuple((n, known.get(a, a) if isinstance(a, str) else a) for n, a in program.outputs)
    return dce(replace(program, ops=tuple(ops), outputs=outputs))
