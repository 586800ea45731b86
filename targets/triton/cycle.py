"""Cycles of any form with one generated kernel for the whole sequence, forward and backward.

A program takes some sequences through all steps, and waits for nobody; or, where there are many weights, several
programs share these sequences. Of a line that nobody wants, as many steps are kept as something reads.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.cycle_blocks import Blocks, blocks_back, blocks_of
from snncompile.targets.cycle_call import (
    CycleBackwardCall,
    CycleBackwardResult,
    CycleForwardCall,
    CycleForwardResult,
)
from snncompile.targets.cycle_limits import is_large, way_of
from snncompile.targets.cycle_lines import Make, backward_result, forward_lines, gradient_lines, nothing_ran
from snncompile.targets.cycle_plan import CyclePlan
from snncompile.targets.cycle_weights import Synapses, Weights
from snncompile.targets.scan import late_gradient
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.courses import on_device
from snncompile.targets.triton.cycle_backward import CycleBackward, print_cycle_backward
from snncompile.targets.triton.cycle_design import CycleSettings, choose_settings
from snncompile.targets.triton.cycle_forward import CycleForward, print_cycle_forward
from snncompile.targets.triton.cycle_given import Given, ring_rows
from snncompile.targets.triton.cycle_shared_design import (
    FORM_VARIABLE,
    LISTED,
    SharedSettings,
    check_form,
    choose_shared,
    listed_products,
)
from snncompile.targets.triton.cycle_tables import in_order, pairs
from snncompile.targets.triton.cycle_writer import CycleKernel
from snncompile.targets.triton.load import load
from snncompile.targets.triton.meeting import APART
from snncompile.targets.triton.recurrent_launch import launch_together, processors
from snncompile.targets.triton.sparse import SparseKernels

_LIMIT = 2**31


@dataclass(frozen=True)
class _Kernel:
    source: CycleKernel
    function: Any


class Cycles:
    """Runs cycles with generated kernels.

    Args:
        empty: allocates outputs; tests hand in one that fills them with NaN.
        settings: launch settings to use for every kernel, instead of those chosen by size.
        form: the form of every kernel, one of :data:`~snncompile.targets.triton.cycle_shared_design.FORMS`, instead of
            the one chosen by size.
        least: inputs from which on a product of a shared cycle reads lists of what is not zero.
    """

    #: Signals from outside may be read late.
    offsets = True

    def __init__(
        self,
        empty: Callable[..., Tensor] = torch.empty,
        settings: CycleSettings | None = None,
        form: str | None = None,
        least: int = LISTED,
    ) -> None:
        self._empty = empty
        self._settings = settings
        self._form = check_form(form or os.environ.get(FORM_VARIABLE) or None)
        self._least = least
        self._blocks: weakref.WeakKeyDictionary[CyclePlan, Blocks] = weakref.WeakKeyDictionary()
        self._kernels: weakref.WeakKeyDictionary[CyclePlan, dict[Hashable, _Kernel]] = weakref.WeakKeyDictionary()

    def forward(self, plan: CyclePlan, call: CycleForwardCall) -> CycleForwardResult:
        """Run from the first step to the last."""
        device = _device(*call.inputs, *call.starts.values())
        check_size(plan, call.shape[1])
        make = self._make(device)
        steps, batch = call.shape
        live = plan.live((*call.store, *call.sums), call.keep)
        late = self._late(plan, call.shape, device, back=False)
        lines = forward_lines(plan, call, live, make, partial(ring_rows, late=late))
        sums = tuple(make((batch, plan.lines[read.line].size)).zero_() for read in call.sums)
        if steps * batch:
            bias = tuple(w.bias is not None for w in call.weights)
            listed = listed_products(plan, _synapses(plan, call.weights), self._least) if late else ()
            variant = CycleForward(_scalar(plan, call.coefs), bias, live, call.sums, late, listed)
            kernel = self._kernel(plan, variant, print_cycle_forward)
            given = Given(plan, kernel.source, call.shape, device)
            given.inputs(call.inputs, call.late)
            given.lines("line", lines)
            given.coefs("coefficient", {n: scan.coefs for n, scan in plan.scans.items()}, call.coefs)
            given.lists(listed, late, make)
            given.weights(call.weights, back=False)
            given.images(call.masks, back=False, make=make)
            given.values[("random",)] = call.random
            given.values |= {("sum", i): total for i, total in enumerate(sums)}
            self._run(kernel, given, late)
        return CycleForwardResult(tuple(lines), sums)

    def backward(self, plan: CyclePlan, call: CycleBackwardCall) -> CycleBackwardResult:
        """Run the gradient from the last step to the first."""
        kept = (line for line in call.lines if line is not None)
        device = _device(*call.inputs, *kept, *(g for _, g in call.grads), *call.finals.values())
        make = self._make(device)
        steps, batch = call.shape
        late = self._late(plan, call.shape, device, back=True)
        variant = CycleBackward(
            _scalar(plan, call.coefs),
            tuple(read for read, _ in call.grads),
            tuple(i for i in sorted(call.finals) if plan.lines[i].is_state),
            tuple(i for i, need in enumerate(call.need_inputs) if need),
            call.need_accumulators,
            late,
        )
        late_by = call.late or (None,) * len(call.inputs)
        inputs = {i: late_gradient(late_by[i], (steps, batch, plan.sizes[i]), make) for i in variant.need_inputs}
        sums = {
            n.name: {a: make((batch, plan.size_of(n))).zero_() for a in plan.scans[n.name].accumulators}
            for n in plan.neurons
            if n.name in call.need_accumulators
        }
        if not steps * batch:
            return nothing_ran(plan, call, inputs, sums, make)
        kernel = self._kernel(plan, variant, print_cycle_backward)
        graded = [i for i in range(len(plan.lines)) if ("grad", i) in kernel.source.given]
        grads = gradient_lines(plan, call, graded, make, partial(ring_rows, late=late))
        given = Given(plan, kernel.source, call.shape, device)
        given.inputs(call.inputs, call.late)
        given.lines("line", call.lines)
        given.lines("grad", grads)
        given.coefs("reverse coefficient", {n: scan.reverse_coefs for n, scan in plan.scans.items()}, call.coefs)
        given.weights(call.weights, back=True)
        given.images(call.masks, back=True, make=make)
        given.values[("random",)] = call.random
        for i, (_, grad) in enumerate(call.grads):
            given.values[("given", i)] = grad
            for what, stride in zip(("time", "batch", "neurons"), grad.stride(), strict=True):
                given.values[(f"given {what}", i)] = stride
        given.values |= {("grad input", i): grad for i, grad in inputs.items()}
        given.values |= {("accumulator", n, a): total for n, each in sums.items() for a, total in each.items()}
        self._run(kernel, given, late)
        return backward_result(plan, call, grads, inputs, sums, make)

    def synapse_gradient(self, synapses: Synapses, grad: Tensor, courses: Sequence[Tensor]) -> Tensor:
        """The gradient ``(synapses,)`` of a sparse product's weights."""
        sources, bounds = pairs(synapses)
        made = self._make(grad.device)((len(synapses.targets),))
        write = SparseKernels(self._empty).write_weight_gradient
        for course, first, end in zip(courses, bounds[:-1], bounds[1:], strict=True):
            if first < end:
                write(grad, course, synapses.targets[first:end], sources[first:end], made[first:end])
        return made

    def _make(self, device: torch.device) -> Make:
        return partial(self._empty, dtype=torch.float32, device=device)

    def _kernel(self, plan: CyclePlan, variant: Any, printer: Callable[[CyclePlan, Any], CycleKernel]) -> _Kernel:
        made = self._kernels.get(plan)
        if made is None:
            made = self._kernels[plan] = {}
        interpret = interpreting()
        found = made.get((variant, interpret))
        if found is None:
            source = printer(plan, variant)
            found = made[variant, interpret] = _Kernel(source, load(source, interpret))
        return found

    def _late(self, plan: CyclePlan, shape: tuple[int, int], device: torch.device, back: bool) -> int:
        """Steps of a block where several programs share ``plan``, or 0."""
        steps, batch = shape
        form = self._form or ("several" if isinstance(self._settings, SharedSettings) else None)
        if form == "several" and device.type == "cuda" and torch.version.hip:
            raise UnsupportedError("programs that share a cycle need an NVIDIA GPU: leave its form to snncompile")
        if form == "one" or (form is None and (self._settings or not way_of(plan, "triton").several)):
            return 0
        blocks = self._blocks.get(plan)
        if blocks is None:
            blocks = self._blocks[plan] = blocks_of(plan)
        late = blocks_back(plan, blocks.late) if back else blocks.late
        settings, meetings = self._shared(plan, batch, late, device), 2 * len(plan.steps) + 2
        count = (-(-steps // late) + 1) * meetings * settings.shares  # of arrivals at most, in 32 bits
        alone = form is None and not is_large(plan) and 2 * -(-batch // settings.rows) > processors(device)
        return 0 if alone or count >= _LIMIT else late

    def _shared(self, plan: CyclePlan, batch: int, late: int, device: torch.device) -> SharedSettings:
        if isinstance(self._settings, SharedSettings):
            return self._settings
        return choose_shared(plan, batch, late, processors(device))

    def _run(self, kernel: _Kernel, given: Given, late: int) -> None:
        _, batch = given.shape
        if late:
            self._run_shared(kernel, given, late)
            return
        settings = self._settings or choose_settings(given.plan, batch, 64 if torch.version.hip else 32)
        args = [given.values[key] for key in kernel.source.given]
        with on_device(given.device):
            kernel.function[(-(-batch // settings.rows),)](
                *args, *settings.constants.values(),
                num_warps=settings.warps, num_stages=settings.stages, enable_fp_fusion=False,
                **settings.more(not torch.version.hip),
            )  # fmt: skip

    def _run_shared(self, kernel: _Kernel, given: Given, late: int) -> None:
        _, batch = given.shape
        settings = self._shared(given.plan, batch, late, given.device)
        tiles = -(-batch // settings.rows)
        given.values[("late",)] = late
        given.values[("arrived",)] = torch.zeros(tiles * APART, dtype=torch.int32, device=given.device)
        options = {"num_warps": settings.warps, "num_stages": settings.stages, "enable_fp_fusion": False}
        options |= {**settings.more(True), "launch_cooperative_grid": True}
        with on_device(given.device):
            for first in range(0, tiles, settings.at_once):
                given.values[("group",)] = first
                args = [given.values[key] for key in kernel.source.given]
                grid = min(settings.at_once, tiles - first), settings.shares
                launch_together(kernel.function, grid, [*args, *settings.constants.values()], options)


def _synapses(plan: CyclePlan, weights: Sequence[Weights]) -> list[int | None]:
    """Per product, how many synapses it lists, 0 where they are in no order, None where it is dense."""
    found: list[int | None] = []
    for product, w in zip(plan.products, weights, strict=True):
        s = w.synapses
        found.append(None if s is None else len(s.targets) if in_order(s, plan.lines[product.line].size) else 0)
    return found


def _scalar(plan: CyclePlan, coefs: Mapping[str, tuple[Tensor, ...]]) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple([not c.dim() for c in coefs[n.name]]) for n in plan.neurons)


def check_size(plan: CyclePlan, batch: int) -> None:
    """Raise :class:`UnsupportedError` where a step of a signal has more elements than 32 bits count."""
    sizes = {line.key: line.size for line in plan.lines}
    sizes |= {str(edge.source): size for edge, size in zip(plan.outside, plan.sizes, strict=True)}
    name, size = max(sizes.items(), key=lambda item: item[1])
    if batch * size >= _LIMIT:
        raise UnsupportedError(
            f"{name}: {batch} sequences of {size} values are more than 2**31 elements. Split the batch"
        )


def _device(*tensors: Tensor) -> torch.device:
    """Where a cycle runs."""
    check_runnable(tensors[0])  # a cycle has a late edge or a delay, whose start is a tensor
    return tensors[0].device
