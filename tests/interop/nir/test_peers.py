"""Networks that go to other libraries and come from them, with equal spikes; and where a library differs from the file.

The libraries are those of tests/oracles.txt. What they get wrong is asserted exactly, for exactly these versions: a
newer one may be right, and then the table in docs/nir.md is to be changed with the test.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import warnings
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms

VERSIONS = {"norse": "1.1.0", "nirtorch": "2.6", "snntorch": "1.0.0", "sinabs": "3.1.3", "rockpool": "3.1.0"}
FIRES = {"strict": True, "max_spikes_per_dt": 1, "reset": "zero"}
DT, N = 1e-3, 8

pytestmark = pytest.mark.filterwarnings("ignore")


def peer(name: str, *modules: str) -> Any:
    """The modules of a library, in the version that this file is about."""
    for package in ("nirtorch", name):
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed; tests/oracles.txt lists it, with --no-deps")
        if found != VERSIONS[package]:
            pytest.skip(f"{package} is {found}; what is asserted here is of {VERSIONS[package]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = [importlib.import_module(module) for module in modules]
    return loaded[0] if len(loaded) == 1 else loaded


@pytest.fixture
def x() -> torch.Tensor:
    return (torch.rand(80, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()


@torch.no_grad()
def stepped(module: Any, x: torch.Tensor) -> torch.Tensor:
    """The output of a module that takes a step and a state."""
    state, rows = None, []
    for given in x:
        y, state = module(given[None], state)
        rows.append(y)
    return torch.cat(rows)


@torch.no_grad()
def read_here(graph: Any, x: torch.Tensor, **options: Any) -> torch.Tensor:
    return snn.from_nir(graph, target="torch", **{"dt": DT, "method": "euler", **options})(x)


def graph(neuron: Any, *, size: int = N, before: Any = None, after: Any = None) -> Any:
    """Input, Affine, ``before``, neuron, ``after``, Output."""
    rng = np.random.default_rng(0)
    row = {"fc": nir.Affine(rng.normal(size=(size, 6)).astype(np.float32) * 2, np.zeros(size, np.float32))}
    row |= {name: node for name, node in (("before", before), ("neuron", neuron), ("after", after)) if node is not None}
    names = ["input", *row, "output"]
    nodes = {"input": nir.Input(np.array([6])), **row, "output": nir.Output(np.array([size]))}
    return nir.NIRGraph(nodes, list(pairwise(names)), type_check=False)


def full(value: float, size: int = N) -> np.ndarray:
    return np.full(size, value, np.float32)


def lif(tau: float = 0.01, r: float = 1.0, threshold: float = 0.3, **more: Any) -> Any:
    return nir.LIF(full(tau), full(r), full(0.0), full(threshold), **more)


# -- ours go there ---------------------------------------------------------------------------------------------------


def share(tau: float) -> float:
    """How far the membrane moves towards its input in a step: before a LIF, NIR's ``r`` is then 1."""
    return 1 - math.exp(-DT / tau)


@snn.model(dt=DT)
def layered(x=snn.Spikes(6)):
    h = x >> snn.Linear(12) >> snn.Scale(share(10 * ms)) >> snn.LIF(tau_mem=10 * ms, threshold=0.1, **FIRES)
    h = h >> snn.Linear(12) >> snn.ExpSyn(tau=5 * ms) >> snn.LIF(tau_mem=20 * ms, threshold=0.3, **FIRES)
    return h >> snn.Linear(5) >> snn.CubaLIF(tau_syn=4 * ms, tau_mem=8 * ms, threshold=0.2, **FIRES)


@snn.model(dt=DT)
def recurrent(x=snn.Spikes(6)):
    cell = snn.Scale(share(10 * ms)) >> snn.LIF(tau_mem=10 * ms, threshold=0.1, **FIRES)
    h = x >> snn.Linear(12) >> snn.recurrent(cell, via=snn.Linear(12, bias=False))
    return h >> snn.Linear(5) >> snn.Scale(share(8 * ms)) >> snn.LIF(tau_mem=8 * ms, threshold=0.05, **FIRES)


def exported(model: Any, path: Any, x: torch.Tensor, **options: Any) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(3)
    net = snn.compile(model, target="torch").eval()
    made = net.to_nir(path, method="euler", cycles="bare", **options)
    assert made.rounded and not made.lost and made.read_with["method"] == "euler"
    with torch.no_grad():
        return nir.read(path, type_check=False), net(x)


@pytest.mark.parametrize("model", [layered, recurrent], ids=["layered", "recurrent"])
def test_ours_in_norse(model, x, tmp_path):
    norse = peer("norse", "norse.torch")
    file, want = exported(model, tmp_path / "net.nir", x)
    assert torch.equal(stepped(norse.from_nir(file, dt=DT), x), want) and want.sum() > 10


def test_ours_in_snntorch(x, tmp_path):
    importing = peer("snntorch", "snntorch.import_nir")
    file, want = exported(layered, tmp_path / "net.nir", x, dt=1e-4)  # its own step, whatever the network's
    assert torch.equal(stepped(importing.import_from_nir(file), x), want) and want.sum() > 10


# -- theirs come here ------------------------------------------------------------------------------------------------


def boxes(norse: Any) -> Any:
    torch.manual_seed(0)
    low = torch.full((N,), 0.1)
    neuron = norse.LIFBoxParameters(tau_mem_inv=torch.full((N,), 100.0), v_th=low, v_leak=torch.zeros(N))
    readout = norse.LIBoxParameters(tau_mem_inv=torch.full((3,), 50.0), v_leak=torch.zeros(3))
    first = torch.nn.Linear(6, N)
    first.weight.data *= 3
    return norse.SequentialState(first, norse.LIFBoxCell(neuron), torch.nn.Linear(N, 3), norse.LIBoxCell(readout))


def test_norse_here(x):
    norse = peer("norse", "norse.torch")
    net = boxes(norse)
    file = norse.to_nir(net, torch.zeros(6), dt=1.0)
    torch.testing.assert_close(read_here(file, x), stepped(net, x), rtol=0, atol=1e-6)
    spikes = norse.SequentialState(*list(net)[:2])
    file = norse.to_nir(spikes, torch.zeros(6), dt=1.0)
    assert torch.equal(read_here(file, x), stepped(spikes, x)) and stepped(spikes, x).sum() > 10


def leaky(kind: str, size: int, **options: Any) -> Any:
    snntorch = peer("snntorch", "snntorch")
    given: dict[str, Any] = {"beta": torch.full((size,), 0.9), "threshold": torch.ones(size), "init_hidden": True}
    given |= {"alpha": torch.full((size,), 0.8)} if "Synaptic" in kind else {}
    given |= {"linear_features": size} if kind.startswith("R") else {}
    return getattr(snntorch, kind)(**given, **options)


@torch.no_grad()
def snntorch_pair(x: torch.Tensor, kind: str, larger: float = 3.0, **options: Any) -> tuple[Any, torch.Tensor]:
    """A network of snnTorch as a NIR graph, and its spikes."""
    export, utils = peer("snntorch", "snntorch.export_nir", "snntorch.utils")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, N), leaky(kind, N, output=True, **options))
    for p in net.parameters():
        p.data = p.data * larger if p.dim() == 2 else p.data
    file = export.export_to_nir(net, torch.zeros(1, 6), ignore_dims=[0])
    utils.reset(net)
    return file, torch.cat([net(given[None])[0] for given in x])


@pytest.mark.parametrize(
    ("kind", "options", "reset"),
    [
        ("Leaky", {"reset_mechanism": "zero"}, "zero"),
        # Weights so small that no membrane stays above the threshold after a reset: it would not be reset again.
        ("Leaky", {"reset_mechanism": "subtract", "reset_delay": False, "larger": 1.2}, "subtract"),
        ("Synaptic", {"reset_mechanism": "zero", "reset_delay": False}, "zero"),
        ("RLeaky", {"reset_mechanism": "zero", "reset_delay": False}, "zero"),
    ],
)
def test_snntorch_here(kind, options, reset, x):
    file, want = snntorch_pair(x, kind, **options)
    assert torch.equal(read_here(file, x, dt=1e-4, reset=reset), want) and want.sum() > 10


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("kind", ["IAF", "LIF"])
@torch.no_grad()
def test_sinabs_here(kind, reset, x):
    """Its times are in steps, so dt=1; its LIF decays exactly."""
    layers, activation, exchange = peer("sinabs", "sinabs.layers", "sinabs.activation", "sinabs.nir")
    torch.manual_seed(1)
    resets = {"zero": activation.MembraneReset(), "subtract": activation.MembraneSubtract()}
    options = {"spike_fn": activation.SingleSpike, "reset_fn": resets[reset], "batch_size": 1}
    if kind == "LIF":
        options |= {"tau_mem": torch.full((N,), 10.0), "spike_threshold": torch.full((N,), 0.3)}
    net = torch.nn.Sequential(torch.nn.Linear(6, N), getattr(layers, f"{kind}Squeeze")(**options))
    net[0].weight.data *= 3
    want = net(x)
    net[1].reset_states()
    file = exchange.to_nir(net, x)
    got = read_here(file, x, dt=1.0, method="exact", reset=reset)
    assert torch.equal(got, want) and want.sum() > 10


# -- where Norse differs from the file -------------------------------------------------------------------------------


def test_norse_writes_time_constants_times_dt(x):
    """``to_nir(dt=...)`` multiplies time constants by dt: with its default, 1 ms, they become a thousandth."""
    norse = peer("norse", "norse.torch")
    net = norse.SequentialState(*list(boxes(norse))[:2])
    file = norse.to_nir(net, torch.zeros(6))
    np.testing.assert_allclose(file.nodes["1"].tau, 0.01 * DT, rtol=1e-6)
    assert torch.equal(read_here(file, x, dt=DT * DT), stepped(net, x))  # read with dt squared, it is right again


def test_norse_writes_no_w_in(x):
    """LIFCell adds its input to the current as it is; the file has ``w_in`` 1, which adds ``dt/tau_syn`` of it."""
    norse = peer("norse", "norse.torch")
    torch.manual_seed(0)
    p = norse.LIFParameters(tau_mem_inv=torch.full((N,), 100.0), tau_syn_inv=torch.full((N,), 200.0),
                            v_th=torch.full((N,), 0.3), v_leak=torch.zeros(N))  # fmt: skip
    net = norse.SequentialState(torch.nn.Linear(6, N), norse.LIFCell(p))
    net[0].weight.data *= 3
    want, file = stepped(net, x), norse.to_nir(net, torch.zeros(6), dt=1.0)
    np.testing.assert_array_equal(file.nodes["1"].w_in, 1)
    assert not torch.equal(read_here(file, x), want)
    file.nodes["1"].w_in = np.asarray(file.nodes["1"].tau_syn) / DT
    assert torch.equal(read_here(file, x), want) and want.sum() > 10


def test_norse_counts_the_batch_of_the_sample():
    norse = peer("norse", "norse.torch")
    file = norse.to_nir(boxes(norse), torch.zeros(1, 6), dt=1.0)
    with pytest.raises(snn.InterchangeError, match="its first dimension may be the batch"):
        snn.from_nir(file, dt=DT)


def test_norse_reads_no_r_and_no_v_reset(x):
    """Its LIF takes ``r`` as 1 and resets to 0; its IF adds the input, not ``dt * r`` times the input."""
    norse = peer("norse", "norse.torch")

    def there(node):
        return stepped(norse.from_nir(graph(node), dt=DT, ignore_warnings=True), x)

    plain = there(lif())
    assert torch.equal(plain, read_here(graph(lif()), x)) and plain.sum() > 10
    assert torch.equal(there(lif(r=5.0)), plain) and torch.equal(there(lif(v_reset=full(-0.5))), plain)
    assert not torch.equal(read_here(graph(lif(r=5.0)), x), plain)
    assert not torch.equal(read_here(graph(lif(v_reset=full(-0.5))), x), plain)
    node = nir.IF(full(1.0), full(1.5))
    assert torch.equal(there(node), read_here(graph(node), x, dt=1.0))


@pytest.mark.parametrize("node", [nir.Scale(full(7.0)), nir.Threshold(full(0.5)), nir.LI(full(0.01), full(1), full(0))])
def test_norse_leaves_out_what_it_does_not_know(node, x):
    """Without a word: the node is not in the module, and what follows is fed by what came before, or by the input."""
    norse = peer("norse", "norse.torch")
    module = norse.from_nir(graph(lif(), after=node), dt=DT)
    assert "after" not in dict(module.named_children())
    assert torch.equal(stepped(module, x), stepped(norse.from_nir(graph(lif()), dt=DT), x))


# -- where snnTorch differs from the file ----------------------------------------------------------------------------


def test_snntorch_resets_one_step_late_and_does_not_write_it(x):
    """Its default neuron subtracts the threshold in the step after the spike; the file says a reset to 0."""
    file, want = snntorch_pair(x, "Leaky")
    assert not torch.equal(read_here(file, x, dt=1e-4), want)
    assert not torch.equal(read_here(file, x, dt=1e-4, reset="subtract"), want)
    weight, bias = (torch.from_numpy(np.array(v)) for v in (file.nodes["0"].weight, file.nodes["0"].bias))
    v, rows = torch.zeros(N), []
    for current in torch.nn.functional.linear(x, weight, bias):
        v = 0.9 * v + current - (v > 1).float()
        rows.append((v > 1).float())
    assert torch.equal(torch.stack(rows), want)


def test_snntorch_reads_an_if_as_a_leaky_neuron(x):
    """With ``beta`` 0.9, and without its reset to 0."""
    importing = peer("snntorch", "snntorch.import_nir")
    net = importing.import_from_nir(graph(nir.IF(full(1.0), full(1.5))))
    assert float(net.neuron.beta) == pytest.approx(0.9) and net.neuron.reset_mechanism == "subtract"


def test_snntorch_sends_the_input_of_a_cycle_through_its_weights(x):
    importing = peer("snntorch", "snntorch.import_nir")
    weights = np.random.default_rng(1).normal(size=(N, N)).astype(np.float32)
    whole = graph(lif(1e-3, r=10.0, threshold=1.0))
    whole.nodes["w_rec"] = nir.Linear(weights)
    whole.edges += [("neuron", "w_rec"), ("w_rec", "neuron")]
    ours = read_here(whole, x, dt=1e-4)
    fc = torch.from_numpy(whole.nodes["fc"].weight)
    got = stepped(importing.import_from_nir(whole), x)
    assert not torch.equal(got, ours)
    v, spikes, rows = torch.zeros(N), torch.zeros(N), []
    for given in x:
        v = 0.9 * v + torch.from_numpy(weights) @ (fc @ given + spikes)
        spikes = (v > 1).float()
        v = torch.where(spikes > 0, 0.0, v)
        rows.append(spikes)
    assert torch.equal(torch.stack(rows), got)


def test_snntorch_reads_no_v_reset(x):
    importing = peer("snntorch", "snntorch.import_nir")
    low = graph(lif(1e-3, r=10.0, threshold=1.0, v_reset=full(-0.5)))
    zero = graph(lif(1e-3, r=10.0, threshold=1.0))
    got = stepped(importing.import_from_nir(low), x)
    assert torch.equal(got, read_here(zero, x, dt=1e-4)) and not torch.equal(got, read_here(low, x, dt=1e-4))


# -- where Sinabs differs from the file ------------------------------------------------------------------------------


@torch.no_grad()
def test_sinabs_reads_a_neuron_of_its_own_kind(x):
    """Its LIF adds the input whole, fires several times a step, and subtracts: ours by default, and not NIR's."""
    exchange = peer("sinabs", "sinabs.nir")
    node = lif(10.0, r=7.0, threshold=0.8)
    file = graph(node)
    for name in ("tau", "v_threshold", "v_leak"):  # it calls torch's methods on what the file has as arrays
        setattr(node, name, torch.from_numpy(getattr(node, name)))
    got = exchange.from_nir(file, batch_size=1)(x)
    got = got[0] if isinstance(got, tuple) else got

    @snn.model(dt=1.0)
    def same(x=snn.Spikes(6)):
        return x >> snn.Linear(N, bias=False, init=file.nodes["fc"].weight) >> snn.LIF(tau_mem=10.0, threshold=0.8)

    assert torch.equal(got, snn.compile(same, target="torch")(x)) and got.max() > 1


# -- where Rockpool differs from the file ----------------------------------------------------------------------------


@torch.no_grad()
def test_rockpool_writes_another_gain(x):
    """``r`` is ``tau_mem exp(-dt/tau_mem)/dt`` and ``w_in`` 1; its neuron has other gains, by either method."""
    modules, combinators, exchange = peer(
        "rockpool", "rockpool.nn.modules", "rockpool.nn.combinators", "rockpool.nn.modules.torch.nir"
    )
    torch.manual_seed(0)
    tau_mem, tau_syn = 0.02, 0.01
    neuron = modules.LIFTorch(
        (N, N), tau_mem=torch.full((N,), tau_mem), tau_syn=torch.full((N, 1), tau_syn), threshold=torch.full((N,), 0.5),
        bias=torch.zeros(N), dt=DT, max_spikes_per_dt=torch.tensor(1.0),
    )  # fmt: skip
    net = combinators.Sequential(modules.LinearTorch((6, N), has_bias=False), neuron)
    want = net(x[None])[0][0]
    file = exchange.to_nir(net, x)
    (lif_node,) = (node for node in file.nodes.values() if isinstance(node, nir.CubaLIF))
    np.testing.assert_allclose(lif_node.r, tau_mem * math.exp(-DT / tau_mem) / DT, rtol=1e-6)
    np.testing.assert_array_equal(lif_node.w_in, 1)
    with pytest.raises(snn.InterchangeError, match="its first dimension may be the batch"):
        snn.from_nir(file, dt=DT)  # the shape of the sample is taken whole
    file.nodes["input"] = nir.Input(np.array([6]))
    file.nodes["output"] = nir.Output(np.array([N]))
    for method in ("exact", "euler"):
        assert not torch.equal(read_here(file, x, method=method, reset="subtract"), want)
    lif_node.r = full(1 / (1 - math.exp(-DT / tau_mem)))
    lif_node.w_in = full(1 / math.expm1(DT / tau_syn))
    assert torch.equal(read_here(file, x, method="exact", reset="subtract"), want) and want.sum() > 10
