"""Delays between two steps, and what stands in for what lies too far back, computed inside the scans that read them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.explain import explain, explain_text
from snncompile.ir.delay import combined
from snncompile.ir.elementwise import Elementwise
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.c.target import CTarget
from snncompile.targets.executor import Executor
from snncompile.targets.late_scan import late_reader
from snncompile.targets.scan import make_scan
from snncompile.targets.triton.aot import compile_scans, scan_kernels
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.target import TritonTarget

from ..compare import weighting
from .scan_calls import poisoned

TARGETS = {"c": CTarget, "triton": TritonTarget}
EACH = np.array([0.5, 1.25, 4.0, 2.0])

#: Settings of a Delay of four neurons, in steps, and how late its values are read.
DELAYS = {
    "one": ({"delay": 1.5, "interpolation": "linear"}, ["one", "one"]),
    "less than a step": ({"delay": 0.25, "interpolation": "linear"}, ["", "one"]),
    "each": ({"delay": EACH, "interpolation": "linear"}, ["each", "each"]),
    "decayed": ({"delay": EACH, "interpolation": "expdecay", "tau": 3.0}, ["each"]),
    "replaced": ({"delay": EACH + 2, "interpolation": "nearest", "max_delay": 5.0, "overbound": 0.25}, ["each"]),
    "all replaced": ({"delay": 9.0, "max_delay": 3.0, "overbound": -0.0}, ["one"]),
    "trained": ({"delay": 1.5, "interpolation": "linear", "trainable": True, "max_delay": 4.0}, ["one", "one"]),
    "each trained": ({"delay": EACH, "interpolation": "linear", "trainable": True, "max_delay": 6.0}, ["each", "each"]),
    "trained and replaced": (
        {"delay": EACH, "interpolation": "linear", "trainable": True, "max_delay": 3.0, "overbound": 0.5},
        ["each", "each"],
    ),
}


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def delay(delay, *, max_delay=None, tau=None, **options):
    times = {"max_delay": max_delay, "tau": tau}
    return snn.Delay(delay * ms, **options, **{n: v * ms for n, v in times.items() if v is not None}, name="late")


def network(options, size=4):
    @snn.model(dt=1 * ms)
    def net(x=snn.Current(size)):
        return x >> delay(**options) >> snn.ExpSyn(tau=snn.Param(4 * ms), name="syn") >> snn.LIF(name="cell")

    return snn.compile(net, target="torch")


def with_executor(net, executor):
    twin = copy.copy(net)
    twin.executor = lambda device, keep=frozenset(): executor
    return twin


def results(net, executor, x, record=("cell.v",), start=None):
    """Values, gradients, and for each scan how late its inputs were."""
    twin, seen = net, []
    if executor is not None:
        twin, target = with_executor(net, executor), executor._target
        forward = type(target).forward
        target.forward = lambda scan, call: seen.append(call) or forward(target, scan, call)
    if start is None:
        g = torch.Generator().manual_seed(3)
        start = {n: torch.rand(s.shape, generator=g).requires_grad_() for n, s in net.initial_state(len(x)).items()}
    x = x.detach().requires_grad_()
    out, state, kept = twin.evolve(x, state=start, record=list(record))
    values = {"out": out, **state, **kept}
    loss = sum((v * weighting(v)).sum() + v.square().sum() / 4 for v in values.values())
    leaves = {**dict(net.named_parameters()), **start, "x": x}
    grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    late = [[(one and one.kind) or "" for one in call.late] for call in seen]
    return values, dict(zip(leaves, grads, strict=True)), late


def check(net, executor, x, **options):
    """Values of the reference bit for bit, and gradients to 1e-5; how late the scan's inputs were."""
    want, got = results(net, None, x, **options), results(net, executor, x, **options)
    for name, value in want[0].items():
        assert torch.equal(got[0][name], value), name
    for name, grad in want[1].items():
        # of one number for all, two sums over everything that all but cancel
        tolerance = 1e-4 if grad.numel() == 1 else 1e-5
        assert float((got[1][name] - grad).norm()) <= tolerance * max(float(grad.norm()), 1e-2), name
    return got[2]


def executor_of(net, target):
    return Executor(compile_graph(net.graph, Request()), TARGETS[target](empty=poisoned))


def signal(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", DELAYS)
def test_same_bits_and_gradients(target, case):
    options, kinds = DELAYS[case]
    net = network(options)
    executor = executor_of(net, target)
    assert check(net, executor, signal((2, 11, 4))) == [kinds]
    # as late as the run is long; the signal with time first; one sequence
    assert check(net, executor, signal((9, 3, 4)).transpose(0, 1)) == [kinds]
    assert check(net, executor, signal((1, 7, 4))) == [kinds]


@pytest.mark.parametrize("target", TARGETS)
def test_short_runs_make_the_signal(target):
    net = network(DELAYS["each"][0])
    executor = executor_of(net, target)
    for steps in (0, 1, 2, 3):
        assert check(net, executor, signal((2, steps, 4))) == [[]]
    assert check(net, executor, signal((2, 4, 4))) == [["each", "each"]]


@pytest.mark.parametrize("target", TARGETS)
def test_a_recorded_delay_is_made(target):
    net = network(DELAYS["one"][0])
    made = check(net, executor_of(net, target), signal((2, 5, 4)), record=("late.out",))
    assert made == [["one", "one"], []]  # by a scan that does nothing else


@settings(max_examples=15)
@given(
    target=st.sampled_from(sorted(TARGETS)),
    interpolation=st.sampled_from(["previous", "nearest", "expdecay", "linear"]),
    overbound=st.sampled_from([None, 0.5]),
    on_grid=st.booleans(),
    trained=st.booleans(),
    tolerance=st.sampled_from([0.0, 0.2]),
    size=st.sampled_from([3, 70]),
    steps=st.integers(0, 12),
    batch=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_random_delays(target, interpolation, overbound, on_grid, trained, tolerance, size, steps, batch, seed):
    times = np.random.default_rng(seed).uniform(0, 6, size)
    options = {"delay": np.round(times) if on_grid else times, "interpolation": interpolation, "overbound": overbound}
    options |= {"max_delay": 6.0 if overbound is None else 4.0, "tolerance": tolerance * ms}
    options |= {"tau": 2.0} if interpolation == "expdecay" else {}
    options |= {"trainable": True} if trained and interpolation == "linear" else {}
    net = network(options, size)
    check(net, executor_of(net, target), signal((batch, steps, size), seed))


@pytest.mark.parametrize("target", TARGETS)
def test_a_run_in_two_pieces(target):
    net = network(DELAYS["each"][0])
    twin = with_executor(net, executor_of(net, target))
    x = signal((2, 12, 4))
    with torch.no_grad():
        whole, end, _ = net.evolve(x)
        first, state, _ = twin.evolve(x[:, :5])
        second, state, _ = twin.evolve(x[:, 5:], state=state)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert all(torch.equal(state[n], v) for n, v in end.items())


@snn.neuron(states={"late_0": 0.0}, outputs={"late_0_near": "current"})
def Awkward(late_0, late_reader, late1_x, *, late_gain=0.5):
    late_0 = late_0 * late_gain + late_reader * late1_x + snn.uniform() / 4
    return {"late_0": late_0, "late_0_near": late_0 - late_reader}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("checkpoint", [1, 3])
def test_several_delays_before_one_node(target, checkpoint):
    """One by whole steps, two computed; names that this makes use of itself; random numbers; states saved now and then.
    """

    @snn.model(dt=1 * ms)
    def model(x=snn.Current(4), y=snn.Current(4)):
        a = Awkward(name="late_0")(
            late_reader=x >> snn.Delay(EACH * ms, interpolation="linear", trainable=True, name="late"),
            late1_x=(y >> snn.Delay(2 * ms)) + (y >> snn.Delay(1.5 * ms, interpolation="expdecay", tau=2 * ms)),
        )
        return {"a": a, "v": a.state("late_0")}

    found = []
    for name in ("torch", target):
        net = snn.compile(model, target=name, checkpoint=checkpoint)
        given = {"x": signal((2, 9, 4)).requires_grad_(), "y": signal((2, 9, 4), 1).requires_grad_()}
        out, end, _ = net.evolve(**given, state=net.initial_state(2, seed=5))
        values = [v for v in (*out.values(), *end.values()) if v.is_floating_point()]
        loss = sum((v * weighting(v)).sum() for v in values)
        leaves = {**dict(net.named_parameters()), **given}
        found.append(([*out.values(), *end.values()], torch.autograd.grad(loss, list(leaves.values())), list(leaves)))
    (values, grads, names), (values2, grads2, _) = found
    assert all(torch.equal(a, b) for a, b in zip(values, values2, strict=True))
    for name, a, b in zip(names, grads, grads2, strict=True):
        assert float((a - b).norm()) <= 1e-5 * max(float(a.norm()), 1e-2), name


def test_values_loaded_later_count():
    """Delays are read anew in every run: another `state_dict` is seen, also a delay that comes to lie too far back."""
    net = network(DELAYS["replaced"][0])
    executor = executor_of(net, "c")
    check(net, executor, signal((2, 9, 4)))
    state = net.state_dict()
    state["late.steps"] = torch.tensor([6.0, 0.0, 1.5, 3.0])
    net.load_state_dict(state)
    assert check(net, executor, signal((2, 9, 4))) == [["each"]]


def test_the_program_is_the_definition():
    """What the composed node computes of two numbers is what the function of the definition gives."""
    graph = compile_graph(network(DELAYS["trained and replaced"][0]).graph, Request())
    (name,) = [n for n, _ in graph.of_type(Elementwise)]
    node, late = late_reader(graph, name)
    assert late == ("each", "each")
    assert [p.name for p in node.params.values()][:3] == ["late.gain", "late.far_gain", "late.valid"]
    where = {op.where for op in node.forward.ops}
    lines = [f"snncompile/ir/delay.py:{k}" for k in range(*_lines(combined))]
    assert where & set(lines)
    assert {s.local for s in node.states} == {s.local for s in graph.op(name).states}


def _lines(function):
    first = function.__code__.co_firstlineno
    return first, first + 25


EXPLAINED = {
    "one": "a delay of 1.5 steps: two offsets in the loads of {}, no buffer, linear interpolation in the kernel",
    "each": "a delay of each neuron's own, up to 4 steps: two offsets in the loads of {}, no buffer, linear"
    " interpolation in the kernel",
    "decayed": "a delay of each neuron's own, up to 4 steps: an offset in the loads of {}, no buffer, the older value,"
    " decayed in the kernel",
    "all replaced": "a delay of 9 steps: an offset in the loads of {}, no buffer, -0 for what lies too far back in the"
    " kernel",
    "trained": "a trained delay, up to 4 steps: two offsets in the loads of {}, no buffer, linear interpolation in the"
    " kernel",
}


@pytest.mark.parametrize("case", EXPLAINED)
def test_explain_says_so(case):
    found = explain(network(DELAYS[case][0]).graph, "c")
    (delay,) = [r for r in found.regions if r.nodes == ("late",)]
    (scan,) = [r for r in found.regions if r.kind == "scan"]
    assert delay.why == EXPLAINED[case].format(scan.nodes[0])
    assert delay.runs_as.startswith("nothing of its own")
    assert "a call of torch" not in explain_text(found)


def test_an_artifact_holds_these_kernels():
    graph = network(DELAYS["less than a step"][0]).graph
    for target, sources in (("triton", "tl.load"), ("c", "float")):
        printed = printed_kernels(graph, None, target=target)
        (text,) = [k.source.text for k in printed if k.stem.endswith("_forward")]
        assert "far_past" in text
        assert "near_past" not in text  # a quarter of a step ago lies between this one and the last
        assert sources in text


def test_compiles_for_every_chip():
    kernels = []
    for case in ("one", "each trained"):
        graph = compile_graph(network(DELAYS[case][0]).graph, Request())
        (name,) = [n for n, _ in graph.of_type(Elementwise)]
        node, late = late_reader(graph, name)
        per_neuron = [role for role, p in node.params.items() if p.shape]
        made = scan_kernels(make_scan(name, node), ["cell_spikes"], per_neuron, late)
        kernels.append({role: made[role] for role in ("forward_save", "backward")})
    for b in compile_scans(kernels, list(ARCHS.values())):
        assert b.resources.spills == 0, f"{b.source.name} {b.role} {b.arch.name}: {b.resources}"


@pytest.mark.parametrize("target", TARGETS)
def test_beside_a_product_that_runs_with_its_neurons(target):
    @snn.model(dt=1 * ms)
    def model(x=snn.Current(4)):
        drive = x >> snn.Linear(4, init=np.eye(4, dtype=np.float32) / 2)
        return drive + (x >> delay(**DELAYS["each"][0])) >> snn.LIF(name="cell")

    net = snn.compile(model, target="torch")
    assert check(net, executor_of(net, target), signal((2, 9, 4)))[0].count("each") == 2


@pytest.mark.parametrize("target", TARGETS)
def test_delays_of_channels(target):
    """One delay for each channel of an image, trained."""
    options = {"interpolation": "linear", "trainable": True, "max_delay": 4.0}

    @snn.model(dt=1 * ms)
    def model(x=snn.Current((2, 2, 3))):
        return x >> delay(np.array([0.5, 2.25]), **options) >> snn.LIF(name="cell")

    net = snn.compile(model, target="torch")
    assert net.value("late.steps").shape == (2, 1, 1)
    assert check(net, executor_of(net, target), signal((2, 9, 2, 2, 3))) == [["each", "each"]]
