"""``snncompile bench``."""

from __future__ import annotations

import os

import pytest
import torch

from snncompile.bench import comparing
from snncompile.checks.running import Check
from snncompile.targets import registry

SHORT = ("--steps", 6, "--batch", 2, "--seconds", 0)


def test_a_model(cli, model):
    done = cli("bench", "net.py", "--set", "hidden=4", *SHORT, "--threads", 1, "--json")
    assert done.status == 0, done.err
    facts = done.json
    assert facts["ok"] and (facts["steps"], facts["batch"], facts["threads"]) == (6, 2, 1)
    rows = {t["target"]: t for t in facts["targets"]}
    assert set(rows) == {"c", "torch"} if not torch.cuda.is_available() else {"triton", "torch"}
    for row in rows.values():
        assert row["status"] == "ok" and "bit-identical" in row["detail"]
        assert 0 < row["forward"]["min"] <= row["forward"]["median"]
        assert row["both"]["min"] > 0 and row["first_seconds"] >= 0
    assert 0 < facts["floor"]["forward"] < facts["floor"]["both"]
    assert facts["rates"]["bandwidth"] > 0


def test_an_artifact_as_a_table(cli, built):
    before = (os.environ.get("SNNCOMPILE_CACHE"), torch.get_num_threads())
    done = cli("bench", built, "--target", "torch", "--no-backward", "--density", 0.5, *SHORT)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert "batch 2, 6 steps, input density 0.5" in lines[0]
    assert any(line.startswith("torch ") and line.endswith("1.00x") for line in lines)
    assert any(line.startswith("floor ") for line in lines)
    assert "forward+backward" not in done.out and not any(line.startswith("c ") for line in lines)
    assert (os.environ.get("SNNCOMPILE_CACHE"), torch.get_num_threads()) == before


def test_nothing_to_train(cli, write):
    write(
        "import snncompile as snn\n\n@snn.model(dt=1e-3)\ndef net(x=snn.Current((2, 4, 4))):\n"
        "    return x >> snn.SumPool2d(2) >> snn.Flatten()\n"
    )
    done = cli("bench", "net.py", "--target", "torch", *SHORT)
    assert done.status == 0, done.err
    assert "nothing here is trained: no backward pass" in done.out


def test_a_wrong_target_fails(cli, model, monkeypatch):
    monkeypatch.setattr(comparing, "check_whole", lambda net, target, *_: Check("x", "failed", f"{target} is off"))
    done = cli("bench", "net.py", "--target", "torch", *SHORT)
    assert done.status == 1 and "torch: failed: torch is off" in done.out
    done = cli("bench", "net.py", "--target", "torch", *SHORT, "--json")
    assert done.status == 1 and done.json["ok"] is False


def test_what_cannot_run_is_told(cli, model, monkeypatch):
    missing = registry.Availability(False, "there is no compiler here")
    right = registry.availability
    monkeypatch.setattr(registry, "availability", lambda name: missing if name == "c" else right(name))
    done = cli("bench", "net.py", "--no-backward", *SHORT)
    assert done.status == 0 and "c: skipped: there is no compiler here" in done.out
    done = cli("bench", "net.py", "--target", "c", *SHORT)
    assert done.status == 2 and 'target "c" cannot be measured: there is no compiler here' in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.py",), "there is no file gone.py"),
        (("net.py", "--target", "x"), "there is no target 'x'"),
        (("net.py", "--device", "abacus"), "'abacus' is no device"),
        (("net.py", "--device", "meta"), "bench measures on cpu or cuda, not on meta"),
        (("net.py", "--density", "2"), "less than or equal to 1"),
        (("net.py", "--steps", "0"), "greater than or equal to 1"),
        (("net.py", "--set", "hiden=3"), "hiden"),
    ],
)
def test_mistakes(cli, model, arguments, message):
    done = cli("bench", *arguments)
    assert done.status == 2 and message in done.err
    assert "Traceback" not in done.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu(cli, model):
    done = cli("bench", "net.py", "--device", "cuda")
    assert done.status == 2 and "there is no CUDA device here" in done.err
    done = cli("bench", "net.py", "--target", "triton")
    assert done.status == 2 and 'target "triton" cannot be measured' in done.err
