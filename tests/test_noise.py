"""Networks that draw random numbers: the same bits on every target, streams that go on, gradients, messages."""

from __future__ import annotations

import math

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.ir.random import Draw, courses, stream_of
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.executor import Executor

from .compare import assert_close_gradients, assert_same_bits, outcome
from .plain_target import PlainTarget
from .random_models import dyadic


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def counts(seed, batch, steps, n):
    return torch.poisson(torch.full((batch, steps, n), 0.5), generator=torch.Generator().manual_seed(seed)).clamp(max=3)


@snn.neuron(states={"v": 0.0}, outputs={"spikes": 1})
def Stochastic(v, x, *, tau=20 * ms, dt):
    """Fires with a probability, and walks at random."""
    v = v * torch.exp(-dt / tau) + x + 0.1 * snn.normal()
    s = (snn.uniform() < snn.uniform() + v * 0.25).float()
    return {"v": v - s, "spikes": s}


def weight(n_out: int, n_in: int):
    import numpy as np

    return dyadic(np.random.default_rng(n_out * n_in), n_out, n_in)


@snn.model(dt=1 * ms)
def everything(x=snn.Spikes(6, max=3)):
    trained = snn.Param(0.5, trainable=True)
    h = x >> snn.Linear(5, bias=False, init=weight(5, 6)) >> snn.ExpSyn(noise_std=trained)
    h = h >> snn.LIF(threshold=0.4, noise_std=3.0)
    a = h >> snn.Linear(7, bias=False, init=weight(7, 5)) >> snn.recurrent(
        snn.CubaLIF(noise_std=[0.5] * 7, refractory=2 * ms), via=snn.Linear(7, bias=False, init=weight(7, 7))
    )
    b = snn.Poisson(300.0, 7, max=4) + snn.Bernoulli(0.3, 7)
    c = (a + b >> Stochastic()) + snn.Normal(0.5, 0.25, 7)
    d = c >> snn.PoissonEncoder(200.0) >> snn.ALIF(noise_std=1.0)
    e = c >> snn.BernoulliEncoder()
    return {"out": d >> snn.Linear(2, bias=False, init=weight(2, 7)) >> snn.LI(noise_std=trained), "e": e, "a": a}


def seeded(net, x, record, executor=None):
    torch.manual_seed(11)
    return outcome(net, x, record, executor)


SIZES = [(3, 9, 1), (1, 5, 2), (2, 1, 1), (2, 0, 1)]


@pytest.mark.parametrize("target, size", [*((t, s) for t in ("torch", "c") for s in SIZES), ("triton", (1, 4, 3))])
def test_every_target_gives_the_same_bits(target, size):
    batch, steps, checkpoint = size
    torch.manual_seed(0)
    net = snn.compile(everything, target=target, checkpoint=checkpoint)
    x = counts(1, batch, steps, 6)
    record = [r for r in net.graph.recordable() if r != "x"]
    want = seeded(net, x, record, Executor(net.graph, PlainTarget()))
    got = seeded(net, x, record)
    assert_same_bits(want, got)
    assert_close_gradients(want, got)
    if steps > 2:
        assert got.gradients["li.noise_std"] != 0 and got.gradients["exp_syn.noise_std"] != 0


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bits():
    torch.manual_seed(0)
    net = snn.compile(everything, target="torch")
    gpu = snn.compile(everything, target="triton").cuda()
    gpu.load_state_dict(net.state_dict())
    x = counts(1, 3, 20, 6)
    want, got = seeded(net, x, []), seeded(gpu, x.cuda(), [])
    got.values = {k: v.cpu() for k, v in got.values.items()}
    got.gradients = {k: v.cpu() for k, v in got.gradients.items()}
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


@pytest.mark.parametrize("target", ["torch", "c"])
def test_a_split_run_is_one_run_and_a_seed_repeats_it(target):
    net = snn.compile(everything, target=target)
    x = counts(2, 2, 8, 6)
    with torch.no_grad():
        whole, last, _ = net.evolve(x, state=net.initial_state(2, seed=5))
        first, state, _ = net.evolve(x[:, :3], state=net.initial_state(2, seed=5))
        assert state["random"].tolist() == [5, 3]
        second, end, _ = net.evolve(x[:, 3:6], state=state)
        y, end = net.step(x[:, 6], end)
        z, end = net.step(x[:, 7], end)
        torch.manual_seed(3)
        a = net(x)
        b = net(x)
        torch.manual_seed(3)
        c = net(x)
    for key in whole:
        steps = torch.cat([first[key], second[key], y[key][:, None], z[key][:, None]], 1)
        assert torch.equal(steps, whole[key])
        assert torch.equal(a[key], c[key])
    assert not torch.equal(a["out"], b["out"])
    assert end.keys() == last.keys() and all(torch.equal(end[k], last[k]) for k in last)


def test_triton_goes_on_at_any_step():
    @snn.model
    def small(x=snn.Spikes(3)):
        return x >> snn.LIF(noise_std=4.0, threshold=0.5)

    x, results = counts(2, 2, 3, 3), []
    for target in ("torch", "triton"):
        net = snn.compile(small, target=target)
        state = {**net.initial_state(2), "random": torch.tensor([2**62 + 3, 2**32 - 2])}
        _, after, records = net.evolve(x, state=state, record="lif.v")
        results.append((records["lif.v"], after["random"], after["lif.v"]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_sequence_does_not_depend_on_how_many_there_are():
    net = snn.compile(everything, target="torch")
    x = counts(2, 4, 6, 6)
    with torch.no_grad():
        few, many = (net.evolve(x[:n], state=net.initial_state(n, seed=1))[0] for n in (2, 4))
    assert all(torch.equal(few[k], many[k][:2]) for k in few)


def test_passes_do_not_change_what_is_drawn():
    @snn.model
    def twins(x=snn.Spikes(5)):
        h = x >> snn.Linear(5, bias=False, init=weight(5, 5))
        return {"a": h >> snn.LIF(noise_std=2.0), "b": h >> snn.LIF(noise_std=2.0)}

    net = snn.compile(twins, target="c")
    fused = compile_graph(net.graph, Request())
    assert [op.members for _, op in fused.of_type(type(net.graph.op("lif")))] == [("lif", "lif_1")]  # side by side
    x = counts(3, 2, 20, 5)
    record = [r for r in net.graph.recordable() if r != "x"]
    want, got = seeded(net, x, record, Executor(net.graph, PlainTarget())), seeded(net, x, record)
    assert_same_bits(want, got)
    assert not torch.equal(got.values["lif.v"], got.values["lif_1.v"])


def test_noise_is_what_the_documents_say():
    @snn.model(dt=1 * ms)
    def walk(x=snn.Current(4)):
        return x >> snn.LI(tau_mem=1e9, noise_std=2.0)

    net = snn.compile(walk, target="torch")
    v = net.evolve(torch.zeros(3, 5, 4), state=net.initial_state(3, seed=9))[0]
    (u,) = courses(torch.tensor([9, 0]), [Draw(stream_of("li"), 0)], (5, 3, 4))
    z = torch.special.ndtri(u.double() + 2.0**-25)
    expected = (2.0 * math.sqrt(1e-3) * z).cumsum(0).transpose(0, 1)
    assert torch.allclose(v.double(), expected, atol=1e-6)


def test_noise_after_one_second_has_its_deviation():
    @snn.model(dt=1 * ms)
    def walk():
        silent = snn.Bernoulli(0.0, 2000)
        return silent >> snn.LI(tau_mem=1e9, noise_std=0.7)

    v = snn.compile(walk, target="c").evolve(steps=1000, batch=2, state=None)[0][:, -1]
    assert abs(float(v.detach().std()) - 0.7) < 4 * 0.7 / math.sqrt(2 * v.numel())


@pytest.mark.parametrize("rate, most", [(50.0, 1), (900.0, 1), (400.0, 8), (5000.0, 32)])
def test_poisson_counts(rate, most):
    @snn.model(dt=1 * ms)
    def source():
        return snn.Poisson(rate, 500, max=most)

    torch.manual_seed(5)
    n = snn.compile(source, target="torch")(steps=200, batch=2).double()
    lam = rate * 1e-3
    variance = lam if most > 1 else lam * (1 - lam)
    assert abs(float(n.mean()) - lam) < 4 * math.sqrt(variance / n.numel())
    assert abs(float(n.var()) - variance) < 6 * max(variance, 0.05) / math.sqrt(n.numel() / 4)
    assert float(n.max()) <= most
    if most > 1:
        for k in range(3):
            p = math.exp(-lam) * lam**k / math.factorial(k)
            assert abs(float((n == k).double().mean()) - p) < 4 * math.sqrt(p / n.numel()) + 1e-6


def test_poisson_intervals_are_exponential():
    """Kolmogorov-Smirnov on intervals between spikes: geometric, close to exponential at a low rate."""

    @snn.model(dt=0.1 * ms)
    def source():
        return snn.Poisson(100.0, 100)

    torch.manual_seed(1)
    n = snn.compile(source, target="c")(steps=20_000)
    at = n.T.reshape(-1).nonzero().flatten().double()
    gaps = at.diff().sort().values
    p = 0.01
    values, index = torch.unique(gaps, return_inverse=True)
    seen = torch.bincount(index).double().cumsum(0) / len(gaps)
    assert float((seen - (1 - (1 - p) ** values)).abs().max()) * math.sqrt(len(gaps)) < 1.63


def test_encoders_follow_their_input():
    @snn.model(dt=1 * ms)
    def encode(x=snn.Current(3)):
        return x >> snn.PoissonEncoder(500.0), x >> snn.BernoulliEncoder(), x >> snn.PoissonEncoder(2000.0, max=9)

    x = torch.tensor([-0.5, 0.2, 0.9]).expand(4, 5000, 3)
    torch.manual_seed(2)
    rates = [y.mean((0, 1)) for y in snn.compile(encode, target="c")(x)]
    for made, want in zip(rates, ([0, 0.1, 0.45], [0, 0.2, 0.9], [0, 0.4, 1.8]), strict=True):
        assert torch.allclose(made, torch.tensor(want), atol=0.03)


def test_no_gradient_through_what_is_drawn():
    @snn.model
    def encode(x=snn.Current(3)):
        return x >> snn.PoissonEncoder(500.0) >> snn.Linear(2)

    net = snn.compile(encode, target="torch")
    x = torch.rand(2, 9, 3, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is None or not x.grad.any()
    assert net.linear.weight.grad is not None


def test_no_noise_no_parameter_no_state():
    @snn.model
    def quiet(x=snn.Spikes(3)):
        return x >> snn.Linear(3) >> snn.ExpSyn(noise_std=0) >> snn.LIF(noise_std=0.0)

    net = snn.compile(quiet, target="torch")
    assert "random" not in net.initial_state() and "lif.noise_std" not in net.state_dict()
    assert not any(op.op == "uniform" for name in ("exp_syn", "lif") for op in net.graph.op(name).forward.ops)


def test_noise_can_be_set_and_is_a_family():
    net = snn.compile(everything, target="torch")
    stds = net.family("noise_stds")
    assert set(stds) == {
        "exp_syn.noise_std", "lif.noise_std", "cuba_lif.noise_std", "alif.noise_std", "li.noise_std", "normal.std"
    }  # fmt: skip
    assert stds["li.noise_std"].requires_grad and not stds["lif.noise_std"].requires_grad


def test_under_torch_compile():
    @snn.model
    def noisy(x=snn.Spikes(6)):
        return x >> snn.Linear(4) >> snn.LIF(noise_std=snn.Param(20.0, trainable=True), threshold=0.3)

    torch.manual_seed(0)
    net = snn.compile(noisy, target="torch")
    x = counts(3, 2, 9, 6)

    def f(x, state):
        y, after, _ = net.evolve(x * 1.0, state=state)
        return y, after

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    state = net.initial_state(2, seed=4)
    results = []
    for run in (f, compiled):
        net.zero_grad()
        y, after = run(x, state)
        (y.sum() + after["lif.v"].sum()).backward()
        results.append((y.detach(), after["random"], after["lif.v"].detach(), net.lif.noise_std.grad.clone()))
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-5)
    assert results[0][3] != 0
    fresh = torch.compile(lambda x: net(x * 1.0), backend="aot_eager")
    torch.manual_seed(1)
    one, other = fresh(x), fresh(x)
    torch.manual_seed(1)
    assert torch.equal(one, fresh(x)) and not torch.equal(one, other)


@pytest.mark.parametrize("target", ["torch", "c"])
def test_artifact(target, tmp_path):
    net = snn.compile(everything, target=target)
    net.save(tmp_path / "noisy.snn")
    loaded = snn.load(tmp_path / "noisy.snn")
    x = counts(2, 2, 6, 6)
    with torch.no_grad():
        want, got = (n.evolve(x, state=n.initial_state(2, seed=1))[0] for n in (net, loaded))
    assert all(torch.equal(want[k], got[k]) for k in want)


def test_checks_compare_bit_for_bit():
    from snncompile.checks import check_network

    torch.manual_seed(0)
    checks = check_network(snn.compile(everything, target="torch"), ["torch", "c"], steps=6)
    assert {c.status for c in checks} <= {"ok"}, [c for c in checks if c.status != "ok"]


# -- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: snn.Poisson(2000.0, 3), r"rate is 2000 a second, which is 2 spikes in a step of dt = 0.001 s.*max=1"),
        (lambda: snn.Poisson(-1.0, 3), "rate must be at least 0"),
        (lambda: snn.Poisson(1.0, 3, max=65), "max must be a whole number from 1 to 64, not 65"),
        (lambda: snn.Poisson([1.0, 2.0], 3), r"rate has shape \(2,\), which does not fit the features \(3,\)"),
        (lambda: snn.Poisson(1.0, 0), "a feature shape holds positive whole numbers"),
        (lambda: snn.Bernoulli(1.5, 3), "p is a probability from 0 to 1, not 1.5"),
        (lambda: snn.Bernoulli(-0.5, 3), "p must be at least 0"),
        (lambda: snn.Normal(0.0, -1.0, 3), "std must be at least 0"),
        (lambda: snn.Poisson(1.0, 3) >> snn.LIF(noise_std=-0.1), "noise_std must be at least 0"),
        (lambda: snn.Poisson(1.0, 3) >> snn.LIF(noise_std="much"), "noise_std is 'much', not a number or an array"),
        (lambda: snn.Poisson(1.0, 3) >> snn.PoissonEncoder(3e3), "max_rate is 3000 a second"),
    ],
)
def test_messages(make, message):
    @snn.model
    def wrong():
        return make()

    with pytest.raises(snn.ModelError, match=message) as caught:
        wrong.build()
    assert "test_noise.py" in str(caught.value)


def test_drawing_outside_a_step():
    with pytest.raises(snn.ModelError, match="random numbers are drawn inside the step function of a node only"):
        snn.normal()
    with pytest.raises(snn.ModelError, match=r"snn\.Poisson can only be used inside a model function"):
        snn.Poisson(1.0, 3)


def test_seeds_and_states():
    net = snn.compile(everything, target="torch")
    for seed in (-1, 2**63, 1.5, True):
        with pytest.raises(snn.InputError, match="seed is a whole number from 0 to 2"):
            net.initial_state(seed=seed)
    state = net.initial_state(2)
    with pytest.raises(snn.InputError, match="state 'random' is float32; it holds whole numbers"):
        net.evolve(torch.zeros(2, 3, 6), state={**state, "random": state["random"].float()})
    with pytest.raises(snn.InputError, match="missing random"):
        net.evolve(torch.zeros(2, 3, 6), state={k: v for k, v in state.items() if k != "random"})


def test_interchange_refuses_noise(tmp_path):
    pytest.importorskip("nir")

    @snn.model
    def noisy(x=snn.Spikes(3)):
        h = x >> snn.Linear(3) >> snn.ExpSyn()  # fused with the neuron
        return h >> snn.LIF(noise_std=0.1, name="loud", max_spikes_per_dt=1, strict=True, reset="zero")

    net = snn.compile(noisy, target="torch")
    with pytest.raises(snn.InterchangeError, match=r"'loud'.*random numbers.*noise_std=0"):
        net.to_onnx(tmp_path / "n.onnx")
    with pytest.raises(snn.InterchangeError, match=r"loud.*NIR cannot say that it has noise.*noise_std=0"):
        net.to_nir(tmp_path / "n.nir")
