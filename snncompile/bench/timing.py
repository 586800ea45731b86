"""Times contenders in turns, so that what else happens on the machine falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TURN = 0.03  # seconds that a contender may go on when it is its turn


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the runs that counted.

    Attributes:
        min: the fastest.
        median: the one in the middle.
        runs: how many there were.
    """

    min: float
    median: float
    runs: int


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one run; on a GPU, until it has finished."""
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    """Wait for the GPU, where one is in use."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def interleaved(
    runs: Mapping[str, Callable[[], Any]], seconds: float, rounds: tuple[int, int] = (3, 40)
) -> dict[str, Timing]:
    """Name -> timing, of contenders that take turns.

    A turn is one run that does not count, since it finds another's data in the caches, and then runs that count until
    some time has gone. Where a run is long its own data does not fit the caches anyway: then it counts at once.

    Args:
        runs: the contenders.
        seconds: about how long all together may take.
        rounds: at least and at most so many rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    done = 0
    while done < rounds[0] or (done < rounds[1] and time.perf_counter() - start < seconds):
        for name, run in runs.items():
            turn = time.perf_counter()
            first = timed(run)
            if first > 10 * TURN:
                times[name].append(first)
                continue
            times[name].append(timed(run))
            while time.perf_counter() - turn < TURN:
                times[name].append(timed(run))
        done += 1
    return {n: Timing(min(t) * 1e3, statistics.median(t) * 1e3, len(t)) for n, t in times.items() if t}
