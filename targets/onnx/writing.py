"""Model files: written whole or not at all, large weights beside them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import ModelProto

from snncompile.ir.errors import InterchangeError

#: A protobuf message cannot hold 2 GB: from this size on, weights go to a file of their own.
LARGEST = 2**31 - 2**24


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
            if data.exists():
                os.replace(data, data_file(path))
            os.replace(made, path)
        except OSError as err:
            raise InterchangeError(f"{path} cannot be written: {err.strerror or err}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def data_file(path: Path) -> Path:
    """Where the weights of a large model lie: beside it."""
    return path.with_name(f"{path.name}.data")


def save(model: ModelProto, path: Path) -> None:
    """Write ``model``; weights go to :func:`data_file` where they are too large for one file."""
    size = sum(len(t.raw_data) for t in model.graph.initializer)
    if size <= LARGEST:
        onnx.save(model, path)
    else:
        where = data_file(path).name
        onnx.save(model, path, save_as_external_data=True, location=where, size_threshold=1024)


def written_size(path: Path) -> int:
    """Bytes of the model and its weights."""
    return sum(p.stat().st_size for p in (path, data_file(path)) if p.exists())
