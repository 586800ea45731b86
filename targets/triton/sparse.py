"""Sparse connections in Triton: one launch for the product, or for a gradient, of all steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.sparse import Pattern
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.courses import on_device
from snncompile.targets.triton.load import load
from snncompile.targets.triton.sparse_kernel import GATHER, GATHER_SETTINGS, WEIGHT, WEIGHT_SETTINGS

_LIMIT = 2**31


class SparseKernels:
    """Products with sparse weights.

    Args:
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    def __init__(self, empty: Callable[..., Tensor] = torch.empty) -> None:
        self._empty = empty

    def forward(self, pattern: Pattern, weight: Tensor, x: Tensor) -> Tensor:
        """``(rows, out)`` of ``x (rows, in)``."""
        return self._gather(weight, x, *pattern.read_by_target, pattern.outputs, pattern.synapses)

    def input_gradient(self, pattern: Pattern, weight: Tensor, grad: Tensor) -> Tensor:
        """``(rows, in)`` of ``grad (rows, out)``."""
        return self._gather(weight, grad, *pattern.read_by_source, pattern.inputs, pattern.synapses)

    def weight_gradient(self, pattern: Pattern, grad: Tensor, x: Tensor) -> Tensor:
        """``(synapses,)`` of ``grad (rows, out)`` and ``x (rows, in)``."""
        made = self._make((pattern.synapses,), x, pattern.synapses)
        self.write_weight_gradient(grad, x, pattern.packed[1], pattern.packed_sources, made)
        return made

    def write_weight_gradient(self, grad: Tensor, x: Tensor, targets: Tensor, sources: Tensor, made: Tensor) -> None:
        """Write to ``made`` the gradient of the weight of each synapse, of ``grad (..., out)`` and ``x (..., in)``."""
        inputs, outputs, synapses = x.shape[-1], grad.shape[-1], len(targets)
        constants = WEIGHT_SETTINGS.constants
        kernel = load(WEIGHT, interpreting())[(-(-synapses // constants["BLOCK"]),)]
        with on_device(x.device):
            kernel(
                grad.contiguous(), x.contiguous(), targets, sources, made, inputs, outputs, x[..., 0].numel(),
                synapses, *constants.values(), num_warps=WEIGHT_SETTINGS.warps, enable_fp_fusion=False,
            )  # fmt: skip

    def _gather(self, weight: Tensor, x: Tensor, ids: Tensor, reads: Tensor, owners: int, synapses: int) -> Tensor:
        rows, width = x.shape
        made = self._make((rows, owners), x, synapses)
        if rows:
            constants = GATHER_SETTINGS.constants
            grid = (-(-owners // constants["BLOCK"]), -(-rows // constants["ROWS"]))
            if grid[1] > 65_535:
                half = rows // 2
                halves = x.split([half, rows - half])
                return torch.cat([self._gather(weight, part, ids, reads, owners, synapses) for part in halves])
            kernel = load(GATHER, interpreting())[grid]
            with on_device(x.device):
                kernel(
                    weight.contiguous(), x.contiguous(), ids, reads, made, len(ids), owners, width, rows, synapses,
                    *constants.values(), num_warps=GATHER_SETTINGS.warps, enable_fp_fusion=False,
                )  # fmt: skip
        return made

    def _make(self, shape: tuple[int, ...], like: Tensor, synapses: int) -> Tensor:
        check_runnable(like)
        if synapses >= _LIMIT:
            raise UnsupportedError(f"a sparse connection of {synapses} synapses is more than kernels can number")
        return self._empty(shape, dtype=torch.float32, device=like.device)
