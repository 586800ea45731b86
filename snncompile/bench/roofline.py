"""The least time that a network can take on this machine: its bytes and operations over measured rates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from snncompile.bench.timing import timed
from snncompile.ir.cost import Work, region_costs
from snncompile.ir.graph import Graph

_SMALLEST = 1 << 20  # bytes: below, calls are what one would measure
_SIDE = 1024  # of the matrices multiplied
_SECONDS = 0.2  # for each rate


@dataclass(frozen=True)
class Rates:
    """What the machine does.

    Attributes:
        copied: bytes of the copy that was measured: as many as the network's largest signal has.
        bandwidth: bytes read and written in a second.
        flops: operations of a dense product in a second, float32.
    """

    copied: int
    bandwidth: float
    flops: float


@dataclass(frozen=True)
class Floor:
    """The least that a run can take, in milliseconds.

    Attributes:
        forward: inference.
        both: forward and backward.
    """

    forward: float
    both: float


def measure_rates(device: Any, largest: int) -> Rates:
    """Measure the machine.

    Args:
        device: where.
        largest: bytes of the network's largest signal: a copy of as many bytes finds the same caches.
    """
    import torch

    size = max(largest, _SMALLEST)
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    a, b = (torch.rand(_SIDE, _SIDE, dtype=torch.float32, device=device) for _ in range(2))
    out = torch.empty_like(a)
    copy = _best(lambda: target.copy_(source))
    product = _best(lambda: torch.mm(a, b, out=out))
    return Rates(size, 2 * 4 * source.numel() / copy, 2 * _SIDE**3 / product)


def _best(run: Callable[[], Any]) -> float:
    run()
    least, start = timed(run), time.perf_counter()
    while time.perf_counter() - start < _SECONDS:
        least = min(least, timed(run))
    return least


def floor(graph: Graph, rates: Rates, steps: int, batch: int) -> Floor:
    """The least time of a compiled graph: its regions run one after another, each at the speed of what limits it.

    Counted are dense products; one that follows events alone can take less.
    """
    costs = region_costs(graph)

    def least(work: Work) -> float:
        return max(work.bytes / rates.bandwidth, work.flops / rates.flops) * steps * batch * 1e3

    return Floor(
        sum(least(c.inference) for c in costs), sum(least(c.training) + least(c.backward) for c in costs)
    )  # fmt: skip


def largest_signal(graph: Graph, steps: int, batch: int) -> int:
    """Bytes of the largest signal over all steps."""
    sizes = [graph.type_of(edge.source).size for n in graph.names for edge in graph.inputs_of(n).values()]
    return 4 * steps * batch * max(sizes, default=1)
