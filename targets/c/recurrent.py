"""Recurrent layers with one generated function for the whole sequence: product and neurons in one loop over time.

Forward adds up the rows of the transposed weight whose input is not zero; backward multiplies the gradient of every
step with the weight, for some sequences together. Memory for training: every state and the product, each
``(T, B, N)``, besides what is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from snncompile.targets.c.calling import Caller, PerScan, check_all, scratch, zeros
from snncompile.targets.c.compiler import function
from snncompile.targets.c.courses import add_course, add_late, unit
from snncompile.targets.c.kernel import KernelSource
from snncompile.targets.c.products import TILE
from snncompile.targets.c.recurrent_kernel import (
    LayerBackward,
    LayerForward,
    print_layer_backward,
    print_layer_forward,
)
from snncompile.targets.c.recurrent_late import add_late_gradient
from snncompile.targets.recurrent_call import (
    RecurrentBackwardCall,
    RecurrentBackwardResult,
    RecurrentForwardCall,
    RecurrentForwardResult,
)
from snncompile.targets.scan import Scan, late_gradient
from snncompile.targets.variant import Layout

#: Time steps * sequences * neurons that a thread must have to be worth waking.
_WORTH = 4096


class RecurrentLayers(Caller):
    """Runs recurrent layers with generated C.

    Args:
        threads: how many threads to use for every call, instead of up to torch's number, by size.
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    offsets = True

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        super().__init__(threads, empty)
        self._kernels: PerScan[tuple[KernelSource, Callable[..., Any]]] = PerScan()

    def forward(self, scan: Scan, call: RecurrentForwardCall) -> RecurrentForwardResult:
        """Run from the first step to the last."""
        check_all(call.weight, call.start, *call.states, *call.coefs, *(x for x in call.inputs if x is not None))
        steps, batch, size = call.shape
        variant = LayerForward(call.port, call.source, _layout(call), call.bias is not None, call.store, call.train)
        source, run = self._kernel(scan, variant)
        stored = {r: self._make(call.shape) for r in scan.results if r in call.store or r == call.source}
        finals = tuple(s.clone() for s in call.states)
        saved = tuple(self._make(call.shape) for _ in call.states) if call.train else ()
        product = self._make(call.shape if call.train else (batch, size))
        if steps * batch * size:
            across = call.weight.t().contiguous()
            bias = None if call.bias is None else call.bias.contiguous()
            places = scratch(batch, size + 1, dtype=torch.int32)
            factors = scratch(batch, size + 1)
            held = [across, *([] if bias is None else [bias]), call.start]
            args = [t.data_ptr() for t in held]
            held += _add_inputs(args, source, call)
            args += [call.coefs[i].data_ptr() for i in source.coefs]
            args += [t.data_ptr() for t in (*finals, *stored.values(), *saved, product, places, factors)]
            run(*args, steps, batch, size, self._team(prod(call.shape), batch, _WORTH))
            del held
        return RecurrentForwardResult(stored, finals, saved, product if call.train else None)

    def backward(self, scan: Scan, call: RecurrentBackwardCall) -> RecurrentBackwardResult:
        """Run the gradient from the last step to the first."""
        check_all(call.weight, call.product, *call.saved, *call.coefs, *call.grads.values())
        steps, batch, size = call.shape
        needed = tuple(x for x, n in zip(scan.inputs, call.need_inputs, strict=True) if n and x != call.port)
        variant = LayerBackward(
            call.port,
            call.source,
            _layout(call),
            tuple((r, unit(call.grads[r], call.shape)) for r in scan.results if r in call.grads),
            tuple(s for s, g in zip(scan.states, call.grad_finals, strict=True) if g is not None),
            needed,
            call.need_accumulators,
        )
        source, run = self._kernel(scan, variant)
        cells = (batch, size)
        ends = [zeros(*cells) if g is None else g.clone() for g in call.grad_finals]
        states = dict(zip(scan.states, ends, strict=True))
        start = zeros(1, *cells)
        product = self._make(call.shape)
        late = dict(zip(scan.inputs, call.offsets, strict=False))
        inputs = {x: late_gradient(late.get(x), call.shape, self._make) for x in needed}
        sums = {a: zeros(*cells) for a in (scan.accumulators if call.need_accumulators else ())}
        if steps * batch * size:
            weight = call.weight.contiguous()
            args = [weight.data_ptr(), start.data_ptr()]
            held = _add_inputs(args, source, call)
            args += [call.product.data_ptr(), *(call.coefs[i].data_ptr() for i in source.coefs)]
            args += [call.saved[i].data_ptr() for i in source.states]
            for r in source.grads:
                add_course(args, call.grads[r], unit(call.grads[r], call.shape))
            args += [states[s].data_ptr() for s in source.carried]
            args.append(product.data_ptr())
            for x, grad in inputs.items():
                one = late.get(x)
                if one is None:
                    args.append(grad.data_ptr())
                else:
                    held += add_late_gradient(args, grad, one, call.shape)
            args += [t.data_ptr() for t in sums.values()]
            limit = self._threads or torch.get_num_threads()
            together = max(1, min(TILE, -(-batch // limit)))
            team = self._team(prod(call.shape), -(-batch // together), _WORTH)
            run(*args, steps, together, batch, size, team)
            del held
        return RecurrentBackwardResult(
            tuple(inputs.get(x) for x in scan.inputs), product, start, tuple(states.values()), sums
        )

    def _kernel(self, scan: Scan, variant: Any) -> tuple[KernelSource, Callable[..., Any]]:
        def make() -> tuple[KernelSource, Callable[..., Any]]:
            ahead = isinstance(variant, LayerForward)
            source = print_layer_forward(scan, variant) if ahead else print_layer_backward(scan, variant)
            return source, function(source.name, source.text, source.types)

        return self._kernels.get(scan, variant, make)


def _layout(call: RecurrentForwardCall | RecurrentBackwardCall) -> Layout:
    late = tuple("" if one is None else one.kind for one in call.offsets)
    ahead = [bool(kind) for kind in late] or [False] * len(call.inputs)
    units = tuple(is_late or x is None or unit(x, call.shape) for x, is_late in zip(call.inputs, ahead, strict=True))
    return Layout(units, tuple(c.dim() == 0 for c in call.coefs), late if any(late) else ())


def _add_inputs(
    args: list[int], source: KernelSource, call: RecurrentForwardCall | RecurrentBackwardCall
) -> list[Tensor]:
    """Append the inputs that a function reads; what must live until it has run."""
    held: list[Tensor] = []
    for i in source.inputs:
        x, late = call.inputs[i], call.offsets[i] if call.offsets else None
        assert x is not None
        if late is None:
            add_course(args, x, unit(x, call.shape))
        else:
            held += add_late(args, x, late, call.shape[2], call.shape[1])
    return held
