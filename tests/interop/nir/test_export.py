"""What is written reads back with the same outputs, bit for bit; what NIR cannot say is refused by name."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.cli.main import main

FIRES = {"strict": True, "max_spikes_per_dt": 1, "reset": "zero"}


def there_and_back(net, path, *shape):
    """The network read back; its outputs and the given one's must be equal."""
    net = net.eval()
    made = net.to_nir(path)
    assert made.lost == ()
    back = snn.from_nir(path, target="torch", **made.read_with).eval()
    x = (torch.rand(2, 60, *shape, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    with torch.no_grad():
        wanted, found = net(x), back(x)
    assert torch.equal(wanted, found) and wanted.abs().sum() > 0
    return back, made


@snn.model(dt=1 * ms)
def everything(x=snn.Spikes(6)):
    h = x >> snn.Linear(5) >> snn.ExpSyn(tau=5 * ms) >> snn.LIF(threshold=0.1, v_leak=0.01, **FIRES)
    h = h >> snn.recurrent(snn.LIF(threshold=0.3, strict=True, reset=-0.1, name="rec"), via=snn.Linear(5))
    g = h >> snn.Linear(5, bias=False, mask=np.eye(5)) >> snn.CubaLIF(threshold=0.05, **FIRES)
    i = h >> snn.IF(threshold=0.7, **FIRES)
    return (g + h + 0.3 * i) >> snn.Linear(3) >> snn.ExpSyn() >> snn.LI(tau_mem=7 * ms)


@snn.model(dt=1 * ms)
def images(x=snn.Spikes((2, 8, 6))):
    h = x >> snn.Conv2d(4, (3, 2), stride=(1, 2), padding=1) >> snn.IF(threshold=0.2, **FIRES) >> snn.SumPool2d(2)
    h = h >> snn.Conv2d(4, 1, groups=2, bias=False) >> snn.LIF(threshold=0.2, **FIRES) >> snn.AvgPool2d(2)
    return h >> snn.Flatten() >> snn.Linear(3) >> snn.LI()


@snn.model(dt=1 * ms)
def lines(x=snn.Spikes((2, 9))):
    return x >> snn.Conv1d(3, 3, dilation=2) >> snn.LIF(threshold=0.2, **FIRES)


@pytest.mark.parametrize(("model", "shape"), [(everything, (6,)), (images, (2, 8, 6)), (lines, (2, 9))])
def test_models(model, shape, tmp_path):
    torch.manual_seed(0)
    back, made = there_and_back(snn.compile(model, target="torch"), tmp_path / "net.nir", *shape)
    assert made.read_with == {"dt": 1e-3, "method": "exact", "reset": "zero", "current": "after"}
    there_and_back(back, tmp_path / "again.nir", *shape)
    nir.read(tmp_path / "net.nir", type_check=False)


def test_delays(tmp_path):
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(4)):
        h = x >> snn.Delay(3 * ms) >> snn.Linear(3) >> snn.Delay(np.array([0, 2, 5]) * ms)
        return h >> snn.recurrent(snn.LIF(threshold=0.2, **FIRES), via=snn.Linear(3), delay=4 * ms)

    back, _ = there_and_back(snn.compile(net, target="torch"), tmp_path / "net.nir", 4)
    kinds = [getattr(back.graph.op(name), "kind", "") for name in back.graph.names]
    assert kinds.count("Delay") == 2 and [e.delay for e in back.graph.feedback_edges()] == [4]


def test_parameters_per_neuron(tmp_path):
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(3)):
        taus, lows = np.array([5e-3, 1e-2, 2e-2]), np.array([0.1, -0.2, 0.0])
        return x >> snn.LIF(taus, threshold=np.array([0.3, 0.6, 2.5]), strict=True, reset=lows, max_spikes_per_dt=1)

    there_and_back(snn.compile(net, target="torch"), tmp_path / "net.nir", 3)


@pytest.mark.parametrize("method", ["exact", "euler"])
@pytest.mark.parametrize("current", ["after", "before"])
def test_what_was_imported(method, current, chain, tmp_path, rng):
    def values(low, high):
        return rng.uniform(low, high, 3)

    cuba = nir.CubaLIF(*(values(3e-3, 2e-2) for _ in range(2)), values(2, 4), values(-0.2, 0.2), values(0.1, 0.3),
                       w_in=values(1, 3))  # fmt: skip
    readout = nir.CubaLI(*(values(3e-3, 2e-2) for _ in range(2)), values(2, 4), values(-0.2, 0.2), values(1, 3))
    g = chain(cuba, nir.Delay(np.full(3, 1e-3)), nir.I(values(1, 2)), nir.Threshold(values(1e-3, 2e-3)), readout)
    net = snn.from_nir(g, dt=1e-3, method=method, current=current, target="torch")
    _, made = there_and_back(net, tmp_path / "net.nir", 3)
    assert (made.read_with["method"], made.read_with["current"]) == (method, current)


@pytest.mark.parametrize(("name", "dt"), [("two_lif_neurons.nir", 1e-3), ("lif_norse.nir", 1e-4)])
@pytest.mark.parametrize("method", ["exact", "euler"])
def test_real_files(real, name, dt, method, tmp_path):
    net = snn.from_nir(real / name, dt=dt, method=method, target="torch")
    back = snn.from_nir(tmp_path / "b.nir", target="torch", **net.to_nir(tmp_path / "b.nir").read_with)
    x = torch.rand(300, 1, generator=torch.Generator().manual_seed(0)) * 2
    record = [name for name in net.graph.recordable() if name.endswith(".v")]
    (y, _, v), (z, _, w) = (n.evolve(x, record=record) for n in (net, back))
    assert torch.equal(y, z) and all(torch.equal(v[k], w[k]) for k in record) and record


def single(*nodes):
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(4)):
        for node in nodes:
            x = x >> node
        return x

    return snn.compile(net, target="torch")


@snn.neuron(states={"v": 0.0}, outputs={"spikes": 1})
def Mine(v, x, *, dt):
    return {"v": v + x, "spikes": snn.spike(v, 1.0)}


REFUSED = {
    "not strict": (lambda: snn.LIF(reset="zero", name="n"), "fires at the threshold"),
    "several spikes": (lambda: snn.LIF(strict=True, name="n"), "several times in a step"),
    "soft reset": (lambda: snn.LIF(strict=True, max_spikes_per_dt=1, name="n"), "reset subtracts"),
    "bias": (lambda: snn.LIF(bias=0.1, name="n", **FIRES), "has a bias"),
    "v0": (lambda: snn.LI(v0=0.5, name="n"), "v0 is not 0"),
    "refractory": (lambda: snn.LIF(refractory=2 * ms, name="n", **FIRES), "refractory is not 0"),
}
NEVER = {
    "user": (lambda: Mine(name="n"), "no primitive for Mine"),
    "alif": (lambda: snn.ALIF(name="n"), "no primitive for ALIF"),
    "izhikevich": (lambda: snn.Izhikevich(name="n"), "no primitive for Izhikevich"),
    "synapse": (lambda: snn.ExpSyn(name="n"), "ExpSyn only before one LIF or LI"),
    "between steps": (lambda: snn.Delay(1.5 * ms, interpolation="linear", name="n"), "interpolation='linear'"),
    "several": (lambda: snn.Delay(np.full((4, 2), 1 * ms), name="n"), "no several delays for one element"),
    "overbound": (lambda: snn.Delay(2 * ms, max_delay=1 * ms, overbound=0.0, name="n"), "no overbound of a delay"),
    "synapses": (lambda: snn.Linear(3, delay=np.full((3, 4), 2 * ms), name="n"),
                 "no delay of a connection: put a snn.Delay before the Linear"),
    "dropout": (lambda: snn.Dropout(0.5, name="n"), "no Dropout"),
    "encoder": (lambda: snn.PoissonEncoder(100.0, name="n"), "no primitive for PoissonEncoder"),
}


@pytest.mark.parametrize("case", [*REFUSED, *NEVER])
def test_refused_by_name(case, tmp_path):
    make, said = {**REFUSED, **NEVER}[case]
    net = single(make())
    with pytest.raises(snn.InterchangeError, match=said) as err:
        net.to_nir(tmp_path / "net.nir")
    assert err.value.node == "n" and not list(tmp_path.iterdir())
    assert str(err.value).startswith(f"node 'n' at {__file__}:")
    if case in REFUSED:
        made = net.to_nir(tmp_path / "net.nir", lossy=True)
        assert any(said in line and line.startswith("n: ") for line in made.lost)
        snn.from_nir(made.path, **made.read_with)
    else:
        with pytest.raises(snn.InterchangeError, match=said):
            net.to_nir(tmp_path / "net.nir", lossy=True)


def test_written_for_another_method_and_step(tmp_path):
    torch.manual_seed(0)
    net = snn.compile(everything, target="torch").eval()
    made = net.to_nir(tmp_path / "net.nir", method="euler", dt=1e-4, cycles="bare")
    assert made.read_with == {"dt": 1e-4, "method": "euler", "reset": "zero", "current": "after"}
    assert set(made.rounded) == {"lif", "rec", "cuba_lif", "li"}
    file = nir.read(tmp_path / "net.nir", type_check=False)
    assert "Delay" not in {type(node).__name__ for node in file.nodes.values()}
    np.testing.assert_allclose(file.nodes["li"].tau_mem, 1e-4 / -np.expm1(-1e-3 / 7e-3), rtol=1e-6)
    with torch.no_grad():
        x = (torch.rand(2, 60, 6, generator=torch.Generator().manual_seed(1)) < 0.4).float()
        back = snn.from_nir(file, target="torch", **made.read_with)
        torch.testing.assert_close(back(x), net(x), rtol=1e-4, atol=1e-5)


def test_a_scale_becomes_r_and_a_sum_of_two_becomes_edges(tmp_path):
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(4), y=snn.Spikes(4)):
        h = (x + y) >> snn.Linear(3) >> snn.Scale(np.array([0.5, 1.5, -2.0])) >> snn.IF(threshold=0.2, **FIRES)
        return h >> snn.Scale(3.0) >> snn.LI()

    made = snn.compile(net, target="torch").to_nir(tmp_path / "net.nir")
    file = nir.read(tmp_path / "net.nir", type_check=False)
    assert "Scale" not in {type(node).__name__ for node in file.nodes.values()} and not made.rounded
    np.testing.assert_allclose(file.nodes["if"].r, [500, 1500, -2000])
    assert ("x", "linear") in file.edges and ("y", "linear") in file.edges


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "rk4"}, "method is 'exact' or 'euler'"),
        ({"dt": 0.0}, "dt is a time in seconds greater than 0"),
        ({"cycles": "none"}, "cycles is 'delay' or 'bare'"),
    ],
)
def test_wrong_options_of_writing(options, said, tmp_path):
    with pytest.raises(snn.InterchangeError, match=said):
        single(snn.LI()).to_nir(tmp_path / "net.nir", **options)


def test_eulers_method_is_not_written_as_exact(chain, tmp_path, rng):
    g = chain(nir.LI(np.full(3, 0.01), np.ones(3), np.zeros(3)))
    net = snn.from_nir(g, dt=1e-3, method="euler")
    with pytest.raises(snn.InterchangeError, match="it steps by Euler's method"):
        net.to_nir(tmp_path / "net.nir", method="exact")
    made = net.to_nir(tmp_path / "net.nir", dt=2.0)
    np.testing.assert_allclose(nir.read(made.path, type_check=False).nodes["n0"].tau, 20.0, rtol=1e-6)


def test_states_and_twice(tmp_path):
    @snn.model(dt=1 * ms)
    def membrane(x=snn.Spikes(4)):
        return (x >> snn.LIF(name="n", **FIRES)).state("v")

    @snn.model(dt=1 * ms)
    def twice(x=snn.Spikes(4)):
        return x + x

    with pytest.raises(snn.InterchangeError, match="'output' takes its 'v'"):
        snn.compile(membrane).to_nir(tmp_path / "net.nir")
    with pytest.raises(snn.InterchangeError, match="fed twice"):
        snn.compile(twice).to_nir(tmp_path / "net.nir")


def test_paths(tmp_path):
    with pytest.raises(snn.InterchangeError, match="cannot be written"):
        single(snn.LI()).to_nir(tmp_path / "no" / "net.nir")


def test_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    single(snn.Linear(3), snn.LI()).save("net.snn")
    assert main(["export", "net.snn", "--to", "nir"]) == 0
    assert "nothing: read back" in capfd.readouterr().out and (tmp_path / "net.nir").is_file()
    single(snn.LIF()).save("lif.snn")
    assert main(["export", "lif.snn", "--to", "nir", "--out", "lif.nir"]) == 2
    assert "--lossy" in capfd.readouterr().err and not (tmp_path / "lif.nir").exists()
    assert main(["export", "lif.snn", "--to", "nir", "--out", "lif.nir", "--lossy", "--json"]) == 0
    assert "reset subtracts" in capfd.readouterr().out
    assert main(["export", "lif.snn", "--to", "nir", "--opset", "17"]) == 2
    assert main(["export", "lif.snn", "--lossy"]) == 2
    assert main(["export", "lif.snn", "--method", "euler"]) == 2
    capfd.readouterr()
    assert main(["export", "net.snn", "--to", "nir", "--method", "euler", "--dt", "1e-4", "--out", "e.nir"]) == 0
    assert "as another method gives it" in capfd.readouterr().out
