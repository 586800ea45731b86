"""Where an artifact runs: which target, which device, and what to tell the user about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snncompile.cli.errors import UsageError
from snncompile.ir.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

    from snncompile.network import Network

WAYS_ON = (
    "Run it with --target torch, or where there is a CUDA or ROCm device; to test the kernels on a CPU, slowly, set"
    " TRITON_INTERPRET=1"
)


@dataclass(frozen=True)
class Place:
    """A target and a device, and notes about the choice."""

    target: str
    device: torch.device
    notes: tuple[str, ...] = ()


def place(net: Network, asked: str | None, device: str | None) -> Place:
    """Where ``net`` runs; its target is changed where its own cannot run and none was asked for.

    Args:
        net: the network, with its artifact's target or the one asked for.
        asked: the target asked for, or None.
        device: the device asked for, or None.

    Raises:
        UsageError: for a device that is not there.
        UnsupportedError: where the target asked for cannot run here.
    """
    import torch

    from snncompile.targets.registry import availability

    chosen = _device(device)
    usable = availability("triton")
    if net.target == "triton" and not (usable.ok and (chosen is None or chosen.type == "cuda" or _interpreting())):
        why = usable.reason if not usable.ok else f"its device is {chosen}"
        return _on_torch(net, asked, chosen, why, f". {WAYS_ON}")
    if net.target == "c":
        compiler = availability("c")
        if not compiler.ok or (chosen is not None and chosen.type != "cpu"):
            why = compiler.reason if not compiler.ok else f"its device is {chosen}"
            return _on_torch(net, asked, chosen, why)
    if chosen is None:
        use_gpu = torch.cuda.is_available() and net.target not in ("torch", "c")
        chosen = torch.device("cuda" if use_gpu else "cpu")
    target = net.resolve(chosen)
    notes = (
        ("kernels run in Triton's interpreter (TRITON_INTERPRET=1)",) if target == "triton" and _interpreting() else ()
    )
    return Place(target, chosen, notes)


def _on_torch(net: Network, asked: str | None, chosen: torch.device | None, why: str, ways_on: str = "") -> Place:
    """The reference in place of the network's target, unless that one was asked for."""
    import torch

    if asked is not None:
        raise UnsupportedError(f'target "{net.target}" cannot run: {why}{ways_on}')
    text = f"the artifact is built for {net.target}, but runs on the torch reference: {why}"
    net.target = "torch"
    return Place("torch", chosen or torch.device("cpu"), (text,))


def _device(name: str | None) -> torch.device | None:
    import torch

    if name is None:
        return None
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError):
        raise UsageError(f"there is no device {name!r}; use cpu, cuda, or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported; use cpu, cuda, or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(f"there is no device {name!r}: torch finds {count} CUDA devices. Use --device cpu")
    return device


def _interpreting() -> bool:
    from snncompile.targets.triton.availability import interpreting

    return interpreting() and os.environ.get("TRITON_INTERPRET") is not None
