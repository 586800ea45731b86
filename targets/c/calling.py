"""What the classes that call generated C share: their outputs, their threads, and the functions they have."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from snncompile.targets.c.availability import check_runnable
from snncompile.targets.c.memory import MEMORY
from snncompile.targets.scan import Scan

#: Values that a thread must have to be worth waking.
WORTH = 16_384

T = TypeVar("T")


class Caller:
    """Calls generated C.

    Args:
        threads: how many threads to use for every call, instead of up to torch's number, by size.
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        self._threads = threads
        self._empty = empty

    def _make(self, shape: tuple[int, ...]) -> Tensor:
        if self._empty is torch.empty:
            return MEMORY.empty(shape)
        return self._empty(shape, dtype=torch.float32, device="cpu")

    def _team(self, values: int, parts: int, worth: int = WORTH) -> int:
        """How many threads share ``parts`` with ``values`` between them; what comes out does not depend on it."""
        if self._threads is not None:
            return self._threads
        if values < 2 * worth:
            return 1
        return max(1, min(torch.get_num_threads(), parts, values // worth))


class PerScan(Generic[T]):
    """Functions by scan and variant, each made once, for as long as the scan lives."""

    def __init__(self) -> None:
        self._made: weakref.WeakKeyDictionary[Scan, dict[Hashable, T]] = weakref.WeakKeyDictionary()

    def get(self, scan: Scan, variant: Hashable, make: Callable[[], T]) -> T:
        """The function of ``scan`` in ``variant``, by ``make()`` where there is none yet."""
        made = self._made.get(scan)
        if made is None:
            made = self._made[scan] = {}
        found = made.get(variant)
        if found is None:
            found = made[variant] = make()
        return found


def scratch(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Room that a function works in, and zeros below: as C takes them, whatever torch's default type and device are."""
    return torch.empty(shape, dtype=dtype, device="cpu")


def zeros(*shape: int) -> Tensor:
    """Zeros, likewise."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def check_all(*tensors: Tensor) -> None:
    """Raise where one of ``tensors`` holds no values that C can read."""
    for tensor in tensors:
        check_runnable(tensor)
