"""The digits example: its data, a short training, and its report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "digits"


@pytest.fixture(autouse=True)
def example_on_path(monkeypatch):
    """Its modules under the names it uses, forgotten afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in ("data", "model", "train", "report"):
        sys.modules.pop(name, None)


def test_the_same_spikes_every_time():
    import data

    training, heldout = data.load()
    assert training.spikes.shape == (1437, 32, 64) and heldout.spikes.shape == (360, 32, 64)
    assert np.array_equal(data.load()[1].spikes, heldout.spikes)
    assert set(np.unique(training.spikes)) == {0, 1}
    brightness = np.array([[0.0] * 32 + [16.0] * 32])
    counts = data.encode(brightness).sum(1)[0]
    assert not counts[:32].any() and np.all(counts[32:] == data.STEPS * data.TOP_RATE)


def test_a_few_epochs_learn():
    import train

    net, accuracy = train.train(seed=0, epochs=3, show=False)
    assert accuracy > 0.85
    assert not net.training
    net.check_parameters()


def test_report(tmp_path):
    import report

    labels = np.repeat(np.arange(10), 36)
    for name, found, status in (("good", labels, 0), ("bad", np.roll(labels, 20), 1)):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "outputs.npz", **{"out": np.eye(10)[found][:, None], "lif.spikes": np.zeros((360, 1, 4))})
        np.savez(folder / "heldout.npz", x=np.ones((360, 1, 64)))
        np.save(folder / "heldout-labels.npy", labels)
        run = [sys.executable, str(FOLDER / "report.py"), str(folder)]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert (folder / "confusion.png").stat().st_size > 1000
        assert "accuracy on the held-out digits" in done.stdout
    assert report.evaluate(np.eye(10)[labels][:, None], labels, {}).accuracy == 1.0
