"""Density hints: written in a model, measured on data, kept by every form of a graph, checked by the verifier."""

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile.densities import measure, with_densities
from snncompile.explain import explain, explain_text
from snncompile.ir.density import declared
from snncompile.ir.errors import InputError, ModelError, VerificationError
from snncompile.ir.json_form import graph_from_json, graph_to_json
from snncompile.ir.text_form import from_text, to_text


@snn.model
def model(x=snn.Spikes((2, 5), max=1, density=0.05), y=snn.Spikes(4)):
    h = x >> snn.Flatten() >> snn.Dropout(0.5) >> snn.Linear(32, name="first")
    h = h + (y >> snn.Linear(32, name="second")) >> snn.LIF(threshold=0.1)
    h = h >> snn.recurrent(snn.LIF(), via=snn.Linear(32, name="back"))
    return h >> snn.Linear(3, density=0.3, name="last")


@snn.model
def of_numpy(x=snn.Spikes(4)):
    return x >> snn.Linear(3, density=np.float32(0.25))


def hints(graph):
    return {n: graph.op(n).attrs.get("density") for n in ("first", "second", "back", "last")}


def test_hints_of_a_model():
    assert hints(model.build()) == {"first": 0.05, "second": None, "back": None, "last": 0.3}


def test_every_form_keeps_them():
    graph = model.build()
    assert hints(from_text(to_text(graph))) == hints(graph)
    assert hints(graph_from_json(graph_to_json(graph))) == hints(graph)
    assert "attr density = 0.05" in to_text(graph)


@pytest.mark.parametrize("bad", [0, 1.5, -0.1, True, "few", float("nan")])
def test_bad_hints(bad):
    with pytest.raises(ModelError, match="density is the share of values that are not zero, above 0 and up to 1"):
        snn.Spikes(4, density=bad)

    @snn.model
    def wrong(x=snn.Spikes(4)):
        return x >> snn.Linear(2, density=bad)

    with pytest.raises(ModelError, match=r"'linear'.*density is the share"):
        wrong.build()


def test_the_verifier_checks_them():
    text = to_text(model.build()).replace("attr density = 0.3", "attr density = 3")
    with pytest.raises(VerificationError, match="density is 3, not a share above 0, up to 1"):
        from_text(text)
    text = to_text(_pooled.build()).replace("attr stride = [2, 2]", "attr stride = [2, 2]\n  attr density = 0.5")
    with pytest.raises(VerificationError, match="unknown setting 'density'"):
        from_text(text)


@snn.model
def _pooled(x=snn.Spikes((1, 8, 8), density=0.1)):
    return x >> snn.Conv2d(2, 3, name="first") >> snn.SumPool2d(2) >> snn.Conv2d(2, 3, density=0.3, name="second")


def test_convolutions_take_hints():
    graph = _pooled.build()
    assert graph.op("first").attrs["density"] == 0.1
    assert graph.op("second").attrs["density"] == 0.3
    assert "density" not in graph.op("sum_pool2d").attrs
    with pytest.raises(ModelError, match="density is the share"):
        snn.compile(snn.model(lambda x=snn.Spikes((1, 4, 4)): x >> snn.Conv2d(2, 3, density=2)))


def test_measured_on_convolutions():
    found = measure(snn.compile(_pooled, target="torch"), torch.ones(2, 3, 1, 8, 8))
    assert found["first"] == 1.0
    assert 0 < found["second"] <= 1.0


def data():
    x, y = torch.zeros(20, 3, 2, 5), torch.ones(20, 3, 4)
    x[0, 0, 0, 0] = 1
    return x, y


def test_measured():
    net = snn.compile(model, target="torch")
    x, y = data()
    found = measure(net, x, y)
    _, _, record = net.eval().evolve(x, y, record=["lif.spikes", "lif_1.spikes"])
    assert found["first"] == pytest.approx(1 / x.numel(), rel=1e-2)
    assert found["second"] == 1.0
    assert found["back"] == found["last"]
    share = float((record["lif_1.spikes"] != 0).float().mean())
    assert found["last"] == pytest.approx(max(share, 1e-6), rel=5e-3)
    with pytest.raises(InputError, match="say nothing about densities"):
        measure(net, x[:0], y[:0])


def test_calibrated_network(tmp_path):
    net = snn.compile(model, target="c")
    x, y = data()
    made = snn.calibrate(net, x, y=y)
    assert hints(made.graph) == measure(net, x, y)
    assert hints(net.graph)["second"] is None
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), made.state_dict().values(), strict=True))
    text = explain_text(explain(made.graph, "c"))
    assert "one event-driven product over all steps (C): 0.00167 of its inputs are not zero, at most 0.2" in text
    assert "dense: 1 of its inputs are not zero, more than 0.2" in text
    few = explain_text(explain(with_densities(net.graph, {"last": 0.1}), "c"))
    assert "dense: 0.1 of its inputs are not zero, at most 0.2, but it has only 3 outputs, of 32 at least" in few
    made.save(tmp_path / "m.snn")
    assert hints(snn.load(tmp_path / "m.snn").graph) == hints(made.graph)


def test_calibration_keeps_what_is_frozen_and_what_is_computed():
    class Half(torch.nn.Module):
        def forward(self, weight):
            return weight / 2

    net = snn.compile(model, target="torch")
    net.get_parameter("lif.tau_mem").requires_grad_(False)
    torch.nn.utils.parametrize.register_parametrization(net.second, "weight", Half())
    x, y = data()
    made = snn.calibrate(net, x, y=y)
    assert not made.get_parameter("lif.tau_mem").requires_grad and made.get_parameter("first.weight").requires_grad
    assert torch.equal(made.second.weight, net.second.weight)
    assert torch.equal(made.eval()(x, y), net.eval()(x, y))
    with pytest.raises(InputError, match=r"calibrate takes a compiled network.*not a Model"):
        snn.calibrate(model, x, y)


def test_a_number_of_numpy_is_a_density():
    op = of_numpy.build().op("linear")
    assert op.attrs["density"] == 0.25 and type(op.attrs["density"]) is float


def test_only_linears_take_a_density():
    with pytest.raises(ModelError, match="'lif' takes no density; those that do: first, second, back, last"):
        with_densities(model.build(), {"lif": 0.1})


def test_a_linear_with_delays_takes_a_hint():
    @snn.model
    def delayed(x=snn.Spikes(4, density=0.03)):
        h = x >> snn.Linear(2, delay=[[snn.ms] * 4, [0.0] * 4])
        return x >> snn.Linear(2, delay=snn.ms, density=0.1), h

    graph = delayed.build()
    assert (graph.op("linear").attrs["density"], graph.op("linear_1").attrs["density"]) == (0.03, 0.1)
    made = snn.calibrate(snn.compile(delayed, target="c"), torch.ones(1, 5, 4))
    assert made.graph.op("linear").attrs["density"] == 1.0


def test_what_the_inputs_are_declared_to_be():
    assert declared(model.build()) == {"x": 0.05}


def test_a_connection_that_learns_is_measured_by_its_input():
    @snn.model
    def learner(x=snn.Spikes(20, max=1)):
        connection = snn.Linear(6, bias=False, init=np.full((6, 20), 0.25))
        h = x >> connection >> snn.LIF()
        snn.learn(connection, snn.STDP())
        return h

    net = snn.compile(learner, target="torch")
    x = torch.zeros(2, 10, 20)
    x[:, :, 3] = 1.0
    found = snn.calibrate(net, x)
    assert found.graph.op("linear").attrs["density"] == 0.05
    assert torch.equal(found.learn(x)[1]["linear.weight"], net.learn(x)[1]["linear.weight"])
