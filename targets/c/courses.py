"""How courses ``(T, B, N)`` are handed to generated functions."""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.targets.c.calling import scratch
from snncompile.targets.scan import Late


def unit(course: Tensor, shape: tuple[int, int, int]) -> bool:
    """Whether neurons lie one after the other."""
    return shape[2] == 1 or course.stride(2) == 1


def add_course(args: list[int], course: Tensor, unit: bool) -> None:
    """Append a course and its strides, as a function takes them."""
    time, row, column = course.stride()
    args += (course.data_ptr(), time, row) if unit else (course.data_ptr(), time, row, column)


def past_end(late: Late) -> int:
    """The address where the past of a late course ends: functions count its steps back from there."""
    return late.past.data_ptr() + late.past.numel() * late.past.element_size()


def add_late(args: list[int], course: Tensor, late: Late, size: int, rows: int) -> list[Tensor]:
    """Append a late course, as a function takes it that gathers rows of it; what must live until it has run.

    Args:
        args: the arguments so far.
        course: ``(T, B, size / share)``, its neurons one after the other.
        late: what makes it late.
        size: how many neurons read it.
        rows: that are gathered at a time.
    """
    if late.kind == "shared":
        args.append(late.share)
    add_course(args, course, True)
    args.append(past_end(late))
    if isinstance(late.steps, int):
        args.append(late.steps)
        return []
    room = [scratch(size, dtype=torch.int64), scratch(rows, size)]
    args += [late.steps.data_ptr(), *(r.data_ptr() for r in room)]
    return room
