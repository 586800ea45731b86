"""Memory of large results, kept for the next result of that size.

The system hands out fresh memory page by page and fills each with zeros: for a course of some megabytes that takes
longer than to compute it. A training step makes the same courses as the step before it, so what is no longer used is
kept, up to :data:`MOST_KEPT` bytes in all.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from math import prod

import torch
from torch import Tensor

#: Bytes of results that come from here. Smaller ones the C library keeps itself; larger ones would keep much for long.
LEAST, MOST = 2**20, 2**26
#: Bytes that are kept at most while nobody uses them.
MOST_KEPT = 2**27
#: A size that glibc still takes for an ordinary one once it has seen it freed.
_LARGE = 2**25 - 2**16


class Memory:
    """Keeps memory that results were in, for as long as it lives."""

    def __init__(self) -> None:
        self.unlock()
        self._free: list[Tensor] = []  # in the order in which they came back
        # torch's own results cannot come from here. glibc hands memory back to the system as soon as twice the largest
        # mapped block freed so far is unused: after this one, which nobody writes to, that is 64 MiB instead of 256 KiB
        torch.empty(_LARGE, dtype=torch.uint8, device="cpu")

    def unlock(self) -> None:
        """Have a lock of its own: in a forked process nobody lets go of one that another thread held."""
        self._lock = threading.Lock()

    @property
    def kept(self) -> int:
        """Bytes that are kept and not in use."""
        return sum(4 * block.numel() for block in list(self._free))

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """A float32 tensor on the CPU, still to be written; its memory comes back here when nothing uses it."""
        count = prod(shape)
        if not LEAST <= 4 * count <= MOST:
            return torch.empty(shape, dtype=torch.float32, device="cpu")
        block = self._take(count)
        view = (ctypes.c_float * count).from_address(block.data_ptr())
        # the tensor's storage holds the view, which ends with it, wherever the tensor has gone
        weakref.finalize(view, self._give_back, block).atexit = False
        return torch.frombuffer(view, dtype=torch.float32).view(shape)

    def release(self) -> None:
        """Let go of all that is kept and not in use."""
        with self._lock:
            self._free, kept = [], self._free
        kept.clear()

    def _take(self, count: int) -> Tensor:
        with self._lock:
            for i in range(len(self._free) - 1, -1, -1):
                if self._free[i].numel() == count:
                    return self._free.pop(i)
        return torch.empty(count, dtype=torch.float32, device="cpu")

    def _give_back(self, block: Tensor) -> None:
        """Keep ``block``, and let go what is then too much. Runs wherever a tensor happens to end, also in here."""
        if not self._lock.acquire(blocking=False):
            return  # not waited for, since it may be this thread that holds it
        try:
            self._free.append(block)
            while self.kept > MOST_KEPT:
                self._free.pop(0)
        finally:
            self._lock.release()


#: What all callers of generated C share.
MEMORY = Memory()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=MEMORY.unlock)
