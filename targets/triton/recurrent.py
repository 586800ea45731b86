"""Recurrent layers with generated kernels: the whole sequence in one launch, or one launch a step.

``targets/triton/recurrent_design.py`` says which form runs and in which precision. Products are float32 or as good as
that, unless less was asked for, summed in an order that depends on the form and on N alone. Memory for training: every
state and the product, each ``(T, B, N)``, besides what is stored.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Sequence
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
from snncompile.targets.scan import Late, Scan, late_gradient
from snncompile.targets.triton.arch import ARCHS, Arch, nearest
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.courses import is_flat
from snncompile.targets.triton.kernel import KernelSource
from snncompile.targets.triton.load import load
from snncompile.targets.triton.recurrent_design import Demand, Design, choose_design
from snncompile.targets.triton.recurrent_kernel import RecurrentVariant, print_recurrent
from snncompile.targets.triton.recurrent_launch import Arguments, Launcher, exchange, split_weight
from snncompile.targets.triton.recurrent_product import product_of
from snncompile.targets.triton.recurrent_resident import held
from snncompile.targets.variant import Layout

#: Names the form of kernel for every layer, to compare them: see ``targets/triton/recurrent_design.py``.
FORM_VARIABLE = "SNNCOMPILE_RECURRENT_FORM"

_Kernels = weakref.WeakKeyDictionary[Scan, dict[Any, tuple[KernelSource, Any]]]


class RecurrentLayers:
    """Runs recurrent layers.

    Attributes:
        ring: that what comes back may be more than one step late.
        offsets: that inputs may be read some steps late.

    Args:
        empty: allocates outputs; tests hand in one that fills them with NaN.
        precision: of products: one of :data:`snncompile.targets.precision.PRECISIONS`.
        form: the form of kernel for every layer, instead of one chosen by its size.
        arch: the chip to choose for, instead of the one that the data is on.
    """

    ring = True
    offsets = True

    def __init__(
        self,
        empty: Callable[..., Tensor] = torch.empty,
        precision: str = "auto",
        form: str | None = None,
        arch: Arch | None = None,
    ) -> None:
        self._empty = empty
        self._precision = precision
        self._form = form or os.environ.get(FORM_VARIABLE) or None
        self._arch = arch
        self._kernels: _Kernels = weakref.WeakKeyDictionary()
        self._designs: dict[Any, Design] = {}
        self._launcher = Launcher()

    def design(
        self,
        scan: Scan,
        shape: tuple[int, int, int],
        device: torch.device,
        backward: bool,
        ring: bool = False,
        real: bool = False,
    ) -> Design:
        """How a layer runs over a sequence of ``shape``.

        ``ring``: whether what comes back is several steps late; ``real``: whether, forward, it is no whole number.
        """
        key = (scan, shape[2], shape[0] <= 1, device, backward, ring, real)
        if key not in self._designs:
            values = held(scan, backward, ring)
            asked = Demand(shape[2], self._precision, backward, values, self._form, shape[0], real)
            self._designs[key] = choose_design(asked, self._arch or device_arch(device))
        return self._designs[key]

    def forward(self, scan: Scan, call: RecurrentForwardCall) -> RecurrentForwardResult:
        """Run from the first step to the last."""
        shape, device = call.shape, _checked(scan, call)
        design = self.design(scan, shape, device, backward=False, ring=call.late > 1, real=call.most is None)
        product = product_of(design.precision, call.most)
        dense = design.dense and _contiguous(call.inputs)
        variant = RecurrentVariant(
            False,
            call.port,
            call.source,
            _layout(call),
            _by_rows(call.weight),
            bias=call.bias is not None,
            store=tuple(call.store),
            train=call.train,
            resident=design.resident,
            sliced=design.sliced,
            dense=dense,
            product=product,
            ring=design.resident and call.late > 1,
        )
        source, kernel = self._kernel(scan, variant)
        like = {"dtype": torch.float32, "device": device}
        wanted = [r for r in scan.results if r in call.store or r == call.source]
        stored = {r: self._empty(shape, **like) for r in wanted}
        saved = tuple(self._empty(shape, **like) for _ in call.states) if call.train else ()
        course = self._empty(shape, **like) if call.train else None
        a = Arguments()
        a.read(*self._weight(call.weight, product.parts, design, transposed=False))
        a.read(*(t for t in (call.bias, call.start) if t is not None))
        _add_inputs(a, source, call, dense)
        a.read(*(call.coefs[i] for i in source.coefs))
        if variant.kept:
            finals = tuple(self._empty(shape[1:], **like) for _ in call.states)
            a.read(*call.states)
            a.write(*finals)
        else:
            finals = tuple(s.clone() for s in call.states)
            a.update(*finals)
        a.write(*stored.values(), *saved, *(() if course is None else (course,)))
        if variant.sliced:
            a.read(*exchange(design, shape[1], call.late, variant.product.operand == "whole", device))
        self._launcher.run(kernel, a, design, shape, device, (scan, variant), call.late)
        return RecurrentForwardResult(stored, finals, saved, course)

    def backward(self, scan: Scan, call: RecurrentBackwardCall) -> RecurrentBackwardResult:
        """Run the gradient from the last step to the first."""
        shape, device = call.shape, _checked(scan, call)
        design = self.design(scan, shape, device, backward=True, ring=call.late > 1)
        needed = tuple(x for x, n in zip(scan.inputs, call.need_inputs, strict=True) if n and x != call.port)
        dense = design.dense and _contiguous((*call.inputs, *call.grads.values()))
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
            resident=design.resident,
            sliced=design.sliced,
            dense=dense,
            product=product_of(design.precision, None),
            ring=design.resident and call.late > 1,
        )
        source, kernel = self._kernel(scan, variant)
        like = {"dtype": torch.float32, "device": device}
        given = dict(zip(scan.states, call.grad_finals, strict=True))
        product = self._empty(shape, **like)
        late = dict(zip(scan.inputs, call.offsets, strict=False))
        make = functools.partial(self._empty, **like)
        inputs = {x: late_gradient(late.get(x), shape, make) for x in needed}
        names = scan.accumulators if call.need_accumulators else ()
        a = Arguments()
        a.read(*self._weight(call.weight, variant.product.parts, design, transposed=True))
        _add_inputs(a, source, call, dense)
        a.read(call.product, *(call.coefs[i] for i in source.coefs), *(call.saved[i] for i in source.states))
        flat = dict(variant.grads)
        for r in source.grads:
            a.operand(call.grads[r], flat[r], dense)
        if variant.kept:
            carried = {s: self._empty(shape[1:], **like) for s in source.carried}
            sums = {n: self._empty(shape[1:], **like) for n in names}
            starts = [] if variant.ring or variant.sliced else [self._empty((1, *shape[1:]), **like)]
            a.read(*(g for s in source.carried if (g := given[s]) is not None))
            a.write(*carried.values(), product)
            _add_gradients(a, scan, source, call, inputs)
            a.write(*sums.values(), *starts)
        else:
            zero = torch.zeros(shape[1:], **like)
            carried = {s: (zero if (g := given[s]) is None else g).clone() for s in source.carried}
            sums = {n: zero.clone() for n in names}
            a.update(*carried.values())
            a.write(product)
            _add_gradients(a, scan, source, call, inputs)
            a.update(*sums.values())
            starts = []
        if variant.sliced:
            a.read(*exchange(design, shape[1], call.late, variant.product.operand == "whole", device))
        self._launcher.run(kernel, a, design, shape, device, (scan, variant), call.late)
        start = starts[0] if starts else _gradient_of_start(product, call)
        states = tuple(carried[s] if s in carried else torch.zeros(shape[1:], **like) for s in scan.states)
        return RecurrentBackwardResult(tuple(inputs.get(x) for x in scan.inputs), product, start, states, sums)

    def _kernel(self, scan: Scan, variant: RecurrentVariant) -> tuple[KernelSource, Any]:
        interpret = interpreting()
        kernels = self._kernels.setdefault(scan, {})
        if (variant, interpret) not in kernels:
            source = print_recurrent(scan, variant)
            kernels[variant, interpret] = source, load(source, interpret)
        return kernels[variant, interpret]

    def _weight(self, weight: Tensor, parts: int, design: Design, transposed: bool) -> list[Any]:
        if not parts:
            return [weight, weight.stride(0)] if _by_rows(weight) else [weight, *weight.stride()]
        return split_weight(weight.T if transposed else weight, parts, design)


@functools.cache
def _found_arch(index: int) -> Arch:
    major, minor = torch.cuda.get_device_capability(index)
    return nearest("hip" if torch.version.hip else "cuda", major, minor)


def device_arch(device: torch.device) -> Arch:
    """The chip that ``device`` is; for the interpreter, the newest one that was designed for."""
    if device.type != "cuda":
        return ARCHS["sm_90"]
    return _found_arch(torch.cuda.current_device() if device.index is None else device.index)


def _checked(scan: Scan, call: RecurrentForwardCall | RecurrentBackwardCall) -> torch.device:
    check_runnable(call.weight)
    size = call.shape[2]
    if size * size >= 2**31 or call.shape[1] * size >= 2**31:
        raise UnsupportedError(f"{scan.name}: a recurrent layer of {size} neurons has more than 2**31 elements")
    return call.weight.device


def _layout(call: RecurrentForwardCall | RecurrentBackwardCall) -> Layout:
    late = tuple("" if one is None else one.kind for one in call.offsets)
    flat = tuple(x is None or is_flat(x, (*call.shape[:2], x.shape[2])) for x in call.inputs)
    return Layout(flat, tuple(c.dim() == 0 for c in call.coefs), late if any(late) else ())


def _late(call: RecurrentForwardCall | RecurrentBackwardCall, i: int) -> Late | None:
    """What makes input ``i`` late."""
    return call.offsets[i] if i < len(call.offsets) else None


def _gradient_of_start(product: Tensor, call: RecurrentBackwardCall) -> Tensor:
    """The gradient of what came back in the first ``late`` steps, ``(late, B, N)``: nothing where there are fewer."""
    start = product[: call.late] @ call.weight
    missing = call.late - len(start)
    return start if not missing else torch.cat([start, start.new_zeros(missing, *start.shape[1:])])


def _by_rows(weight: Tensor) -> bool:
    return weight.stride(1) == 1


def _contiguous(courses: Sequence[Tensor | None]) -> bool:
    return all(x is None or x.is_contiguous() for x in courses)


def _add_inputs(
    a: Arguments, source: KernelSource, call: RecurrentForwardCall | RecurrentBackwardCall, dense: bool
) -> None:
    for i in source.inputs:
        x, late = call.inputs[i], _late(call, i)
        assert x is not None
        if late is None:
            a.operand(x, is_flat(x, call.shape), dense)
        else:
            a.late(x, late, is_flat(x, (*call.shape[:2], x.shape[2])), dense)


def _add_gradients(
    a: Arguments, scan: Scan, source: KernelSource, call: RecurrentBackwardCall, grads: dict[str, Tensor]
) -> None:
    """Add gradients of inputs, and how late each neuron reads those inputs that the step does not read."""
    for x, grad in grads.items():
        late = _late(call, scan.inputs.index(x))
        if late is None or late.kind == "one":
            a.write(grad if late is None else grad[: call.shape[0]])
        else:
            a.update(grad)  # there are rows that no step writes
    for x in grads:
        late = _late(call, i := scan.inputs.index(x))
        if late is not None and late.kind != "one" and i not in source.inputs:
            a.read(len(late.past), late.steps)
