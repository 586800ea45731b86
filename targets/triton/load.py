"""From generated source to a kernel that can be launched."""

from __future__ import annotations

import linecache
import sys
from types import ModuleType
from typing import Any

from snncompile.targets.triton.availability import check_installed
from snncompile.targets.triton.kernel import CODEGEN, KernelSource
from snncompile.targets.triton.store import digest, directory, ensure, triton_version

#: Name of the device function by which generated kernels reduce to the largest.
LARGER = "snn_larger"

_loaded: dict[tuple[str, bool], ModuleType] = {}


def load(source: KernelSource, interpret: bool) -> Any:
    """The kernel function of ``source``, as ``@triton.jit`` made it.

    The text is written to the cache directory, since Triton reads a function's source from its file; what runs is the
    text given, whatever the file held before.

    Args:
        source: the printed kernel.
        interpret: whether Triton's interpreter shall run it.
    """
    check_installed()
    key = digest(source.text, str(CODEGEN), triton_version())
    if (key, interpret) not in _loaded:
        _loaded[key, interpret] = _load(source, key, interpret)
    return getattr(_loaded[key, interpret], source.name)


def _load(source: KernelSource, key: str, interpret: bool) -> ModuleType:
    from triton import knobs

    path = directory("sources") / f"{source.name[:60]}_{key}.py"
    ensure(path, source.text.encode())
    # held in memory too: neither Python nor Triton reads the file again, should somebody change it meanwhile
    lines = source.text.splitlines(keepends=True)
    linecache.cache[str(path)] = (len(source.text), None, lines, str(path))
    module = ModuleType(f"snncompile_generated_{key}_{int(interpret)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # inspect looks a function's module up
    with knobs.runtime.scope():
        knobs.runtime.interpret = interpret
        exec(compile(source.text, str(path), "exec"), module.__dict__)
    if interpret and hasattr(module, LARGER):
        _reduce_fast(module)
    return module


def _reduce_fast(module: ModuleType) -> None:
    """Have the interpreter reduce with NumPy: it does so for Triton's own maximum, and else element by element."""
    from triton.language import standard

    setattr(module, LARGER, standard._elementwise_max)
