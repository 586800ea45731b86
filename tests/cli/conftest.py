"""The command line, in process, on small models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snncompile.cli.main import main

MODEL = """\
import snncompile as snn
from snncompile import ms

print("printed by the model's file")


@snn.model(dt=1 * ms)
def net(x=snn.Spikes(6), *, hidden=5, tau=20 * ms, deep=False, mode="a", sizes=(1, 2)):
    h = x >> snn.Linear(hidden) >> snn.ExpSyn() >> snn.LIF(tau_mem=tau)
    if deep:
        h = h >> snn.Linear(hidden) >> snn.LIF()
    return h >> snn.Linear(3) >> snn.LI()
"""


@dataclass
class Result:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs a command in an empty directory; error messages come unwrapped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*args: object) -> Result:
        capfd.readouterr()
        status = main([str(a) for a in args])
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file; its path."""

    def write(text: str, name: str = "net.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def model(write) -> Path:
    """A file with one model."""
    return write(MODEL)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the model for target auto."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "net.py").write_text(MODEL)
    assert main(["build", str(folder / "net.py"), "--out", str(folder / "net.snn")]) == 0
    return folder / "net.snn"


@pytest.fixture
def x(tmp_path: Path) -> np.ndarray:
    """Spikes, also in x.npy."""
    value = (np.random.default_rng(0).random((2, 9, 6)) < 0.5).astype(np.float32)
    np.save(tmp_path / "x.npy", value)
    return value
