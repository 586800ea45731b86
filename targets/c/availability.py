"""Whether C functions can be built and run here, and what to do if not."""

from __future__ import annotations

import os
from functools import cache

from torch import Tensor

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.c.compiler import OPENMP, command, flags, version


def availability() -> tuple[bool, str]:
    """Whether this machine can build and run C, and with what or why not. The first call tries it."""
    return _availability(*(os.environ.get(name) for name in ("CC", "PATH", "SNNCOMPILE_CACHE")))


@cache
def _availability(cc: str | None, path: str | None, cache_root: str | None) -> tuple[bool, str]:
    try:
        compiler = command()
        threads = OPENMP in flags(compiler)
        return True, f"{version(compiler)}{'' if threads else ', without OpenMP: on one thread'}"
    except UnsupportedError as err:
        return False, str(err)


def check_runnable(tensor: Tensor) -> None:
    """Raise :class:`UnsupportedError` unless C can read ``tensor``."""
    if tensor.device.type != "cpu":
        raise UnsupportedError(
            f'target "c" runs on the CPU, but the data is on {tensor.device}. Move the network and its inputs to the'
            ' CPU, or use target="auto", which goes by the device'
        )
