"""Quantised files: what int8 stands for, what ONNX Runtime makes of it, and what the export says."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.targets.onnx import opsets
from snncompile.targets.onnx.quantizing import Quantize

from ...ir import models
from .conftest import in_onnx_runtime

FORMS = [("scan", None), ("step", None), ("unrolled", 5)]


@snn.model(dt=1 * ms)
def mixed(x=snn.Spikes(32, max=1)):
    """Inputs of every kind: few spikes, many spikes, currents, a cycle, a mask."""
    h = x >> snn.Linear(48) >> snn.LIF(tau_mem=20 * ms)
    h = h >> snn.recurrent(snn.LIF(name="rec"), via=snn.Linear(48, name="back"))
    h = h >> snn.Linear(8, mask=np.eye(8, 48), name="masked") >> snn.LI(name="between")
    h = h >> snn.Linear(6, name="of_currents") >> snn.LIF(threshold=0.2, name="last")
    return h >> snn.Linear(4, name="readout", bias=False) >> snn.LI(name="out_li")


def data(batch=9, steps=12, shape=(32,), seed=0):
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand((batch, steps, *shape), generator=draw) < 0.4).float().numpy()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return snn.compile(mixed, target="torch")


@pytest.mark.parametrize("form", FORMS, ids=[f for f, _ in FORMS])
def test_all_forms_are_checked_and_compared(form, net, tmp_path):
    x, labels = data(), np.arange(9) % 4
    given = {"x": x, "labels": labels}
    made = net.to_onnx(tmp_path / "q.onnx", form[0], steps=form[1], quantize="int8", calibrate=given)
    assert all("bit-identical" in found for _, found in made.checks[1:])
    found = made.quantization
    assert found.runtime == "ONNX Runtime" and found.sequences == 9 and found.steps == (form[1] or 12)
    assert found.bytes_after == (tmp_path / "q.onnx").stat().st_size < found.bytes_before
    with torch.no_grad():
        sums = ["lif.spikes:sum", "rec.spikes:sum"]
        out, _, record = net.eval().evolve(torch.from_numpy(x[:, : form[1]]), record=sums)
    for name in ("lif.spikes", "rec.spikes"):
        before, after = found.spikes[name]
        assert before == record[f"{name}:sum"].sum() and abs(after / before - 1) < 0.1
    assert found.accuracy[0] == np.mean(out.sum(1).argmax(1).numpy() == labels)
    assert 0 < found.changes["out"] < 0.2 and found.agreement["out"] > 0.5
    assert {k: v.split(" ")[0] for k, v in found.inputs.items()} == {
        "linear": "int8", "back": "float32,", "masked": "int8", "of_currents": "int8", "readout": "int8"
    }  # fmt: skip
    said = str(made)
    for part in ("accuracy", "spikes of rec.spikes", "size ", "the same class in", "input of of_currents: int8 times"):
        assert part in said


def test_codes_are_the_weights_to_half_a_step(net, tmp_path):
    net.to_onnx(tmp_path / "q.onnx", quantize="int8", calibrate=data())
    model = onnx.load(tmp_path / "q.onnx")
    held = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    weights = {name: v.numpy() for name, v in net.state_dict().items() if name.endswith(".weight")}
    weights["masked.weight.folded"] = weights.pop("masked.weight") * np.eye(8, 48)
    for name, weight in weights.items():
        codes, scale = held[f"{name}.int8"], held[f"{name}.scale"]
        assert codes.dtype == np.int8 and scale.shape == (len(weight),) and name not in held
        codes = codes if codes.shape == weight.shape and name == "back.weight" else codes.T
        np.testing.assert_allclose(codes * scale[:, None], weight, rtol=0, atol=scale.max() * 0.5001)
        np.testing.assert_array_equal(np.abs(codes).max(1), 127)
    assert not any(v.size > 48 and v.dtype == np.float32 for v in held.values())
    assert "int8" in {p.key: p.value for p in model.metadata_props}["quantization"]


@pytest.mark.parametrize(("form", "integer"), [("scan", 4), ("step", 0)])
def test_what_onnx_runtime_makes_of_it(form, integer, net, tmp_path):
    """Products of codes where the input is int8, too; and nowhere a rounding of its own (MatMulNBits)."""
    import onnxruntime as ort

    net.to_onnx(tmp_path / "q.onnx", form, quantize="int8", calibrate=data(), check=False)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(tmp_path / "q.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert "MatMulNBits" not in kinds and kinds.count("MatMulIntegerToFloat") == integer


@pytest.mark.parametrize("opset", [opsets.LOWEST, 18, 19, 27])
def test_images_at_every_opset(opset, tmp_path):
    torch.manual_seed(0)
    net = snn.compile(models.images, target="torch")
    (shape,) = (t.shape for t in net.graph.input_types().values())
    made = net.to_onnx(tmp_path / "q.onnx", opset=opset, inline=True, quantize="int8", calibrate=data(2, 4, shape))
    assert len(made.checks) == 3 and made.quantization.accuracy is None


@pytest.mark.parametrize("scale", [1.0, 0.0371, 3e-38])
def test_quantize_rounds_as_onnx_does(scale, tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    @snn.model(dt=1 * ms)
    def rounded(x=snn.Current(4001)):
        return x >> Quantize(scale=scale)

    x = np.concatenate([np.linspace(-140, 140, 2001), np.arange(-1000, 1000) / 2])
    x = x.astype(np.float32) * np.float32(scale)
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]  # fmt: skip
    held = [numpy_helper.from_array(np.asarray(scale, np.float32), "s"), numpy_helper.from_array(np.int8(0), "z")]
    graph = helper.make_graph(nodes, "g", [info("x", TensorProto.FLOAT, [4001])], [info("y", 1, [4001])], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "g.onnx")
    want = snn.compile(rounded, target="torch")(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_array_equal(in_onnx_runtime(tmp_path / "g.onnx")({"x": x})["y"], want)


def test_what_does_not_fit_int8_stays_float32(tmp_path):
    @snn.model(dt=1 * ms)
    def busy(x=snn.Spikes(2, max=1000), y=snn.Current(2)):
        return (x >> snn.Linear(2, name="many")) + (y >> snn.Linear(2, name="nothing"))

    x, y = np.full((1, 3, 2), 200.0), np.zeros((1, 3, 2))
    made = snn.compile(busy).to_onnx(tmp_path / "q.onnx", quantize="int8", calibrate={"x": x, "y": y})
    assert made.quantization.inputs["many"].startswith("float32: calibration has 200 spikes in a step")
    assert made.quantization.inputs["nothing"].startswith("float32: 0 throughout")
    assert made.quantization.changes["out"] < 0.01 and made.quantization.spikes == {}


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"quantize": "int4", "calibrate": data()}, snn.InterchangeError, "there is no quantisation 'int4'"),
        ({"quantize": "int8"}, snn.InterchangeError, "needs data like that which the network will see"),
        ({"calibrate": data()}, snn.InterchangeError, "is for a quantised file"),
        ({"quantize": "int8", "calibrate": "no.npz"}, snn.InputError, "there is no file no.npz"),
        ({"quantize": "int8", "calibrate": "."}, snn.InputError, "is a directory"),
        ({"quantize": "int8", "calibrate": {"y": data()}}, snn.InputError, "lacks the input 'x'"),
        ({"quantize": "int8", "calibrate": data()[..., :5]}, snn.InputError, r"has shape \(9, 12, 5\)"),
        ({"quantize": "int8", "calibrate": data() * 2}, snn.InputError, "whole numbers of spikes from 0 to 1"),
        ({"quantize": "int8", "calibrate": data(0)}, snn.InputError, "0 sequences of 12 steps"),
        ({"quantize": "int8", "calibrate": {"x": data(), "labels": np.zeros(3, int)}}, snn.InputError, r"shape \(3,\)"),
        ({"quantize": "int8", "calibrate": {"x": data(), "labels": np.full(9, 7)}}, snn.InputError, "hold 7"),
        ({"quantize": "int8", "calibrate": "what"}, snn.InputError, "there is no file what"),
        ({"quantize": "int8", "calibrate": data(), "form": "unrolled", "steps": 20}, snn.InputError, "have 12 steps"),
    ],
)  # fmt: skip
def test_wrong(options, kind, said, net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=said):
        net.to_onnx("q.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_files_that_are_none(net, tmp_path):
    (tmp_path / "text.npz").write_text("not numpy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, said in (("text.npz", "is no .npy or .npz file"), ("objects.npy", "holds Python objects")):
        with pytest.raises(snn.InputError, match=said):
            net.to_onnx(tmp_path / "q.onnx", quantize="int8", calibrate=tmp_path / name)


def test_nothing_to_quantise(tmp_path):
    @snn.model(dt=1 * ms)
    def bare(x=snn.Spikes(3)):
        return x >> snn.LIF()

    @snn.model(dt=1 * ms)
    def clock():
        back = snn.Feedback(3)
        h = back >> snn.LIF(v_leak=2.0)
        back.close(h)
        return h

    with pytest.raises(snn.InterchangeError, match="nothing to quantise"):
        snn.compile(bare).to_onnx(tmp_path / "q.onnx", quantize="int8", calibrate=data(shape=(3,)))
    with pytest.raises(snn.InterchangeError, match="without inputs cannot be calibrated"):
        snn.compile(clock).to_onnx(tmp_path / "q.onnx", quantize="int8", calibrate=data())
    assert not list(tmp_path.iterdir())


def test_without_onnx_runtime_the_evaluator_compares(net, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    made = net.to_onnx(tmp_path / "q.onnx", quantize="int8", calibrate=data(2, 4), check=False)
    assert made.quantization.runtime == "onnx's reference evaluator"
