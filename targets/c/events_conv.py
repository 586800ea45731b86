"""Event-driven convolutions in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snncompile.targets.c.calling import Caller, check_all, scratch, zeros
from snncompile.targets.c.compiler import ahead, function
from snncompile.targets.c.events_conv_source import FUNCTIONS, TURNED, Taps, source, taps_of
from snncompile.targets.event_conv import Window

#: Into how many parts the images are divided for the weight's gradient, at most, and the values of all their sums.
_PARTS, SUMS = 16, 2**22
#: Images whose events are listed together, at most.
BLOCK = 32


class EventConvs(Caller):
    """Convolutions of mostly zero images."""

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
        """``x (images, C, H, W)`` with ``weight (O, C / groups, kh, kw)`` plus ``bias (O,)``: ``(images, O, h, w)``."""
        check_all(x, weight)
        images, _, *size = x.shape
        rows, columns = window.output(size, weight.shape[2:])
        out = self._make((images, len(weight), rows, columns))
        if out.numel():
            taps = taps_of(weight.shape, window)
            team, plane = self._team(x.numel() + out.numel(), images), size[0] * size[1]
            lists, values = scratch(team * (plane + 1), dtype=torch.int32), scratch(team * (plane + 1))
            sums = scratch(team * rows * columns * taps.outputs)
            fixed = None if bias is None else bias.contiguous()
            held = (x.contiguous(), turned(weight, window.groups))
            run = _function("forward", taps)
            ends = (window.groups, weight.shape[1], *size, rows, columns, team)
            at = [t.data_ptr() for t in held] + [0 if fixed is None else fixed.data_ptr()]
            run(*at, *(t.data_ptr() for t in (lists, values, sums, out)), images, *ends)
        return out

    def expect_conv_gradients(self, weight: Tensor, window: Window) -> None:
        """A call of :meth:`conv_gradients` is to follow."""
        _begin("weight", taps_of(weight.shape, window))

    def conv_gradients(
        self, grad: Tensor, x: Tensor, kernel: tuple[int, int], window: Window
    ) -> tuple[Tensor, Tensor]:
        """Gradients of weight ``(O, C / groups, kh, kw)`` and bias ``(O,)`` from ``grad (images, O, h, w)``."""
        check_all(grad, x)
        images, channels, *size = x.shape
        outputs, rows, columns = grad.shape[1:]
        shape = (outputs, channels // window.groups, *kernel)
        if not grad.numel() or not x.numel():
            return zeros(*shape), zeros(outputs)
        taps, plane = taps_of(shape, window), size[0] * size[1]
        parts = max(1, min(_PARTS, images, SUMS // (channels * kernel[0] * kernel[1] * taps.outputs)))
        block = max(1, min(BLOCK, -(-images // parts), TURNED // (rows * columns * taps.outputs)))
        sums, bias = self._make((parts, *turned_shape(shape, window.groups))), self._make((parts, outputs))
        team = self._team(x.numel() + grad.numel(), parts)
        lists, values = scratch(team * plane * (block + 1), dtype=torch.int32), scratch(team * plane * block)
        turned = scratch(team * block * rows * columns * taps.outputs)
        held = (x.contiguous(), grad.contiguous(), lists, values, turned, sums, bias)
        run = _function("weight", taps)
        run(*(t.data_ptr() for t in held), images, window.groups, shape[1], *size, rows, columns, block, parts, team)
        return weight_of(sums, shape), bias.sum(0)


def turned(weight: Tensor, groups: int) -> Tensor:
    """``weight (O, C / groups, kh, kw)`` as ``(C, kh, kw, O / groups)``, the last column first."""
    apart = weight.unflatten(0, (groups, -1)).permute(0, 2, 3, 4, 1)
    return apart.flip(3).contiguous()


def turned_shape(shape: Sequence[int], groups: int) -> tuple[int, ...]:
    """The shape in which the gradient of a weight ``(O, C / groups, kh, kw)`` is added up, by groups."""
    outputs, *inner = shape
    return (groups, *inner, outputs // groups)


def weight_of(sums: Tensor, shape: Sequence[int]) -> Tensor:
    """The gradient of a weight of ``shape`` from that of its parts, as :func:`turned`."""
    return sums.sum(0).flip(3).permute(0, 4, 1, 2, 3).reshape(tuple(shape))


@cache
def _begin(way: str, taps: Taps) -> None:
    ahead(FUNCTIONS[way][0], source(taps, way))


@cache
def _function(way: str, taps: Taps) -> Callable[..., Any]:
    name, types = FUNCTIONS[way]
    return function(name, source(taps, way), types)
