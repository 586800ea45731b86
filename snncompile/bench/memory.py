"""The memory that a run takes at its peak."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

_STATUS = "/proc/self/status"


def peak_memory(run: Callable[[], Any]) -> int | None:
    """Bytes that ``run`` takes at its peak, with what it returns, beyond what is held before.

    On a GPU, of its memory; else of the process, whose allocator, and target ``c``, first hand back what they hold in
    reserve.

    Returns:
        None where the system keeps no such account (it is Linux that does).
    """
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        kept = run()
        torch.cuda.synchronize()
        del kept
        return torch.cuda.max_memory_allocated() - held
    _release()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the peak so far
        before = _kib("VmRSS")
        kept = run()
        peak = _kib("VmHWM")
    except (OSError, AttributeError):
        return None
    del kept
    return max(0, peak - before) * 1024


def _release() -> None:
    """Have target ``c`` hand back what it keeps, where it is in use."""
    if memory := sys.modules.get("snncompile.targets.c.memory"):
        memory.MEMORY.release()


def _kib(field: str) -> int:
    with open(_STATUS) as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1])
    raise OSError(f"{_STATUS} does not tell {field}")
