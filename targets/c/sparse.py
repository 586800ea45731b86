"""Sparse connections in C: the synapses of the inputs that are not zero."""

from __future__ import annotations

from torch import Tensor

from snncompile.targets.c.availability import check_runnable
from snncompile.targets.c.calling import Caller
from snncompile.targets.c.compiler import function
from snncompile.targets.c.sparse_source import NAME, SOURCE, TYPES
from snncompile.targets.sparse import Pattern

_FORWARD, _INPUT, _WEIGHT = 0, 1, 2


class SparseProducts(Caller):
    """Products with sparse weights."""

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
        made = self._make(shape)
        if made.numel():
            held = (*pattern.packed, first.contiguous(), second.contiguous(), made)
            rows, parts = len(second), pattern.inputs if what == _WEIGHT else len(second)
            run = function(NAME, SOURCE, TYPES)
            sizes = (rows, pattern.inputs, pattern.outputs, what)
            run(*(t.data_ptr() for t in held), *sizes, self._team(second.numel(), parts))
        return made
