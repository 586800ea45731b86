"""From generated source to a function that can be called: the host's compiler, and what it has built before.

Libraries lie in the user's own cache directory under a key made of the compiler's version, the processor, the flags and
the source. They are put there whole, so that several processes may build the same at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.cache import digest, directory, ensure, unusable

#: No contraction, nothing reordered. -fno-trapping-math and -fno-math-errno only promise that nobody looks at exception
#: flags and errno; without that, selections and square roots would not be vectorised. Nor would a loop that asks at
#: every step what never changes (is there a bias?), without -funswitch-loops.
FLAGS = (
    "-std=c99",
    "-O2",
    "-ftree-vectorize",
    "-fvect-cost-model=dynamic",
    "-fpeel-loops",
    "-funswitch-loops",
    "-march=native",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-fopenmp-simd",
    "-fPIC",
    "-shared",
)
OPENMP = "-fopenmp"
#: What -O3 adds to these makes most functions no quicker, and their compilation a third to twice as long.
HARDER = "-O3"

_WAYS_ON = (
    "Install one (Debian, Ubuntu: apt install gcc libc6-dev; macOS: xcode-select --install), name another in the"
    ' environment variable CC, or use target="torch", which needs none'
)
_TYPES = {"p": ctypes.c_void_p, "q": ctypes.c_int64, "i": ctypes.c_int}
_TRIAL = "#include <math.h>\n#include <stdint.h>\nint snn_trial(int x) { return x + (int)sqrtf(4.0f); }\n"


class CompilerError(UnsupportedError):
    """The compiler is there, but did not compile."""


def command() -> tuple[str, ...]:
    """The compiler as a command: the environment variable CC, else cc.

    Raises:
        UnsupportedError: where there is no such command.
    """
    return _command(os.environ.get("CC") or "cc", os.environ.get("PATH"))


@cache
def _command(asked: str, path: str | None) -> tuple[str, ...]:
    try:
        words = shlex.split(asked)
    except ValueError as err:
        raise UnsupportedError(f'the environment variable CC is no command: {asked!r} ({err}). {_WAYS_ON}') from err
    found = shutil.which(words[0], path=path) if words else None
    if found is None:
        raise UnsupportedError(
            f'target "c" needs a C compiler, and there is no command {asked!r}'
            f"{' (from the environment variable CC)' if os.environ.get('CC') else ''}. {_WAYS_ON}"
        )
    return (found, *words[1:])


@cache
def version(compiler: tuple[str, ...]) -> str:
    """What the compiler says it is, the first line."""
    try:
        told = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False)
    except OSError as err:
        raise UnsupportedError(f'target "c": {shlex.join(compiler)} does not run: {err}. {_WAYS_ON}') from err
    return told.stdout.strip().split("\n")[0]


@cache
def processor() -> str:
    """What ``-march=native`` depends on, as far as the system tells: a cache may lie on a shared file system."""
    keys = ("flags", "Features", "model name", "CPU part")
    lines = set()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        lines = {line.strip() for line in file if line.startswith(keys)}
    return "\n".join([sys.platform, platform.machine(), platform.processor(), *sorted(lines)])


@cache
def flags(compiler: tuple[str, ...]) -> tuple[str, ...]:
    """The flags that this compiler takes, found out with a trial: OpenMP is left out where there is none.

    Raises:
        UnsupportedError: where nothing can be compiled.
    """
    portable = [flag for flag in FLAGS if flag != "-march=native"]
    ways = ([*FLAGS, OPENMP], FLAGS, [*portable, OPENMP], portable)
    for way in ways[:-1]:
        with contextlib.suppress(CompilerError):
            library("trial", _TRIAL, compiler, tuple(way))
            return tuple(way)
    library("trial", _TRIAL, compiler, tuple(ways[-1]))
    return tuple(ways[-1])


@cache
def function(name: str, text: str, types: str, harder: bool = False) -> Callable[..., Any]:
    """The function ``name`` that ``text`` exports, built if it never was before.

    Args:
        name: its name.
        text: a C99 file.
        types: its argument types, as in :class:`~snncompile.targets.c.kernel.KernelSource`.
        harder: let the compiler try harder, for functions that gain by it.

    Raises:
        UnsupportedError: where there is no compiler, or it fails.
    """
    compiler = command()
    more = (HARDER,) if harder else ()
    found = getattr(library(name, text, compiler, (*flags(compiler), *more)), name)
    found.argtypes = [_TYPES[t] for t in types]
    found.restype = None
    return found


def library(name: str, text: str, compiler: tuple[str, ...], flags: tuple[str, ...]) -> ctypes.CDLL:
    """The shared library of ``text``, from the cache where it is there."""
    key = digest(*compiler, version(compiler), processor(), *flags, text)
    path = directory("c") / f"{name[:60]}_{key}.so"
    with _locks.setdefault(path, threading.Lock()):  # one thread builds, others wait for it
        if path.exists():
            with contextlib.suppress(OSError):  # damaged: built again
                return ctypes.CDLL(str(path))
        source = path.with_suffix(".c")
        ensure(source, text.encode())
        build(source, path, compiler, flags)
        try:
            return ctypes.CDLL(str(path))
        except OSError as err:
            raise CompilerError(
                f'target "c": {shlex.join(compiler)} made no library that this machine loads: {err}. {_WAYS_ON}'
            ) from err


def ahead(name: str, text: str) -> None:
    """Begin to build a function that will be needed soon, beside whatever else is done until then."""
    if (name, text) in _begun:
        return
    _begun.add((name, text))
    with contextlib.suppress(RuntimeError):  # there are no more threads, or Python ends: it is built when needed
        _pool().submit(_build_quietly, name, text)


def _build_quietly(name: str, text: str) -> None:
    with contextlib.suppress(UnsupportedError, OSError):  # said where the function is needed
        compiler = command()
        library(name, text, compiler, flags(compiler))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), "snncompile-build")


#: Library -> who builds it. What was begun ahead, by name and text.
_locks: dict[Path, threading.Lock] = {}
_begun: set[tuple[str, str]] = set()


def _alone() -> None:
    """After a fork: the threads that held locks are not there."""
    _locks.clear()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)


def build(source: Path, path: Path, compiler: tuple[str, ...], flags: tuple[str, ...]) -> None:
    """Compile ``source`` to the shared library ``path``, so that others see all of it or nothing."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=".so")
    except OSError as err:
        raise unusable(path.parent, err) from err
    os.close(handle)
    words = [*compiler, *flags, str(source), "-o", temporary, "-lm"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        if told.returncode:
            lines = (told.stderr or told.stdout).strip().split("\n")[:6]
            raise CompilerError(
                f'target "c": the compiler failed on generated code with status {told.returncode}:\n'
                f"  {shlex.join(words)}\n" + "\n".join(f"  {line}" for line in lines) + f"\n{_WAYS_ON}"
            )
        os.replace(temporary, path)
    except OSError as err:
        raise UnsupportedError(f'target "c": {shlex.join(compiler)} does not run: {err}. {_WAYS_ON}') from err
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
