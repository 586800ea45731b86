"""Sparse connections: against dense ones, the same bits on torch and C, gradients, patterns, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import snncompile as snn
from snncompile import ms
from snncompile.ir.json_form import graph_from_json, graph_to_json
from snncompile.ir.text_form import from_text, to_text
from snncompile.targets.executor import Executor

from .compare import assert_close_gradients, assert_same_bits, outcome
from .plain_target import PlainTarget


def matrix(out: int = 7, inputs: int = 9, density: float = 0.4, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(out, inputs, generator=g) * (torch.rand(out, inputs, generator=g) < density)


def dense(net: snn.Network, name: str = "sparse") -> torch.Tensor:
    """The weight as a matrix."""
    held = {role: net.value(f"{name}.{role}").detach() for role in ("weight", "targets", "counts")}
    out = net.graph.op(name).output.shape[0]
    full = torch.zeros(len(held["counts"]), out)
    sources = torch.repeat_interleave(torch.arange(len(held["counts"])), held["counts"].long())
    full[sources, held["targets"].long()] = held["weight"]
    return full.T


def one(node, kind="spikes", inputs: int = 9, target: str = "torch") -> snn.Network:
    @snn.model
    def model(x=snn.Spikes(inputs) if kind == "spikes" else snn.Current(inputs)):
        return x >> node

    return snn.compile(model, target=target)


def data(kind: str, *shape: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.poisson(torch.full(shape, 0.4), generator=g) if kind == "spikes" else torch.randn(shape, generator=g)


@pytest.mark.parametrize("target", ["torch", "c"])
@pytest.mark.parametrize("kind", ["spikes", "current"])
@pytest.mark.parametrize("batch, steps", [(3, 11), (1, 1), (2, 0)])
def test_as_the_dense_connection(target, kind, batch, steps):
    w = matrix()
    net = one(snn.Sparse(weight=w.to_sparse(), bias=True), kind, target=target)
    x, y = (data(kind, batch, steps, 9).requires_grad_() for _ in range(2))
    weight, bias = w.clone().requires_grad_(), net.value("sparse.bias").detach().clone().requires_grad_()
    got, want = net(x), F.linear(y, weight, bias)
    assert torch.allclose(got, want, atol=1e-5)
    g = torch.randn(got.shape, generator=torch.Generator().manual_seed(2))
    got.backward(g)
    want.backward(g)
    assert torch.allclose(x.grad, y.grad, atol=1e-5)
    assert torch.allclose(net.sparse.bias.grad, bias.grad, atol=1e-4)
    held = w.T.nonzero()
    assert torch.allclose(net.sparse.weight.grad, weight.grad[held[:, 1], held[:, 0]], atol=1e-4)


def test_a_sum_goes_through_the_sources_in_order():
    """Bit for bit, on both ways of the torch target and on C, with NaN in unwritten memory."""
    from snncompile.targets.c.sparse import SparseProducts
    from snncompile.targets.sparse import Pattern, _Events, _Tables

    w = matrix(40, 60, 0.3)
    net = one(snn.Sparse(weight=w.to_sparse()), inputs=60)
    pattern = Pattern(net.value("sparse.targets"), net.value("sparse.counts"), 40)
    weight, x = net.value("sparse.weight").detach(), data("spikes", 33, 60) * 1.7
    want = np.zeros((33, 40), np.float32)
    for i in range(60):
        for o in range(40):
            if w[o, i] != 0:
                want[:, o] = want[:, o] + w[o, i].numpy() * x[:, i].numpy()

    def poisoned(shape, **options):
        return torch.full(shape, float("nan"), **options)

    runners = [_Events(), _Tables(), SparseProducts(1, poisoned), SparseProducts(3, poisoned)]
    grad = torch.randn(33, 40)
    for runner in runners:
        assert torch.equal(runner.forward(pattern, weight, x), torch.from_numpy(want))
        assert torch.equal(
            runner.input_gradient(pattern, weight, grad), runners[1].input_gradient(pattern, weight, grad)
        )
        found, exact = runner.weight_gradient(pattern, grad, x), runners[1].weight_gradient(pattern, grad, x)
        assert float((found - exact).norm()) <= 1e-6 * float(exact.norm())


@snn.model(dt=1 * ms)
def layered(x=snn.Spikes(9)):
    h = x >> snn.Sparse(12, p=0.4, seed=3) >> snn.ExpSyn() >> snn.LIF(threshold=0.2)
    late = h >> snn.Sparse(12, indegree=4, sign=-1) >> snn.recurrent(
        snn.LIF(threshold=0.2), via=snn.Sparse(12, p=0.5, bias=True), delay=3 * ms
    )
    return late >> snn.LI() >> snn.Sparse(3, indegree=2)


@pytest.mark.parametrize("target", ["torch", "c"])
def test_networks_are_the_same_bit_for_bit(target):
    torch.manual_seed(0)
    net = snn.compile(layered, target=target)
    x = data("spikes", 2, 10, 9)
    record = [r for r in net.graph.recordable() if r != "x"]
    want = outcome(net, x, record, Executor(net.graph, PlainTarget()))
    got = outcome(net, x, record)
    assert_same_bits(want, got)
    assert_close_gradients(want, got)
    with torch.no_grad():
        whole = net(x)
        a, state, _ = net.evolve(x[:, :4])
        b, state, _ = net.evolve(x[:, 4:9], state=state)
        c, _ = net.step(x[:, 9], state)
    assert torch.equal(torch.cat([a, b, c[:, None]], 1), whole)


def test_patterns():
    by_p = one(snn.Sparse(50, p=0.2), inputs=80)
    full = dense(by_p)
    share = float((full != 0).float().mean())
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / full.numel()) ** 0.5
    assert torch.equal(full != 0, dense(one(snn.Sparse(50, p=0.2), inputs=80)) != 0)  # the same again
    assert not torch.equal(full != 0, dense(one(snn.Sparse(50, p=0.2, seed=1), inputs=80)) != 0)
    assert not torch.equal(full != 0, dense(one(snn.Sparse(50, p=0.2, name="other"), inputs=80), "other") != 0)
    degree = dense(one(snn.Sparse(50, indegree=7, init=0.5), inputs=80))
    assert torch.equal((degree != 0).sum(1), torch.full((50,), 7)) and set(degree.unique().tolist()) == {0.0, 0.5}
    for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc):
        w = matrix()
        assert torch.equal(dense(one(snn.Sparse(weight=w.to_sparse(layout=layout)))), w)
    assert dense(one(snn.Sparse(4, p=1.0))).shape == (4, 9) and bool((dense(one(snn.Sparse(4, p=1.0))) != 0).all())


def test_first_weights_signs_and_what_is_held():
    sign = [1, -1, 1, -1, 1, 1, 1, -1, 1]
    net = one(snn.Sparse(20, p=0.5, sign=sign, init=0.25))
    full = dense(net)
    assert torch.equal(full, full.abs() * torch.tensor(sign).float()) and float(full.abs().max()) == 0.25
    with torch.no_grad():
        net.sparse.weight.neg_()
    net.clamp_()
    assert not net.sparse.weight.any()
    drawn = one(snn.Sparse(20, p=0.5, sign=-1)).value("sparse.weight").detach()
    assert bool((drawn <= 0).all()) and float(drawn.abs().max()) <= (1 / 4) ** 0.5 + 0.1
    fixed = one(snn.Sparse(20, p=0.5, trainable=False, init=lambda shape: np.arange(shape[0])))
    weight = fixed.value("sparse.weight")
    assert not list(fixed.parameters()) and torch.equal(weight, torch.arange(len(weight)).float())
    assert max(v.numel() for v in net.state_dict().values()) == int((full != 0).sum())  # nowhere (out, in)


def test_forms_read_back_and_artifacts(tmp_path):
    net = snn.compile(layered, target="c")
    text = to_text(net.graph)
    assert to_text(from_text(text)) == text
    assert to_text(graph_from_json(graph_to_json(net.graph)), places=False) == to_text(net.graph, places=False)
    net.save(tmp_path / "sparse.snn")
    assert (tmp_path / "sparse.snn" / "kernels" / "sparse.c").is_file()
    loaded = snn.load(tmp_path / "sparse.snn")
    x = data("spikes", 2, 6, 9)
    assert torch.equal(loaded(x), net(x))


def test_a_damaged_pattern_is_found_before_anything_is_read():
    net = one(snn.Sparse(5, p=0.5), target="c")
    for role, value in (("targets", 5.0), ("targets", -1.0), ("targets", 0.5), ("counts", 1000.0)):
        broken = one(snn.Sparse(5, p=0.5), target="c")
        broken.value(f"sparse.{role}")[0] = value
        with pytest.raises(snn.InputError, match=r"targets and counts of a sparse connection are damaged: .* 0 to 4"):
            broken(torch.ones(1, 2, 9))
    assert net(torch.ones(1, 2, 9)).shape == (1, 2, 5)


def test_a_new_pattern_is_seen():
    net, other = (one(snn.Sparse(6, indegree=2, seed=s), target="torch") for s in (0, 5))
    x = data("spikes", 2, 4, 9)
    net(x)
    net.load_state_dict(other.state_dict())
    assert torch.equal(net(x), other(x))


def test_checks_and_costs():
    from snncompile.checks import check_network
    from snncompile.ir.cost import network_cost

    torch.manual_seed(0)
    net = snn.compile(layered, target="torch")
    checks = check_network(net, ["torch", "c"], steps=6)
    assert {c.status for c in checks} == {"ok"}, [c for c in checks if c.status != "ok"]
    single = one(snn.Sparse(5, indegree=3))
    assert network_cost(single.graph).inference.flops == 2 * 15


def entry(*values: float) -> torch.Tensor:
    return torch.sparse_coo_tensor([[0] * len(values), [1] * len(values)], list(values), (4, 9))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: snn.Sparse(4), "its synapses come from one of p=, indegree= and weight=: none is given"),
        (lambda: snn.Sparse(4, p=0.5, indegree=2), "not p= and indegree="),
        (lambda: snn.Sparse(4, p=0.5, weight=entry(1.0)), "not p= and weight="),
        (lambda: snn.Sparse(4, p=0.0), "p is a probability above 0, up to 1, not 0.0"),
        (lambda: snn.Sparse(4, p=1.5), "p is a probability above 0, up to 1, not 1.5"),
        (lambda: snn.Sparse(4, p=1e-9), r"it has no synapse: none of 36 pairs was drawn. Raise p=, or change seed="),
        (lambda: snn.Sparse(weight=torch.zeros(4, 9).to_sparse()), "it has no synapse: weight holds no entry"),
        (lambda: snn.Sparse(4, indegree=10), "indegree is 10, but there are only 9 sources"),
        (lambda: snn.Sparse(4, indegree=0), "indegree must be a whole number of at least 1, not 0"),
        (lambda: snn.Sparse(p=0.5), "out= is missing"),
        (lambda: snn.Sparse(0, p=0.5), "out must be a whole number of at least 1"),
        (lambda: snn.Sparse(4, p=0.5, seed=-1), "seed is a whole number of at least 0, not -1"),
        (lambda: snn.Sparse(weight=torch.ones(4, 9)), "weight is a dense tensor; give a sparse one"),
        (lambda: snn.Sparse(weight=[[1.0]]), "weight is a list; give a sparse one"),
        (lambda: snn.Sparse(weight=torch.ones(4, 8).to_sparse()), r"weight has shape \(4, 8\); here it is \(out, 9\)"),
        (lambda: snn.Sparse(5, weight=entry(1.0)), r"weight has shape \(4, 9\); here it is \(5, 9\)"),
        (lambda: snn.Sparse(weight=entry(1.0, 2.0)), r"weight holds \(0, 1\) more than once: weight.coalesce\(\)"),
        (lambda: snn.Sparse(weight=entry(float("nan"))), "weight holds a value that is not finite"),
        (lambda: snn.Sparse(weight=entry(1.0) * 1j), "weight holds complex numbers; give real ones"),
        (lambda: snn.Sparse(weight=torch.ones(4, 9).to_sparse(1)), "weight holds dense rows in a sparse tensor"),
        (lambda: snn.Sparse(weight=entry(-1.0), sign=1), r"the weight of \(0, 1\) is -1, but its sign is \+1"),
        (lambda: snn.Sparse(weight=entry(1.0), init=0.5), "init= has no use beside weight="),
        (lambda: snn.Sparse(weight=entry(1.0), seed=1), "seed= has no use beside weight="),
        (lambda: snn.Sparse(4, indegree=2, sign=[1, -1]), r"sign has shape \(2,\); give one for all, or one for each"),
        (lambda: snn.Sparse(4, indegree=2, sign=0.5), "sign holds only -1 and 1, but one value is 0.5"),
        (lambda: snn.Sparse(4, indegree=2, init=[1.0]), r"init has shape \(1,\), but there are 8 synapses"),
        (lambda: snn.Sparse(4, indegree=2, init="big"), "init is 'big', not a number or an array"),
        (lambda: snn.Sparse(4, indegree=2, init=float("inf")), "init holds a value that is not finite"),
    ],
)
def test_messages(make, message):
    with pytest.raises(snn.ModelError, match=message) as caught:
        one(make())
    assert "test_sparse.py" in str(caught.value)


def test_only_flat_features():
    @snn.model
    def image(x=snn.Spikes((2, 3, 3))):
        return x >> snn.Sparse(4, p=0.5)

    with pytest.raises(snn.ModelError, match=r"it takes flat features, not \(2, 3, 3\). Put `>> Flatten\(\)`"):
        image.build()


@snn.model(dt=1 * ms)
def small(x=snn.Spikes(9, max=1)):
    neuron = snn.LIF(threshold=0.2, max_spikes_per_dt=1, strict=True, reset="zero", bias=0.0)
    return x >> snn.Sparse(12, p=0.4, bias=True) >> neuron >> snn.Sparse(3, indegree=2) >> snn.LI()


@snn.model
def large(x=snn.Spikes(3000)):
    return x >> snn.Sparse(3000, indegree=1, name="wide") >> snn.LI()


def test_onnx_holds_the_dense_matrix(tmp_path):
    torch.manual_seed(0)
    export = snn.compile(small, target="torch").to_onnx(tmp_path / "s.onnx")
    assert export.checks
    with pytest.raises(snn.InterchangeError, match=r"wide.*ONNX has no sparse products, and 3000 x 3000 is too large"):
        snn.compile(large, target="torch").to_onnx(tmp_path / "l.onnx")


def test_nir_holds_the_dense_matrix(tmp_path):
    pytest.importorskip("nir")
    torch.manual_seed(0)
    net = snn.compile(small, target="torch")
    export = net.to_nir(tmp_path / "s.nir")
    back = snn.from_nir(tmp_path / "s.nir", target="torch", **export.read_with)
    x = (torch.rand(2, 20, 9) < 0.3).float()
    assert float((net(x) - back(x)).detach().norm()) <= 1e-5 * float(net(x).detach().norm())
    with pytest.raises(snn.InterchangeError, match=r"wide.*NIR has no sparse connection, and 3000 x 3000 is too large"):
        snn.compile(large, target="torch").to_nir(tmp_path / "l.nir")


def test_a_network_compiled_in_inference_mode_runs():
    @snn.model
    def model(x=snn.Spikes(4)):
        return x >> snn.Sparse(3, p=0.9, seed=1) >> snn.LIF(threshold=0.1)

    x = torch.ones(2, 5, 4)
    with torch.inference_mode():
        net = snn.compile(model, target="torch")
        inside = net(x)
    with torch.no_grad():
        assert torch.equal(net(x), inside)
