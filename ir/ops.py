"""The closed list of operations that an elementwise program may use.

Every operation is IEEE float32 (or bool), correctly rounded, without contraction, on every target. Those in
``COMPOSITE`` (``ir/exact.py``) are functions made of the others; ``ir/definitions.py`` has them as programs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from snncompile.ir import exact


@dataclass(frozen=True)
class OpSpec:
    """One operation.

    Attributes:
        args: operand types, each ``"f32"`` or ``"bool"``.
        result: type of the result.
        step: what it computes inside a step, on torch tensors.
        host: what it computes on parameters alone, once, outside the step: torch's own function.
        host_only: whether it may stand only where nothing but parameters enters.
        random: whether it draws a number, which depends on time and element besides its operands, all constants:
            a target supplies it, and ``step`` is not called.
    """

    args: tuple[str, ...]
    result: str
    step: Callable[..., torch.Tensor]
    host: Callable[..., torch.Tensor]
    host_only: bool = False
    random: bool = False


def _spec(args: str, result: str, step: Callable, host: Callable | None = None, host_only: bool = False) -> OpSpec:
    names = {"f": "f32", "b": "bool"}
    return OpSpec(tuple(names[a] for a in args), names[result], step, host or step, host_only)


def _to_float(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.float32)


def _draws(*operands: torch.Tensor) -> torch.Tensor:
    raise TypeError("a random number is drawn by the target")


OPS: dict[str, OpSpec] = {
    "add": _spec("ff", "f", torch.add),
    "sub": _spec("ff", "f", torch.sub),
    "mul": _spec("ff", "f", torch.mul),
    "div": _spec("ff", "f", torch.div),
    "min": _spec("ff", "f", torch.minimum),
    "max": _spec("ff", "f", torch.maximum),
    "neg": _spec("f", "f", torch.neg),
    "abs": _spec("f", "f", torch.abs),
    "floor": _spec("f", "f", torch.floor),
    "ceil": _spec("f", "f", torch.ceil),
    "sqrt": _spec("f", "f", exact.sqrt),
    "exp2i": _spec("f", "f", exact.exp2i),
    "lt": _spec("ff", "b", torch.lt),
    "le": _spec("ff", "b", torch.le),
    "gt": _spec("ff", "b", torch.gt),
    "ge": _spec("ff", "b", torch.ge),
    "eq": _spec("ff", "b", torch.eq),
    "ne": _spec("ff", "b", torch.ne),
    "and": _spec("bb", "b", torch.logical_and),
    "or": _spec("bb", "b", torch.logical_or),
    "not": _spec("b", "b", torch.logical_not),
    "where": _spec("bff", "f", torch.where),
    "float": _spec("b", "f", _to_float),
    "exp": _spec("f", "f", exact.exp, torch.exp),
    "sigmoid": _spec("f", "f", exact.sigmoid, torch.sigmoid),
    "tanh": _spec("f", "f", exact.tanh, torch.tanh),
    "normal": _spec("f", "f", exact.normal),
    "uniform": OpSpec(("f32", "f32", "f32"), "f32", _draws, _draws, random=True),
    **{
        name: _spec("f", "f", fn, fn, host_only=True)
        for name, fn in {
            "log": torch.log,
            "log1p": torch.log1p,
            "expm1": torch.expm1,
            "sin": torch.sin,
            "cos": torch.cos,
            "tan": torch.tan,
        }.items()
    },
}
