"""Recurrent layers with one fused kernel per time step: the product and the neurons' step together.

Products are float32, summed in an order that depends on nothing but N, with no tensor-core rounding. Batch and neurons
are tiled over programs. Memory for training: every state and the product, each ``(T, B, N)``, besides what is stored.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.recurrent_call import (
    RecurrentBackwardCall,
    RecurrentBackwardResult,
    RecurrentForwardCall,
    RecurrentForwardResult,
)
from snncompile.targets.scan import Scan
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.config import choose_tile
from snncompile.targets.triton.courses import add_course, is_flat, on_device
from snncompile.targets.triton.kernel import KernelSource
from snncompile.targets.triton.load import load
from snncompile.targets.triton.recurrent_kernel import RecurrentVariant, print_recurrent
from snncompile.targets.variant import Layout


class RecurrentSteps:
    """Runs recurrent layers, one launch a time step.

    Args:
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    def __init__(self, empty: Callable[..., Tensor] = torch.empty) -> None:
        self._empty = empty
        self._kernels: weakref.WeakKeyDictionary[Scan, dict[Any, tuple[KernelSource, Any]]]
        self._kernels = weakref.WeakKeyDictionary()

    def forward(self, scan: Scan, call: RecurrentForwardCall) -> RecurrentForwardResult:
        """Run from the first step to the last."""
        shape, device = call.shape, _checked(scan, call)
        variant = RecurrentVariant(
            False,
            call.port,
            call.source,
            _layout(call),
            _by_rows(call.weight),
            bias=call.bias is not None,
            store=tuple(call.store),
            train=call.train,
        )
        source, kernel = self._kernel(scan, variant)
        like = {"dtype": torch.float32, "device": device}
        wanted = [r for r in scan.results if r in call.store or r == call.source]
        stored = {r: self._empty(shape, **like) for r in wanted}
        finals = tuple(s.clone() for s in call.states)
        saved = tuple(self._empty(shape, **like) for _ in call.states) if call.train else ()
        product = self._empty(shape, **like) if call.train else None
        args = _weight_args(call.weight)
        args += [t for t in (call.bias, call.start) if t is not None]
        _add_inputs(args, source, call)
        args += [call.coefs[i] for i in source.coefs]
        args += [*finals, *stored.values(), *saved]
        args += [] if product is None else [product]
        self._launch(kernel, device, args, shape, range(shape[0]))
        return RecurrentForwardResult(stored, finals, saved, product)

    def backward(self, scan: Scan, call: RecurrentBackwardCall) -> RecurrentBackwardResult:
        """Run the gradient from the last step to the first."""
        shape, device = call.shape, _checked(scan, call)
        needed = tuple(x for x, n in zip(scan.inputs, call.need_inputs, strict=True) if n and x != call.port)
        variant = RecurrentVariant(
            True,
            call.port,
            call.source,
            _layout(call),
            _by_rows(call.weight),
            grads=tuple((r, is_flat(call.grads[r], shape)) for r in scan.results if r in call.grads),
            finals=tuple(s for s, g in zip(scan.states, call.grad_finals, strict=True) if g is not None),
            need_inputs=needed,
            need_accumulators=call.need_accumulators,
        )
        source, kernel = self._kernel(scan, variant)
        like = {"dtype": torch.float32, "device": device}
        zero = torch.zeros(shape[1:], **like)
        states = {
            s: zero.clone() if g is None else g.clone() for s, g in zip(scan.states, call.grad_finals, strict=True)
        }
        product = self._empty(shape, **like)
        inputs = {x: self._empty(shape, **like) for x in needed}
        sums = {a: zero.clone() for a in (scan.accumulators if call.need_accumulators else ())}
        args = _weight_args(call.weight)
        _add_inputs(args, source, call)
        args += [call.product, *(call.coefs[i] for i in source.coefs), *(call.saved[i] for i in source.states)]
        flat = dict(variant.grads)
        for r in source.grads:
            add_course(args, call.grads[r], flat[r])
        args += [*(states[s] for s in source.carried), product, *inputs.values(), *sums.values(), shape[0]]
        self._launch(kernel, device, args, shape, reversed(range(shape[0])))
        start = product[0] @ call.weight if shape[0] else zero
        return RecurrentBackwardResult(
            tuple(inputs.get(x) for x in scan.inputs), product, start, tuple(states.values()), sums
        )

    def _kernel(self, scan: Scan, variant: RecurrentVariant) -> tuple[KernelSource, Any]:
        interpret = interpreting()
        kernels = self._kernels.setdefault(scan, {})
        if (variant, interpret) not in kernels:
            source = print_recurrent(scan, variant)
            kernels[variant, interpret] = source, load(source, interpret)
        return kernels[variant, interpret]

    @staticmethod
    def _launch(kernel: Any, device: torch.device, args: list[Any], shape: tuple[int, int, int], steps: Any) -> None:
        _, batch, size = shape
        if not batch * size:
            return
        tile = choose_tile(size)
        launch = kernel[-(-batch // tile.rows), -(-size // tile.columns)]
        constants = tile.constants.values()
        with on_device(device):
            for t in steps:
                launch(*args, batch, size, t, *constants, num_warps=tile.warps, enable_fp_fusion=False)


def _checked(scan: Scan, call: RecurrentForwardCall | RecurrentBackwardCall) -> torch.device:
    check_runnable(call.weight)
    size = call.shape[2]
    if size * size >= 2**31 or call.shape[1] * size >= 2**31:
        raise UnsupportedError(f"{scan.name}: a recurrent layer of {size} neurons has more than 2**31 elements")
    return call.weight.device


def _layout(call: RecurrentForwardCall | RecurrentBackwardCall) -> Layout:
    flat = tuple(x is None or is_flat(x, call.shape) for x in call.inputs)
    return Layout(flat, tuple(c.dim() == 0 for c in call.coefs))


def _by_rows(weight: Tensor) -> bool:
    return weight.stride(1) == 1


def _weight_args(weight: Tensor) -> list[Any]:
    return [weight, weight.stride(0)] if _by_rows(weight) else [weight, *weight.stride()]


def _add_inputs(args: list[Any], source: KernelSource, call: RecurrentForwardCall | RecurrentBackwardCall) -> None:
    for i in source.inputs:
        add_course(args, call.inputs[i], is_flat(call.inputs[i], call.shape))
