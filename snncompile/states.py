"""The state before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from snncompile.ir.graph import StateInfo


def initial_state(
    infos: Mapping[str, StateInfo], batch: int, device: torch.device, value: Callable[[str], Tensor]
) -> dict[str, Tensor]:
    """State name -> first value; ``value`` gives a parameter by name."""
    return {name: _first(info, batch, device, value) for name, info in infos.items()}


def _first(info: StateInfo, batch: int, device: torch.device, value: Callable[[str], Tensor]) -> Tensor:
    if info.parameter:
        return value(info.parameter).detach().clone().to(device)
    return torch.full(info.full_shape(batch), info.init, device=device, dtype=getattr(torch, info.dtype))
