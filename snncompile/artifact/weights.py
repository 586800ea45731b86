"""Weights in safetensors files, checked against what a graph says they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snncompile.artifact.format import LIMITS, MIB, WEIGHTS
from snncompile.ir.errors import ArtifactError
from snncompile.ir.params import Parameter

DTYPE = "F32"
_HEADER_LIMIT = 100 * MIB


def write_weights(values: Mapping[str, Any], path: Path) -> None:
    """Write tensors by name; the same values give the same bytes."""
    from safetensors.torch import save_file

    held = {name: values[name].detach().cpu().contiguous() for name in sorted(values)}
    path.touch()
    mode = path.stat().st_mode
    save_file(held, path)
    path.chmod(mode)  # the library makes files that only their owner can read


def read_weights(path: Path, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The value of each of ``parameters``, from a file that holds exactly these.

    Raises:
        ArtifactError: where the file is damaged, or names, shapes or dtypes differ from the graph's.
    """
    check_weights(path, parameters)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        values = load_file(path)
    except (SafetensorError, OSError) as err:
        raise ArtifactError(f"{path} is damaged: {err}") from None
    return {name: values[name] for name in parameters}


def check_weights(path: Path, parameters: Mapping[str, Parameter]) -> None:
    """Raise :class:`ArtifactError` unless the header of ``path`` lists exactly ``parameters``."""
    header = _header(path)
    missing = [name for name in parameters if name not in header]
    unknown = [name for name in header if name not in parameters]
    if missing or unknown:
        said = [f"it lacks {_some(missing)}"] if missing else []
        said += [f"it holds {_some(unknown)}, which the network does not have"] if unknown else []
        raise ArtifactError(f"{path} does not fit the network: {'; '.join(said)}")
    for name, p in parameters.items():
        shape, dtype = tuple(header[name].get("shape", ())), header[name].get("dtype")
        if shape != p.shape:
            raise ArtifactError(f"{path} does not fit the network: {name} has shape {shape}, here it is {p.shape}")
        if dtype != DTYPE:
            raise ArtifactError(f"{path}: {name} is {dtype}; weights are float32: convert it before saving")


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """The table at the start of a safetensors file: name -> dtype and shape."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_LIMIT):
                raise ArtifactError(f"{path} is damaged or cut: it is no safetensors file")
            data = json.loads(file.read(length))
    except OSError as err:
        raise ArtifactError(f"{path} cannot be read: {err.strerror}") from None
    except (ValueError, RecursionError):
        raise ArtifactError(f"{path} is damaged: it is no safetensors file") from None
    if size > LIMITS[WEIGHTS]:
        raise ArtifactError(f"{path} has {size} bytes, over the limit of {LIMITS[WEIGHTS]}")
    if not isinstance(data, dict) or not all(isinstance(entry, dict) for entry in data.values()):
        raise ArtifactError(f"{path} is damaged: its header is no table")
    data.pop("__metadata__", None)
    return data


def _some(names: Iterable[str], at_most: int = 4) -> str:
    held = list(names)
    more = f" and {len(held) - at_most} more" if len(held) > at_most else ""
    return ", ".join(held[:at_most]) + more
