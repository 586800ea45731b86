"""Brunel's network: a short run of a small one, and its measures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "brunel"


@pytest.fixture(autouse=True)
def example_on_path(monkeypatch):
    """Its modules under the names it uses, forgotten afterwards."""
    names = ("model", "theory", "simulate")
    for name in names:
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in names:
        sys.modules.pop(name, None)


def test_a_small_network_is_in_the_asynchronous_irregular_state(tmp_path, capsys):
    import simulate

    status = simulate.main(["--n", "2000", "--time", "0.3", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert status == 0 and said.count("  ok  ") == 3, said
    assert "2,500 neurons, 1,562,500 synapses" in said
    assert (tmp_path / "raster.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("option, message", [
    (["--n", "3"], "at least 12 excitatory neurons"), (["--time", "0"], "--time and --outside are above 0"),
    (["--g", "3"], "--g is above 4: below, excitation wins"),
])  # fmt: skip
def test_networks_that_the_theory_does_not_know(option, message, capsys):
    import simulate

    with pytest.raises(SystemExit) as caught:
        simulate.main(option)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_theory_gives_the_rate_of_the_paper():
    from theory import predict

    poisson, regular = predict(n=10_000, connected=0.1, j=0.1, g=5.0, outside=2.0)
    assert abs(poisson.rate - 38.0) < 0.5  # Brunel (2000), figure 8C
    assert regular.rate < poisson.rate and regular.cv < poisson.cv < 1


def test_measures():
    import simulate

    rng = np.random.default_rng(0)
    steps, neurons = (rng.random((20_000, 50)) < 0.01).nonzero()
    poisson = simulate.Activity(steps, neurons, 50, 20_000, 1e-3)
    assert abs(poisson.rate - 10.0) < 0.5 and abs(poisson.cv - 1.0) < 0.05 and abs(poisson.correlation()) < 0.02
    beat = np.repeat(np.arange(0, 20_000, 100), 50)
    regular = simulate.Activity(beat, np.tile(np.arange(50), 200), 50, 20_000, 1e-3)
    assert regular.cv == 0.0 and regular.correlation() > 0.99
