"""Data in and out of a network: checks, and the turn from batch-first to time-first and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import InputError
from snncompile.ir.graph import StateInfo
from snncompile.ir.types import SignalType


@dataclass(frozen=True)
class Sequences:
    """Inputs ready to run.

    Attributes:
        inputs: input name -> ``(T, B, *features)``.
        steps: T.
        batch: B.
        batched: whether the user's data had a batch axis.
        device: where they are.
    """

    inputs: dict[str, Tensor]
    steps: int
    batch: int
    batched: bool
    device: torch.device


def read_inputs(
    types: Mapping[str, SignalType],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    steps: int | None,
    batch: int | None,
    device: torch.device,
) -> Sequences:
    """Match data to inputs and bring it to ``(T, B, *features)`` float32.

    Raises:
        InputError: for missing, unknown or ill-shaped data, naming the input and the shape it takes.
    """
    given = _by_name(types, args, kwargs)
    if not types:
        if steps is None:
            raise InputError("this network has no inputs: say how long it runs, net(steps=..., batch=...)")
        _check_count("steps", steps)
        _check_count("batch", batch)
        return Sequences({}, steps, 1 if batch is None else batch, batch is not None, device)
    if steps is not None or batch is not None:
        raise InputError("steps= and batch= are for networks without inputs; here the data says both")
    tensors = {name: _as_float(f"input {name!r}", value) for name, value in given.items()}
    batched = {name: _is_batched(name, x, types[name]) for name, x in tensors.items()}
    if len(set(batched.values())) > 1:
        raise InputError("some inputs have a batch axis and some have none; give all of them one")
    has_batch = next(iter(batched.values()))
    time_first = {name: x.transpose(0, 1) if has_batch else x.unsqueeze(1) for name, x in tensors.items()}
    sizes = {name: tuple(x.shape[:2]) for name, x in time_first.items()}
    if len(set(sizes.values())) > 1:
        said = "; ".join(f"{name}: {t} steps, batch {b}" for name, (t, b) in sizes.items())
        raise InputError(f"inputs differ in length or batch: {said}")
    first = next(iter(time_first.values()))
    return Sequences(time_first, first.shape[0], first.shape[1], has_batch, first.device)


def _check_count(what: str, count: Any) -> None:
    if count is not None and (isinstance(count, bool) or not isinstance(count, Integral) or int(count) < 0):
        raise InputError(f"{what} is a whole number of at least 0, not {count!r}")


def _by_name(
    types: Mapping[str, SignalType], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, timed: bool = True
) -> dict[str, Any]:
    names = list(types)
    if len(args) > len(names) and isinstance(args[-1], Mapping):
        raise InputError("a state is given by name: net.evolve(x, state=state)")
    if len(args) > len(names):
        raise InputError(f"the network has {len(names)} input(s), but {len(args)} were given")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in types:
            raise InputError(f"the network has no input {name!r}; its inputs: {', '.join(names) or 'none'}")
        if name in given:
            raise InputError(f"input {name!r} is given twice")
        given[name] = value
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(f"input {missing[0]!r} is missing; it takes {_shape_text(types[missing[0]], timed)}")
    return given


def read_step(
    types: Mapping[str, SignalType], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Tensor], bool]:
    """Data of one step as sequences of one step, by name, and whether they have a batch axis.

    Raises:
        InputError: as :func:`read_inputs`, for data without a time axis.
    """
    given = {name: _tensor(f"input {name!r}", x) for name, x in _by_name(types, args, kwargs, timed=False).items()}
    batched = {name: x.dim() == len(types[name].shape) + 1 for name, x in given.items()}
    for name, x in given.items():
        shape = types[name].shape
        if tuple(x.shape[batched[name] :]) != shape:
            said = f"input {name!r} has shape {tuple(x.shape)}; one step of it is {_shape_text(types[name], False)}"
            raise InputError(f"{said}. A sequence goes to net(...) or net.evolve(...)")
    if len(set(batched.values())) > 1:
        raise InputError("some inputs have a batch axis and some have none; give all of them one")
    has_batch = next(iter(batched.values()))
    return {name: x.unsqueeze(int(has_batch)) for name, x in given.items()}, has_batch


def _as_float(name: str, value: Any) -> Tensor:
    x = _tensor(name, value)
    if x.dtype in (torch.float64, torch.complex64, torch.complex128):
        given = str(x.dtype).removeprefix("torch.")
        raise InputError(f"{name} is {given}; networks compute in float32: convert it, x.float()")
    return x if x.dtype is torch.float32 else x.float()


def _tensor(name: str, value: Any) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is of type {type(value).__name__}: give a tensor or an array of numbers") from None


def _is_batched(name: str, x: Tensor, type: SignalType) -> bool:
    n = len(type.shape)
    if x.dim() in (n + 1, n + 2) and tuple(x.shape[x.dim() - n :]) == type.shape:
        return x.dim() == n + 2
    raise InputError(f"input {name!r} has shape {tuple(x.shape)}; it takes {_shape_text(type)}")


def _shape_text(type: SignalType, timed: bool = True) -> str:
    dims = ", ".join(map(str, type.shape))
    if not timed:
        return f"(batch, {dims}) or ({dims})" if len(type.shape) > 1 else f"(batch, {dims}) or ({dims},)"
    return f"(batch, time, {dims}) or (time, {dims})"


def check_state(state: Mapping[str, Tensor], infos: Mapping[str, StateInfo], batch: int) -> dict[str, Tensor]:
    """The state in the network's own order.

    Raises:
        InputError: where an entry is missing, unknown, or has the wrong shape or dtype.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"a state is a dict of tensors by name, as evolve and step return it, not a"
                         f" {type(state).__name__}")  # fmt: skip
    unknown = [name for name in state if name not in infos]
    missing = [name for name in infos if name not in state]
    if unknown or missing:
        said = [f"missing {', '.join(missing)}"] if missing else []
        said += [f"unknown {', '.join(unknown)}"] if unknown else []
        raise InputError(f"this is no state of this network: {'; '.join(said)}")
    held = {name: as_state(name, state[name], info) for name, info in infos.items()}
    for name, info in infos.items():
        if tuple(held[name].shape) != info.full_shape(batch):
            raise InputError(
                f"state {name!r} has shape {tuple(held[name].shape)}; with this input it is {info.full_shape(batch)}"
            )
    return held


def as_state(name: str, value: Any, info: StateInfo) -> Tensor:
    """``value`` as the state ``name``, a tensor of its dtype.

    Raises:
        InputError: for what is no tensor or array of numbers, and one of another dtype.
    """
    if info.dtype == "float32":
        return _as_float(f"state {name!r}", value)
    held = _tensor(f"state {name!r}", value)
    if held.is_floating_point() or held.is_complex() or held.dtype is torch.bool:
        given = str(held.dtype).removeprefix("torch.")
        raise InputError(f"state {name!r} is {given}; it holds whole numbers ({info.dtype})")
    return held.to(getattr(torch, info.dtype))


def batch_first(x: Tensor, batched: bool) -> Tensor:
    """``(T, B, ...)`` as the user's ``(B, T, ...)`` or ``(T, ...)``."""
    return x.transpose(0, 1) if batched else x.squeeze(1)
