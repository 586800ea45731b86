"""The C target: one generated function runs a whole scan, forward or backward, on the host's processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import lcm, prod
from typing import Any

import torch
from torch import Tensor

from snncompile.targets.c.backward import print_backward
from snncompile.targets.c.calling import Caller, PerScan, check_all
from snncompile.targets.c.compiler import function
from snncompile.targets.c.courses import add_course, unit
from snncompile.targets.c.forward import print_forward
from snncompile.targets.c.kernel import FEW_LANES, LANES, LATE_LANES, KernelSource
from snncompile.targets.c.stepping import MOST_PRODUCTS, make_step, packed_source
from snncompile.targets.conv_scan import ConvScanTarget
from snncompile.targets.cycle_call import CycleTarget
from snncompile.targets.event_linear import EventTarget
from snncompile.targets.late_product import LateTarget
from snncompile.targets.plastic_call import PlasticTarget
from snncompile.targets.plastic_region_call import PlasticRegionTarget
from snncompile.targets.pooling import PoolTarget, Windows
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
from snncompile.targets.stepping import LinearStep, ScanStep
from snncompile.targets.variant import ForwardVariant, Layout, backward_variant, forward_variant

#: Scans whose states over all steps take this many bytes save those of every so many steps only.
SAVE_SOME_FROM, SAVE_EVERY = 2**20, 32
#: The same for scans of few steps, where there is less to be gained.
SAVE_OFTEN_FROM, SAVE_OFTEN = 2**21, 8


@dataclass(frozen=True)
class Kernel:
    """A function of one scan, ready to call."""

    source: KernelSource
    run: Callable[..., Any]


class CTarget(Caller):
    """Runs scans with generated C, on the CPU.

    Args:
        threads: how many threads to use for every call, instead of up to torch's number, by size.
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    name = "c"
    offsets = True
    panel = PanelSize(2**21, 2**23, True, choose=True)  #: what the caches of a core hold, measured
    most_shared = LANES  #: neurons that may read one signal, late by steps of their own

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        super().__init__(threads, empty)
        self._kernels: PerScan[Kernel] = PerScan()

    @cached_property
    def recurrent(self) -> RecurrentTarget:
        """Runs the recurrent layers that are one connection and one population."""
        from snncompile.targets.c.recurrent import RecurrentLayers

        return RecurrentLayers(self._threads, self._empty)

    @cached_property
    def cycles(self) -> CycleTarget:
        """Runs cycles of any form."""
        from snncompile.targets.c.cycle import Cycles

        return Cycles(self._threads, self._empty)

    @cached_property
    def sparse(self) -> SparseTarget:
        """Computes products with sparse weights."""
        from snncompile.targets.c.sparse import SparseProducts

        return SparseProducts(self._threads, self._empty)

    @cached_property
    def late(self) -> LateTarget:
        """Computes products whose synapses have delays."""
        from snncompile.targets.c.late import LateProducts

        return LateProducts(self._threads, self._empty)

    @cached_property
    def plastic(self) -> PlasticTarget:
        """Runs layers that learn."""
        from snncompile.targets.c.plastic import PlasticLayers

        return PlasticLayers(self._threads, self._empty)

    @cached_property
    def plastic_regions(self) -> PlasticRegionTarget:
        """Runs whatever else learns."""
        from snncompile.targets.c.plastic_regions import PlasticRegions

        return PlasticRegions(self._threads, self._empty)

    @cached_property
    def pools(self) -> PoolTarget:
        """Runs pooling by windows that tile the image."""
        from snncompile.targets.c.pools import Pools

        return Pools(self._threads, self._empty)

    @cached_property
    def events(self) -> EventTarget:
        """Computes products of sparse inputs."""
        from snncompile.targets.c.events import EventProducts

        return EventProducts(self._threads, self._empty)

    @cached_property
    def conv_scans(self) -> ConvScanTarget:
        """Runs scans whose one input is a convolution of sparse images."""
        from snncompile.targets.c.conv_scan import ConvScans

        return ConvScans(self._threads, self._empty)

    def forward(self, scan: Scan, call: ForwardCall) -> ForwardResult:
        """Run ``scan`` from the first step to the last."""
        steps, batch, size = call.shape
        check_all(*call.inputs, *call.states, *call.coefs)
        result = allocate(call, self._make)
        if not batch * size:
            return result
        variant = forward_variant(call, unit)
        kernel = self._kernel(scan, variant, print_forward)
        source = kernel.source
        courses = [call.inputs[i] for i in source.inputs]
        rows, lanes, each = _layout(call.shape, courses)
        band = call.windows.band if call.windows else _shared(call)
        coefs = [each(call.coefs[i]) for i in source.coefs]
        args: list[int] = []
        held = _add_inputs(args, call, source.inputs, variant.layout.inputs, each)
        for group in (coefs, call.states, result.stored.values(), result.sums.values(), result.finals, result.saved):
            args += [t.data_ptr() for t in group]
        args.append(steps)
        if source.by_chunk:
            args.append(call.checkpoint)
        if source.random and call.random is not None:
            args.append(call.random.data_ptr())
        team = self._threads_for(steps, rows, lanes)
        kernel.run(*args, rows, lanes, _width(rows, lanes, team, band, _most_lanes(call)), team)
        del held
        return result

    @staticmethod
    def pools_scan(windows: Windows) -> bool:
        """Whether a scan can pool by ``windows``: a row of them must fit into a block."""
        return windows.band <= LANES

    def step(
        self,
        scan: Scan,
        coefs: tuple[Tensor, ...],
        batch: int,
        size: int,
        store: tuple[str, ...],
        linear: LinearStep | None = None,
    ) -> ScanStep:
        """A function that runs one step of ``scan``: :mod:`snncompile.targets.stepping`."""
        unit = (True,) * len(scan.inputs)
        variant = ForwardVariant(Layout(unit, tuple([not c.dim() for c in coefs])), store, (), "none")

        def build() -> Kernel:
            source = print_forward(scan, variant)
            return Kernel(source, function(*packed_source(source, linear is not None)))

        kernel = self._kernels.get(scan, ("step", linear is not None, variant), build)
        used, team = [coefs[i] for i in kernel.source.coefs], self._threads_for(1, batch, size)
        tail = (1, batch, size, _width(batch, size, team), team)
        count, states, cells, alone = len(store), len(scan.states), (batch, size), (scan, coefs, batch, size, store)
        make = _maker(cells) if self._empty is torch.empty else partial(self._make, cells)
        return make_step(
            kernel.run, kernel.source, used, batch, size, count, states, make, tail, linear, lambda: self.step(*alone)
        )

    @staticmethod
    def steps_product(batch: int, inputs: int, outputs: int) -> bool:
        """Whether a step with a product of that size is better done in one call."""
        return batch * inputs * outputs <= MOST_PRODUCTS

    def backward(self, scan: Scan, call: BackwardCall) -> BackwardResult:
        """Run the gradient of ``scan`` from the last step to the first."""
        steps, batch, size = call.shape
        grads, windows = call.grads, call.windows
        if windows is not None and windows.result in grads and grads[windows.result].stride(2) != 1:
            grads = {**grads, windows.result: grads[windows.result].contiguous()}
        check_all(*call.inputs, *call.saved, *call.coefs, *grads.values())
        variant = backward_variant(scan, call, unit)
        kernel = self._kernel(scan, variant, print_backward)
        source = kernel.source
        empty, cells = self._make, (batch, size)
        places = {x: scan.inputs.index(x) for x in variant.need_inputs}
        inputs = {x: self._gradient(call, i) for x, i in places.items()}
        starts = {s: empty(cells) for s in source.carried}
        sums = {a: empty(cells) for a in (scan.accumulators if call.need_accumulators else ())}
        if batch * size:
            courses = [call.inputs[i] for i in source.inputs]
            given = [grads[r] for r in source.grads]
            pooled = windows.result if windows else None
            rows, lanes, each = _layout(call.shape, [*courses, *given, *inputs.values()])
            coefs = [call.coefs[i] for i in source.coefs] + [call.forward_coefs[i] for i in source.forward_coefs]
            coefs = [each(c) for c in coefs]
            args: list[int] = []
            held = _add_inputs(args, call, source.inputs, variant.layout.inputs, each)
            args += [c.data_ptr() for c in coefs]
            args += [call.saved[i].data_ptr() for i in source.states]
            units = dict(variant.grads)
            for r, grad in zip(source.grads, given, strict=True):
                add_course(args, grad, units[r] or r == pooled)
            finals = dict(zip(scan.states, call.grad_finals, strict=True))
            args += [g.data_ptr() for s in source.carried if (g := finals[s]) is not None]
            for x, grad in inputs.items():
                late = call.late[places[x]] if call.late else None
                if late is not None and late.share > 1:
                    args.append(late.share)
                if places[x] in call.room or late is None or late.share > 1:
                    add_course(args, grad, True)
                else:
                    args.append(grad.data_ptr())
            for x in variant.layout.late_of(scan.inputs):
                late = call.late[scan.inputs.index(x)]
                if x in inputs and late is not None and isinstance(late.steps, Tensor):
                    held.append(each(late.steps))
                    args += (len(late.past), held[-1].data_ptr())
            for group in (starts, sums):
                args += [t.data_ptr() for t in group.values()]
            args.append(steps)
            team = self._threads_for(steps, rows, lanes)
            width = _width(rows, lanes, team, windows.band if windows else _shared(call), _most_lanes(call))
            chunk = max(1, min(call.checkpoint, steps))
            scratch = torch.empty(team * chunk * source.scratch * width, dtype=torch.float32, device="cpu")
            if source.by_chunk:
                args.append(chunk)
            if source.random and call.random is not None:
                args.append(call.random.data_ptr())
            if source.by_chunk:
                args.append(scratch.data_ptr())
            kernel.run(*args, rows, lanes, width, team)
            del held
        states = tuple([starts[s] if s in starts else self._make(cells).zero_() for s in scan.states])
        return BackwardResult(tuple([inputs.get(x) for x in scan.inputs]), states, sums)

    @staticmethod
    def checkpoint(states: int, shape: tuple[int, int, int]) -> int:
        """How often states are best saved: replaying steps is quicker than moving what does not stay in the cache."""
        size = 4 * states * prod(shape)
        if size >= SAVE_SOME_FROM and shape[0] > 2 * SAVE_EVERY:
            return SAVE_EVERY
        return SAVE_OFTEN if size >= SAVE_OFTEN_FROM and shape[0] > 2 * SAVE_OFTEN else 1

    def _gradient(self, call: BackwardCall, i: int) -> Tensor:
        """The gradient of input ``i``, still to be written, in the input's own memory order: what comes before it in
        the network computed in that order, and its gradient will."""
        x = call.inputs[i]
        if (call.late and call.late[i] is not None) or x.is_contiguous() or not x.transpose(0, 1).is_contiguous():
            return input_gradient(call, i, self._make)
        steps, batch, size = call.shape
        return self._make((batch, steps, size)).transpose(0, 1)

    def _kernel(self, scan: Scan, variant: Any, printer: Callable[[Scan, Any], KernelSource]) -> Kernel:
        def make() -> Kernel:
            source = printer(scan, variant)
            return Kernel(source, function(source.name, source.text, source.types))

        return self._kernels.get(scan, variant, make)

    def _threads_for(self, steps: int, rows: int, lanes: int) -> int:
        return self._team(steps * rows * lanes, rows * -(-lanes // FEW_LANES))


def _maker(cells: tuple[int, int]) -> Callable[[], Tensor]:
    """What makes a tensor of that shape, in the quickest way there is."""
    return partial(torch.empty_like, torch.empty(cells, dtype=torch.float32, device="cpu"))


def _width(rows: int, lanes: int, team: int, band: int = 1, most: int = LANES) -> int:
    """Neurons of a block: many, so that each step reads far in one place, but a block for every thread; whole bands."""
    width = most
    while width > FEW_LANES and rows * -(-lanes // width) < team:
        width //= 2
    return max(width // band, 1) * band


def _layout(shape: tuple[int, int, int], courses: list[Tensor]) -> tuple[int, int, Callable[[Tensor], Tensor]]:
    """Rows and neurons that the function shall see, and what makes of a coefficient one for them.

    Where a time step of every course is contiguous, the batch is as good as more neurons: then few neurons fill blocks.
    """
    _, batch, size = shape
    if batch == 1 or size % FEW_LANES == 0:
        return batch, size, _same
    for x in courses:
        _, row, column = x.stride()
        if row != x.shape[2] or (column != 1 and row != 1):
            return batch, size, _same
    return 1, batch * size, lambda c: c.repeat(batch) if c.dim() else c


def _same(coefficient: Tensor) -> Tensor:
    return coefficient


def _most_lanes(call: ForwardCall | BackwardCall) -> int:
    """Neurons of a block, at most."""
    return LATE_LANES if any([one is not None and one.kind != "one" for one in call.late]) else LANES


def _shared(call: ForwardCall | BackwardCall) -> int:
    """Neurons that no block may part: those that read one signal."""
    return lcm(*(one.share for one in call.late if one is not None)) if call.late else 1


def _add_inputs(
    args: list[int],
    call: ForwardCall | BackwardCall,
    read: tuple[int, ...],
    units: tuple[bool, ...],
    each: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Append the inputs that a function reads, as it takes them; what must live until it has run."""
    held: list[Tensor] = []
    for i in read:
        late = call.late[i] if call.late else None
        if late is not None and late.share > 1:
            args.append(late.share)
        add_course(args, call.inputs[i], units[i] or late is not None)
        if late is None:
            continue
        args.append(late.past.data_ptr() + late.past.numel() * late.past.element_size())
        if isinstance(late.steps, int):
            args.append(late.steps)
        else:
            held.append(each(late.steps))
            args.append(held[-1].data_ptr())
    return held
