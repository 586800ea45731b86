"""What the printers of programs share: constant folding, names, and text that is safe in a comment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from snncompile.ir.errors import UnsupportedError
from snncompile.ir.ops import OPS
from snncompile.ir.program import Arg, Op, Program, dce


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
        if any(isinstance(a, str) for a in args):
            ops.append(replace(op, args=args))
            continue
        tensors = [torch.tensor(a) if isinstance(a, bool) else torch.tensor(a, dtype=torch.float32) for a in args]
        known[op.name] = OPS[op.op].step(*tensors).item()
    outputs = tuple((n, known.get(a, a) if isinstance(a, str) else a) for n, a in program.outputs)
    return dce(replace(program, ops=tuple(ops), outputs=outputs))
