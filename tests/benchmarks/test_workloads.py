"""The workloads at tiny shapes: everything runs, computes the same, and is told in the tables."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
OURS = ("snncompile c", "snncompile torch", "products alone", "plain loop")


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of benchmarks/workloads, which is no installed package."""
    monkeypatch.syspath_prepend(str(ROOT))

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"benchmarks.workloads.{name}")

    return load


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("name", ["W1", "W3", "W4", "W5", "W6", "W7"])
def test_a_workload(part, name):
    w = part("shapes").WORKLOADS[name].tiny()
    found = part("measure").measure(w, seconds=0.0, compiled=False, only=OURS, say=quiet)
    rows = found["contenders"]
    assert set(rows) == set(OURS)
    assert 0.005 < found["spikes per neuron and step"] < 0.6
    for row in rows.values():
        assert row["status"] == "ok", row
        assert row["both" if w.trains else "forward"]["min"] > 0
        assert row["memory"] is None or row["memory"] >= 0
    told = "\n".join(part("report").workload(found))
    assert all(n in told for n in OURS)


@pytest.mark.parametrize("library", ["SpikingJelly", "Norse", "snnTorch", "Sinabs", "Rockpool"])
@pytest.mark.parametrize("name", ["W2", "W4", "W6", "W7"])
def test_a_library_computes_the_same(part, library, name):
    shapes, libraries, measure = (part(m) for m in ("shapes", "libraries", "measure"))
    w = shapes.WORKLOADS[name].tiny()
    data = shapes.make_data(w)
    try:
        made = libraries.LIBRARIES[library](w, data)
    except part("contender").Absent as err:
        pytest.skip(f"{library} is {err}")
    measure.check(data, made, measure.expected(w, data), {})
    made.both()


@pytest.mark.parametrize("library", ["Norse", "BindsNET"])
def test_a_library_learns_the_same(part, library):
    shapes, plastic, measure = (part(m) for m in ("shapes", "plastic", "measure"))
    w = shapes.WORKLOADS["W5"].tiny()
    data = shapes.make_data(w)
    try:
        made = plastic.LIBRARIES[library](w, data)
    except part("contender").Absent as err:
        pytest.skip(f"{library} is {err}")
    before = data.x.clone()
    for _ in range(2):  # a second run is no continuation of the first
        measure.check(data, made, measure.expected(w, data), {})
    assert torch.equal(data.x, before)


def test_what_differs_is_not_timed(part, monkeypatch):
    measure, loops = part("measure"), part("loops")
    right = loops.network
    monkeypatch.setattr(loops, "network", lambda w, x, p, reset="subtract": right(w, 0.9 * x, p, reset))
    w = part("shapes").WORKLOADS["W2"].tiny()
    row = measure.measure(w, seconds=0.0, compiled=False, only=("snncompile torch",), say=quiet)["contenders"]
    assert row["snncompile torch"]["status"] == "failed"
    assert "of its spikes differ from the loop's" in row["snncompile torch"]["reason"]
    assert "forward" not in row["snncompile torch"]


def test_a_failure_is_told(part, monkeypatch):
    measure, report = part("measure"), part("report")

    def broken(w: Any, data: Any) -> Any:
        raise RuntimeError("no such thing\nand more")

    monkeypatch.setattr(measure, "LIBRARIES", {"Other": broken})
    w = part("shapes").WORKLOADS["W2"].tiny()
    found = measure.measure(w, seconds=0.0, compiled=False, only=("plain loop", "Other"), say=quiet)
    assert found["contenders"]["Other"] == {
        "group": "library", "status": "failed", "reason": "RuntimeError: no such thing",
    }  # fmt: skip
    assert "- Other: failed: RuntimeError: no such thing" in report.workload(found)


def test_streaming(part):
    found = part("stream").measure(tiny=True, seconds=0.0, device="cpu", say=quiet)
    assert "snncompile c" in "\n".join(part("report").stream(found))


def test_scaling(part, monkeypatch, tmp_path):
    scaling, report = part("scaling"), part("report")
    monkeypatch.setattr(scaling, "BASE", replace(scaling.BASE, steps=10))
    monkeypatch.setattr(scaling, "AXES", {"steps": (5, 10), "density": (0.05, 0.1)})
    found = scaling.measure(tiny=True, seconds=0.0, device="cpu", say=quiet)
    assert set(found["axes"]) == {"steps", "density"}
    assert "snncompile c" in "\n".join(report.scaling(found))
    pytest.importorskip("matplotlib")
    report.plot(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def results_of(n: float) -> dict[str, Any]:
    def row(group: str, ms: float, **more: Any) -> dict[str, Any]:
        s = {"min": ms, "median": ms * 1.5, "runs": 3}
        return {"group": group, "status": "ok", "forward": s, "both": s, "memory": 2**21, **more}

    rows = {
        "snncompile c": row("ours", n, **{"compile seconds": 1.25}),
        "products alone": row("floor", 2.0),
        "torch.compile": row("compile", 4.0, **{"compile seconds": 20.0}),
        "Norse": row("library", 12.0, reset="zero"),
        "Sinabs": {"group": "library", "status": "absent", "reason": "not installed"},
    }
    return {"parts": {"W1": {"title": "a net", "contenders": rows}, "W2": {"error": "the process ended"}}}


def test_the_tables(part):
    report = part("report")
    told = report.sections(results_of(3.0))
    assert any(line.split("|")[1:-1] and "4.00x (Norse)" in line and "1.50x" in line for line in told)
    assert "- Sinabs: absent: not installed" in told
    assert "Other resets: Norse reset to zero." in told
    assert "- W2: not measured: the process ended" in told
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    new = report.filled(page, report.page(results_of(3.0)))
    assert new.startswith("before\n") and new.endswith("after\n") and "old" not in new
    assert report.filled(new, report.page(results_of(3.0))) == new
    assert any("4.00x (Norse)" in line for line in report.summary(results_of(3.0)))
    with pytest.raises(ValueError, match="lacks the marks"):
        report.filled("nothing", [])


def test_the_documents_tell_the_results(part):
    report = part("report")
    path = ROOT / "benchmarks" / "results" / "cpu.json"
    if not path.exists():
        pytest.skip("no results are kept")
    for document, said in report.documents(json.loads(path.read_text())).items():
        assert document.read_text(encoding="utf-8") == said, "run: python -m benchmarks.workloads.report"


def test_parts_are_checked(part, capsys):
    with pytest.raises(SystemExit):
        part("__main__").options(["W9"])
    assert "no part W9; there are W1" in capsys.readouterr().err


def test_layers_of_the_gpu_benchmark():
    """Where there is no GPU it measures nothing, and can be made to run all the same."""
    command = [sys.executable, "benchmarks/gpu_layers.py"]
    if not torch.cuda.is_available():
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert refused.returncode == 1 and "nothing was measured" in refused.stderr
    tried = [*command, "--device", "cpu", "--tiny", "--seconds", "0"]
    done = subprocess.run(tried, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "recurrent LIF" in done.stdout and "failed" not in done.stdout
