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
    for name in ("data", "model", "train", "report", "deploy"):
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


def test_deploy(tmp_path):
    """Both ONNX forms read the held-out digits as the network does."""
    pytest.importorskip("onnxruntime")
    import data
    import torch
    from model import digits

    import snncompile as snn

    torch.manual_seed(0)
    net = snn.compile(digits, target="torch").eval()
    heldout = data.load()[1]
    x, labels = torch.from_numpy(heldout.spikes[:64]).float(), heldout.labels[:64]
    with torch.no_grad():
        np.savez(tmp_path / "outputs.npz", out=net(x).numpy())
    np.savez(tmp_path / "heldout.npz", x=x.numpy())
    np.save(tmp_path / "heldout-labels.npy", labels)
    net.to_onnx(tmp_path / "digits.onnx", check=False)
    net.to_onnx(tmp_path / "digits-step.onnx", "step", check=False)
    run = [sys.executable, str(FOLDER / "deploy.py"), str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "step form" in done.stdout and "on 64 of 64" in done.stdout
