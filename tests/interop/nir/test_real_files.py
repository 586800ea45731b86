"""Files written by others: published traces, two neurons, a trained convolutional network, and broken ones."""

from __future__ import annotations

import nir
import numpy as np
import pytest

import snncompile as snn
from snncompile.checks.running import random_sample
from snncompile.checks.targets import check_target


def columns(real, name):
    return np.loadtxt(real / name, delimiter=",").T


@pytest.mark.parametrize(("method", "trace"), [("exact", "lif_exact.csv"), ("euler", "lif_norse.csv")])
def test_the_published_spikes_and_membrane(real, both, method, trace):
    x, published, spikes = columns(real, trace)
    y, v = both(real / "lif_norse.nir", x[:, None], ["lif_1.v"], dt=1e-4, method=method)
    assert np.nonzero(y[:, 0])[0].tolist() == [460, 510, 710, 760] == np.nonzero(spikes)[0].tolist()
    if method == "exact":
        published = on_the_grid(x, published)
    np.testing.assert_allclose(v[:, 0], published, rtol=0, atol=1e-7)


def on_the_grid(x, published, dt=1e-4, tau=2.5e-3, threshold=0.1):
    """The exact trace was published with each reset at its true time within a step; ours are at the step's end.

    Both are computed here in float64: the first must be what was published, the second is returned.
    """
    inside, grid, traces = 0.0, 0.0, ([], [])
    for given in x:
        crossing = dt
        if given + (inside - given) * np.exp(-dt / tau) > threshold:
            crossing = tau * np.log((given - inside) / (given - threshold))
            inside = given + (0.0 - given) * np.exp(-(dt - crossing) / tau)
        else:
            inside = given + (inside - given) * np.exp(-dt / tau)
        grid = given + (grid - given) * np.exp(-dt / tau)
        grid = 0.0 if grid > threshold else grid
        traces[0].append(inside)
        traces[1].append(grid)
    np.testing.assert_allclose(traces[0], published, rtol=0, atol=1e-7)
    return np.array(traces[1])


@pytest.mark.parametrize("method", ["exact", "euler"])
def test_two_neurons(real, both, equations, method, rng):
    nodes = nir.read(real / "two_lif_neurons.nir").nodes
    x = rng.random((400, 1)) * 2
    y, first = both(real / "two_lif_neurons.nir", x, ["lif1.spikes"], method=method)
    sim = equations(1e-3, method)
    wanted = sim.sequence([nodes["linear1"], nodes["lif1"]], x)
    assert wanted.sum() > 20
    np.testing.assert_array_equal(first, wanted)
    np.testing.assert_array_equal(y, sim.sequence([nodes["linear2"], nodes["lif2"]], wanted))


def test_a_trained_convolutional_network(real, both, equations, rng):
    nodes = nir.read(real / "cnn_sinabs.nir").nodes
    x = (rng.random((8, 2, 34, 34)) < 0.2).astype(float)
    records = [f"if_{i}.spikes" for i in (1, 3, 6, 10)]
    y, *found = both(real / "cnn_sinabs.nir", x, records, dt=1.0)
    layers = dict(zip((1, 3, 6, 10), found, strict=True))
    sim = equations(1.0)
    wanted = x
    for i in range(13):
        wanted = sim.run(nodes[str(i)], wanted)
        if i in layers:
            # float32 products against float64 ones: a membrane may lie within rounding of the threshold
            assert np.mean(layers[i] != wanted) < 1e-3 and wanted.sum() > 10
    assert np.mean(y != wanted) < 0.03


@pytest.mark.parametrize("target", ["torch", "c", "triton"])
@pytest.mark.parametrize(
    ("name", "options", "steps"),
    [
        ("lif_norse.nir", {"dt": 1e-4}, 40),
        ("lif_norse.nir", {"dt": 1e-4, "method": "euler"}, 40),
        ("two_lif_neurons.nir", {"dt": 1e-3}, 40),
        ("two_lif_neurons.nir", {"dt": 1e-3, "method": "euler", "reset": "subtract"}, 40),
        ("cnn_sinabs.nir", {"dt": 1.0}, 3),
    ],
)
def test_every_target_gives_the_same_bits(real, name, options, steps, target, monkeypatch):
    """Spikes and states of every scan, gradients, and the whole network; Triton's kernels in its interpreter."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    net = snn.from_nir(real / name, target="torch", **options)
    slow = target == "triton" and steps < 10  # 20,000 neurons, in an interpreter
    sample = random_sample(net.graph.input_types(), 1 if slow else steps, 1 if slow else 2, 0)
    with np.errstate(all="ignore"):  # the interpreter computes with numpy
        found = {check.name: check for check in check_target(net, target, sample)}
    assert len(found) == 3 and all(check.status == "ok" for check in found.values()), found
    assert "bit-identical" in found[f"{target}: spikes and states"].detail


@pytest.mark.parametrize(("name", "dt"), [("lif_norse", 1e-4), ("two_lif_neurons", 1e-3), ("cnn_sinabs", 1.0)])
def test_export_to_onnx(real, name, dt, tmp_path):
    net = snn.from_nir(real / f"{name}.nir", dt=dt, target="torch")
    for form, steps in (("scan", None), ("step", None), ("unrolled", 2)):
        made = net.to_onnx(tmp_path / "net.onnx", form, steps=steps)
        assert [who for who, _ in made.checks] == ["onnx.checker", "ONNX Runtime", "reference evaluator"]


@pytest.mark.parametrize("arch", ["sm_90", "gfx942"])
def test_compile_ahead_of_time(real, arch, tmp_path):
    from snncompile.artifact.saving import save_network

    net = snn.from_nir(real / "cnn_sinabs.nir", dt=1.0, target="triton")
    save_network(net, tmp_path / "net.snn", archs=[arch])
    assert any(p.suffix in (".cubin", ".hsaco") for p in (tmp_path / "net.snn" / "kernels").rglob("*"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("malformed_edge.nir", r"node 'lif1': the edge 'input' -> 'lif' leads to a node 'lif' that is not there"),
        ("malformed_shape.nir", r"node 'output': Output: it has features \(1, 1, 1\), but it is given \(1,\)"),
        ("lif_exact.csv", "is no HDF5 file"),
    ],
)
def test_malformed(real, name, said):
    with pytest.raises(snn.InterchangeError, match=said):
        snn.from_nir(real / name, dt=1e-4)
