"""Data into a module: ``(time, features)`` becomes a batch of one, and signals of one channel reach all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import InputError
from snncompile.ir.types import SignalType


def as_batches(data: Any, types: Mapping[str, SignalType], device: torch.device) -> dict[str, Tensor]:
    """Input name -> ``(batch, time, *features)``, float32.

    Args:
        data: for one input a tensor or array; for several a mapping by name, a tuple in order, or one tensor with
            their channels side by side.
        types: input name -> type.
        device: where arrays go; tensors stay where they are.

    Raises:
        InputError: for missing or unknown inputs, and shapes that do not fit.
    """
    if isinstance(data, Mapping):
        unknown, missing = [n for n in data if n not in types], [n for n in types if n not in data]
        if unknown or missing:
            raise InputError(f"the module's inputs are {', '.join(types) or 'none'}, not {', '.join(map(str, data))}")
        return {name: batched(_tensor(name, data[name], device), t, name) for name, t in types.items()}
    if len(types) == 1:
        ((name, t),) = types.items()
        return {name: batched(_tensor(name, data, device), t, name)}
    if isinstance(data, tuple):
        if len(data) != len(types):
            raise InputError(f"the module has {len(types)} inputs, but {len(data)} were given")
        return as_batches(dict(zip(types, data, strict=True)), types, device)
    return _split(_tensor("the input", data, device), types)


def batched(x: Tensor, type: SignalType, name: str) -> Tensor:
    """``x`` as ``(batch, time, *features)``.

    ``(time,)`` and a last dimension of 1 go to every feature; images may come with their features in one dimension.

    Raises:
        InputError: where its last dimensions are not the features.
    """
    n = len(type.shape)
    if x.dim() < 2:
        x = x.reshape(1, -1, *[1] * n)
    tail = tuple(x.shape[x.dim() - n :])
    if x.dim() in (n + 1, n + 2) and (tail == type.shape or set(tail) == {1}):
        whole = x if x.dim() == n + 2 else x.unsqueeze(0)
        return whole.expand(*whole.shape[:2], *type.shape)
    if x.dim() in (2, 3) and x.shape[-1] in (type.size, 1):
        whole = x if x.dim() == 3 else x.unsqueeze(0)
        return whole.expand(*whole.shape[:2], type.size).reshape(*whole.shape[:2], *type.shape)
    dims = ", ".join(map(str, type.shape))
    flat = f", or with {type.size} features in one dimension" if n > 1 else ""
    raise InputError(
        f"{name!r} has shape {tuple(x.shape)}; it takes (batch, time, {dims}) or (time, {dims}){flat}"
    )


def replicated(state: Tensor, shape: tuple[int, ...], batch: int, name: str) -> Tensor:
    """A state ``shape``, or ``(batch, *shape)``, for every sequence of the batch.

    Raises:
        InputError: where it belongs to a batch of another size.
    """
    if tuple(state.shape) == shape:
        return state.expand(batch, *shape)
    if state.shape[0] == 1:
        return state.expand(batch, *shape)
    if state.shape[0] != batch:
        raise InputError(
            f"state {name!r} is that of a batch of {state.shape[0]}, the input is a batch of {batch}: use"
            " reset_state(), or set a state without a batch axis"
        )
    return state


def auto_batch(
    data: Any, states: Sequence[Tensor], targets: Sequence[tuple[int, ...] | None] | None, size: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """``data`` as ``(batch, time, size)``, and each state with a batch axis in front."""
    x = batched(_tensor("data", data, torch.device("cpu")), SignalType("any", (size,)), "data")
    shapes = [tuple(s.shape) for s in states] if targets is None else list(targets)
    if len(shapes) != len(states):
        raise InputError(f"{len(states)} states need as many target shapes, not {len(shapes)}")
    full = [tuple(s.shape) if shape is None else shape for s, shape in zip(states, shapes, strict=True)]
    return x, tuple(s.new_ones(x.shape[0], *shape) * s for s, shape in zip(states, full, strict=True))


def _split(x: Tensor, types: Mapping[str, SignalType]) -> dict[str, Tensor]:
    sizes = [prod(t.shape) for t in types.values()]
    if x.dim() not in (2, 3) or x.shape[-1] != sum(sizes):
        if not types:
            raise InputError(f"the module has no inputs: give (batch, time, 0) or (time, 0), not {tuple(x.shape)}")
        said = ", ".join(f"{name} ({size})" for name, size in zip(types, sizes, strict=True))
        raise InputError(
            f"the input has shape {tuple(x.shape)}; give one tensor per input, or (batch, time, {sum(sizes)}) with the"
            f" channels of {said} side by side"
        )
    parts = x.split(sizes, dim=-1)
    return {name: batched(part, types[name], name) for name, part in zip(types, parts, strict=True)}


def _tensor(name: str, value: Any, device: torch.device) -> Tensor:
    try:
        x = value if isinstance(value, Tensor) else torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is of type {type(value).__name__}: give a tensor or an array of numbers") from None
    if x.is_complex():
        raise InputError(f"{name} is complex; modules compute in float32")
    return x.to(torch.float32)
