"""Products with a delay for each synapse in Triton: one launch for the product, or for a gradient, of all steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snncompile.targets.late_product import Lags, LateTarget
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.courses import on_device
from snncompile.targets.triton.kernel import KernelSource
from snncompile.targets.triton.late_kernel import SUMS, VALUES, sums_settings, values_settings
from snncompile.targets.triton.load import load
from snncompile.targets.triton.sparse_kernel import SparseSettings

#: The most outputs, of which a grid has its second axis.
_MOST = 65_535
#: So many products without delays take as long as a late one: reckoned, not measured. Every multiplication of the late
#: one loads a value, which lies across two lines of the cache, and a processor of a GPU multiplies eight times as many
#: values as it loads of such; dense products reach some three quarters of that.
WORTH = 6


class LateKernels:
    """Products with a delay for each synapse.

    Args:
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    worth = WORTH

    def __init__(self, empty: Callable[..., Tensor] = torch.empty) -> None:
        self._empty = empty

    @property
    def sparse(self) -> LateTarget:
        """Computes those of inputs that are mostly zero, likewise: a GPU gains nothing by leaving them out."""
        return self

    @staticmethod
    def fits(lags: Lags, steps: int, batch: int) -> bool:
        """Whether rows can be numbered in 32 bits, and a grid has place for all features."""
        lanes = (2 * lags.depth + steps) * batch
        return lanes < 2**31 - 2**10 and lags.inputs * lags.taps < 2**31 and max(lags.outputs, lags.inputs) <= _MOST

    def forward(self, lags: Lags, x: Tensor, past: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`~snncompile.targets.late_product.LateTarget`."""
        steps, batch, _ = x.shape
        plane = self._plane(x, past, len(past), 0)
        made = self._make((steps, batch, lags.outputs), x)
        return self._sums(plane, lags.by_event, values.permute(1, 2, 0), bias, made, (lags.depth * batch, -batch))

    def expect_gradients(self) -> None:
        """Gradients of the values are to follow: nothing is to be done before."""

    def input_gradient(self, lags: Lags, values: Tensor, grad: Tensor, early: bool) -> tuple[Tensor, Tensor | None]:
        """See :class:`~snncompile.targets.late_product.LateTarget`."""
        steps, batch, _ = grad.shape
        before = lags.depth if early else 0
        plane = self._plane(grad, None, before, lags.depth)
        made = self._make((before + steps, batch, lags.inputs), grad)
        made = self._sums(plane, lags.by_output, values.permute(0, 2, 1), None, made, (0, batch))
        return made[before:], made[:before] if early else None

    def value_gradient(self, lags: Lags, grad: Tensor, x: Tensor, past: Tensor) -> Tensor:
        """See :class:`~snncompile.targets.late_product.LateTarget`."""
        steps, batch, inputs = x.shape
        made = self._make((inputs, lags.taps, lags.outputs), x)
        plane, rows = self._plane(x, past, len(past), 0), self._plane(grad, None, 0, 0)
        settings, terms = values_settings(lags.taps), inputs * lags.taps
        grid = -(-terms // settings.constants["TERMS"]), lags.outputs
        sizes = terms, lags.outputs, steps * batch, plane[0].numel(), lags.depth * batch, -batch
        self._launch(VALUES, settings, grid, plane, rows, lags.by_event, made, *sizes)
        return made.permute(2, 0, 1).contiguous()

    def _plane(self, x: Tensor, past: Tensor | None, before: int, after: int) -> Tensor:
        """A row for each feature: what came before, the steps, and zeros behind them, ``(features, steps, B)``."""
        steps, batch, features = x.shape
        plane = self._make((features, before + steps + after, batch), x)
        plane[:, before : before + steps] = x.permute(2, 0, 1)
        plane[:, before + steps :] = 0.0
        plane[:, :before] = 0.0 if past is None else past.permute(2, 0, 1)
        return plane

    def _sums(
        self, plane: Tensor, lags: Tensor, values: Tensor, bias: Tensor | None, made: Tensor, reading: tuple[int, int]
    ) -> Tensor:
        """``made (steps, B, out)``, from a plane, and lags and values of each term, ``(in, taps, out)``, read from
        where ``reading`` says, by so many lanes for each step."""
        inputs, taps, outputs = lags.shape
        lanes = made.shape[0] * made.shape[1]
        if lanes:
            settings = sums_settings(taps)
            sizes = settings.constants
            grid = -(-lanes // sizes["LANES"]), -(-outputs // sizes["OUTPUTS"])
            begin = made if bias is None else bias.contiguous()
            numbers = inputs * taps, outputs, lanes, plane[0].numel(), *reading, int(bias is not None)
            self._launch(SUMS, settings, grid, plane, lags, values.contiguous(), begin, made, *numbers)
        return made

    @staticmethod
    def _launch(
        source: KernelSource, settings: SparseSettings, grid: tuple[int, int], plane: Tensor, *args: Any
    ) -> None:
        kernel = load(source, interpreting())[grid]
        with on_device(plane.device):
            kernel(plane, *args, *settings.constants.values(), num_warps=settings.warps, enable_fp_fusion=False)

    def _make(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        check_runnable(like)
        return self._empty(shape, dtype=torch.float32, device=like.device)
