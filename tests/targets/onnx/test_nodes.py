"""Nodes of every kind, and functions whose every bit counts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import snncompile as snn
from snncompile import ms
from snncompile.ir.exact import COMPOSITE, exp2i
from snncompile.targets.onnx import opsets
from snncompile.targets.onnx.functions import DOMAIN, Functions

from ...ir import models
from ...random_models import dyadic
from .conftest import assert_equal, in_onnx_runtime, in_the_evaluator, reference

FORMS = [("scan", None), ("step", None), ("unrolled", 3)]
TAU = snn.Param(20 * ms, family="taus", constraint="positive")


@snn.neuron(states={"v": 0.0, "w": -0.25}, outputs={"spikes": 1, "smooth": "membrane"})
def Smooth(v, w, x, *, tau=TAU, gain=0.5, dt):
    """Every function that a step may use, and a state that depends on parameters alone."""
    v = v * torch.exp(-dt / tau) + torch.tanh(x) * torch.sigmoid(w) + torch.exp(-v * v) * 0.1
    s = snn.spike(v, 1.0)
    return {"v": v - s, "w": gain * 1.0, "spikes": s, "smooth": torch.sqrt(torch.abs(v)) / (1.0 + x * x)}


@snn.model(dt=1 * ms)
def smooth(x=snn.Current(6)):
    cell = Smooth(name="cell")
    h = x >> cell
    return {"spikes": h, "v": h.state("v"), "x": x}


@snn.model(dt=1 * ms)
def exact_images(x=snn.Spikes((2, 8, 8), max=2)):
    rng = np.random.default_rng(0)
    h = x >> snn.Conv2d(3, 3, padding=1, bias=False, init=dyadic(rng, 3, 2, 3, 3)) >> snn.LIF(refractory=2 * ms)
    h = h >> snn.SumPool2d(2) >> snn.Conv2d(6, 3, groups=3, stride=1, bias=False, init=dyadic(rng, 6, 1, 3, 3))
    return h >> snn.IF() >> snn.MaxPool2d(2) >> snn.Flatten() >> snn.Linear(3, bias=False, init=dyadic(rng, 3, 6))


@snn.model(dt=1 * ms)
def explicit_norm(x=snn.Spikes((2, 4, 4))):
    return x >> snn.SumPool2d(2) >> snn.BatchNorm() >> snn.LIF() >> snn.AvgPool2d(2, padding=1)


@snn.model(dt=1 * ms)
def without_inputs():
    back = snn.Feedback(3)
    h = back >> snn.LIF(v_leak=2.0)
    back.close(h)
    return h


@snn.model(dt=1 * ms)
def currents_in_a_cycle(x=snn.Spikes(4)):
    back = snn.Feedback(4)
    h = (x + (back >> snn.Linear(4))) >> snn.LI()
    back.close(h)
    return h


@snn.model(dt=1 * ms)
def late_outside_a_cycle(x=snn.Spikes(3), y=snn.Current(3)):
    back = snn.Feedback(3)
    h = x >> snn.LIF(threshold=0.5)
    back.close(h)
    return {"h": h, "again": h, "z": back + y, "v": h.state("v")}


@snn.model(dt=1 * ms)
def output_called_like_a_state(x=snn.Spikes(3)):
    held = snn.Feedback(3, name="held")
    h = (x + held) >> snn.IF()
    held.close(h)
    return {"held": h}


MODELS = [
    models.layered, models.recurrent, models.feedback, models.shared, models.images, models.sequences,
    smooth, exact_images, explicit_norm, without_inputs, currents_in_a_cycle,
    late_outside_a_cycle, output_called_like_a_state,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=[f for f, _ in FORMS])
@pytest.mark.parametrize("model", MODELS, ids=[m.name for m in MODELS])
def test_export_is_checked(model, form, tmp_path):
    torch.manual_seed(0)
    made = snn.compile(model, target="torch").to_onnx(tmp_path / "net.onnx", form[0], steps=form[1])
    assert all("whole network" in found for _, found in made.checks[1:])


@pytest.mark.parametrize("model", MODELS, ids=[m.name for m in MODELS])
def test_the_lowest_operator_set_is_honoured(model, tmp_path):
    made = snn.compile(model, target="torch").to_onnx(tmp_path / "net.onnx", opset=opsets.LOWEST)
    file = onnx.load(tmp_path / "net.onnx")
    used = [*file.opset_import, *(i for f in file.functions for i in f.opset_import)]
    assert {i.version for i in used if not i.domain} == {opsets.LOWEST} and len(made.checks) == 3


def test_conv_net(runner, tmp_path):
    net = snn.compile(exact_images, target="torch").eval()
    net.to_onnx(tmp_path / "net.onnx", check=False)
    x = torch.randint(0, 3, (2, 5, 2, 8, 8)).float()
    assert_equal(runner(tmp_path / "net.onnx")({"x": x.numpy()}), reference(net, x))


def test_user_neuron_with_exp_and_tanh(runner, tmp_path):
    net = snn.compile(smooth, target="torch").eval()
    net.to_onnx(tmp_path / "net.onnx", check=False)
    x = torch.randn(4, 25, 6) * 3
    want = reference(net, x)
    want["x.out"] = want.pop("x")  # an output may not be called what an input is
    assert_equal(runner(tmp_path / "net.onnx")({"x": x.numpy()}), want)


def test_random_weights_stay_within_rounding(tmp_path):
    torch.manual_seed(1)
    net = snn.compile(models.images, target="torch").eval()
    found = dict(net.to_onnx(tmp_path / "net.onnx").checks)
    assert " within " in found["ONNX Runtime"] and "bit-identical" in found["ONNX Runtime"]


@pytest.mark.parametrize("load", [in_onnx_runtime, in_the_evaluator])
@pytest.mark.parametrize("name", COMPOSITE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_composite_functions_bit_for_bit(name, load, tmp_path):
    rng = np.random.default_rng(0)
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 88.7, 89, 90, -87.4, -103, -104, -105, 1e-40, 0.625]
    x = np.concatenate([*(rng.normal(size=20_000) * s for s in (0.3, 3, 40)), ends]).astype(np.float32)
    functions = Functions(17)
    node = helper.make_node(functions.composite(name), ["x"], ["y"], domain=DOMAIN)
    got = load(_model(node, functions, tmp_path))({"x": x})["y"]
    np.testing.assert_array_equal(got, COMPOSITE[name](torch.from_numpy(x)).numpy())


@pytest.mark.parametrize("load", [in_onnx_runtime, in_the_evaluator])
def test_powers_of_two_are_exact(load, tmp_path):
    n = np.arange(-126, 128, dtype=np.float32)
    functions = Functions(17)
    for values in (n, n[::-1].copy(), *(n[i : i + 1] for i in range(0, len(n), 25))):
        got = load(_model(helper.make_node("Pow", ["two", "x"], ["y"]), functions, tmp_path))({"x": values})["y"]
        np.testing.assert_array_equal(got, exp2i(torch.from_numpy(values)).numpy())


def _model(node, functions, folder):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    graph = helper.make_graph([node], "g", [x], [y], [helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, functions=functions.protos, opset_imports=imports, ir_version=8)
    onnx.save(model, folder / "g.onnx")
    return folder / "g.onnx"
