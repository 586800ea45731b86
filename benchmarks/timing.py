"""Times contenders in turn, so that what else happens on the machine falls on all of them."""

from __future__ import annotations

import time
from collections.abc import Callable


def interleaved(runs: dict[str, Callable[[], object]], n: int, each_warm: bool = False) -> dict[str, list[float]]:
    """Name -> seconds of ``n`` interleaved runs.

    Args:
        runs: the contenders.
        n: how often each of them counts.
        each_warm: before every run that counts, do one of the same kind that does not: the first run after another
            contender finds that one's data in the caches. Otherwise only the first round does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(n if each_warm else n + 1):
        for name, run in runs.items():
            if each_warm:
                run()
            start = time.perf_counter()
            run()
            if k or each_warm:
                times[name].append(time.perf_counter() - start)
    return times
