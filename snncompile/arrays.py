"""Arrays from files: read without unpickling, and checked against what a network takes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.ir.errors import InputError
from snncompile.ir.types import SignalType


def read_arrays(path: Path) -> dict[str | None, np.ndarray]:
    """The arrays of a ``.npz`` by name, or that of a ``.npy`` under None. Nothing is unpickled.

    Raises:
        InputError: where it is no such file.
    """
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {None: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as err:
        if not _begins_like_arrays(path):
            raise InputError(f"{path} is no .npy or .npz file") from None
        if "allow_pickle" in str(err) or "Object arrays" in str(err):
            raise InputError(f"{path} holds Python objects, not numbers; those are not read") from None
        raise InputError(f"{path} is damaged, or no .npy or .npz file: {err}") from None


def _begins_like_arrays(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(6).startswith((b"PK", np.lib.format.MAGIC_PREFIX))


def named_inputs(
    source: str, arrays: Mapping[Any, np.ndarray], types: Mapping[str, SignalType]
) -> dict[str, np.ndarray]:
    """Input name -> float32 array, checked against what the network takes.

    Args:
        source: what to call the arrays' place in a message.
        arrays: by name, or one under None, which a network of one input takes.
        types: of the network's inputs.

    Raises:
        InputError: for a missing or unknown name, a wrong shape or dtype, or a value that cannot be.
    """
    if None in arrays:
        if len(types) > 1:
            raise InputError(
                f"{source} holds one array; the network has the inputs {', '.join(types)}: use a .npz with these"
            )
        arrays = {next(iter(types)): arrays[None]}
    named = {str(name): value for name, value in arrays.items()}
    unknown = [name for name in named if name not in types]
    missing = [name for name in types if name not in named]
    if missing:
        raise InputError(f"{source} lacks the input {missing[0]!r}; it holds {', '.join(named) or 'nothing'}")
    if unknown:
        raise InputError(f"{source} holds {unknown[0]!r}, which is no input; the inputs are {', '.join(types)}")
    return {name: checked_input(name, named[name], types[name]) for name in types}


def checked_input(name: str, value: np.ndarray, type: SignalType) -> np.ndarray:
    """``value`` as float32, with a batch axis or without, if it is what an input of this type takes."""
    what = f"input {name!r}"
    n = len(type.shape)
    dims = ", ".join(map(str, type.shape))
    if value.ndim not in (n + 1, n + 2) or value.shape[value.ndim - n :] != type.shape:
        raise InputError(f"{what} has shape {value.shape}; it takes (batch, time, {dims}) or (time, {dims})")
    found = exact(what, value)
    check_finite(what, found)
    if type.kind == "spikes":
        bad = (found < 0) | (found != np.trunc(found)) | (found > float(type.max or 1))
        if bad.any():
            at = _first(bad)
            raise InputError(
                f"{what} holds {found[at]:g} at {list(at)}; it takes whole numbers of spikes from 0 to {type.max}"
            )
    return found


def exact(what: str, value: np.ndarray) -> np.ndarray:
    """``value`` as float32, if that loses nothing."""
    if value.dtype == np.float32:
        return np.ascontiguousarray(value)
    if value.dtype.kind not in "buif":
        raise InputError(f"{what} is of dtype {value.dtype}; it takes float32, or what float32 can hold exactly")
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(value, dtype=np.float32)
    lost = (found.astype(value.dtype) != value) & (value == value)
    if value.dtype.kind in "ui":
        lost = found.astype(np.float64) != value.astype(np.float64)
    if lost.any():
        at = _first(lost)
        raise InputError(
            f"{what} is {value.dtype}, and {value[at]!s} at {list(at)} is not exact in float32, in which networks"
            f" compute. If rounding is right, convert it: x.astype('float32')"
        )
    return found


def check_finite(what: str, value: np.ndarray) -> None:
    """Raise :class:`InputError` where ``value`` holds NaN or infinity, with the first place."""
    bad = ~np.isfinite(value)
    if bad.any():
        at = _first(bad)
        raise InputError(f"{what} holds {value[at]!s} at {list(at)} ({int(bad.sum())} values are not finite)")


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))
