"""Copies between devices: many small tensors in one transfer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def move(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """``tensors`` on ``device``, through one copy: each transfer to or from a GPU costs a wait of its own.

    Args:
        tensors: float32, all on one device.
        device: where they shall be. What is there already is handed back as it is.
    """
    if not tensors or next(iter(tensors.values())).device == device:
        return dict(tensors)
    together = torch.cat([t.reshape(-1) for t in tensors.values()]).to(device)
    parts = together.split([t.numel() for t in tensors.values()])
    return {name: part.view(t.shape) for (name, t), part in zip(tensors.items(), parts, strict=True)}
