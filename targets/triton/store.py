"""The per-user cache directory, and the version of Triton that is part of its keys."""

from __future__ import annotations

from functools import cache

from snncompile.targets.cache import digest, directory, ensure, write_whole

__all__ = ["digest", "directory", "ensure", "triton_version", "write_whole"]


@cache
def triton_version() -> str:
    """Version of the installed Triton, without importing it; "" if there is none."""
    import importlib.metadata

    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return ""
