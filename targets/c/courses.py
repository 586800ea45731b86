"""How courses ``(T, B, N)`` are handed to generated functions."""

from __future__ import annotations

from torch import Tensor

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
