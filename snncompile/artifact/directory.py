"""Writing a directory whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from snncompile.artifact.format import (
    FORMAT,
    GRAPH,
    KERNELS,
    LIMITS,
    MANIFEST,
    REPORT,
    WEIGHTS,
    is_kernel_file,
    parse_json,
)
from snncompile.ir.errors import ArtifactError


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside ``path`` that takes its place once the block has ended without an exception.

    An artifact that stands there is replaced; anything else there is left alone. Nothing half-written stays behind.

    Raises:
        ArtifactError: where ``path`` is something else than an artifact, or cannot be written.
    """
    path = Path(os.path.abspath(path))
    check_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.tmp-", dir=path.parent))
    except OSError as err:
        raise write_error(path, err) from err
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _put(temporary, path)
    except OSError as err:
        raise write_error(path, err) from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(path: Path) -> None:
    """Raise :class:`ArtifactError` unless ``path`` is free, empty, or an artifact."""
    if not os.path.lexists(path):
        return
    advice = "choose another name"
    if path.is_symlink() or not path.is_dir():
        what = "a symbolic link" if path.is_symlink() else "a file"
        raise ArtifactError(f"{path} is {what}, which is not overwritten; {advice}")
    foreign = _foreign(path)
    if foreign:
        raise ArtifactError(f"{path} holds {foreign}, so it is no artifact and is not overwritten; {advice}")
    if any(path.iterdir()) and not _has_manifest(path):
        raise ArtifactError(f"{path} has no readable {MANIFEST}, so it is no artifact and is not overwritten; {advice}")


def _foreign(path: Path) -> str | None:
    """Something in directory ``path`` that no artifact holds."""
    for entry in sorted(os.scandir(path), key=lambda e: e.name):
        if entry.name == KERNELS and entry.is_dir(follow_symlinks=False):
            for inner in sorted(os.scandir(entry.path), key=lambda e: e.name):
                if not is_kernel_file(f"{KERNELS}/{inner.name}") or not inner.is_file(follow_symlinks=False):
                    return f"{KERNELS}/{inner.name}"
        elif entry.name not in (MANIFEST, GRAPH, WEIGHTS, REPORT) or not entry.is_file(follow_symlinks=False):
            return entry.name
    return None


def _has_manifest(path: Path) -> bool:
    manifest = path / MANIFEST
    try:
        text = manifest.read_text(encoding="utf-8") if manifest.stat().st_size <= LIMITS[MANIFEST] else ""
        return parse_json(text, manifest).get("format") == FORMAT
    except (ArtifactError, AttributeError, OSError, UnicodeDecodeError):
        return False


def _put(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``; what was there is put aside first, and put back if that fails."""
    check_replaceable(path)
    if not path.exists() or not any(path.iterdir()):
        os.rename(new, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old-", dir=path.parent))
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_error(path: Path, err: OSError) -> ArtifactError:
    """What an ``OSError`` on writing means, and what to do."""
    place = path.parent
    said = {
        errno.ENOSPC: f"the disk is full: nothing was written to {path}. Free some space, or choose another place",
        errno.EDQUOT: f"the disk quota is used up: nothing was written to {path}. Free some space",
        errno.EROFS: f"{place} is on a read-only file system; choose another place for {path.name}",
        errno.EACCES: f"{place} cannot be written to (permission denied); choose another place for {path.name}",
        errno.EPERM: f"{place} cannot be written to (not permitted); choose another place for {path.name}",
        errno.ENOTDIR: f"{place} is not a directory; choose another place for {path.name}",
        errno.EEXIST: f"{place} is not a directory; choose another place for {path.name}",
        errno.ENAMETOOLONG: f"the name {path.name[:40]}... is too long; choose a shorter one",
    }
    return ArtifactError(said.get(err.errno or 0, f"{path} cannot be written: {err.strerror or err}"))


def read_file(root: Path, name: str, limit: int) -> bytes:
    """A file of an artifact; no symbolic link is followed.

    Raises:
        ArtifactError: where it is missing, no plain file, or larger than ``limit``.
    """
    with open_file(root, name, limit) as (file, size):
        return file.read(size + 1)


@contextmanager
def open_file(root: Path, name: str, limit: int) -> Iterator[tuple[BinaryIO, int]]:
    """A file of an artifact, open for reading, and its size; see :func:`read_file`."""
    path = root / name
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: the artifact is not complete. Build it again") from None
    except OSError as err:
        if err.errno == errno.ELOOP:
            raise ArtifactError(f"{path} is a symbolic link; an artifact holds plain files only") from None
        raise ArtifactError(f"{path} cannot be read: {err.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path} is no plain file")
        if status.st_size > limit:
            raise ArtifactError(f"{path} has {status.st_size} bytes, over the limit of {limit}")
        yield file, status.st_size


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
