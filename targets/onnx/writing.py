"""Model files: written whole or not at all, large weights beside them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from snncompile.ir.errors import InterchangeError

#: A protobuf message cannot hold 2 GB: from this size on, weights go to a file of their own.
LARGEST = 2**31 - 2**24

#: Tensors below this many bytes stay in the model all the same; the others begin at a page, to be mapped into memory.
SMALL, PAGE = 1024, 4096


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file in a temporary directory beside ``path``; it takes the place of ``path`` if the block succeeds.

    Raises:
        InterchangeError: where nothing can be written there.
    """
    if path.is_dir():
        raise InterchangeError(f"{path} is a directory; give the name of a file, e.g. {path / 'net.onnx'}")
    if not path.parent.is_dir():
        raise InterchangeError(f"{path} cannot be written: there is no directory {path.parent}")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as err:
        raise InterchangeError(f"{path} cannot be written: {err.strerror}") from None
    try:
        made = folder / path.name
        try:
            yield made
            data = data_file(made)
            stale = not data.exists() and _has_data(path)
            if data.exists():
                os.replace(data, data_file(path))
            os.replace(made, path)
            if stale:
                data_file(path).unlink()
        except OSError as err:
            raise InterchangeError(f"{path} cannot be written: {err.strerror or err}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def data_file(path: Path) -> Path:
    """Where the weights of a large model lie: beside it."""
    return path.with_name(f"{path.name}.data")


def _has_data(path: Path) -> bool:
    """Whether the model that stands at ``path`` has its weights in the file beside it."""
    if not path.is_file() or not data_file(path).is_file():
        return False
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # no model: the file beside it is somebody's
        return False
    places = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    return data_file(path).name in places


def save(model: ModelProto, initializers: Mapping[str, np.ndarray], path: Path) -> None:
    """Write ``model`` with ``initializers``; they go to :func:`data_file` where they are too large for one file."""
    whole = ModelProto()
    whole.CopyFrom(model)
    if sum(v.nbytes for v in initializers.values()) <= LARGEST:
        whole.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in initializers.items())
    else:
        with data_file(path).open("wb") as data:
            for name, value in initializers.items():
                whole.graph.initializer.append(_beside(name, value, data, data_file(path).name))
    path.write_bytes(whole.SerializeToString(deterministic=True))


def _beside(name: str, value: np.ndarray, data: BinaryIO, location: str) -> TensorProto:
    """``value``, written to ``data``; a message cannot even pass through a tensor of 2 GB. Small ones stay inside."""
    if value.nbytes < SMALL:
        return numpy_helper.from_array(value, name)
    data.write(b"\0" * (-data.tell() % PAGE))
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        dims=value.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, entry in (("location", location), ("offset", data.tell()), ("length", value.nbytes)):
        tensor.external_data.add(key=key, value=str(entry))
    data.write(np.ascontiguousarray(value).data.cast("B"))
    return tensor


def written_size(path: Path) -> int:
    """Bytes of the model and its weights."""
    return sum(p.stat().st_size for p in (path, data_file(path)) if p.exists())
