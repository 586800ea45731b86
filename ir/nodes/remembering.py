"""What the synapses share that can answer for the past."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.base import ElementwiseNode


@dataclass(frozen=True, eq=False)
class Remembering(ElementwiseNode):
    """Base of the synapses that can answer for the past: with ``delay=`` they keep a record of it in the state.

    ``net.current_at(state, name, d)`` and ``net.spike_at(state, name, d)`` then read what was ``d`` seconds before.

    Attributes:
        delay: the longest time to look back, in seconds; the record holds ``ceil(delay/dt) + 1`` values. None, the
            default, keeps none.
        spike_interpolation: what ``spike_at`` gives between two steps, ``"previous"`` (the older, the default) or
            ``"nearest"``. Currents decay from the older one.
        current_overbound: the current from before ``delay``; None gives that at the limit. Default 0.
        spike_overbound: the spike from before ``delay``, likewise. Default False.
        tolerance: a time this near to a step, in seconds, is on it. Default 0.
    """

    _: KW_ONLY
    delay: float | None = None
    spike_interpolation: str = "previous"
    current_overbound: float | None = 0.0
    spike_overbound: bool | None = False
    tolerance: float = 0.0

    def past(self) -> Mapping[str, str]:
        """The spikes that came in, and the states."""
        return {} if self.delay is None else {"spikes": "x", **{state: state for state in self.states()}}

    def check(self) -> None:
        """Settings that make no sense."""
        for name in ("delay", "tolerance"):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or value < 0):
                raise ModelError(f"{name} is a time of at least 0, not {value!r}")
        if self.spike_interpolation not in ("previous", "nearest"):
            raise ModelError(f"spike_interpolation is 'previous' or 'nearest', not {self.spike_interpolation!r}")
        if self.current_overbound is not None and not _is_number(self.current_overbound):
            raise ModelError(f"current_overbound is a number or None, not {self.current_overbound!r}")
        if self.spike_overbound is not None and not isinstance(self.spike_overbound, bool):
            raise ModelError(f"spike_overbound is True, False or None, not {self.spike_overbound!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
