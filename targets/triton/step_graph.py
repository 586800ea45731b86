"""CUDA graphs of kernels that take a launch for every step: what they cost the host is paid once.

A graph works on memory of its own: what a call reads is copied there, what it writes is copied from there. It is made
when the same call comes a second time, and thrown away when others have come since.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Graphs kept at the same time, the memory that one may hold, and the launches in it.
KEPT = 4
MOST_BYTES = 2**30
MOST_LAUNCHES = 4096

Run = Callable[[list[Any]], None]


@dataclass
class _Graph:
    """One graph.

    Attributes:
        graph: torch's.
        values: the arguments it works on.
        holds: what else must stay where it is.
    """

    graph: Any
    values: list[Any]
    holds: list[Any]


class StepGraphs:
    """Repeats sequences of launches."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Any, _Graph | None] = OrderedDict()
        self._works = True

    def run(
        self, key: Any, run: Run, values: list[Any], written: Sequence[int], fresh: Sequence[int], holds: list[Any]
    ) -> None:
        """Do what ``run(values)`` does.

        Args:
            key: what it launches.
            run: launches it.
            values: its arguments: tensors and numbers.
            written: positions of the tensors it writes.
            fresh: positions of those among them that it does not read.
            holds: tensors besides ``values`` that it uses.
        """
        if not self._works or not _worth(values, key[2][0]) or torch.cuda.is_current_stream_capturing():
            run(values)  # inside somebody's graph it becomes part of that one
            return
        whole = (key, tuple(_shape(v) for v in values))
        if whole not in self._graphs:
            self._graphs[whole] = None
            while len(self._graphs) > KEPT:
                self._graphs.popitem(last=False)
            run(values)
            return
        self._graphs.move_to_end(whole)
        graph = self._graphs[whole]
        if graph is None:
            graph = self._graphs[whole] = _capture(run, values, holds)
            if graph is None:
                self._works = False
                run(values)
                return
        skipped = set(fresh)
        for k, (mine, given) in enumerate(zip(graph.values, values, strict=True)):
            if isinstance(given, Tensor) and k not in skipped:
                mine.copy_(given)
        graph.graph.replay()
        for k in written:
            values[k].copy_(graph.values[k])


def _worth(values: list[Any], launches: int) -> bool:
    tensors = [v for v in values if isinstance(v, Tensor)]
    overlapping = any(s == 0 and n > 1 for v in tensors for s, n in zip(v.stride(), v.shape, strict=True))
    size = sum(v.numel() * v.element_size() for v in tensors)
    return not overlapping and size <= MOST_BYTES and launches <= MOST_LAUNCHES


def _shape(value: Any) -> Any:
    return (tuple(value.shape), value.stride()) if isinstance(value, Tensor) else value


def _capture(run: Run, values: list[Any], holds: list[Any]) -> _Graph | None:
    """The graph of ``run`` on copies of ``values``, or None (with a warning) where none can be made."""
    mine = [torch.empty_strided(v.shape, v.stride(), dtype=v.dtype, device=v.device) if isinstance(v, Tensor) else v
            for v in values]  # fmt: skip
    for copy, given in zip(mine, values, strict=True):
        if isinstance(given, Tensor):
            copy.copy_(given)
    graph = torch.cuda.CUDAGraph()
    try:
        # another thread's work (autograd's, a data loader's) does not disturb this capture, nor this one theirs
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            run(mine)
    except RuntimeError as err:
        warnings.warn(
            f"the steps of a recurrent layer cannot be captured in a CUDA graph ({err}); each is launched on its own",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return _Graph(graph, mine, holds)
