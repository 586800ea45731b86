"""A target that runs every scan twice, on the reference and on another target, and notes where they differ.

The reference's results go on to the next scan, so that a difference is found where it arises, whatever the products
in between do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from snncompile.targets.scan import (
    BackwardCall,
    BackwardResult,
    ForwardCall,
    ForwardResult,
    Scan,
    ScanTarget,
    checkpoint_of,
)

#: Largest norm-relative distance of a gradient from the reference's.
GRADIENT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Difference:
    """The first value that differs.

    Attributes:
        scan: name of the scan.
        result: name of the result in it.
        step: the time step.
        index: batch and neuron.
        want: the reference's value.
        got: the other target's.
    """

    scan: str
    result: str
    step: int
    index: tuple[int, ...]
    want: float
    got: float


class ShadowTarget:
    """Gives the reference's results and compares the other target's with them.

    Args:
        reference: whose results count.
        other: the target under test.
        device: where the other one runs.

    Attributes:
        values: values compared going forward.
        different: how many of them differ; the sign of zero is no difference.
        first_difference: the first of these, in the order of execution.
        backwards: backward scans compared.
        worst_gradient: the largest norm-relative distance of a gradient, and of what.
    """

    name = "shadow"

    def __init__(self, reference: ScanTarget, other: ScanTarget, device: torch.device) -> None:
        self.reference, self.other, self.device = reference, other, device
        self.values = self.different = self.backwards = 0
        self.first_difference: Difference | None = None
        self.worst_gradient: tuple[float, str] = (0.0, "nothing")
        self._steps: dict[str, int] = {}

    def checkpoint(self, states: int, shape: tuple[int, int, int]) -> int:
        """As the target under test saves its states."""
        return checkpoint_of(None, self.other, states, shape)

    def forward(self, scan: Scan, call: ForwardCall) -> ForwardResult:
        """The reference's forward scan."""
        want = self.reference.forward(scan, call)
        got = self.other.forward(scan, _moved(call, self.device))
        start = self._steps.get(scan.name, 0) if call.shape[0] == 1 else 0  # a cycle runs step by step
        self._steps[scan.name] = start + call.shape[0]
        for name, course in want.stored.items():
            self._compare(scan, name, course, got.stored[name], start)
        for name, total in want.sums.items():
            self._compare(scan, name, total.unsqueeze(0), got.sums[name].unsqueeze(0), start)
        last = start + max(call.shape[0] - 1, 0)
        for name, a, b in zip(scan.states, want.finals, got.finals, strict=True):
            self._compare(scan, name, a.unsqueeze(0), b.unsqueeze(0), last)
        for name, a, b in zip(scan.states, want.saved, got.saved, strict=False):
            self._compare(scan, name, a, b, start, max(call.checkpoint, 1))
        return want

    def backward(self, scan: Scan, call: BackwardCall) -> BackwardResult:
        """The reference's backward scan."""
        want = self.reference.backward(scan, call)
        got = self.other.backward(scan, _moved(call, self.device))
        self.backwards += 1
        for name, a, b in zip(scan.inputs, want.inputs, got.inputs, strict=True):
            self._distance(f"the gradient of input {name} of {scan.name}", a, b)
        for name, a, b in zip(scan.states, want.states, got.states, strict=True):
            self._distance(f"the gradient of state {name} of {scan.name}", a, b)
        for name, total in want.accumulators.items():
            self._distance(f"the parameter gradient {name} of {scan.name}", total, got.accumulators.get(name))
        return want

    def _compare(self, scan: Scan, result: str, want: Tensor, got: Tensor, start: int, stride: int = 1) -> None:
        got = got.to(want.device)
        apart = (want != got) & ~(want.isnan() & got.isnan())
        self.values += want.numel()
        count = int(apart.sum())
        self.different += count
        if count and self.first_difference is None:
            step, batch, neuron = (int(i) for i in apart.nonzero()[0])
            values = float(want[step, batch, neuron]), float(got[step, batch, neuron])
            self.first_difference = Difference(scan.name, result, start + step * stride, (batch, neuron), *values)

    def _distance(self, what: str, want: Tensor | None, got: Tensor | None) -> None:
        if want is None:
            return
        gap = float("inf") if got is None else float((want - got.to(want.device)).norm())
        distance = gap / max(float(want.norm()), 1e-6)
        if not distance <= self.worst_gradient[0]:
            self.worst_gradient = distance, what


def _moved(call: Any, device: torch.device) -> Any:
    """``call`` with every tensor on ``device``."""
    return replace(call, **{f.name: _on(getattr(call, f.name), device) for f in fields(call)})


def _on(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _on(v, device) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_on(v, device) for v in value)
    return value
