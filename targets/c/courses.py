"""How courses ``(T, B, N)`` are handed to generated functions."""

from __future__ import annotations

from collections.abc import Callable

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


def late_gradient(late: Late, shape: tuple[int, int, int], make: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """The gradient ``(L + T, B, N)`` of a late course and its past together, still to be written but for zeros.

    Args:
        late: how late; of neurons that share a signal, each has a column of its own all the same.
        shape: T, B, N.
        make: gives a tensor of a shape.

    Returns:
        What only some neurons read, or none, is zero already.
    """
    (steps, batch, size), reach = shape, len(late.past)
    grad = make((reach + steps, batch, size))
    if isinstance(late.steps, int):
        grad[steps:].zero_()
    else:
        grad[:reach].zero_()
        grad[max(reach, steps) :].zero_()
    return grad
