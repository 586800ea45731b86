"""The state before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.errors import InputError
from snncompile.ir.graph import StateInfo
from snncompile.ir.random import RANDOM, first_random
from snncompile.signals_io import as_state


def initial_state(
    infos: Mapping[str, StateInfo],
    batch: int,
    device: torch.device,
    value: Callable[[str], Tensor],
    seed: int | None = None,
) -> dict[str, Tensor]:
    """State name -> first value.

    Args:
        infos: what the state is made of.
        batch: sequences.
        device: where it is made.
        value: gives a parameter by name.
        seed: of the random numbers, where there are any; None draws one from torch's generator.
    """
    return {
        name: first_random(seed, device) if name == RANDOM else _first(info, batch, device, value)
        for name, info in infos.items()
    }


def checked_batch(batch: Any) -> int:
    """``batch``, unless there cannot be as many sequences.

    Raises:
        InputError: naming what there can be.
    """
    if isinstance(batch, bool) or not isinstance(batch, Integral) or int(batch) < 0:
        raise InputError(f"batch is a whole number of sequences of at least 0, not {batch!r}")
    return int(batch)


def checked_seed(seed: Any) -> int | None:
    """``seed``, unless it can be none.

    Raises:
        InputError: naming the range.
    """
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise InputError(f"seed is a whole number from 0 to 2**63 - 1, not {seed!r}")
    return int(seed)


def _first(info: StateInfo, batch: int, device: torch.device, value: Callable[[str], Tensor]) -> Tensor:
    if info.parameter:
        return value(info.parameter).detach().clone().to(device)
    return torch.full(info.full_shape(batch), info.init, device=device, dtype=getattr(torch, info.dtype))


def carried_on(
    state: Mapping[str, Tensor], carry: Mapping[str, Any], infos: Mapping[str, StateInfo]
) -> dict[str, Tensor]:
    """``state`` with some entries from ``carry``, one of batch 1 repeated for every sequence.

    Raises:
        InputError: for a name that ``state`` does not have, or a value of another shape or dtype.
    """
    if not isinstance(carry, Mapping):
        raise InputError(f"carry is a dict of states by name, not a {type(carry).__name__}")
    found = dict(state)
    for name, given in carry.items():
        if name not in state:
            raise InputError(f"there is no state {name!r} to carry on; states: {', '.join(state)}")
        value, shape = as_state(name, given, infos[name]), state[name].shape
        fits = value.shape == shape or (value.shape[:1] == (1,) and value.shape[1:] == shape[1:])
        if not fits:
            raise InputError(f"the state {name!r} has shape {tuple(value.shape)}; here it is {tuple(shape)}")
        found[name] = value.to(state[name]).expand(shape).clone()
    return found
