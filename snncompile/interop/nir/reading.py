"""From a file to nodes of the `nir` package, each refused by name where it is no node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snncompile.ir.errors import InterchangeError, UnsupportedError
from snncompile.paths import no_file

#: The primitives of nir 1.0.8 that are read.
PRIMITIVES = (
    "Affine", "AvgPool2d", "Conv1d", "Conv2d", "CubaLI", "CubaLIF", "Delay", "Flatten", "I", "IF", "Input", "LI", "LIF",
    "Linear", "NIRGraph", "Output", "Scale", "SumPool2d", "Threshold",
)  # fmt: skip


def load_nir() -> Any:
    """The `nir` package.

    Raises:
        UnsupportedError: where it, or h5py, is not installed.
    """
    try:
        import h5py  # noqa: F401
        import nir
    except ImportError as err:
        raise UnsupportedError(
            f"NIR files need the packages nir and h5py, and {err.name} is not installed: pip install 'snncompile[nir]'"
        ) from None
    return nir


def read_graph(path: Path) -> Any:
    """The NIR graph in a file, as it stands there: the `nir` package's own type inference is not run.

    Raises:
        InterchangeError: where there is no such file, or it is no NIR file.
        UnsupportedError: where the packages that read it are not installed.
    """
    load_nir()
    import h5py
    from nir.serialization import hdf2dict

    if not path.is_file():
        raise InterchangeError(no_file(path))
    if not h5py.is_hdf5(path):
        raise InterchangeError(f"{path} is no HDF5 file, and a NIR file is one")
    try:
        with h5py.File(path, "r") as file:
            if "node" not in file:
                raise InterchangeError(f"{path} is an HDF5 file, but no NIR file: it has no group 'node'")
            data = hdf2dict(file["node"])
    except (OSError, RuntimeError, UnicodeDecodeError) as err:
        raise InterchangeError(f"{path} cannot be read: {err}") from None
    if data.get("type") != "NIRGraph":
        raise InterchangeError(f"{path} holds {data.get('type', 'nothing')!r}, not a NIRGraph")
    return _node("", data)


def _node(name: str, data: Any) -> Any:
    nir = load_nir()
    kind = data.get("type") if isinstance(data, Mapping) else None
    if kind is None:
        raise InterchangeError("it does not say what primitive it is: 'type' is missing", node=name or None)
    if kind not in PRIMITIVES:
        raise InterchangeError(f"{kind!r} is no NIR primitive; there are: {', '.join(PRIMITIVES)}", node=name or None)
    try:
        if kind == "NIRGraph":
            prefix = f"{name}." if name else ""
            nodes = {key: _node(f"{prefix}{key}", value) for key, value in data["nodes"].items()}
            edges = [(_text(a), _text(b)) for a, b in data["edges"]]
            return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
        return nir.dict2NIRNode(dict(data))
    except KeyError as err:
        raise InterchangeError(f"{kind} lacks {err.args[0]!r}", node=name or None) from None
    except (AssertionError, TypeError, ValueError, AttributeError, IndexError) as err:
        raise InterchangeError(f"{kind} cannot be read: {err}", node=name or None) from None


def _text(value: Any) -> str:
    return value.decode("utf8") if isinstance(value, bytes) else str(value)
