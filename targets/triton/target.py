"""The Triton target: one generated kernel runs a whole scan, forward or backward."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.cycle_call import CycleTarget
from snncompile.targets.late_product import LateTarget
from snncompile.targets.plastic_call import PlasticTarget
from snncompile.targets.plastic_region_call import PlasticRegionTarget
from snncompile.targets.recurrent_call import RecurrentTarget
from snncompile.targets.scan import (
    BackwardCall,
    BackwardResult,
    ForwardCall,
    ForwardResult,
    PanelSize,
    Scan,
    allocate,
    input_gradient,
)
from snncompile.targets.sparse import SparseTarget
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.backward import print_backward
from snncompile.targets.triton.config import Config, choose
from snncompile.targets.triton.courses import add_course, is_flat, on_device
from snncompile.targets.triton.forward import print_forward
from snncompile.targets.triton.kernel import KernelSource
from snncompile.targets.triton.load import load
from snncompile.targets.variant import Layout, backward_variant, forward_variant

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
        precision: of the products inside recurrent layers.
    """

    name = "triton"
    offsets = True
    panel = PanelSize(2**24, 2**24, False)  #: with what reads it, it stays in the chip's cache
    most_shared = 2**31  #: neurons that may read one signal, late by steps of their own

    def __init__(
        self, config: Config | None = None, empty: Callable[..., Tensor] = torch.empty, precision: str = "auto"
    ) -> None:
        self._config = config
        self._empty = empty
        self._precision = precision
        self._kernels: weakref.WeakKeyDictionary[Scan, dict[Any, Kernel]] = weakref.WeakKeyDictionary()

    @cached_property
    def sparse(self) -> SparseTarget:
        """Computes products with sparse weights."""
        from snncompile.targets.triton.sparse import SparseKernels

        return SparseKernels(self._empty)

    @cached_property
    def late(self) -> LateTarget:
        """Computes products whose synapses have delays."""
        from snncompile.targets.triton.late import LateKernels

        return LateKernels(self._empty)

    @cached_property
    def recurrent(self) -> RecurrentTarget:
        """Runs the recurrent layers that are one connection and one population."""
        from snncompile.targets.triton.recurrent import RecurrentLayers

        return RecurrentLayers(self._empty, self._precision)

    @cached_property
    def cycles(self) -> CycleTarget:
        """Runs cycles of any form."""
        from snncompile.targets.triton.cycle import Cycles

        return Cycles(self._empty)

    @cached_property
    def plastic(self) -> PlasticTarget:
        """Runs the layers that are one connection that learns, one population and one rule."""
        from snncompile.targets.triton.plastic import PlasticSequences

        return PlasticSequences(self._empty)

    @cached_property
    def plastic_regions(self) -> PlasticRegionTarget:
        """Runs regions that learn, of any form."""
        from snncompile.targets.triton.plastic_regions import PlasticRegions

        return PlasticRegions(self._empty)

    def forward(self, scan: Scan, call: ForwardCall) -> ForwardResult:
        """Run ``scan`` from the first step to the last, in one launch."""
        steps, batch, size = call.shape
        device = _device(call.inputs, call.states, call.coefs, _drawn(call))
        kernel = self._kernel(scan, forward_variant(call, is_flat), print_forward)
        result = allocate(call, partial(self._empty, dtype=torch.float32, device=device))
        count = _count(scan, batch, size)
        if count:
            source = kernel.source
            args: list[Any] = []
            _add_inputs(args, call, source, kernel.variant.layout)
            args += [call.coefs[i] for i in source.coefs]
            args += [*call.states, *result.stored.values(), *result.sums.values(), *result.finals, *result.saved, steps]
            if source.by_chunk:
                args.append(call.checkpoint)
            if source.by_neuron:
                args.append(size)
            args.append(count)
            if source.random:
                args.append(call.random)
            with on_device(device):
                kernel.launch(count, steps, args)
        return result

    def backward(self, scan: Scan, call: BackwardCall) -> BackwardResult:
        """Run the gradient of ``scan`` from the last step to the first, in one launch."""
        steps, batch, size = call.shape
        device = _device(call.inputs, call.saved, call.coefs, tuple(call.grads.values()), _drawn(call))
        kernel = self._kernel(scan, backward_variant(scan, call, is_flat), print_backward)
        source = kernel.source
        empty = partial(self._empty, dtype=torch.float32, device=device)
        shared = {x: one for x, one in zip(scan.inputs, call.late, strict=False) if one is not None and one.share > 1}
        inputs = {x: _room(call, scan.inputs.index(x), empty) for x in kernel.variant.need_inputs}
        starts = {s: empty((batch, size)) for s in source.carried}
        sums = {a: empty((batch, size)) for a in (scan.accumulators if call.need_accumulators else ())}
        count = _count(scan, batch, size)
        if count:
            args: list[Any] = []
            _add_inputs(args, call, source, kernel.variant.layout)
            args += [call.coefs[i] for i in source.coefs]
            args += [call.forward_coefs[i] for i in source.forward_coefs]
            args += [call.saved[i] for i in source.states]
            rows = min(call.checkpoint, steps)
            args += [empty((rows, batch, size)) for _ in source.scratch]
            flat_grads = dict(kernel.variant.grads)
            for r in source.grads:
                add_course(args, call.grads[r], flat_grads[r])
            finals = dict(zip(scan.states, call.grad_finals, strict=True))
            args += [finals[s] for s in source.carried if finals[s] is not None]
            args += inputs.values()
            for x, kind in kernel.variant.layout.late_of(scan.inputs).items():
                late = call.late[scan.inputs.index(x)]
                if x in inputs and kind != "one" and late is not None:
                    args += (len(late.past), late.steps)
            args += [*starts.values(), *sums.values(), steps]
            if source.by_chunk:
                args.append(call.checkpoint)
            if source.by_neuron:
                args.append(size)
            args.append(count)
            if source.random:
                args.append(call.random)
            with on_device(device):
                kernel.launch(count, steps, args)
        for x in shared.keys() & inputs.keys():
            total, i = inputs[x].unflatten(2, (-1, shared[x].share)).sum(3), scan.inputs.index(x)
            inputs[x] = call.room[i][: len(total)].add_(total) if i in call.room else total
        states = tuple(starts[s] if s in starts else empty((batch, size)).zero_() for s in scan.states)
        return BackwardResult(tuple(inputs.get(x) for x in scan.inputs), states, sums)

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


def _room(call: BackwardCall, i: int, empty: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """Where the kernel puts the gradient of input ``i``: where neurons share a signal each has a column of its own."""
    late = call.late[i] if call.late else None
    if late is None or late.share == 1:
        return input_gradient(call, i, empty)
    steps, batch, size = call.shape
    rows = len(call.room[i]) if i in call.room else len(late.past) + steps
    return empty((rows, batch, size)).zero_()


def _add_inputs(
    args: list[Any], call: ForwardCall | BackwardCall, source: KernelSource, layout: Layout
) -> None:
    """Append the inputs that a kernel reads, as it takes them."""
    for i in source.inputs:
        add_course(args, call.inputs[i], layout.inputs[i])
        late = call.late[i] if call.late else None
        if late is not None:
            args += (late.past, len(late.past), late.steps, *([late.share] if late.share > 1 else []))


def _count(scan: Scan, batch: int, size: int) -> int:
    count = batch * size
    if count >= _LIMIT:
        raise UnsupportedError(
            f"{scan.name}: {batch} sequences of {size} neurons are more than 2**31 elements. Split the batch"
        )
    return count


def _drawn(call: ForwardCall | BackwardCall) -> tuple[Tensor, ...]:
    return () if call.random is None else (call.random,)


def _device(*groups: tuple[Tensor, ...]) -> torch.device:
    tensor = next((t for group in groups for t in group), None)
    if tensor is None:
        raise UnsupportedError("a scan without inputs, states, coefficients and random numbers has no device to run on")
    check_runnable(tensor)
    return tensor.device


def _warp_size() -> int:
    return 64 if torch.version.hip else 32
