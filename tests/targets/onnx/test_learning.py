"""Networks that learn, in every form: spikes, traces and weights are the reference's, bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import snncompile as snn
from snncompile import ms

from ... import test_learning as models
from .conftest import assert_equal, reference, stream

STEPS = 9
EXACT = [models.layer, models.digits, models.rewarded]


@snn.model(dt=1 * ms)
def wide(x=snn.Spikes(300, max=1)):
    """More inputs than one row of partial sums, and a mask."""
    draw = torch.Generator().manual_seed(0)
    weight, mask = torch.rand(3, 300, generator=draw), torch.rand(3, 300, generator=draw) < 0.7
    connection = snn.Linear(3, init=weight, mask=mask.float())
    h = x >> connection >> snn.LIF(threshold=20.0)
    snn.learn(connection, snn.STDP(eta_plus=0.05, eta_minus=0.03))
    return h


@snn.model(dt=1 * ms)
def rewarded_images(x=snn.Spikes((2, 5, 5), max=1), reward=snn.Current(1)):
    """A convolution with something of every synapse of every sequence, and a signal that all of them hear."""
    weight = torch.rand(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    connection = snn.Conv2d(3, 2, bias=False, init=weight)
    h = x >> connection >> snn.LIF(threshold=2.0)
    snn.learn(connection, snn.MSTDPET(eta=0.5), reward=reward)
    return h


def inputs(net, batch, steps=STEPS):
    draw = torch.Generator().manual_seed(1)
    return {n: (torch.rand((batch, steps, *t.shape), generator=draw) < 0.4).float()
            for n, t in net.graph.input_types().items()}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("model", [*EXACT, wide], ids=[m.name for m in [*EXACT, wide]])
def test_every_form(model, batch, runner, tmp_path):
    net = snn.compile(model, target="torch").eval()
    x = inputs(net, batch)
    want = reference(net, *x.values())
    feeds = {n: v.numpy() for n, v in x.items()}
    for form, steps in (("scan", None), ("unrolled", STEPS)):
        made = net.to_onnx(tmp_path / "net.onnx", form, steps=steps, check=False)
        assert_equal(runner(tmp_path / "net.onnx")(feeds), want)
    assert made.states["linear.weight"] == "linear.weight.next"
    assert not np.array_equal(want["linear.weight.next"], net.value("linear.weight").detach().numpy())
    made = net.to_onnx(tmp_path / "step.onnx", "step", check=False)
    state = {n: s.numpy() for n, s in net.initial_state(batch).items() if n in made.states}
    assert_equal(stream(runner(tmp_path / "step.onnx"), feeds, state), want)


@pytest.mark.parametrize("form", [("scan", None), ("step", None), ("unrolled", 4)], ids=lambda f: f[0])
@pytest.mark.parametrize("model", [*EXACT, models.recurrent, models.images, rewarded_images], ids=lambda m: m.name)
def test_the_check_passes(model, form, tmp_path):
    made = snn.compile(model, target="torch").to_onnx(tmp_path / "net.onnx", form[0], steps=form[1], opset=13)
    assert all("whole network" in found for _, found in made.checks[1:])
    if model in EXACT:
        assert all("whole network bit-identical" in found for _, found in made.checks[1:])


def test_every_sequence_hears_its_own_reward_in_a_convolution(runner, tmp_path):
    net = snn.compile(rewarded_images, target="torch").eval()
    net.to_onnx(tmp_path / "net.onnx", check=False)
    x = inputs(net, 3)
    x["reward"] *= torch.tensor([1.0, -2.0, 0.5]).reshape(3, 1, 1)
    want, got = reference(net, *x.values()), runner(tmp_path / "net.onnx")({n: v.numpy() for n, v in x.items()})
    for name in ("conv2d.weight.next", "mstdpet.eligibility.next"):
        assert got[name].shape == want[name].shape and np.allclose(got[name], want[name], atol=1e-5), name
    assert not np.allclose(want["conv2d.weight.next"], net.value("conv2d.weight").detach().numpy(), atol=0.01)


def test_what_was_learnt_is_handed_over(runner, tmp_path):
    """Learning goes on where it stopped; a weight has no batch axis, and starts from the network's."""
    net = snn.compile(models.layer, target="torch").eval()
    made = net.to_onnx(tmp_path / "net.onnx", check=False)
    file = onnx.load(tmp_path / "net.onnx")
    dims = {i.name: len(i.type.tensor_type.shape.dim) for i in file.graph.input}
    assert dims["linear.weight"] == 2 and "linear.weight" in {i.name for i in file.graph.initializer}
    x, run = inputs(net, 3), runner(tmp_path / "net.onnx")
    one = run({"x": x["x"][:, :4].numpy()})
    two = run({"x": x["x"][:, 4:].numpy(), **{before: one[after] for before, after in made.states.items()}})
    assert_equal({**two, "out": np.concatenate([one["out"], two["out"]], 1)}, reference(net, x["x"]))


def test_what_learns_is_not_quantised(tmp_path):
    net = snn.compile(models.layer, target="torch")
    with pytest.raises(snn.InterchangeError, match=r"what learns is not quantised: export net.frozen\(\)"):
        net.to_onnx(tmp_path / "q.onnx", quantize="int8", calibrate=np.ones((2, 3, 10)))
    assert net.frozen().to_onnx(tmp_path / "q.onnx", quantize="int8", calibrate=np.ones((2, 3, 10))).quantization
