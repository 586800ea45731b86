"""How a course over time is handed to a kernel."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor


def is_flat(course: Tensor, shape: tuple[int, int, int]) -> bool:
    """Whether the elements of a time step lie one after the other."""
    _, batch, size = shape
    _, row, column = course.stride()
    return (column == 1 or size == 1) and (row == size or batch == 1)


def add_course(args: list[Any], course: Tensor, flat: bool) -> None:
    """Append a course and its strides, as a kernel takes them."""
    time, row, column = course.stride()
    args += (course, time) if flat else (course, time, row, column)


def on_device(device: torch.device) -> contextlib.AbstractContextManager:
    """Make ``device`` the one that kernels are launched on."""
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        return torch.cuda.device(device)
    return contextlib.nullcontext()
