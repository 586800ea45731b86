"""From generated source to a kernel that can be launched."""

from __future__ import annotations

import linecache
import sys
from types import ModuleType
from typing import Any

from snncompile.targets.triton.availability import check_installed
from snncompile.targets.triton.kernel import CODEGEN, KernelSource
from snncompile.targets.triton.store import digest, directory, ensure, triton_version

#: Device functions by which generated kernels reduce, and Triton's own that do the same: the interpreter hands those to
#: NumPy, and takes element by element what it does not know.
REDUCING = {"snn_larger": "_elementwise_max", "snn_sum": "_sum_combine", "snn_add": "_sum_combine"}

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
    if interpret:
        _reduce_fast(module)
    return module


def _reduce_fast(module: ModuleType) -> None:
    from triton.language import standard

    for name, own in REDUCING.items():
        if hasattr(module, name):
            setattr(module, name, getattr(standard, own))
