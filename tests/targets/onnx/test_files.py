"""What a file says, what is refused, and how it is written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.ir.connection import Connection
from snncompile.targets.onnx import checking, functions, opsets, writing

from ...ir import models
from ...random_models import random_model, spikes
from .conftest import assert_equal, in_onnx_runtime, in_the_evaluator, reference


@snn.model(dt=0.5 * ms)
def small(x=snn.Spikes(6, max=1)):
    h = x >> snn.Linear(4) >> snn.ExpSyn(tau=5 * ms) >> snn.LIF(tau_mem=20 * ms)
    return h >> snn.Linear(4, name="readout") >> snn.LIF(tau_mem=np.full(4, 10 * ms, np.float32), name="last")


@pytest.fixture
def net() -> snn.Network:
    torch.manual_seed(0)
    return snn.compile(small, target="torch")


def test_names(net, tmp_path):
    made = net.to_onnx(tmp_path / "net.onnx", check=False)
    model = onnx.load(tmp_path / "net.onnx")
    assert made.inputs == ("x",) and made.outputs == ("out",)
    assert list(made.states) == ["exp_syn.isyn", "lif.v", "last.v"]
    assert [i.name for i in model.graph.input] == ["x", *made.states]
    assert [o.name for o in model.graph.output] == ["out", *made.states.values()]
    held = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    parameters = {n: v.numpy() for n, v in net.state_dict().items() if n in held}
    assert {"linear.weight", "linear.bias", "readout.weight", "lif.threshold"} <= set(parameters)
    for name, value in parameters.items():
        np.testing.assert_array_equal(held[name], value)
    assert [f.name for f in model.functions] == ["ExpSyn_LIF", "LIF"] == list(made.functions)
    assert {"linear/MatMul", "readout/MatMul", "last"} <= {n.name for n in model.graph.node}


def test_readable(net, tmp_path):
    net.to_onnx(tmp_path / "net.onnx", check=False)
    model = onnx.load(tmp_path / "net.onnx")
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts["dt"] == "0.0005" and facts["version"] == snn.__version__ and facts["form"] == "scan"
    assert facts["source"] == "test_files.py:small" and "seconds" in facts["units"]
    assert model.producer_name == "snncompile"
    assert "small" in model.graph.doc_string and "stays on chip" in model.graph.node[-1].doc_string + "".join(
        n.doc_string for n in model.graph.node
    )
    assert all(f.doc_string for f in model.functions)
    assert model.graph.input[0].doc_string == "spikes[6]<=1"
    dims = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", "time", 6]


def test_populations_share_a_function(tmp_path):
    @snn.model(dt=1 * ms)
    def two(x=snn.Spikes(3)):
        return x >> snn.Linear(3) >> snn.LIF() >> snn.Linear(5) >> snn.LIF()

    made = snn.compile(two).to_onnx(tmp_path / "net.onnx")
    assert made.functions == ("LIF",)


@pytest.mark.parametrize("form", ["scan", "step", "unrolled"])
def test_the_same_bytes_twice(form, net, tmp_path):
    steps = 3 if form == "unrolled" else None
    for name in ("a", "b"):
        net.to_onnx(tmp_path / name, form, steps=steps, check=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("opset", [opsets.LOWEST, 15, opsets.DEFAULT, 21, opsets.HIGHEST])
def test_opsets(opset, tmp_path):
    for inline in (False, True):
        path = tmp_path / f"{inline}.onnx"
        made = snn.compile(models.images).to_onnx(path, opset=opset, inline=inline)
        assert made.opset == opset and len(made.checks) == 3
        assert {(i.domain, i.version) for i in onnx.load(path).opset_import} >= {("", opset)}
        assert bool(made.functions) is not inline


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "loop"}, "there is no form 'loop'; the forms are scan, step, unrolled"),
        ({"form": "unrolled"}, "form 'unrolled' has a fixed length: say how many time steps, e.g. steps=25"),
        ({"form": "unrolled", "steps": 0}, "steps is a whole number of at least 1, not 0"),
        ({"steps": 5}, "steps is for form 'unrolled'; a file of form 'scan' takes any length"),
        ({"opset": 12}, "opset 12 is too low: the lowest that has the operators needed is 13"),
        ({"opset": 99}, "opset 99 is too high: the highest tested is 28"),
        ({"opset": "17"}, "an opset is a whole number, not '17'"),
    ],
)
def test_wrong_options(options, said, net, tmp_path):
    with pytest.raises(snn.InterchangeError) as raised:
        net.to_onnx(tmp_path / "net.onnx", **options)
    assert raised.value.message == said
    assert not list(tmp_path.iterdir())


def test_other_precisions_are_refused(net, tmp_path):
    with pytest.raises(snn.InterchangeError, match=r"linear.weight is float16; networks compute in float32"):
        net.half().to_onnx(tmp_path / "net.onnx")


def test_a_path_that_cannot_be_written(net, tmp_path):
    with pytest.raises(snn.InterchangeError, match="there is no directory"):
        net.to_onnx(tmp_path / "no" / "net.onnx")
    with pytest.raises(snn.InterchangeError, match="is a directory"):
        net.to_onnx(tmp_path)


def test_what_onnx_cannot_say_is_refused_by_name(net, tmp_path):
    graph = net.graph.copy()
    op = graph.op("readout")
    graph.nx.nodes["readout"]["op"] = Connection("Whatever", {}, {}, op.input, op.output)
    from snncompile.targets.onnx.parts import refuse_unknown

    with pytest.raises(snn.InterchangeError, match=r"node 'readout'.*Whatever cannot be written as ONNX"):
        refuse_unknown(graph)


def test_a_wrong_file_is_not_written(net, tmp_path, monkeypatch):
    """An operator gone wrong is found, named with its node, and what stood there stays."""
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    monkeypatch.setitem(functions._DIRECT, "ge", "Greater")
    monkeypatch.setitem(functions._DIRECT, "mul", "Add")
    with pytest.raises(checking.MismatchError, match="differs from the reference"):
        net.to_onnx(path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_wrong_product_is_found(net, tmp_path, monkeypatch):
    from snncompile.targets.onnx import products

    def scaled(op, params):
        weight, bias = products_folded(op, params)
        return weight * 1.001, bias

    products_folded = products.folded
    monkeypatch.setattr(products, "folded", scaled)
    with pytest.raises(checking.MismatchError, match="node 'linear'"):
        net.to_onnx(tmp_path / "net.onnx")


def test_without_onnx_runtime_it_is_said(net, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    found = dict(net.to_onnx(tmp_path / "net.onnx").checks)
    assert "not installed" in found["ONNX Runtime"] and "bit-identical" in found["reference evaluator"]


def test_large_weights_lie_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "LARGEST", 2000)
    net = snn.compile(models.images, target="torch").eval()
    made = net.to_onnx(tmp_path / "net.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert made.bytes == sum(p.stat().st_size for p in tmp_path.iterdir()) and len(made.checks) == 3
    held = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(tmp_path / "net.onnx").graph.initializer}
    for name, value in net.state_dict().items():
        if name in held:
            np.testing.assert_array_equal(held[name], value.numpy())


def test_weights_that_lay_beside_are_removed_with_their_model(tmp_path, monkeypatch):
    net = snn.compile(models.images, target="torch").eval()
    with monkeypatch.context() as patch:
        patch.setattr(writing, "LARGEST", 2000)
        net.to_onnx(tmp_path / "net.onnx", check=False)
        (tmp_path / "other.onnx.data").write_bytes(b"somebody's")
        (tmp_path / "other.onnx").write_bytes(b"no model")
    for name in ("net", "other"):
        net.to_onnx(tmp_path / f"{name}.onnx", check=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "other.onnx", "other.onnx.data"]


@pytest.mark.parametrize("form", ["scan", "step", "unrolled"])
def test_quantised_weights_lie_beside_too(form, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "LARGEST", 2000)
    net = snn.compile(models.images, target="torch").eval()
    (shape,) = (t.shape for t in net.graph.input_types().values())
    steps = 3 if form == "unrolled" else None
    made = net.to_onnx(tmp_path / "q.onnx", form, steps=steps, quantize="int8", calibrate=np.ones((2, 3, *shape)))
    assert len(made.checks) == 3
    assert made.bytes == made.quantization.bytes_after == sum(p.stat().st_size for p in tmp_path.iterdir())


def test_training_mode_exports_evaluation(tmp_path):
    net = snn.compile(models.images, target="torch")
    net.train().to_onnx(tmp_path / "a.onnx", check=False)
    net.eval().to_onnx(tmp_path / "b.onnx", check=False)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_one_over_something_is_not_rounded_once(tmp_path):
    """ONNX Runtime turns ``(1 / x) * y`` into ``y / x``: the file says it so that it does not."""

    @snn.synapse(states={"s": 0.0}, outputs={"y": "current"})
    def Reciprocal(s, x, *, dt):
        return {"s": s + x, "y": (1.0 / (x * x + 3.0)) * x}

    @snn.model(dt=1 * ms)
    def model(x=snn.Current(50)):
        return x >> Reciprocal()

    net = snn.compile(model, target="torch").eval()
    net.to_onnx(tmp_path / "net.onnx", "step", check=False)
    x, s = torch.randn(20, 50), torch.zeros(20, 50)
    want = net.step(x)[0].numpy()
    for load in (in_onnx_runtime, in_the_evaluator):
        made = load(tmp_path / "net.onnx")({"x": x.numpy(), next(iter(net.initial_state())): s.numpy()})
        np.testing.assert_array_equal(made["out"], want)


def test_rounded_check_leaves_the_file_alone(tmp_path):
    """Only the check rounds weights inside cycles: the file holds the network's."""
    torch.manual_seed(0)
    net = snn.compile(models.recurrent, target="torch")
    made = net.to_onnx(tmp_path / "net.onnx")
    assert "rounded for this check" in made.checks[1][1]
    held = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(tmp_path / "net.onnx").graph.initializer}
    weights = {n: v.numpy() for n, v in net.state_dict().items() if n.endswith("weight")}
    for name, value in weights.items():
        np.testing.assert_array_equal(held[name], value)


def test_an_artifact_exports_what_the_network_did(tmp_path):
    net = snn.compile(random_model(3), target="torch")
    loaded = snn.load(net.save(tmp_path / "net.snn"))
    loaded.to_onnx(tmp_path / "net.onnx", check=False)
    x = spikes(3, 2, 5)
    assert_equal(in_onnx_runtime(tmp_path / "net.onnx")({"x": x.numpy()}), reference(net.eval(), x))


