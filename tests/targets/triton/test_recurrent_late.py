"""Recurrent layers whose source comes back several steps late: a ring inside one launch, against loop and reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.explain import explain, explain_text
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.recurrent_layer import Layer, match
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.layer_kernels import LayerShape, layer_kernels
from snncompile.targets.triton.recurrent import RecurrentLayers

from ..recurrent_calls import check_layer, scan_of
from ..scan_calls import poisoned


class Counts(RecurrentLayers):
    """Layers whose source is a spike."""

    def forward(self, scan, call):
        return super().forward(scan, replace(call, most=1))


@pytest.mark.parametrize("form", ["steps", "resident", "streamed", "together"])
@pytest.mark.parametrize("late", [2, 3, 7])
def test_matches_loop(form, late):
    """Fewer steps than that, as many, and more; several programs, and blocks that are not full."""
    layers = Counts(poisoned, form=form)
    for shape in [(0, 2, 4), (1, 1, 1), (3, 17, 33), (8, 3, 19)]:
        check_layer(layers, "lif", "x", {"late": late}, shape)
    check_layer(layers, "chain", "inh", {"late": late, "transposed": True, "full": True}, (2 * late + 1, 2, 5))


@settings(max_examples=12, deadline=None)
@given(
    late=st.integers(1, 9),
    steps=st.integers(0, 12),
    batch=st.sampled_from([1, 2, 17]),
    size=st.integers(1, 18),
    form=st.sampled_from(["steps", "resident", "streamed", "together"]),
    bias=st.booleans(),
)
def test_any_lateness_and_size(late, steps, batch, size, form, bias):
    check_layer(Counts(poisoned, form=form), "lif", "x", {"late": late, "bias": bias}, (steps, batch, size))


def network(late, size=9, target="triton", **options):
    def whole(n_out, n_in):  # multiples of 1/16: their sums over spikes are exact in any order
        return np.random.default_rng(n_in).integers(-8, 12, (n_out, n_in)).astype(np.float32) / 16

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(7)):
        h = x >> snn.Linear(size, init=whole(size, 7))
        back = snn.Linear(size, init=whole(size, size), name="back")
        return h >> snn.recurrent(snn.LIF(name="cell"), via=back, delay=late * ms)

    return snn.compile(net, target=target, **options)


def same_weights(late, **options):
    want, got = network(late, target="torch", **options), network(late, **options)
    got.load_state_dict(want.state_dict())
    return want, got


def start_of(net, batch):
    g = torch.Generator().manual_seed(batch)
    found = net.initial_state(batch).items()
    return {n: torch.randint(0, 2, s.shape, generator=g).float().requires_grad_() for n, s in found}


@pytest.mark.parametrize(("late", "steps", "batch"), [(2, 7, 3), (3, 2, 1), (4, 4, 2), (5, 1, 2), (3, 0, 2)])
def test_networks(late, steps, batch):
    """Spikes and states bit for bit, and gradients, those of what came back before the first step included."""
    results = []
    for net in same_weights(late):
        x = (torch.rand((batch, steps, 7), generator=torch.Generator().manual_seed(1)) < 0.4).float().requires_grad_()
        start = start_of(net, batch)
        out, state, kept = net.evolve(x, state=start, record=["cell.v", "back.out"])
        values = [out, *state.values(), *kept.values()]
        loss = sum((v * torch.linspace(-1, 2, v.numel()).reshape(v.shape)).sum() for v in values)
        leaves = {**dict(net.named_parameters()), **start, "x": x}
        grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        results.append((values, dict(zip(leaves, grads, strict=True))))
    (values, grads), (values2, grads2) = results
    assert all(torch.equal(a, b) for a, b in zip(values, values2, strict=True))
    for name, grad in grads.items():
        assert float((grads2[name] - grad).norm()) <= 1e-5 * max(float(grad.norm()), 1e-6), name


def test_one_launch_and_none_of_the_ordinary_path(monkeypatch):
    net = network(3)
    executor = net.executor(torch.device("cpu"))
    (layer,) = executor.runner.layers.values()
    assert isinstance(layer, Layer)
    assert layer.late == 3
    launched = []
    launcher = executor.runner.recurrent._launcher
    run = launcher.run
    monkeypatch.setattr(launcher, "run", lambda *a: launched.append((a[2].form, a[-1])) or run(*a))
    with torch.no_grad():
        assert net(torch.ones(2, 11, 7)).abs().sum() > 0
    assert launched == [("resident", 3)]


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_run_in_two_pieces_and_step_by_step(cut):
    want, got = same_weights(3)
    x = (torch.rand((2, 8, 7), generator=torch.Generator().manual_seed(2)) < 0.4).float()
    with torch.no_grad():
        whole, end, _ = want.evolve(x)
        first, state, _ = got.evolve(x[:, :cut])
        second, state, _ = got.evolve(x[:, cut:], state=state)
        assert torch.equal(torch.cat([first, second], 1), whole)
        assert all(torch.equal(v, state[n]) for n, v in end.items())
        state = None
        for t in range(8):
            out, state = got.step(x[:, t], state=state)
            assert torch.equal(out, whole[:, t])


def test_what_lies_before_is_read_from_an_input_of_any_layout():
    want, got = same_weights(2)
    x = (torch.rand((6, 7, 3), generator=torch.Generator().manual_seed(2)) < 0.5).float().permute(2, 0, 1)
    with torch.no_grad():
        assert torch.equal(want(x), got(x))


def test_explain_says_so():
    graph = network(3).graph
    found = explain(graph, "triton", archs=("sm_90",))
    (cycle,) = [r for r in found.regions if r.kind == "recurrent"]
    assert cycle.runs_as == (
        "one operation over all steps: the product of back, then cell; what comes back is a ring of 3 steps in the"
        " kernel (Triton)"
    ).replace("then cell", f"then {cycle.nodes[-1]}")
    assert "one launch for all steps, weight, states and spikes on chip" in explain_text(found)
    (cycle,) = [r for r in explain(graph, "auto").regions if r.kind == "recurrent"]
    assert cycle.runs_as.endswith("(Triton on a GPU, else C)")
    large = explain(network(3, size=600).graph, "triton")
    assert any("one launch for every 3 steps" in k for r in large.regions for k in r.kernels)


def test_an_artifact_holds_the_kernels():
    printed = printed_kernels(network(3).graph, None, archs=("sm_90",))
    resident = [k.source.text for k in printed if "late" in [p.name for p in k.source.params]]
    assert any("following" in text for text in resident)


def _compiled(kind, port, size, archs, roles=None):
    kernels = layer_kernels(
        scan_of(kind), LayerShape(port, "spikes", 65536, True, size, ring=True), ("spikes",), (), "auto", archs
    )
    return compile_jobs(
        [
            Job(k.role, k.source, arch, k.settings[arch.name])
            for k in kernels
            for arch in archs
            if arch.name in k.settings and (roles is None or k.role in roles)
        ]
    )


@pytest.mark.parametrize(("kind", "port"), [("lif", "x"), ("chain", "inh")])
def test_no_spills_on_hopper(kind, port):
    archs = [ARCHS["sm_90"]]
    for b in _compiled(kind, port, 128, archs, ("recurrent_save", "recurrent_backward")):
        assert b.settings.form == "resident"
        assert b.resources.spills == 0, f"{b.role} {b.resources}"
        assert b.resources.shared <= b.arch.shared
        assert "wgmma" in b.assembly


def test_compiles_for_every_chip():
    for b in _compiled("lif", "x", 60, list(ARCHS.values()), ("recurrent_save", "recurrent_backward")):
        assert b.resources.shared <= b.arch.shared, f"{b.role} {b.arch.name} {b.resources}"
        assert b.resources.spills == 0, f"{b.role} {b.arch.name} {b.resources}"


def delayed(kind, target, size=6, longest=None):
    """A cycle whose delay is a node of its own, before the connection, or the connection's."""

    @snn.model(dt=1 * ms)
    def net(x=snn.Current(size)):
        back = snn.Feedback(size, delay=0)
        weight = np.random.default_rng(0).integers(-8, 12, (size, size)).astype(np.float32) / 16
        if kind == "own":
            product = back >> snn.Linear(size, init=weight, delay=3 * ms, max_delay=longest, name="back")
        else:
            late = back >> snn.Delay(3 * ms, max_delay=longest, name="late")
            product = late >> snn.Linear(size, init=weight, name="back")
        h = (x + product) >> snn.LIF(name="cell")
        back.close(h)
        return h

    return snn.compile(net, target=target)


@pytest.mark.parametrize("kind", ["own", "before"])
@pytest.mark.parametrize("longest", [None, 5 * ms])
def test_delays_that_stand_on_the_cycle(kind, longest):
    want, got = (delayed(kind, target, longest=longest) for target in ("torch", "triton"))
    got.load_state_dict(want.state_dict())
    (layer,) = got.executor(torch.device("cpu")).runner.layers.values()
    assert isinstance(layer, Layer)
    assert layer.late == 3
    record = ["back.out", *(["late.out"] if kind == "before" else [])]
    for steps in (0, 2, 4, 9):
        results = []
        for net in (want, got):
            x = torch.randint(0, 24, (2, steps, 6), generator=torch.Generator().manual_seed(steps)) / 16
            x, start = x.requires_grad_(), start_of(net, 2)
            out, state, kept = net.evolve(x, state=start, record=record)
            values = [out, *(state[n] for n in sorted(state)), *kept.values()]
            loss = sum((v * torch.linspace(-1, 2, v.numel()).reshape(v.shape)).sum() for v in values)
            leaves = [x, *start.values(), *net.parameters()]
            results.append((values, torch.autograd.grad(loss, leaves, materialize_grads=True)))
        (values, grads), (values2, grads2) = results
        assert all(torch.equal(a, b) for a, b in zip(values, values2, strict=True))
        for a, b in zip(grads, grads2, strict=True):
            assert float((a - b).norm()) <= 1e-5 * max(float(a.norm()), 1e-6)


def test_delays_that_make_no_ring():
    def said(build):
        model = snn.model(build, dt=1 * ms).build()
        graph = compile_graph(model, Request())
        (cycle,) = [r for r in graph.regions if r.kind == "recurrent"]
        (region,) = [r for r in explain(model, "triton").regions if r.kind == "recurrent"]
        assert "one kernel for the cycle, over all steps: 1 population and 2 connections inside" in region.runs_as
        return match(graph, cycle, ring=True)

    def cycle(wire, late=0):
        def net(x=snn.Current(3)):
            back = snn.Feedback(3, delay=late)
            h = (x + wire(back)) >> snn.LIF(name="cell")
            back.close(h)
            return h

        return said(net)

    each = np.array([1, 2, 3]) * ms
    own = cycle(lambda b: b >> snn.Delay(each) >> snn.Linear(3))
    assert own == "the cycle has 3 nodes, not one connection and one population"
    assert cycle(lambda b: b >> snn.Linear(3, name="w") >> snn.Delay(2 * ms, name="d")).endswith("d stands behind w")
    assert "late twice" in cycle(lambda b: b >> snn.Delay(2 * ms) >> snn.Linear(3), late=1 * ms)
