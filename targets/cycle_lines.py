"""The memory of a cycle's lines, on any target: rows for what is looked back, or for every step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from snncompile.targets.cycle_call import CycleBackwardCall, CycleBackwardResult, CycleForwardCall
from snncompile.targets.cycle_plan import CyclePlan

#: Makes a float32 tensor of a shape, whose values do not matter.
Make = Callable[[tuple[int, ...]], Tensor]

#: Rows of a line that is a ring, by how many values are looked back: at least one more.
Ring = Callable[[int], int]


def shortest(depth: int) -> int:
    """As few rows as there must be."""
    return depth + 1


def forward_lines(
    plan: CyclePlan, call: CycleForwardCall, live: Collection[int], make: Make, ring: Ring = shortest
) -> list[Tensor | None]:
    """Lines that hold what came before the first step; None for those that are not ``live``."""
    steps, batch = call.shape
    whole = {read.line for read in call.store} | call.keep
    lines: list[Tensor | None] = [None] * len(plan.lines)
    for i in live:
        it = plan.lines[i]
        lines[i] = line = make((it.depth + steps if i in whole or not steps else ring(it.depth), batch, it.size))
        if it.depth:
            line[: it.depth] = call.starts[i]
    return lines


def gradient_lines(
    plan: CyclePlan, call: CycleBackwardCall, graded: Collection[int], make: Make, ring: Ring = shortest
) -> list[Tensor | None]:
    """Lines for gradients, in which those of the values after the last step are; None for those not ``graded``."""
    steps, batch = call.shape
    whole = {p.line for p, need in zip(plan.products, call.need_products, strict=True) if need}
    found: list[Tensor | None] = [None] * len(plan.lines)
    for i in graded:
        it = plan.lines[i]
        found[i] = line = make((it.depth + steps if i in whole else ring(it.depth), batch, it.size))
        end = call.finals.get(i)
        for k in range(it.depth):
            row = line[(steps + k) % len(line)]
            row.zero_() if end is None else row.copy_(end[k])
    return found


def backward_result(
    plan: CyclePlan,
    call: CycleBackwardCall,
    grads: list[Tensor | None],
    inputs: Mapping[int, Tensor],
    sums: Mapping[str, Mapping[str, Tensor]],
    make: Make,
) -> CycleBackwardResult:
    """What a cycle gives whose gradients of lines are ``grads``; a line without one had nothing to give."""
    starts = {}
    for i, it in enumerate(plan.lines):
        if it.depth:
            line = grads[i]
            starts[i] = make((it.depth, call.shape[1], it.size)).zero_() if line is None else line[: it.depth]
    products: list[Tensor | None] = []
    for p, need in zip(plan.products, call.need_products, strict=True):
        line = grads[p.line]
        assert line is not None or not need
        products.append(line[plan.lines[p.line].depth :] if need and line is not None else None)
    return CycleBackwardResult(tuple(inputs.get(i) for i in range(len(call.inputs))), starts, tuple(products), sums)


def nothing_ran(
    plan: CyclePlan,
    call: CycleBackwardCall,
    inputs: Mapping[int, Tensor],
    sums: Mapping[str, Mapping[str, Tensor]],
    make: Make,
) -> CycleBackwardResult:
    """Without a step or a sequence, what the last values' gradients are those of the first."""
    steps, batch = call.shape
    starts = {}
    for i, it in enumerate(plan.lines):
        if it.depth:
            end = call.finals.get(i)
            starts[i] = make((it.depth, batch, it.size)).zero_() if end is None else end
    wanted = zip(plan.products, call.need_products, strict=True)
    products = tuple(make((steps, batch, plan.lines[p.line].size)).zero_() if need else None for p, need in wanted)
    return CycleBackwardResult(tuple(inputs.get(i) for i in range(len(call.inputs))), starts, products, sums)
