"""``snncompile run``."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile.cli import data as data_module
from snncompile.targets.registry import automatic


def test_run(cli, built, x, tmp_path):
    done = cli("run", built, "x.npy", "--out", "o.npz", "--record", "lif.v", "-r", "lif.spikes:sum")
    assert done.status == 0, done.err
    assert f"target {automatic('cpu')}, device cpu" in done.out
    out, _, record = snn.load(built).evolve(torch.from_numpy(x), record=["lif.v", "lif.spikes:sum"])
    with np.load(tmp_path / "o.npz") as found:
        assert found.files == ["out", "lif.v", "lif.spikes:sum"]
        assert np.array_equal(found["out"], out.detach().numpy())
        assert np.array_equal(found["lif.v"], record["lif.v"].detach().numpy())
        assert np.array_equal(found["lif.spikes:sum"], record["lif.spikes:sum"].detach().numpy())


def test_without_a_batch(cli, built, x, tmp_path):
    np.savez(tmp_path / "one.npz", x=x[0])
    assert cli("run", built, "one.npz", "--out", "o.npz").status == 0
    cli("run", built, "x.npy", "--out", "p.npz")
    with np.load(tmp_path / "o.npz") as one, np.load(tmp_path / "p.npz") as both:
        assert one["out"].shape == (9, 3)
        assert np.array_equal(one["out"], both["out"][0])


def test_state_carries_on(cli, built, x, tmp_path):
    np.save(tmp_path / "a.npy", x[:, :4])
    np.save(tmp_path / "b.npy", x[:, 4:])
    cli("run", built, "x.npy", "--out", "whole.npz")
    assert cli("run", built, "a.npy", "--save-state", "s.npz").status == 0
    assert cli("run", built, "b.npy", "--state", "s.npz", "--save-state", "s.npz", "--out", "late.npz").status == 0
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "late.npz") as late:
        assert np.array_equal(whole["out"][:, 4:], late["out"])


def test_same_input_same_bytes(cli, built, x, tmp_path):
    cli("run", built, "x.npy", "--out", "o.npz")
    cli("run", built, "x.npy", "--out", "p.npz")
    assert (tmp_path / "o.npz").read_bytes() == (tmp_path / "p.npz").read_bytes()


def test_json(cli, built, x):
    done = cli("run", built, "x.npy", "--json")
    assert done.status == 0
    assert (done.json["ok"], done.json["target"], done.json["device"]) == (True, automatic("cpu"), "cpu")
    assert done.json["arrays"]["out"]["shape"] == [2, 9, 3]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16, np.float64])
def test_dtypes_that_lose_nothing(cli, built, x, tmp_path, dtype):
    np.save(tmp_path / "y.npy", x.astype(dtype))
    cli("run", built, "x.npy", "--out", "o.npz")
    assert cli("run", built, "y.npy", "--out", "p.npz").status == 0
    with np.load(tmp_path / "o.npz") as a, np.load(tmp_path / "p.npz") as b:
        assert np.array_equal(a["out"], b["out"])


def changed(x, at, value, dtype=np.float32):
    y = x.astype(dtype)
    y[at] = value
    return y


WRONG = {
    "nan": (lambda x: changed(x, (1, 3, 5), np.nan), "input 'x' holds nan at [1, 3, 5] (1 values are not finite)"),
    "inf": (lambda x: changed(x, (0, 0, 1), -np.inf), "input 'x' holds -inf at [0, 0, 1]"),
    "fraction": (
        lambda x: changed(x, (1, 2, 0), 0.5),
        "input 'x' holds 0.5 at [1, 2, 0]; it takes whole numbers of spikes from 0 to 65536",
    ),
    "negative": (lambda x: changed(x, (1, 2, 0), -1), "input 'x' holds -1 at [1, 2, 0]"),
    "too many": (lambda x: changed(x, (1, 2, 0), 1e6), "input 'x' holds 1e+06 at [1, 2, 0]"),
    "features": (lambda x: x[..., :4], "input 'x' has shape (2, 9, 4); it takes (batch, time, 6) or (time, 6)"),
    "axes": (lambda x: x[None], "input 'x' has shape (1, 2, 9, 6)"),
    "complex": (lambda x: x.astype(np.complex64), "input 'x' is of dtype complex64"),
    "text": (lambda x: x.astype(str), "input 'x' is of dtype <U"),
    "objects": (lambda x: x.astype(object), "y.npy holds Python objects, not numbers"),
    "rounding": (
        lambda x: changed(x, (0, 1, 2), 0.1, np.float64),
        "float64, and 0.1 at [0, 1, 2] is not exact in float32",
    ),
    "large": (lambda x: changed(x, (0, 1, 2), 2**24 + 1, np.int64), "16777217 at [0, 1, 2] is not exact in float32"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_input(cli, built, x, tmp_path, case):
    change, words = WRONG[case]
    np.save(tmp_path / "y.npy", change(x))
    done = cli("run", built, "y.npy", "--out", "o.npz")
    assert done.status == 2
    assert words in done.err and "Traceback" not in done.err
    assert not (tmp_path / "o.npz").exists()


def test_wrong_names(cli, built, x, tmp_path):
    np.savez(tmp_path / "y.npz", y=x)
    assert "y.npz lacks the input 'x'; it holds y" in cli("run", built, "y.npz").err
    np.savez(tmp_path / "y.npz", x=x, y=x)
    assert "y.npz holds 'y', which is no input; the inputs are x" in cli("run", built, "y.npz").err


def test_wrong_files(cli, built, model, x, tmp_path):
    def refused(words, *args):
        done = cli("run", *args)
        assert done.status == 2 and words in done.err, done.err

    refused("there is no artifact gone.snn", "gone.snn", "x.npy")
    refused("there is no file gone.npy", built, "gone.npy")
    refused("an artifact is a directory", model, "x.npy")
    refused("it has no manifest.json", ".", "x.npy")
    refused("give an input: INPUT.npz with x", built)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00garbage")
    refused("bad.npy is damaged, or no .npy or .npz file", built, "bad.npy")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 broken")
    refused("bad.npz is damaged", built, "bad.npz")
    (tmp_path / "data.csv").write_text("1,2\n3,4\n")
    refused("data.csv is no .npy or .npz file", built, "data.csv")
    refused("results are written as .npz", built, "x.npy", "--out", "o.csv")
    refused("there is no directory", built, "x.npy", "--out", "gone/o.npz")
    refused("there is no file gone.npz", built, "x.npy", "--state", "gone.npz")
    np.savez(tmp_path / "s.npz", wrong=x)
    refused("this is no state of this network: missing", built, "x.npy", "--state", "s.npz")


def test_wrong_record(cli, built, x):
    done = cli("run", built, "x.npy", "--record", "lif.w")
    assert done.status == 2 and "Did you mean 'lif.v'?" in done.err


def test_wrong_target_or_device(cli, built, x):
    assert "there is no target 'cuda'" in cli("run", built, "x.npy", "--target", "cuda").err
    done = cli("run", built, "x.npy", "--device", "tpu")
    assert done.status == 2 and "use cpu, cuda, or cuda:N" in done.err
    if not torch.cuda.is_available():
        done = cli("run", built, "x.npy", "--device", "cuda:1")
        assert done.status == 2 and "torch finds 0 CUDA devices. Use --device cpu" in done.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_triton_without_a_gpu(cli, model, x):
    """Asked for: an error with the way to go on. As the artifact's own target: the reference, and a note."""
    cli("build", "net.py", "--target", "triton")
    done = cli("run", "net.snn", "x.npy", "--target", "triton")
    assert done.status == 2
    assert 'target "triton" cannot run: torch finds no CUDA or ROCm device' in done.err
    assert "Run it with --target torch" in done.err and "TRITON_INTERPRET=1" in done.err
    done = cli("run", "net.snn", "x.npy")
    assert done.status == 0
    assert "built for triton, but runs on the torch reference: torch finds no CUDA" in done.err
    assert "target torch, device cpu" in done.out
    facts = cli("run", "net.snn", "x.npy", "--json").json
    assert facts["target"] == "torch" and "runs on the torch reference" in facts["notes"][0]


def test_damaged_artifact(cli, built, x, tmp_path):
    import shutil

    shutil.copytree(built, tmp_path / "d.snn")
    with (tmp_path / "d.snn" / "graph.json").open("a") as file:
        file.write(" ")
    done = cli("run", "d.snn", "x.npy", "--json")
    assert done.status == 2
    assert "d.snn/graph.json was altered" in done.err
    assert done.json["ok"] is False and done.json["error"]["kind"] == "artifact"


EXPLODES = """\
import torch
import snncompile as snn

@snn.synapse(states={"y": 0.0}, outputs={"y": "current"})
def Growing(y, x, *, dt):
    return {"y": y * 1e20 + x}

@snn.model(dt=1e-3)
def net(x=snn.Spikes(3)):
    return x >> snn.Linear(2, init=[[1.0] * 3] * 2) >> Growing(name="growing") >> snn.Flatten()
"""


def test_values_that_are_not_finite_are_reported(cli, write, tmp_path):
    write(EXPLODES)
    assert cli("build", "net.py").status == 0
    np.save(tmp_path / "ones.npy", np.ones((1, 6, 3)))
    done = cli("run", "net.snn", "ones.npy", "--out", "o.npz")
    assert done.status == 1
    assert "the first value that is not finite is inf in growing.y" in done.err
    assert "at step 2" in done.err and "net.py:10" in done.err
    found = cli("run", "net.snn", "ones.npy", "--json")
    assert found.status == 1
    assert found.json["ok"] is False
    assert found.json["non_finite"]["signal"] == "growing.y" and found.json["non_finite"]["step"] == 2


def test_broken_parameters_do_not_run(cli, built, x, tmp_path):
    net = snn.load(built)
    with torch.no_grad():
        net.lif.tau_mem.fill_(float("nan"))
    net.save(tmp_path / "b.snn")
    done = cli("run", "b.snn", "x.npy")
    assert done.status == 2 and "node 'lif'" in done.err and "tau_mem holds a value that is not finite" in done.err


def test_other_version(cli, built, x, tmp_path, monkeypatch):
    monkeypatch.setattr(snn, "__version__", "9.9.9")
    done = cli("run", built, "x.npy")
    assert done.status == 0
    assert "was written by snncompile 0" in done.err and "generated again by 9.9.9" in done.err


def test_several_outputs_and_inputs(cli, write, tmp_path):
    write(
        "import snncompile as snn\n\n@snn.model(dt=1e-3)\n"
        "def net(a=snn.Spikes(2, max=1), b=snn.Current(2)):\n    h = a + b\n"
        "    return {'v': h >> snn.LI(), 's': h >> snn.LIF()}\n"
    )
    assert cli("build", "net.py").status == 0
    a = np.ones((3, 4, 2), dtype=np.uint8)
    np.savez(tmp_path / "in.npz", a=a, b=np.full((3, 4, 2), -0.5, dtype=np.float32))
    assert cli("run", "net.snn", "in.npz", "--out", "o.npz", "-r", "a").status == 0
    with np.load(tmp_path / "o.npz") as found:
        assert found.files == ["v", "s", "a"]
    np.save(tmp_path / "in.npy", a)
    assert "in.npy holds one array; the network has the inputs a, b: use a .npz" in cli("run", "net.snn", "in.npy").err
    np.savez(tmp_path / "in.npz", a=a * 2, b=a.astype(np.float32))
    assert "input 'a' holds 2 at [0, 0, 0]" in cli("run", "net.snn", "in.npz").err


def test_interrupted_writing_leaves_nothing(cli, built, x, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(data_module.np.lib.format, "write_array", interrupt)
    done = cli("run", built, "x.npy", "--out", "o.npz")
    assert done.status == 130 and "interrupted" in done.err
    assert sorted(os.listdir(tmp_path)) == before


def test_disk_full(cli, built, x, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(data_module.np.lib.format, "write_array", full)
    done = cli("run", built, "x.npy", "--out", "o.npz")
    assert done.status == 2 and "the disk is full" in done.err
    assert sorted(os.listdir(tmp_path)) == before


def test_a_model_without_inputs(cli, write):
    write("import snncompile as snn\n\n@snn.model\ndef net():\n    return snn.Poisson(100.0, shape=3) >> snn.LIF()\n")
    assert cli("build", "net.py", "--target", "torch", "--out", "net.snn").status == 0
    done = cli("run", "net.snn")
    assert done.status == 2 and "this model has no inputs: say how long it runs, e.g. --steps 100" in done.err
    assert cli("run", "net.snn", "--steps", 7, "--json").json["arrays"]["out"]["shape"] == [7, 3]


def test_what_was_learnt_is_told(cli, write, x):
    write(
        "import snncompile as snn\n\n@snn.model\ndef net(x=snn.Spikes(6)):\n    linear = snn.Linear(3)\n"
        "    h = x >> linear >> snn.LIF()\n    snn.learn(linear, snn.STDP())\n    return h\n"
    )
    assert cli("build", "net.py", "--target", "torch", "--out", "net.snn").status == 0
    done = cli("run", "net.snn", "x.npy")
    assert done.status == 0 and "what linear.weight learnt in this run is not kept" in done.err
    assert any("--save-state FILE" in text for text in cli("run", "net.snn", "x.npy", "--json").json["notes"])
    kept = cli("run", "net.snn", "x.npy", "--save-state", "s.npz")
    assert kept.status == 0 and "not kept" not in kept.err
    with np.load("s.npz") as state:
        assert state["linear.weight"].shape == (3, 6)
    assert cli("run", "net.snn", "x.npy", "--state", "s.npz", "--save-state", "s.npz").status == 0


@pytest.mark.parametrize(("name", "said"), [
    ("junk.npz", "junk.npz is no .npy or .npz file"),
    ("junk.npy", "junk.npy is no .npy or .npz file"),
    ("folder", "folder is a directory, not a file"),
    ("nowhere.npz", "there is no file nowhere.npz"),
    ("objects.npy", "objects.npy holds Python objects, not numbers; those are not read"),
])  # fmt: skip
def test_what_is_no_input(cli, built, tmp_path, name, said):
    for junk in ("junk.npz", "junk.npy"):
        (tmp_path / junk).write_text("junk\n")
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    done = cli("run", built, name)
    assert done.status == 2 and done.err == f"error: {said}\n"
