"""``snncompile export``."""

from __future__ import annotations

import numpy as np
import pytest


def test_a_model(cli, model, tmp_path):
    done = cli("export", model, "--to", "onnx", "--out", "net.onnx", "--set", "hidden=4")
    assert done.status == 0, done.err
    assert (tmp_path / "net.onnx").stat().st_size > 0
    for word in ("seed 0", "scan, opset 17", "lif.v -> lif.v.next", "ONNX Runtime", "bit-identical", "ExpSyn_LIF"):
        assert word in done.out
    assert "no steps" in done.err


@pytest.mark.parametrize("options", [("--form", "step"), ("--form", "unrolled", "--steps", 4), ("--inline",)])
def test_forms_of_an_artifact(cli, built, options, tmp_path):
    done = cli("export", built, *options, "--json")
    assert done.status == 0, done.err
    facts = done.json
    assert facts["ok"] and facts["file"] == "net.onnx" and len(facts["checks"]) == 3
    assert facts["inputs"] == ["x"] and facts["outputs"] == ["out"]
    assert facts["bytes"] == (tmp_path / "net.onnx").stat().st_size
    assert bool(facts["functions"]) is (options == ("--form", "step"))


def test_the_file_computes_what_run_does(cli, built, x, tmp_path):
    ort = pytest.importorskip("onnxruntime")

    assert cli("run", built, "x.npy", "--out", "y.npz", "--target", "torch").status == 0
    assert cli("export", built, "--opset", 14).status == 0
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["out"], {"x": x})[0], np.load("y.npz")["out"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "tflite"), "no format 'tflite'"),
        (("--form", "loop"), "there is no form 'loop'"),
        (("--form", "unrolled"), "say how many time steps"),
        (("--opset", 9), "opset 9 is too low"),
        (("--out", "no/net.onnx"), "there is no directory no"),
        (("--seed", 1), "has its weights"),
    ],
)
def test_wrong(cli, built, options, said):
    done = cli("export", built, *options)
    assert done.status == 2 and said in done.err


def test_quantised(cli, built, x, tmp_path):
    np.savez("sample.npz", x=x, labels=np.arange(len(x)) % 2)
    done = cli("export", built, "--quantize", "int8", "--calibrate", "sample.npz")
    assert done.status == 0, done.err
    for word in ("quantised", "size ", "accuracy ", "spikes of lif.spikes", "output out", "int8 spike counts"):
        assert word in done.out
    facts = cli("export", built, "--form", "step", "--quantize", "int8", "--calibrate", "sample.npz", "--json").json
    assert facts["quantization"]["runtime"] == "ONNX Runtime" and len(facts["quantization"]["accuracy"]) == 2
    assert facts["bytes"] == facts["quantization"]["bytes_after"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--quantize", "int8"), "--calibrate DATA.npz"),
        (("--calibrate", "x.npy"), "--quantize int8"),
        (("--quantize", "int4", "--calibrate", "x.npy"), "there is no quantisation 'int4'"),
        (("--quantize", "int8", "--calibrate", "none.npz"), "there is no file none.npz"),
        (("--quantize", "int8", "--calibrate", "text.npz"), "text.npz"),
        (("--quantize", "int8", "--calibrate", "other.npz"), "lacks the input 'x'"),
        (("--to", "nir", "--quantize", "int8"), "are for --to onnx"),
    ],
)
def test_wrong_quantisation(cli, built, x, options, said, tmp_path):
    (tmp_path / "text.npz").write_text("words")
    np.savez("other.npz", y=x)
    done = cli("export", built, *options)
    assert done.status == 2 and said in done.err and "Traceback" not in done.err
    assert not (tmp_path / "net.onnx").exists()


def test_a_mismatch_is_a_failed_check(cli, built, monkeypatch, tmp_path):
    from snncompile.targets.onnx import functions

    monkeypatch.setitem(functions._DIRECT, "mul", "Add")
    done = cli("export", built, "--json")
    assert done.status == 1 and "differs from the reference" in done.json["error"]["message"]
    assert not (tmp_path / "net.onnx").exists()
    assert cli("export", built, "--no-check").status == 0
