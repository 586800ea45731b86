"""The example that learns digits by itself: a short run, its accuracy on request, and its model at the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from snncompile.cli.main import main

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "diehl_cook"


@pytest.fixture(autouse=True)
def example_on_path(monkeypatch):
    """Its modules under the names it uses, forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    yield
    for name in ("data", "model", "learn"):
        sys.modules.pop(name, None)


def test_a_short_run_prints_and_draws(tmp_path, monkeypatch, capsys):
    import learn

    options = ["--out", str(tmp_path), "--digits", "48", "--neurons", "12", "--passes", "1"]
    monkeypatch.setattr(sys, "argv", ["learn.py", *options])
    assert learn.main() in (0, 1)  # so few digits may teach little
    said = capsys.readouterr().out
    assert "untrained weights: " in said and "thresholds adapted: " in said and "after 48 digits: " in said
    assert (tmp_path / "receptive-fields.png").stat().st_size > 5000


def test_weights_move_within_bounds_and_stay_normalised():
    import learn

    training, heldout = learn.load()
    before = learn.Learner.untrained(0, 12).weights()
    findings = learn.experiment(0, learn.first(training, 48), heldout, neurons=12, passes=1)
    assert not torch.equal(findings.weights, before)
    assert torch.allclose(findings.weights.sum(1), torch.full((12,), learn.SUM), rtol=1e-4)
    assert float(findings.weights.min()) >= 0.0 and float(findings.weights.max()) < learn.SUM
    assert [shown for shown, _ in findings.curve] == [0, 24, 48]
    assert all(0.0 <= found <= 1.0 for _, found in findings.curve)


def test_thresholds_are_shared_and_only_learning_moves_weights():
    import learn

    images = learn.pixels(learn.first(learn.load()[0], 16))
    learner = learn.Learner.untrained(0, 12)
    before = learner.weights()
    learner.counts(images)
    assert not learner.theta.any()
    learner.show(images, learn=False)
    assert learner.theta.shape == (1, 12) and float(learner.theta.max()) > 0
    assert torch.equal(learner.weights(), before)
    learner.show(images[:5])  # a batch of another size goes on from them
    assert not torch.equal(learner.weights(), before)


def test_labels():
    import learn

    counts = torch.tensor([[4.0, 0.0, 1.0, 0.0], [4.0, 0.0, 2.0, 0.0], [0.0, 3.0, 9.0, 0.0]])
    labels = learn.label(counts, np.array([7, 7, 2]))
    assert labels.tolist()[2:] == [2, -1] and labels.tolist()[:2] == [7, 2]
    assert learn.read(counts, labels).tolist() == [7, 7, 2]


def test_the_model_at_the_command_line(tmp_path, capsys):
    model = str(FOLDER / "model.py")
    assert main(["show", model]) == 0
    assert "on_output = OnOutput" in capsys.readouterr().out
    assert main(["explain", model]) == 0
    assert main(["build", model, "--set", "neurons=9", "--out", str(tmp_path / "model.snn")]) == 0


@pytest.mark.slow
@pytest.mark.skipif("SNNCOMPILE_LONG" not in os.environ, reason="a minute or two; set SNNCOMPILE_LONG=1")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_learns(seed):
    import learn

    findings = learn.experiment(seed, *learn.load())
    assert findings.trained > 0.75
    assert findings.trained > max(findings.untrained, findings.adapted) + 0.2
