"""Inputs, states and results as ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from snncompile.arrays import check_finite, exact, named_inputs, read_arrays
from snncompile.cli.errors import UsageError
from snncompile.ir.errors import InputError
from snncompile.ir.graph import StateInfo
from snncompile.ir.types import SignalType
from snncompile.paths import no_file


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
    return named_inputs(str(path), read_arrays(path), types)


def read_state(path: Path | None, infos: Mapping[str, StateInfo]) -> dict[str, np.ndarray] | None:
    """State name -> array; the network checks names and shapes."""
    if path is None:
        return None
    if not path.is_file():
        raise UsageError(no_file(path))
    arrays = read_arrays(path)
    if None in arrays:
        raise InputError(f"{path} holds one array; a state is a .npz with {', '.join(infos)}")
    found = {}
    for name, value in arrays.items():
        info = infos.get(str(name))
        whole = info is not None and info.dtype != "float32" and value.dtype.kind in "ui"
        found[str(name)] = value if whole else exact(f"state {name!r}", value)
        check_finite(f"state {name!r}", found[str(name)])
    return found


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
