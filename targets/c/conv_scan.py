"""Event-driven convolutions with the neurons that they alone feed, in C: one function, sequence by sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from snncompile.targets.c.backward import print_backward
from snncompile.targets.c.calling import Caller, PerScan, check_all, scratch
from snncompile.targets.c.compiler import ahead, function
from snncompile.targets.c.conv_frame import ConvFrame
from snncompile.targets.c.courses import add_course, unit
from snncompile.targets.c.events_conv import BLOCK, SUMS, turned, turned_shape, weight_of
from snncompile.targets.c.events_conv_source import TURNED, taps_of
from snncompile.targets.c.forward import print_forward
from snncompile.targets.c.kernel import LANES, KernelSource
from snncompile.targets.c.late_images import add_late_images
from snncompile.targets.c.plastic_seen import form_of
from snncompile.targets.event_conv import ImageCourse
from snncompile.targets.pooling import Windows
from snncompile.targets.scan import BackwardCall, BackwardResult, ForwardCall, ForwardResult, Scan, allocate
from snncompile.targets.variant import BackwardVariant, ForwardVariant, backward_variant, forward_variant

#: Into how many parts the sequences are divided for the weight's gradient, at most.
PARTS = 32


class ConvScans(Caller):
    """Runs scans whose one input is a convolution of mostly zero images."""

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        super().__init__(threads, empty)
        self._sources: PerScan[KernelSource] = PerScan()

    def forward(
        self, scan: Scan, call: ForwardCall, conv: ImageCourse, keep: bool
    ) -> tuple[ForwardResult, Tensor | None]:
        """What the scan gives, and the convolution's result ``(T, B, N)``, where that is to be kept."""
        steps, batch, size = call.shape
        check_all(conv.x, conv.weight, *call.states, *call.coefs)
        team, result = self._team(steps * batch * size, batch), allocate(call, self._make)
        current = self._course(call.shape, batch) if keep else self._own(call.shape, team)
        variant = forward_variant(replace(call, inputs=(current,)), unit)
        source = self._source(scan, variant, conv)
        args, held = _of_conv(conv, size, team, 1)
        args.append(keep)
        held += add_late_images(args, conv, 1, team)
        for _ in source.inputs:
            add_course(args, current, True)
        coefs = [call.coefs[i] for i in source.coefs]
        for group in (coefs, call.states, result.stored.values(), result.sums.values(), result.finals, result.saved):
            args += [t.data_ptr() for t in group]
        args += [steps, call.checkpoint] if source.by_chunk else [steps]
        if source.random and call.random is not None:
            args.append(call.random.data_ptr())
        function(source.name, source.text, source.types)(*args, batch, size, _width(call.windows), team)
        del held
        return result, current if keep else None

    def expect_backward(self, scan: Scan, call: BackwardCall, conv: ImageCourse) -> None:
        """A call of :meth:`backward` is to follow."""
        source = self._source(scan, backward_variant(scan, replace(call, inputs=(conv.x,)), lambda *_: True), conv)
        ahead(source.name, source.text)

    def backward(
        self, scan: Scan, call: BackwardCall, conv: ImageCourse, current: Tensor | None, whole: bool, weighted: bool
    ) -> tuple[BackwardResult, tuple[Tensor, Tensor] | None]:
        """The gradients; ``whole`` if that of the convolution's result is wanted, ``weighted`` if its weight's are."""
        steps, batch, size = call.shape
        grads, windows, wanted = dict(call.grads), call.windows, call.need_inputs[0]
        if windows is not None and windows.result in grads and grads[windows.result].stride(2) != 1:
            grads[windows.result] = grads[windows.result].contiguous()
        check_all(conv.x, conv.weight, *call.saved, *call.coefs, *grads.values())
        parts = max(1, min(PARTS, batch, SUMS // conv.weight.numel()))
        team = self._team(steps * batch * size, parts)
        made = self._own(call.shape, team) if current is None else current
        found: Tensor | None = None
        if wanted and whole:
            found = self._make(call.shape) if conv.x.is_contiguous() else self._course(call.shape, batch)
        elif wanted:  # the current is read for the last time where its gradient is written
            found = made if current is None else self._own(call.shape, team)
        variant = backward_variant(scan, replace(call, inputs=(made,), grads=grads), unit)
        source = self._source(scan, variant, conv)
        block = max(1, min(BLOCK, steps, TURNED * conv.window.groups // size))
        args, held = _of_conv(conv, size, team, block)
        sums: tuple[Tensor, ...] = ()
        if weighted and wanted:
            each = turned_shape(conv.weight.shape, conv.window.groups)
            sums = self._make((parts, *each)), self._make((parts, len(conv.weight)))
        args += [current is not None, *([t.data_ptr() for t in sums] or (0, 0)), parts, block, whole]
        held += add_late_images(args, conv, steps if current is None else block, team)
        for _ in source.inputs:
            add_course(args, made, True)
        coefs = [call.coefs[i] for i in source.coefs] + [call.forward_coefs[i] for i in source.forward_coefs]
        args += [t.data_ptr() for t in (*coefs, *(call.saved[i] for i in source.states))]
        units = dict(variant.grads)
        for r in source.grads:
            add_course(args, grads[r], units[r])
        ends = dict(zip(scan.states, call.grad_finals, strict=True))
        args += [g.data_ptr() for s in source.carried if (g := ends[s]) is not None]
        if found is not None:
            add_course(args, found, True)
        starts = {s: self._make((batch, size)) for s in source.carried}
        totals = {a: self._make((batch, size)) for a in (scan.accumulators if call.need_accumulators else ())}
        args += [t.data_ptr() for t in (*starts.values(), *totals.values())]
        width, chunk = _width(windows), max(1, min(call.checkpoint, steps))
        args += [steps, chunk] if source.by_chunk else [steps]
        if source.random and call.random is not None:
            args.append(call.random.data_ptr())
        if source.scratch:
            held.append(scratch(team * chunk * source.scratch * width))
            args.append(held[-1].data_ptr())
        function(source.name, source.text, source.types)(*args, batch, size, width, team)
        del held
        states = tuple([starts[s] if s in starts else self._make((batch, size)).zero_() for s in scan.states])
        result = BackwardResult((found if whole else None,), states, totals)
        if not sums:
            return result, None
        return result, (weight_of(sums[0], conv.weight.shape), sums[1].sum(0))

    def _course(self, shape: tuple[int, int, int], batch: int) -> Tensor:
        """Room for the course of some sequences, ``(T, batch, N)``, one after the other."""
        return self._make((batch, shape[0], shape[2])).transpose(0, 1)

    def _own(self, shape: tuple[int, int, int], team: int) -> Tensor:
        """The same for a sequence of each thread, which does not leave here: in memory as it comes."""
        return self._empty((team, shape[0], shape[2]), dtype=torch.float32, device="cpu").transpose(0, 1)

    def _source(self, scan: Scan, variant: ForwardVariant | BackwardVariant, conv: ImageCourse) -> KernelSource:
        taps, form = taps_of(conv.weight.shape, conv.window), form_of(conv.seen)

        def build() -> KernelSource:
            if isinstance(variant, ForwardVariant):
                return print_forward(scan, variant, ConvFrame(taps, False, form))
            return print_backward(scan, variant, ConvFrame(taps, True, form))

        return self._sources.get(scan, (taps, form, variant), build)


def _of_conv(conv: ImageCourse, size: int, team: int, block: int) -> tuple[list[int], list[Tensor]]:
    """The arguments of a convolution with ``size`` outputs, of ``block`` images at a time; what must live until it has
    run."""
    channels, *image = conv.image
    groups, each = conv.window.groups, image[0] * image[1] * (block + 1)
    held = [turned(conv.weight, groups), *([] if conv.bias is None else [conv.bias.contiguous()])]
    room = scratch(team * (2 * each + block * size))  # lists of whole numbers, their values, and images
    lists = room.data_ptr()
    rooms = (lists, lists + 4 * team * each, lists + 8 * team * each)
    at = [*(t.data_ptr() for t in held), *([0] if conv.bias is None else []), *rooms]
    sizes = (groups, channels // groups, *image, *conv.window.output(image, conv.weight.shape[2:]))
    return [conv.x.data_ptr(), *conv.x.stride()[:2], *at, each, *sizes], [*held, room]


def _width(windows: Windows | None) -> int:
    """Neurons of a block: whole rows of windows."""
    band = windows.band if windows else 1
    return max(LANES // band, 1) * band
