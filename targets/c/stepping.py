"""Single steps with generated C: one call for a product, where there is one, and the neurons behind it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snncompile.targets.c.kernel import KernelSource
from snncompile.targets.c.products import DOTS
from snncompile.targets.stepping import LinearStep, ScanStep

#: Multiply-adds up to which a product of one step is made here; torch's takes longer to begin, and then less.
MOST_PRODUCTS = 2**16
#: What a product takes before the arguments of the scan: its input with its stride, weight, bias, result, and counts.
_PRODUCT = 8


def packed_source(source: KernelSource, product: bool) -> tuple[str, str, str]:
    """A function that takes the arguments of ``source`` in one array, after those of a product: name, text, types."""
    name, first = f"{source.name}_packed", _PRODUCT if product else 0
    taken = [_taken(t, i) for i, t in enumerate(source.types, first)]
    lines = ["", "/* The same with all arguments in one array. */", f"void {name}(const int64_t *a)", "{"]
    if product:
        lines.append(f"    snn_dots({', '.join(_taken(t, i) for i, t in enumerate('pqpppqqq'))});")
    lines += [f"    {source.name}({', '.join(taken)});", "}", ""]
    return name, source.text + (f"\n{DOTS}" if product else "") + "\n".join(lines), "p"


def _taken(type: str, i: int) -> str:
    return {"p": f"(void *)(intptr_t)a[{i}]", "q": f"a[{i}]", "i": f"(int)a[{i}]"}[type]


def make_step(
    call: Callable[[int], Any],
    source: KernelSource,
    coefs: Sequence[Tensor],
    batch: int,
    size: int,
    results: int,
    states: int,
    make: Callable[[], Tensor],
    tail: tuple[int, ...],
    linear: LinearStep | None,
    alone: Callable[[], ScanStep],
) -> ScanStep:
    """A function that runs one step.

    Args:
        call: what :func:`packed_source` describes.
        source: the scan's function.
        coefs: the coefficients that it reads.
        batch: B.
        size: N.
        results: how many results it stores.
        states: how many states there are.
        make: gives a new ``(B, N)`` tensor.
        tail: its last arguments.
        linear: the product, in the place of an input.
        alone: gives a step without it, for weights that the function cannot read.
    """
    first = 0 if linear is None else _PRODUCT
    places = [(first + 3 * n, i) for n, i in enumerate(source.inputs)]
    at = first + 3 * len(places)
    known = [0] * at + [c.data_ptr() for c in coefs]
    at_states = len(known)
    known += [0] * (2 * states + results) + list(tail)
    count = range(results + states)
    held = tuple(coefs)  # their addresses are in use
    at_current = -1
    if linear is not None:
        known[5:8] = batch, linear.inputs, size
        at_current = next((at for at, i in places if i == linear.place), -1)
        places = [(at, i) for at, i in places if i != linear.place]
        place, weight_now, bias_now = linear.place, linear.weight, linear.bias
        shape = torch.Size((size, linear.inputs))
    free: list[tuple[array[int], int]] = []  # arrays that no thread uses now

    def fresh() -> tuple[array[int], int]:
        """An array of arguments, and its address; behind them, room for the product."""
        a = array("q", known + [0] * (-(-batch * size // 2) if linear is not None else 0))
        address = a.buffer_info()[0]
        if linear is not None:
            a[4] = address + 8 * len(known)
            if at_current >= 0:
                a[at_current], a[at_current + 2] = a[4], size
        return a, address

    def run(inputs: Sequence[Tensor], before: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        try:
            used = free.pop()
        except IndexError:
            used = fresh()
        a, address = used
        keep = []  # lives until the call is over
        if linear is not None:
            x, weight = inputs[place], weight_now()
            bias = None if bias_now is None else bias_now()
            if not _plain(weight, shape) or (bias is not None and not _plain(bias, shape[:1])):
                given = list(inputs)
                given[place] = F.linear(x, weight, bias)
                return alone()(given, before)
            if x.stride(1) != 1:
                keep.append(x := x.contiguous())
            a[0], a[1], a[2] = x.data_ptr(), x.stride(0), weight.data_ptr()
            a[3] = 0 if bias is None else bias.data_ptr()
        for at, i in places:
            x = inputs[i]
            if x.stride(1) != 1:
                keep.append(x := x.contiguous())
            a[at], a[at + 2] = x.data_ptr(), x.stride(0)
        at = at_states
        for s in before:
            a[at] = s.data_ptr()
            at += 1
        made = [make() for _ in count]
        for new in made:
            a[at] = new.data_ptr()
            at += 1
        call(address)
        free.append(used)
        return made[:results], made[results:]

    run.held = held  # type: ignore[attr-defined]
    return run


def _plain(parameter: Tensor, shape: torch.Size) -> bool:
    return (
        parameter.shape == shape
        and parameter.dtype is torch.float32
        and parameter.is_contiguous()
        and parameter.is_cpu
    )
