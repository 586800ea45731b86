"""Sparse connections in C: the synapses of the inputs that are not zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snncompile.targets.c.availability import check_runnable
from snncompile.targets.c.compiler import function
from snncompile.targets.c.sparse_source import NAME, SOURCE, TYPES
from snncompile.targets.sparse import Pattern

#: Inputs (over all rows) that a thread must have to be worth waking.
_WORTH = 16_384

_FORWARD, _INPUT, _WEIGHT = 0, 1, 2


class SparseProducts:
    """Products with sparse weights.

    Args:
        threads: how many threads to use for every call, instead of up to torch's number, by size.
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        self._threads = threads
        self._empty = empty

    def forward(self, pattern: Pattern, weight: Tensor, x: Tensor) -> Tensor:
        """``(rows, out)`` of ``x (rows, in)``."""
        return self._run(_FORWARD, pattern, weight, x, (len(x), pattern.outputs))

    def input_gradient(self, pattern: Pattern, weight: Tensor, grad: Tensor) -> Tensor:
        """``(rows, in)`` of ``grad (rows, out)``."""
        return self._run(_INPUT, pattern, weight, grad, (len(grad), pattern.inputs))

    def weight_gradient(self, pattern: Pattern, grad: Tensor, x: Tensor) -> Tensor:
        """``(synapses,)`` of ``grad (rows, out)`` and ``x (rows, in)``."""
        return self._run(_WEIGHT, pattern, grad, x, (pattern.synapses,))

    def _run(self, what: int, pattern: Pattern, first: Tensor, second: Tensor, shape: tuple[int, ...]) -> Tensor:
        check_runnable(second)
        made = self._empty(shape, dtype=torch.float32)
        if made.numel():
            held = (*pattern.packed, first.contiguous(), second.contiguous(), made)
            rows, parts = len(second), pattern.inputs if what == _WEIGHT else len(second)
            run = function(NAME, SOURCE, TYPES)
            sizes = (rows, pattern.inputs, pattern.outputs, what)
            run(*(t.data_ptr() for t in held), *sizes, self._team(second, parts))
        return made

    def _team(self, x: Tensor, parts: int) -> int:
        """How many threads to use; what comes out does not depend on it."""
        if self._threads is not None:
            return self._threads
        return max(1, min(torch.get_num_threads(), parts, x.numel() // _WORTH))
