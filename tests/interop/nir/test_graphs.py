"""Recurrent, nested and wrong graphs, names, and the command."""

from __future__ import annotations

import itertools

import h5py
import nir
import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile.cli.main import main

N = 3


def lif(rng):
    return nir.LIF(*(rng.uniform(a, b, N) for a, b in ((5e-3, 2e-2), (2, 4), (-0.1, 0.1), (0.3, 0.6))))


def affine(rng):
    return nir.Affine(rng.normal(size=(N, N)), rng.normal(size=N))


def stepped(x, step, size=N):
    """Spikes of a recurrent layer; ``step`` gives what is added to the input, from the last spikes."""
    spikes, out = np.zeros(size), []
    for given in x:
        spikes = step(given, spikes)
        out.append(spikes)
    return np.array(out)


class Neuron:
    """A LIF neuron, one exact step at a time, in float64."""

    def __init__(self, node, dt=1e-3):
        self.node, self.dt, self.v = node, dt, np.zeros(N)

    def __call__(self, x):
        goal = self.node.v_leak + self.node.r * x
        self.v = goal + (self.v - goal) * np.exp(-self.dt / self.node.tau)
        spikes = self.v > self.node.v_threshold
        self.v = np.where(spikes, self.node.v_reset, self.v)
        return spikes.astype(float)


@pytest.mark.parametrize("delay", [False, True])
def test_a_cycle_takes_the_last_spikes_into_the_connection(delay, linked, both, rng):
    """The delay sits before the connection: its bias acts in the first step too. An explicit one stands for it."""
    neuron, weights = lif(rng), affine(rng)
    nodes, edges = {"lif": neuron, "lin": weights}, [("input", "lif"), ("lin", "lif"), ("lif", "output")]
    edges += [("lif", "wait"), ("wait", "lin")] if delay else [("lif", "lin")]
    nodes |= {"wait": nir.Delay(np.full(N, 1e-3))} if delay else {}
    x, sim = rng.normal(0.2, 1, (100, N)), Neuron(neuron)
    wanted = stepped(x, lambda given, last: sim(given + weights.weight @ last + weights.bias))
    assert wanted.sum() > 10
    np.testing.assert_array_equal(both(linked(nodes, edges), x), wanted)


@pytest.mark.parametrize("steps", [[3] * N, [2, 1, 4], [0, 2, 1]])
def test_a_cycle_through_a_delay_of_any_length(steps, linked, rng, tmp_path):
    """A delay of at least one step everywhere is what the cycle waits; with a 0 among them it waits one step more."""
    neuron, weights, x = lif(rng), affine(rng), rng.normal(0.2, 1, (60, N)).astype(np.float32)
    edges = [("input", "lif"), ("lif", "wait"), ("wait", "lin"), ("lin", "lif"), ("lif", "output")]
    g = linked({"lif": neuron, "lin": weights, "wait": nir.Delay(np.array(steps) * 1e-3)}, edges)
    net = snn.from_nir(g, dt=1e-3, target="torch")
    sim, past, extra = Neuron(neuron), [], min(steps) == 0
    y = net(torch.from_numpy(x)).detach().numpy()
    for given in x:
        late = [past[-k - extra][i] if k + extra <= len(past) and k + extra else 0.0 for i, k in enumerate(steps)]
        past.append(sim(given + weights.weight @ np.array(late) + weights.bias))
    np.testing.assert_array_equal(y, np.array(past))
    assert y.sum() > 10
    back = snn.from_nir(tmp_path / "b.nir", target="torch", **net.to_nir(tmp_path / "b.nir").read_with)
    np.testing.assert_array_equal(back(torch.from_numpy(x)).detach().numpy(), y)


def test_a_cycle_over_two_layers_waits_once(linked, both, rng):
    a, b, up, down = lif(rng), lif(rng), affine(rng), affine(rng)
    edges = [("input", "a"), ("a", "up"), ("up", "b"), ("b", "down"), ("down", "a"), ("b", "output")]
    x, first, second = rng.normal(0.2, 1, (100, N)), Neuron(a), Neuron(b)

    def step(given, last):
        return second(up.weight @ first(given + down.weight @ last + down.bias) + up.bias)

    wanted = stepped(x, step)
    nodes = {"a": a, "b": b, "up": up, "down": down}
    for order in itertools.islice(itertools.permutations(edges), 0, 720, 240):
        np.testing.assert_array_equal(both(linked(nodes, list(order)), x), wanted)


def test_a_neuron_that_feeds_itself(linked, both, rng):
    neuron, x = lif(rng), rng.normal(0.2, 1, (100, N))
    g = linked({"lif": neuron}, [("input", "lif"), ("lif", "lif"), ("lif", "output")])
    sim = Neuron(neuron)
    np.testing.assert_array_equal(both(g, x), stepped(x, lambda given, last: sim(given + last)))


def test_nested_graphs(linked, both, rng):
    """As NIR's own recurrent layers are written: a graph around the neuron and its weights."""
    neuron, weights = lif(rng), affine(rng)
    inner = linked({"lif": neuron, "lin": weights},
                   [("input", "lif"), ("lif", "lin"), ("lin", "lif"), ("lif", "output")])  # fmt: skip
    outer = linked({"layer": inner}, [("input", "layer"), ("layer", "output")])
    twice = linked({"deep": outer}, [("input", "deep"), ("deep", "output")])
    x, sim = rng.normal(0.2, 1, (60, N)), Neuron(neuron)
    wanted = stepped(x, lambda given, last: sim(given + weights.weight @ last + weights.bias))
    np.testing.assert_array_equal(both(twice, x), wanted)
    net = snn.from_nir(twice, dt=1e-3)
    assert {"deep_layer_lif", "deep_layer_lin"} <= set(net.graph.names)
    assert "deep_layer_lif.v" in net.initial_state()


def test_several_edges_are_summed(linked, both, rng):
    a, b = affine(rng), affine(rng)
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output"), ("input", "output")]
    x = rng.normal(size=(5, N))
    wanted = x @ a.weight.T + a.bias + x @ b.weight.T + b.bias + x
    np.testing.assert_allclose(both(linked({"a": a, "b": b}, edges), x), wanted, rtol=1e-5, atol=1e-6)


def test_several_inputs_and_outputs(rng):
    size = np.array([N])
    nodes = {"x": nir.Input(size), "state": nir.Input(size), "y": nir.Output(size), "z": nir.Output(size)}
    g = nir.NIRGraph(nodes, [("x", "y"), ("state", "y"), ("x", "z")], type_check=False)
    net = snn.from_nir(g, dt=1e-3, target="torch")
    x, s = torch.ones(2, N), torch.full((2, N), 3.0)
    found = net(x=x, input_state=s)
    assert list(found) == ["y", "z"] and torch.equal(found["y"], x + s) and torch.equal(found["z"], x)


def test_names(chain, rng):
    g = nir.NIRGraph({"1": nir.Input(np.array([N])), "a.b": lif(rng), "a_b": lif(rng), "forward": affine(rng),
                      "out": nir.Output(np.array([N]))},
                     [("1", "a.b"), ("a.b", "a_b"), ("a_b", "forward"), ("forward", "out")],
                     type_check=False)  # fmt: skip
    net = snn.from_nir(g, dt=1e-3, name="my net")
    assert net.graph.name == "my_net"
    assert {"input_1", "a_b", "a_b_1", "affine_forward"} <= set(net.graph.names)


def test_files_are_read_like_graphs(chain, tmp_path, rng, both):
    conv = nir.Conv2d((5, 4), rng.normal(size=(2, 1, 3, 3)), 1, "same", 1, 1, rng.normal(size=2))
    g = chain(conv, nir.SumPool2d(np.array([1, 2]), np.array([1, 2]), np.array([0, 0])),
              nir.Flatten({"input": np.array([2, 5, 2])}, 0, -1), size=(1, 5, 4), out=20)  # fmt: skip
    nir.write(tmp_path / "conv.nir", g)
    x = rng.normal(size=(4, 1, 5, 4))
    np.testing.assert_array_equal(both(tmp_path / "conv.nir", x), both(g, x))


def test_a_network_from_nir_is_like_any_other(chain, tmp_path, rng):
    net = snn.from_nir(chain(affine(rng), lif(rng)), dt=1e-3, target="torch")
    x = torch.from_numpy(rng.normal(size=(2, 30, N)).astype(np.float32))
    net(x).sum().backward()
    assert net.value("n0.weight").grad.abs().sum() > 0 and net.value("n1.tau_mem").grad is not None
    assert set(net.family("taus")) == {"n1.tau_mem"}
    net.save(tmp_path / "net.snn")
    assert torch.equal(snn.load(tmp_path / "net.snn")(x), net(x))


WRONG = {
    "no input": (lambda n: n.pop("input"), [("a", "output")], "no edge leads into it|no Input"),
    "no output": (lambda n: n.pop("output"), [("input", "a")], "the graph has no Output node"),
    "unknown source": (None, [("input", "a"), ("b", "output")], "leads from a node 'b' that is not there"),
    "unfed": (None, [("input", "output")], "node 'a': no edge leads into it"),
    "twice": (None, [("input", "a"), ("input", "a"), ("a", "output")], "is there twice"),
    "into an input": (None, [("input", "a"), ("a", "input"), ("a", "output")], "it is an Input"),
    "from an output": (None, [("input", "a"), ("a", "output"), ("output", "a")], "it is an Output"),
    "sum": (lambda n: n.update(b=nir.Linear(np.ones((2, N)))),
            [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")], "different features"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_graphs(case):
    change, edges, said = WRONG[case]
    size = np.array([N])
    nodes = {"input": nir.Input(size), "a": nir.Scale(np.ones(N)), "output": nir.Output(size)}
    if change:
        change(nodes)
    g = nir.NIRGraph(nodes, edges, type_check=False)
    with pytest.raises(snn.InterchangeError, match=said):
        snn.from_nir(g, dt=1e-3)


def test_a_nested_graph_has_one_input(linked, chain):
    inner = chain(nir.Scale(np.ones(N)))
    inner.nodes["second"] = nir.Input(np.array([N]))
    with pytest.raises(snn.InterchangeError, match="node 'part': this nested graph has 2 Input nodes"):
        snn.from_nir(linked({"part": inner}, [("input", "part"), ("part", "output")]), dt=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "names no time step"),
        ({"dt": 0}, "greater than 0"),
        ({"dt": "1e-3"}, "greater than 0"),
        ({"dt": 1e-3, "method": "rk4"}, "method is 'exact' or 'euler'"),
        ({"dt": 1e-3, "reset": "soft"}, "reset is 'zero' or 'subtract'"),
        ({"dt": 1e-3, "current": "now"}, "current is 'after' or 'before'"),
    ],
)
def test_options(options, said, chain):
    with pytest.raises(snn.InterchangeError, match=said):
        snn.from_nir(chain(nir.Scale(np.ones(N))), **options)


def test_not_a_graph():
    with pytest.raises(snn.InterchangeError, match="not Scale"):
        snn.from_nir(nir.Scale(np.ones(N)), dt=1e-3)


def change_file(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.pop("node"), "no group 'node'"),
        (lambda f: f["node/nodes/n0"].pop("type"), "node 'n0': it does not say what primitive it is"),
        (lambda f: f["node/nodes/n0"].pop("tau"), "node 'n0': LIF cannot be read: .*tau"),
        (lambda f: f["node"].pop("edges"), "NIRGraph lacks 'edges'"),
        (lambda f: f["node/nodes/n0/type"].write_direct(np.array(b"LSTM", object)), "'LSTM' is no NIR primitive"),
        (lambda f: f["node/type"].write_direct(np.array(b"LIF", object)), "holds 'LIF', not a NIRGraph"),
        (lambda f: f["node/nodes/n0"].create_dataset("extra", data=1.0), "unexpected keyword argument 'extra'"),
    ],
)
def test_damaged_files(change, said, chain, tmp_path, rng):
    path = tmp_path / "net.nir"
    nir.write(path, chain(lif(rng)))
    change_file(path, change)
    with pytest.raises(snn.InterchangeError, match=said):
        snn.from_nir(path, dt=1e-3)


def test_parameters_of_different_shapes(chain, tmp_path, rng):
    path = tmp_path / "net.nir"
    nir.write(path, chain(lif(rng)))
    change_file(path, lambda f: (f["node/nodes/n0"].pop("r"), f["node/nodes/n0"].create_dataset("r", data=np.ones(2))))
    with pytest.raises(snn.InterchangeError, match="node 'n0': LIF cannot be read: All parameters must have the same"):
        snn.from_nir(path, dt=1e-3)


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(snn.UnsupportedError, match=r"pip install 'snncompile\[nir\]'"):
        snn.from_nir(tmp_path / "net.nir", dt=1e-3)


def test_the_command(chain, tmp_path, rng, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    g = chain(affine(rng), lif(rng))
    nir.write("net.nir", g)
    assert main(["import", "net.nir", "--dt", "1e-3", "--method", "euler", "--target", "torch"]) == 0
    assert "method euler" in capfd.readouterr().out
    x = torch.from_numpy(rng.normal(size=(1, 30, N)).astype(np.float32))
    wanted = snn.from_nir(g, dt=1e-3, method="euler", target="torch")(x)
    assert torch.equal(snn.load("net.snn")(x), wanted)
    assert main(["import", "net.nir", "--dt", "1e-3", "--out", "b.snn", "--json"]) == 0
    assert '"ok": true' in capfd.readouterr().out
    assert main(["import", "net.nir"]) == 2
    assert "names no time step" in capfd.readouterr().err
