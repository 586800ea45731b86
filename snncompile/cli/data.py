"""Inputs, states and results as ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.cli.errors import UsageError
from snncompile.ir.errors import InputError
from snncompile.ir.graph import StateInfo
from snncompile.ir.types import SignalType


def read_data(path: Path | None, types: Mapping[str, SignalType]) -> dict[str, np.ndarray]:
    """Input name -> float32 array, checked against what the network takes.

    Raises:
        InputError: for a missing or unknown name, a wrong shape or dtype, or a value that cannot be.
    """
    if not types:
        if path is not None:
            raise UsageError(f"this network has no inputs, so {path} has no use; say --steps and --batch")
        return {}
    if path is None:
        raise UsageError(f"give an input: INPUT.npz with {', '.join(types)}, or INPUT.npy")
    arrays = read_arrays(path)
    if None in arrays:
        if len(types) > 1:
            raise InputError(
                f"{path} holds one array; the network has the inputs {', '.join(types)}: use a .npz with these"
            )
        arrays = {next(iter(types)): arrays[None]}
    named = {str(name): value for name, value in arrays.items()}
    unknown = [name for name in named if name not in types]
    missing = [name for name in types if name not in named]
    if missing:
        raise InputError(f"{path} lacks the input {missing[0]!r}; it holds {', '.join(named) or 'nothing'}")
    if unknown:
        raise InputError(f"{path} holds {unknown[0]!r}, which is no input; the inputs are {', '.join(types)}")
    return {name: _checked(name, named[name], types[name]) for name in types}


def read_state(path: Path | None, infos: Mapping[str, StateInfo]) -> dict[str, np.ndarray] | None:
    """State name -> array; the network checks names and shapes."""
    if path is None:
        return None
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    arrays = read_arrays(path)
    if None in arrays:
        raise InputError(f"{path} holds one array; a state is a .npz with {', '.join(infos)}")
    found = {}
    for name, value in arrays.items():
        info = infos.get(str(name))
        whole = info is not None and info.dtype != "float32" and value.dtype.kind in "ui"
        found[str(name)] = value if whole else _exact(f"state {name!r}", value)
        _check_finite(f"state {name!r}", found[str(name)])
    return found


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
        if "allow_pickle" in str(err) or "Object arrays" in str(err):
            if path.suffix in (".npy", ".npz"):
                raise InputError(f"{path} holds Python objects, not numbers; those are not read") from None
            raise InputError(f"{path} is no .npy or .npz file") from None
        raise InputError(f"{path} is damaged, or no .npy or .npz file: {err}") from None


def _checked(name: str, value: np.ndarray, type: SignalType) -> np.ndarray:
    what = f"input {name!r}"
    n = len(type.shape)
    dims = ", ".join(map(str, type.shape))
    if value.ndim not in (n + 1, n + 2) or value.shape[value.ndim - n :] != type.shape:
        raise InputError(f"{what} has shape {value.shape}; it takes (batch, time, {dims}) or (time, {dims})")
    found = _exact(what, value)
    _check_finite(what, found)
    if type.kind == "spikes":
        bad = (found < 0) | (found != np.trunc(found)) | (found > float(type.max or 1))
        if bad.any():
            at = _first(bad)
            raise InputError(
                f"{what} holds {found[at]:g} at {list(at)}; it takes whole numbers of spikes from 0 to {type.max}"
            )
    return found


def _exact(what: str, value: np.ndarray) -> np.ndarray:
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


def _check_finite(what: str, value: np.ndarray) -> None:
    bad = ~np.isfinite(value)
    if bad.any():
        at = _first(bad)
        raise InputError(f"{what} holds {value[at]!s} at {list(at)} ({int(bad.sum())} values are not finite)")


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def check_output_path(path: Path | None) -> None:
    """Raise :class:`UsageError` where ``path`` cannot be written later, before any work is done."""
    if path is None:
        return
    if path.suffix != ".npz":
        raise UsageError(f"{path}: results are written as .npz")
    if path.is_dir():
        raise UsageError(f"{path} is a directory")
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the directory {path.parent} cannot be written to; choose another place for {path.name}")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a ``.npz``, whole or not at all; the same arrays give the same bytes."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
    except OSError as err:
        raise type(err)(err.errno, err.strerror, str(path)) from None  # the user's name, not the temporary one
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")  # its date is fixed
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(value), allow_pickle=False)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
