"""Runs a program on torch tensors, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.ops import OPS
from snncompile.ir.program import Program


@lru_cache(maxsize=None, typed=True)  # typed: True == 1.0
def _constant(value: float | bool, negative_zero: bool, device: torch.device) -> Tensor:
    del negative_zero  # part of the key: 0.0 == -0.0
    return torch.tensor(value, dtype=torch.bool if isinstance(value, bool) else torch.float32, device=device)


def constant(value: float | bool, device: torch.device) -> Tensor:
    """A constant as a tensor on ``device``: a Python number would let CUDA turn ``x / c`` into ``x * (1/c)``."""
    return _constant(value, str(value).startswith("-"), device)


class Interpreter:
    """A program made ready to run.

    Args:
        program: what to run.
        host: whether operations mean torch's own functions (on parameters, outside the step) rather than the exact
            ones of a step.
    """

    def __init__(self, program: Program, *, host: bool = False) -> None:
        self.inputs = program.inputs
        self.outputs = program.outputs
        slots = {name: i for i, name in enumerate(program.inputs)}
        self._constants: list[float | bool] = []
        self._code: list[tuple[Callable[..., Tensor], tuple[int, ...]]] = []
        for op in program.ops:
            spec = OPS[op.op]
            args = tuple(slots[a] if isinstance(a, str) else self._constant_slot(a) for a in op.args)
            self._code.append((spec.host if host else spec.step, args))
            slots[op.name] = len(slots)
        self._results = [slots[a] if isinstance(a, str) else self._constant_slot(a) for _, a in program.outputs]

    def _constant_slot(self, value: Any) -> int:
        self._constants.append(value)
        return -len(self._constants)  # negative: from the end, where constants are appended in reverse

    def __call__(self, values: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """Outputs in order, for ``values`` in the order of the program's inputs."""
        constants = [constant(c, device) for c in reversed(self._constants)]
        env = [*values]
        for fn, args in self._code:
            env.append(fn(*[env[a] if a >= 0 else constants[a] for a in args]))
        return [env[r] if r >= 0 else constants[r] for r in self._results]

    def named(self, values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Outputs by name, for inputs by name."""
        results = self([values[n] for n in self.inputs], device)
        return dict(zip([n for n, _ in self.outputs], results, strict=True))
