"""Where a network first leaves the finite numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.graph import Graph
from snncompile.network import Network


@dataclass(frozen=True)
class NonFinite:
    """Where a network first leaves the finite numbers.

    Attributes:
        signal: record name, e.g. ``"lif.v"``.
        step: the time step.
        index: batch and features.
        value: what is there.
        where: file and line of the node in the model, if known.
    """

    signal: str
    step: int
    index: tuple[int, ...]
    value: float
    where: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"signal": self.signal, "step": self.step, "index": list(self.index), "value": str(self.value),
                "where": self.where}  # fmt: skip

    def __str__(self) -> str:
        at = f" ({self.where})" if self.where else ""
        return (
            f"the first value that is not finite is {self.value} in {self.signal}{at}, at step {self.step}, element"
            f" {list(self.index)}: look at the weights and time constants that lead there, and at the size of the input"
        )


def first_non_finite(
    net: Network, given: Mapping[str, Tensor], state: Mapping[str, Tensor] | None, steps: int | None, batch: int | None
) -> NonFinite | None:
    """Where a run of ``net`` first leaves the finite numbers; every signal is recorded to find it.

    Args:
        net: the network.
        given: its inputs, as for a call.
        state: the state before the first step.
        steps: for a network without inputs.
        batch: likewise.
    """
    _, _, records = net.evolve(state=state, record=True, steps=steps, batch=batch, **given)
    names = net.graph.recordable()
    features = {name: len(net.graph.type_of(ref).shape) for name, ref in names.items()}
    courses = {}
    for name, course in records.items():
        batched = course.dim() == features[name] + 2
        courses[name] = course.transpose(0, 1) if batched else course.unsqueeze(1)
    return first_in(net.graph, courses)


def first_in(graph: Graph, courses: Mapping[str, Tensor]) -> NonFinite | None:
    """The first value that is not finite: by step, then in the order in which nodes run."""
    rank = {name: i for i, name in enumerate(graph.order())}
    found: tuple[tuple[int, int], NonFinite] | None = None
    refs = graph.recordable()
    for name in (n for n in courses if n in refs):
        course = courses[name]
        bad = ~torch.isfinite(course.flatten(1)) if course.numel() else torch.zeros(0, 1, dtype=torch.bool)
        steps = bad.any(1).nonzero()
        if not len(steps):
            continue
        step = int(steps[0])
        key = (step, rank[refs[name].node])
        if found is None or key < found[0]:
            at = torch.unravel_index((~torch.isfinite(course[step])).flatten().nonzero()[0, 0], course.shape[1:])
            index = tuple(int(i) for i in at)
            place = graph.where(refs[name].node)
            found = key, NonFinite(name, step, index, float(course[step][index]), str(place) if place else None)
    return found[1] if found else None
