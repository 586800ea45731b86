"""Paths as a user gives them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from snncompile.ir.errors import SnnError


def as_path(path: Any, error: type[SnnError]) -> Path:
    """``path``, which may be text or any path object.

    Raises:
        SnnError: of the kind ``error``, where it is neither.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise error(f"a path is text or a pathlib.Path, not {path!r}")
    return Path(path)


def no_file(path: Path) -> str:
    """What to say of a path at which there is no file to read."""
    return f"{path} is a directory, not a file" if path.is_dir() else f"there is no file {path}"
