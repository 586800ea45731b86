"""``snncompile build``."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import snncompile as snn
from snncompile.artifact import saving


def test_build(cli, model, tmp_path):
    done = cli("build", "net.py")
    assert done.status == 0, done.err
    assert "initialised at random with seed 0" in done.out
    assert "printed by the model's file" in done.err and "printed" not in done.out
    assert snn.load(tmp_path / "net.snn").graph.name == "net"
    assert sorted(os.listdir(tmp_path)) == ["net.py", "net.snn"]


def test_json(cli, model):
    done = cli("build", "net.py", "--seed", 3, "--out", "a.snn", "--target", "triton", "--json")
    assert done.status == 0
    facts = done.json
    assert (facts["ok"], facts["artifact"], facts["seed"], facts["target"]) == (True, "a.snn", 3, "triton")
    assert "graph.json" in facts["files"] and any(name.startswith("kernels/") for name in facts["files"])


def test_same_seed_same_artifact(cli, model, tmp_path):
    state = torch.get_rng_state()
    cli("build", "net.py", "--seed", 1, "--out", "a.snn")
    cli("build", "net.py", "--seed", 1, "--out", "b.snn")
    cli("build", "net.py", "--seed", 2, "--out", "c.snn")
    a, b, c = ((tmp_path / f"{n}.snn" / "weights.safetensors").read_bytes() for n in "abc")
    assert a == b != c
    assert (tmp_path / "a.snn" / "manifest.json").read_bytes() == (tmp_path / "b.snn" / "manifest.json").read_bytes()
    assert torch.equal(state, torch.get_rng_state())


def test_set(cli, model, tmp_path):
    done = cli("build", "net.py", "--set", "hidden=7", "--set", "tau=0.01", "--set", "deep=yes", "--set", "sizes=3,4")
    assert done.status == 0, done.err
    net = snn.load(tmp_path / "net.snn")
    assert net.linear.weight.shape == (7, 6)
    assert net.lif.tau_mem[0].item() == pytest.approx(0.01)
    assert "lif_1" in net.graph.names


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("hiden=7", ["has no hyperparameter 'hiden'", "hidden=5, tau=0.02, deep=False, mode='a', sizes=(1, 2)"]),
        ("hidden=many", ["hidden is a whole number", "Its hyperparameters"]),
        ("hidden=1.5", ["hidden is a whole number"]),
        ("tau=slow", ["tau is a number"]),
        ("deep=maybe", ["deep is true or false"]),
        ("sizes=a b", ["sizes is a value like (1, 2)"]),
        ("hidden", ["--set takes name=value, not 'hidden'"]),
        ("hidden=-3", ["net.py:9"]),
        ("tau=-1", ["tau_mem must be greater than 0", "net.py:9"]),
    ],
)
def test_wrong_set(cli, model, tmp_path, setting, words):
    done = cli("build", "net.py", "--set", setting)
    assert done.status == 2
    for word in words:
        assert word in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "net.snn").exists()


def test_set_twice(cli, model):
    done = cli("build", "net.py", "--set", "hidden=1", "--set", "hidden=2")
    assert done.status == 2 and "gives 'hidden' twice" in done.err


def test_weights(cli, model, tmp_path):
    cli("build", "net.py", "--seed", 5, "--out", "a.snn")
    done = cli("build", "net.py", "--weights", "a.snn/weights.safetensors", "--out", "b.snn")
    assert done.status == 0 and "read from a.snn/weights.safetensors" in done.out
    read = [(tmp_path / n / "weights.safetensors").read_bytes() for n in ("a.snn", "b.snn")]
    assert read[0] == read[1]
    assert json.loads((tmp_path / "b.snn" / "manifest.json").read_text())["seed"] is None


def values(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "linear.weight": torch.rand(5, 6), "linear.bias": torch.rand(5), "exp_syn.tau": torch.full((5,), 0.005),
        "lif.tau_mem": torch.full((5,), 0.02), "lif.threshold": torch.ones(5), "lif.bias": torch.tensor(0.0),
        "linear_1.weight": torch.rand(3, 5), "linear_1.bias": torch.rand(3), "li.tau_mem": torch.full((3,), 0.02),
        "li.bias": torch.tensor(0.0),
    }  # fmt: skip


def test_wrong_weights(cli, model, tmp_path):
    def refused(change, *words: str) -> None:
        held = values()
        change(held)
        save_file(held, tmp_path / "w.safetensors")
        done = cli("build", "net.py", "--weights", "w.safetensors")
        assert done.status == 2
        assert all(word in done.err for word in words), done.err

    save_file(values(), tmp_path / "w.safetensors")
    assert cli("build", "net.py", "--weights", "w.safetensors", "--out", "good.snn").status == 0
    refused(lambda w: w.pop("li.bias"), "w.safetensors does not fit the network: it lacks li.bias")
    refused(
        lambda w: w.update({"linear.weight": torch.rand(6, 5)}), "linear.weight has shape (6, 5), here it is (5, 6)"
    )
    refused(lambda w: w.update({"li.bias": torch.tensor(0, dtype=torch.int64)}), "li.bias is I64; weights are float32")
    refused(
        lambda w: w.update({"lif.tau_mem": torch.full((5,), float("nan"))}), "tau_mem holds a value that is not finite"
    )
    refused(lambda w: w.update({"lif.tau_mem": torch.full((5,), -1.0)}), "tau_mem must be greater than 0")
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    assert "it is no safetensors file" in cli("build", "net.py", "--weights", "w.safetensors").err
    torch.save(values(), tmp_path / "w.pt")
    assert "may hold pickled code" in cli("build", "net.py", "--weights", "w.pt").err
    assert "there is no file gone.safetensors" in cli("build", "net.py", "--weights", "gone.safetensors").err
    assert "exclude each other" in cli("build", "net.py", "--weights", "w.safetensors", "--seed", 1).err
    assert not (tmp_path / "net.snn").exists()


def test_wrong_target_or_architecture(cli, model, tmp_path):
    done = cli("build", "net.py", "--target", "cuda")
    assert done.status == 2 and "there is no target 'cuda'; the targets are torch, triton, c, auto" in done.err
    done = cli("build", "net.py", "--target", "triton", "--arch", "sm_90,sm_12")
    assert done.status == 2 and "sm_12" in done.err and "gfx942" in done.err
    done = cli("build", "net.py", "--target", "torch", "--arch", "sm_90")
    assert done.status == 2 and "compiles no kernels" in done.err
    assert not (tmp_path / "net.snn").exists()


def test_no_triton(cli, model, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "triton" else find(name, *a))
    done = cli("build", "net.py", "--target", "triton", "--arch", "sm_90")
    assert done.status == 2 and "needs the package triton" in done.err
    assert cli("build", "net.py", "--target", "triton").status == 0


def test_the_compiler_fails(cli, model, monkeypatch, tmp_path):
    from snncompile.targets.triton import aot

    def fail(*_):
        raise RuntimeError("ptxas exploded")

    monkeypatch.setattr(aot, "compile_scans", fail)
    done = cli("build", "net.py", "--target", "triton", "--arch", "sm_90")
    assert done.status == 2
    assert "cannot compile the kernels for sm_90: RuntimeError: ptxas exploded" in done.err
    assert "Build without --arch" in done.err
    assert not (tmp_path / "net.snn").exists()


def test_out_is_something_else(cli, model, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    done = cli("build", "net.py", "--out", "thesis")
    assert done.status == 2 and "holds chapter.tex, so it is no artifact and is not overwritten" in done.err
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_read_only_and_full(cli, model, monkeypatch, tmp_path):
    import tempfile

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", refuse)
        done = cli("build", "net.py")
        assert done.status == 2 and "read-only file system; choose another place for net.snn" in done.err

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "write_weights", full)
    done = cli("build", "net.py")
    assert done.status == 2 and "the disk is full: nothing was written to" in done.err
    assert sorted(os.listdir(tmp_path)) == ["net.py"]


def test_interrupted(cli, model, monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "write_weights", interrupt)
    done = cli("build", "net.py")
    assert done.status == 130 and "interrupted" in done.err
    assert sorted(os.listdir(tmp_path)) == ["net.py"]


def test_a_directory_is_no_model(cli, built):
    done = cli("build", built)
    assert done.status == 2 and "build takes MODEL.py[:NAME]" in done.err


@pytest.mark.slow
def test_architectures(cli, model, tmp_path):
    done = cli("build", "net.py", "--target", "triton", "--arch", "sm_90,gfx942", "--arch", "sm_90")
    assert done.status == 0 and "compiled for sm_90, gfx942" in done.out
    suffixes = {p.suffix for p in (tmp_path / "net.snn" / "kernels").iterdir()}
    assert suffixes == {".py", ".cubin", ".ptx", ".hsaco", ".amdgcn"}


def test_path_with_a_space_and_unicode(cli, write, tmp_path):
    from .conftest import MODEL

    write(MODEL, "my models/nétz.py")
    done = cli("build", "my models/nétz.py", "--out", "mit leer.snn")
    assert done.status == 0, done.err
    assert snn.load(Path("mit leer.snn"), target="torch").graph.name == "net"


def test_calibrate(cli, write, tmp_path):
    write("import snncompile as snn\n\n@snn.model\ndef net(x=snn.Spikes(8)):\n    return x >> snn.Linear(32)\n")
    x = np.zeros((3, 10, 8), np.float32)
    x[0, :, 0] = 1
    np.save(tmp_path / "x.npy", x)
    done = cli("build", "net.py", "--calibrate", "x.npy")
    assert done.status == 0, done.err
    assert "linear 0.0417, measured on x.npy" in done.out
    assert snn.load(tmp_path / "net.snn").graph.op("linear").attrs == {"density": 0.0417}
    assert "event-driven product" in cli("explain", "net.snn", "--target", "c").out
    assert cli("build", "net.py", "--calibrate", "x.npy", "--json").json["densities"] == {"linear": 0.0417}
    assert "there is no file gone.npz" in cli("build", "net.py", "--calibrate", "gone.npz").err
    np.save(tmp_path / "x.npy", x[:0])
    done = cli("build", "net.py", "--calibrate", "x.npy")
    assert done.status == 2 and "say nothing about densities" in done.err

