"""Where kernels cannot run, the message says so and names a way on."""

import importlib.util

import pytest
import torch

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.triton.availability import availability, check_installed, check_runnable


def test_interpreter_runs_on_the_cpu(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    check_runnable(torch.zeros(1))
    assert availability()[0]


def test_cpu_tensor_without_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(UnsupportedError) as err:
        check_runnable(torch.zeros(1))
    for part in ("the data is on cpu", 'target="torch"', "TRITON_INTERPRET=1", "CUDA"):
        assert part in str(err.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_no_device(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    ok, reason = availability()
    assert not ok
    assert "no CUDA" in reason


def test_without_triton(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert availability() == (False, "the package triton is not installed")
    with pytest.raises(UnsupportedError, match="not installed"):
        check_installed()
