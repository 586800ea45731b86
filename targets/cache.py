"""The per-user cache directory: generated sources and compiled binaries, each written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from snncompile.ir.errors import UnsupportedError


def directory(kind: str) -> Path:
    """The cache directory for ``kind``, created for this user alone.

    It is ``$SNNCOMPILE_CACHE``, else ``$XDG_CACHE_HOME/snncompile``, else ``~/.cache/snncompile``.

    Raises:
        UnsupportedError: if it cannot be created, or belongs to somebody else.
    """
    root = os.environ.get("SNNCOMPILE_CACHE")
    if not root:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        root = os.path.join(base, "snncompile")
    path = Path(os.path.abspath(root))
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(path)
        (path / kind).mkdir(mode=0o700, exist_ok=True)
    except OSError as err:
        raise unusable(path, err) from err
    return path / kind


def unusable(path: Path, err: OSError) -> UnsupportedError:
    """What to say where nothing can be put into the cache directory ``path``: it is read-only, or the disk is full."""
    return UnsupportedError(
        f"the cache directory {path} cannot be used ({err.strerror or err}). Set SNNCOMPILE_CACHE to a writable"
        " directory with room in it"
    )


def _check_owner(path: Path) -> None:
    status = path.stat()
    if status.st_uid != os.getuid():
        raise UnsupportedError(
            f"the cache directory {path} belongs to another user. Set SNNCOMPILE_CACHE to one of your own"
        )
    if status.st_mode & 0o077:
        path.chmod(0o700)  # what lies in it becomes code


def digest(*parts: str | bytes) -> str:
    """A key made of ``parts``: 32 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:32]


def write_whole(path: Path, data: bytes) -> None:
    """Write ``path``, in the cache, so that another process sees all of it or nothing.

    Raises:
        UnsupportedError: if it cannot be written.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as err:
        raise unusable(path.parent, err) from err


def ensure(path: Path, data: bytes) -> None:
    """Have exactly ``data`` at ``path``: a file that differs is replaced."""
    try:
        if path.read_bytes() == data:
            return
    except OSError:
        pass
    write_whole(path, data)
