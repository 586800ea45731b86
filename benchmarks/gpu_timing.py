"""What the GPU benchmarks share: the device in words, the time of a run on it, its kernels, the refusal without one."""

from __future__ import annotations

import datetime
import platform
import statistics
import sys
from collections.abc import Callable

import torch


def no_gpu(name: str) -> bool:
    """Whether torch finds no GPU here; where so, says on stderr that the benchmark ``name`` measured nothing."""
    if torch.cuda.is_available():
        return False
    print(f"{name} measures a GPU, and torch finds none here: nothing was measured", file=sys.stderr)
    return True


def machine() -> str:
    """The GPU, what runs on it, and the day: for the first line of a result."""
    import triton

    versions = f"torch {torch.__version__}, triton {triton.__version__}, Python {platform.python_version()}"
    return f"{torch.cuda.get_device_name()}, {versions}, {datetime.date.today()}"


def milliseconds(run: Callable[[], object]) -> float:
    """Time of one ``run`` on the device, by CUDA events."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def median_milliseconds(run: Callable[[], object], repeat: int) -> float:
    """Median time of ``repeat`` runs on the device, after three that do not count."""
    for _ in range(3):
        run()
    return statistics.median(milliseconds(run) for _ in range(repeat))


def kernels(run: Callable[[], object]) -> int:
    """Kernels that one ``run`` launches, copies and fills aside; a run before it does not count."""
    run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    events = (e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA)
    return sum(not e.name.startswith(("Memcpy", "Memset")) for e in events)
