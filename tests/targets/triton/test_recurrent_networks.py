"""Networks with a recurrent layer on Triton, in the interpreter, against the torch reference."""

import hashlib
import json

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.loading import open_artifact
from snncompile.explain import explain, explain_text
from snncompile.ir.errors import ArtifactError, UnsupportedError


@snn.neuron(states={"v": 0.0, "w": 0.0}, outputs={"spikes": 1})
def Own(v, w, x, *, tau=20 * ms, b=0.25, dt):
    v = v * torch.exp(-dt / tau) + x - w
    s = snn.spike(v, 1.0)
    return {"v": v - s, "w": w * 0.5 + b * s, "spikes": s}


def dyadic(n_out, n_in, seed=0):
    """Weights that are multiples of 1/16: their sums over spikes are exact in any order."""
    return np.random.default_rng(seed).integers(-8, 12, (n_out, n_in)).astype(np.float32) / 16


NEURONS = {
    "lif": lambda: snn.LIF(name="cell"),
    "once": lambda: snn.LIF(name="cell", reset="zero"),
    "alif": lambda: snn.ALIF(name="cell"),
    "own": lambda: Own(name="cell"),
    "refractory": lambda: snn.LIF(name="cell", refractory=2 * ms, max_spikes_per_dt=3),
}


def network(kind, size, target="triton", **options):
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(7), c=snn.Current(size)):
        h = (x >> snn.Linear(size, init=dyadic(size, 7))) + c
        return h >> snn.recurrent(NEURONS[kind](), via=snn.Linear(size, init=dyadic(size, size, 1), name="back"))

    return snn.compile(net, target=target, **options)


def given(steps, batch, size):
    g = torch.Generator().manual_seed(steps)
    return {
        "x": (torch.rand((batch, steps, 7), generator=g) < 0.4).float(),
        "c": torch.randint(-8, 16, (batch, steps, size), generator=g) / 16,
    }


@pytest.mark.parametrize(
    ("kind", "steps", "batch", "size"), [*((kind, 5, 1, 9) for kind in NEURONS), ("lif", 3, 17, 21)]
)
def test_the_same_bits_and_gradients(kind, steps, batch, size):
    want, got = network(kind, size, "torch"), network(kind, size)
    got.load_state_dict(want.state_dict())
    record = ["cell.v", "cell.spikes:sum", "back.out"]
    results = []
    for net in (want, got):
        x = {n: v.clone().requires_grad_() for n, v in given(steps, batch, size).items()}
        out, state, kept = net.evolve(**x, record=record)
        weights = torch.linspace(-1, 2, out.numel()).reshape(out.shape)
        loss = (out * weights).sum() + kept["cell.v"].square().mean() + sum(s.sum() for s in state.values()) / 8
        leaves = {**dict(net.named_parameters()), **x}
        grads = torch.autograd.grad(loss, list(leaves.values()))
        results.append((out, state, kept, dict(zip(leaves, grads, strict=True))))
    (out, state, kept, grads), (out2, state2, kept2, grads2) = results
    assert out.abs().sum() > 0
    assert torch.equal(out, out2)
    assert all(torch.equal(v, state2[n]) for n, v in state.items())
    assert all(torch.equal(v, kept2[n]) for n, v in kept.items())
    for name, grad in grads.items():
        assert float((grads2[name] - grad).norm()) <= 1e-5 * max(float(grad.norm()), 1e-6), name


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_short_runs_and_streaming(steps):
    want, got = network("lif", 9, "torch").eval(), network("lif", 9).eval()
    got.load_state_dict(want.state_dict())
    x = given(steps, 2, 9)
    with torch.no_grad():
        assert torch.equal(want(**x), got(**x))
        whole, end, _ = got.evolve(**given(4, 2, 9))
        state = None
        for t in range(4):  # each with one launch, in the form for single steps
            out, state = got.step(**{n: v[:, t] for n, v in given(4, 2, 9).items()}, state=state)
            assert torch.equal(out, whole[:, t])
    assert all(torch.equal(v, state[n]) for n, v in end.items())


def test_a_membrane_that_comes_back():
    @snn.model(dt=1 * ms)
    def net(x=snn.Current(5)):
        return x >> snn.recurrent(snn.LI(name="cell"), via=snn.Linear(5, init=dyadic(5, 5) / 8))

    want, got = snn.compile(net, target="torch"), snn.compile(net, target="triton")
    got.load_state_dict(want.state_dict())
    x = torch.randn((3, 6, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = want(x), got(x)
    assert float((a - b).norm() / a.norm()) < 1e-6
    assert "what comes back takes two float16" in explain_text(explain(got.graph, "triton"))


def test_precision_goes_into_the_artifact_and_out_of_it(tmp_path):
    net = network("lif", 9, precision="fp16")
    path = net.save(tmp_path / "n.snn")
    assert json.loads((path / "manifest.json").read_text())["precision"] == "fp16"
    assert "fp16: weights of 11 significant bits" in " ".join((path / "report.txt").read_text().split())
    again = snn.load(path)
    assert again.precision == "fp16"
    assert again.executor(torch.device("cpu")).runner.recurrent._precision == "fp16"
    plain = network("lif", 9).save(tmp_path / "m.snn")
    assert "precision" not in json.loads((plain / "manifest.json").read_text())
    assert open_artifact(plain).manifest.precision == "auto"


def test_a_manifest_with_an_unknown_precision(tmp_path):
    from snncompile.artifact.format import canonical, parse_manifest

    path = network("lif", 9, precision="fp16").save(tmp_path / "n.snn") / "manifest.json"
    data = json.loads(path.read_text())
    data.pop("digest")
    data["precision"] = "fp4"
    data["digest"] = hashlib.sha256(canonical(data).encode()).hexdigest()
    with pytest.raises(ArtifactError, match="precision is 'fp4'"):
        parse_manifest(canonical(data), path)


def test_unknown_precision():
    with pytest.raises(UnsupportedError, match="there is no precision 'exact'; recurrent layers know auto, float32"):
        network("lif", 9, precision="exact")


def test_explain_says_which_form_which_precision_and_why():
    graph = network("lif", 200).graph
    said = explain_text(explain(graph, "triton", archs=("sm_90", "gfx942")))
    said = " ".join(said.split())
    shared = "one launch for all steps, the whole weight, states and spikes on chip, shared out over"
    assert f"sm_90, both ways: {shared} 2 programs that wait for each other after every step" in said
    assert "so 2 programs of 128 neurons, for 16 sequences, keep 131,072 bytes of it each" in said
    assert "the weight takes 262,144 bytes of shared memory" in said
    assert "split-fp16: float32-grade products, from weights in two float16 parts" in said
    assert "max_spikes_per_dt of at most 2048 would save it" in said
    assert "gfx942, both ways: one launch for all steps, weight, states and spikes through the L2 cache" in said
    assert "kernels" not in explain_text(explain(graph, "c"))
    assert "fp16: weights of 11 significant bits" in " ".join(
        explain_text(explain(graph, "auto", precision="fp16")).split()
    )
