"""The Triton target: one generated kernel runs a whole scan, forward or backward."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.recurrent_call import RecurrentTarget
from snncompile.targets.scan import BackwardCall, BackwardResult, ForwardCall, ForwardResult, Scan
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.backward import print_backward
from snncompile.targets.triton.config import Config, choose
from snncompile.targets.triton.courses import add_course, is_flat, on_device
from snncompile.targets.triton.forward import print_forward
from snncompile.targets.triton.kernel import KernelSource
from snncompile.targets.triton.load import load
from snncompile.targets.triton.variant import BackwardVariant, ForwardVariant, Layout

_LIMIT = 2**31


@dataclass
class Kernel:
    """A kernel of one scan, ready to launch.

    Attributes:
        source: what it was printed from.
        variant: what it was printed for.
        function: the loaded ``@triton.jit`` function.
        fixed: settings to use instead of the ones chosen by size.
    """

    source: KernelSource
    variant: Any
    function: Any
    fixed: Config | None
    configs: dict[tuple[int, bool], Config] = field(default_factory=dict)

    def launch(self, count: int, steps: int, args: list[Any]) -> None:
        """Run it over ``count`` elements, on the device's current stream."""
        config = self.configs.get((count, steps == 1))
        if config is None:
            config = self.fixed or choose(count, self.source.streams, self.source.work, steps, _warp_size())
            self.configs[count, steps == 1] = config
        grid = (-(-count // config.block),)
        self.function[grid](*args, config.block, config.ahead, num_warps=config.warps, enable_fp_fusion=False)


class TritonTarget:
    """Runs scans with generated Triton kernels, on a CUDA or ROCm device or in Triton's interpreter.

    Args:
        config: launch settings to use for every kernel, instead of settings chosen by size.
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    name = "triton"

    def __init__(self, config: Config | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        self._config = config
        self._empty = empty
        self._kernels: weakref.WeakKeyDictionary[Scan, dict[Any, Kernel]] = weakref.WeakKeyDictionary()

    @cached_property
    def recurrent(self) -> RecurrentTarget:
        """Runs the recurrent layers that are one connection and one population."""
        from snncompile.targets.triton.recurrent import RecurrentSteps

        return RecurrentSteps(self._empty)

    def forward(self, scan: Scan, call: ForwardCall) -> ForwardResult:
        """Run ``scan`` from the first step to the last, in one launch."""
        steps, batch, size = call.shape
        device = _device(call.inputs, call.states, call.coefs)
        kernel = self._forward_kernel(scan, call)
        empty, like = self._empty, {"dtype": torch.float32, "device": device}
        stored = {r: empty((steps, batch, size), **like) for r in call.store}
        sums = {r: empty((batch, size), **like) for r in call.sums}
        finals = tuple(empty((batch, size), **like) for _ in scan.states)
        saves = -(-steps // call.checkpoint) if call.checkpoint else 0
        saved = tuple(empty((saves, batch, size), **like) for _ in scan.states) if call.checkpoint else ()
        count = _count(scan, batch, size)
        if count:
            source = kernel.source
            args: list[Any] = []
            for i in source.inputs:
                add_course(args, call.inputs[i], kernel.variant.layout.inputs[i])
            args += [call.coefs[i] for i in source.coefs]
            args += [*call.states, *stored.values(), *sums.values(), *finals, *saved, steps]
            if source.by_chunk:
                args.append(call.checkpoint)
            if source.by_neuron:
                args.append(size)
            args.append(count)
            with on_device(device):
                kernel.launch(count, steps, args)
        return ForwardResult(stored, sums, finals, saved)

    def backward(self, scan: Scan, call: BackwardCall) -> BackwardResult:
        """Run the gradient of ``scan`` from the last step to the first, in one launch."""
        steps, batch, size = call.shape
        device = _device(call.inputs, call.saved, call.coefs, tuple(call.grads.values()))
        kernel = self._backward_kernel(scan, call)
        source = kernel.source
        empty, like = self._empty, {"dtype": torch.float32, "device": device}
        inputs = {
            x: empty((steps, batch, size), **like)
            for x, need in zip(scan.inputs, call.need_inputs, strict=True)
            if need
        }
        starts = {s: empty((batch, size), **like) for s in source.carried}
        sums = {a: empty((batch, size), **like) for a in (scan.accumulators if call.need_accumulators else ())}
        count = _count(scan, batch, size)
        if count:
            args: list[Any] = []
            for i in source.inputs:
                add_course(args, call.inputs[i], kernel.variant.layout.inputs[i])
            args += [call.coefs[i] for i in source.coefs]
            args += [call.forward_coefs[i] for i in source.forward_coefs]
            args += [call.saved[i] for i in source.states]
            rows = min(call.checkpoint, steps)
            args += [empty((rows, batch, size), **like) for _ in source.scratch]
            flat_grads = dict(kernel.variant.grads)
            for r in source.grads:
                add_course(args, call.grads[r], flat_grads[r])
            finals = dict(zip(scan.states, call.grad_finals, strict=True))
            args += [finals[s] for s in source.carried if finals[s] is not None]
            args += [*inputs.values(), *starts.values(), *sums.values(), steps]
            if source.by_chunk:
                args.append(call.checkpoint)
            if source.by_neuron:
                args.append(size)
            args.append(count)
            with on_device(device):
                kernel.launch(count, steps, args)
        states = tuple(starts[s] if s in starts else torch.zeros((batch, size), **like) for s in scan.states)
        return BackwardResult(tuple(inputs.get(x) for x in scan.inputs), states, sums)

    def _forward_kernel(self, scan: Scan, call: ForwardCall) -> Kernel:
        layout = _layout(call.inputs, call.coefs, call.shape)
        save = "none" if not (call.checkpoint and scan.states) else "all" if call.checkpoint == 1 else "some"
        variant = ForwardVariant(layout, tuple(call.store), tuple(call.sums), save)
        return self._kernel(scan, variant, print_forward)

    def _backward_kernel(self, scan: Scan, call: BackwardCall) -> Kernel:
        replay = call.checkpoint > 1
        variant = BackwardVariant(
            _layout(call.inputs, call.coefs, call.shape),
            tuple(c.dim() == 0 for c in call.forward_coefs) if replay else (),
            replay,
            tuple((r, is_flat(call.grads[r], call.shape)) for r in scan.results if r in call.grads),
            tuple(s for s, g in zip(scan.states, call.grad_finals, strict=True) if g is not None),
            tuple(x for x, need in zip(scan.inputs, call.need_inputs, strict=True) if need),
            call.need_accumulators,
        )
        return self._kernel(scan, variant, print_backward)

    def _kernel(self, scan: Scan, variant: Any, printer: Callable[[Scan, Any], KernelSource]) -> Kernel:
        kernels = self._kernels.get(scan)
        if kernels is None:
            kernels = self._kernels[scan] = {}
        interpret = interpreting()
        kernel = kernels.get((variant, interpret))
        if kernel is None:
            source = printer(scan, variant)
            kernel = kernels[variant, interpret] = Kernel(source, variant, load(source, interpret), self._config)
        return kernel


def _layout(inputs: tuple[Tensor, ...], coefs: tuple[Tensor, ...], shape: tuple[int, int, int]) -> Layout:
    return Layout(tuple(is_flat(x, shape) for x in inputs), tuple(c.dim() == 0 for c in coefs))


def _count(scan: Scan, batch: int, size: int) -> int:
    count = batch * size
    if count >= _LIMIT:
        raise UnsupportedError(
            f"{scan.name}: {batch} sequences of {size} neurons are more than 2**31 elements. Split the batch"
        )
    return count


def _device(*groups: tuple[Tensor, ...]) -> torch.device:
    tensor = next((t for group in groups for t in group), None)
    if tensor is None:
        raise UnsupportedError("a scan without inputs, states and coefficients has no device to run on")
    check_runnable(tensor)
    return tensor.device


def _warp_size() -> int:
    return 64 if torch.version.hip else 32
