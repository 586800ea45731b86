"""What ``import snncompile as snn`` offers stays what it is, whatever has been imported."""

from __future__ import annotations

import importlib
import pkgutil

import snncompile as snn


def test_no_module_hides_a_name() -> None:
    modules = {info.name for info in pkgutil.iter_modules(snn.__path__)}
    assert not modules & set(snn._NAMES)
    for module in modules - {"onnx_export"}:
        importlib.import_module(f"snncompile.{module}")
    assert all(callable(getattr(snn, name)) for name in snn._NAMES)
