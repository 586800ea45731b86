"""The compiled kernels on a device: the same bits as the plain loop on the CPU."""

from dataclasses import fields, replace

import pytest
import torch

from snncompile.targets.executor import Executor
from snncompile.targets.scan import Late
from snncompile.targets.triton.cycle import Cycles
from snncompile.targets.triton.cycle_shared_design import SharedSettings
from snncompile.targets.triton.plastic import PlasticSequences
from snncompile.targets.triton.plastic_region_design import RegionSettings
from snncompile.targets.triton.plastic_regions import PlasticRegions
from snncompile.targets.triton.recurrent import RecurrentLayers
from snncompile.targets.triton.target import TritonTarget

from ...compare import Outcome, assert_close_gradients, assert_same_bits
from ...mixed_models import counts
from ...plain_target import PlainTarget
from .. import plastic_images as images
from .. import plastic_regions as regions
from ..cycle_checks import compiled, run
from ..late_calls import lates
from ..plastic_calls import PlainPlastic, assert_same, plastic_case
from ..plastic_calls import on as plastic_on
from ..scan_calls import make_calls, poisoned, scan_of
from ..scan_loop import backward, forward, same_bits, same_value
from .test_plastic_regions import given as region_inputs
from .test_plastic_regions import pair as region_pair
from .test_recurrent import close, loop_backward, loop_forward
from .test_recurrent import make_calls as recurrent_calls

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def moved(value):
    """``value`` with every tensor in it on the device."""
    if isinstance(value, torch.Tensor):
        return value.cuda()
    if isinstance(value, tuple):
        return tuple(moved(v) for v in value)
    if isinstance(value, dict):
        return {k: moved(v) for k, v in value.items()}
    return value


def on_device(call):
    return replace(call, **{f.name: moved(getattr(call, f.name)) for f in fields(call)})


@pytest.mark.parametrize("kind", ["lif", "chain", "awkward", "integrator", "stateless"])
@pytest.mark.parametrize("checkpoint", [1, 7, 1000])
@pytest.mark.parametrize("shape", [(100, 3, 77), (1, 2, 5), (0, 2, 5), (33, 4, 20_011)])
def test_scan(kind, checkpoint, shape):
    scan = scan_of(kind)
    target = TritonTarget(empty=poisoned)
    call, backward_call = make_calls(scan, shape, checkpoint=checkpoint, full=True)
    expected, got = forward(scan, call), target.forward(scan, on_device(call))
    for r in call.store:
        assert same_bits(got.stored[r].cpu(), expected.stored[r]), f"course of {r}"
    for s, a, b in zip(scan.states, got.finals, expected.finals, strict=True):
        assert same_bits(a.cpu(), b), f"final {s}"
    call = backward_call(expected.saved)
    expected, got = backward(scan, call), target.backward(scan, on_device(call))
    for x, a, b in zip(scan.inputs, got.inputs, expected.inputs, strict=True):
        assert same_value(a.cpu(), b), f"gradient of {x}"
    for a, total in got.accumulators.items():
        assert same_value(total.cpu(), expected.accumulators[a]), f"accumulator {a}"


@pytest.mark.parametrize(
    "shape", [(20, 3, 19), (12, 17, 128), (300, 33, 256), (12, 40, 150), (5, 20, 512), (5, 20, 600)]
)
@pytest.mark.parametrize(
    ("form", "precision", "most"),
    [
        (None, "auto", 1),
        (None, "auto", 65536),
        (None, "auto", None),
        ("streamed", "split-fp16", 1),
        ("streamed", "float32", None),
        ("steps", "float32", None),
        ("together", "split-fp16", 1),
        ("together", "float32", None),
    ],
)
@pytest.mark.parametrize("late", [1, 2, 7])
def test_recurrent(form, precision, most, late, shape):
    scan, call, backward_call = recurrent_calls("chain", "inh", "spikes", shape, late=late)
    call = replace(call, most=most)
    courses, _, _, _ = loop_forward(scan, call)
    layers = RecurrentLayers(empty=poisoned, precision=precision, form=form)
    for _ in range(3):  # launches for each step are captured at the second call and repeated from the third on
        got = layers.forward(scan, on_device(call))
        for r, course in courses.items():
            assert same_bits(got.stored[r].cpu(), torch.stack(course)), r
    host = replace(got, saved=tuple(s.cpu() for s in got.saved), product=got.product.cpu())
    call = backward_call(host, ("spikes",))
    inputs, carry, start, sums = loop_backward(scan, call)
    for _ in range(3):
        got = layers.backward(scan, on_device(call))
        assert close(got.product.cpu(), torch.stack(inputs["inh"]))
        assert close(got.start.cpu(), start)
        assert all(close(a.cpu(), carry[s]) for s, a in zip(scan.states, got.states, strict=True))
        assert all(close(total.cpu(), sums[a]) for a, total in got.accumulators.items())


@pytest.mark.parametrize("precision", ["split-fp16", "float32"])
def test_recurrent_products_are_as_good_as_float32(precision):
    scan, call, _ = recurrent_calls("lif", "x", "spikes", (1, 16, 128), bias=False)
    g = torch.Generator().manual_seed(0)
    call = replace(call, weight=torch.randn((128, 128), generator=g), start=torch.randn((1, 16, 128), generator=g))
    form = "resident" if precision == "split-fp16" else "streamed"
    got = RecurrentLayers(poisoned, precision, form).forward(scan, on_device(call)).product[0].cpu().double()
    exact = call.start[0].double() @ call.weight.double().T
    assert float((got - exact).norm() / exact.norm()) < 1e-6


@pytest.mark.parametrize("batch", [1, 100, 1500, 3000])
def test_programs_that_share_neurons_in_lots(batch):
    """Many programs that wait for each other, more than run at once, again and again: they all come to an end."""
    scan, call, backward_call = recurrent_calls("lif", "x", "spikes", (20, batch, 256))
    call, layers = replace(call, most=1), RecurrentLayers(empty=poisoned)
    courses, _, _, _ = loop_forward(scan, call)
    for _ in range(10):
        got = layers.forward(scan, on_device(call))
        assert same_bits(got.stored["spikes"].cpu(), torch.stack(courses["spikes"]))
    host = replace(got, saved=tuple(s.cpu() for s in got.saved), product=got.product.cpu())
    call = backward_call(host, ("spikes",))
    inputs, *_ = loop_backward(scan, call)
    for _ in range(10):
        assert close(layers.backward(scan, on_device(call)).product.cpu(), torch.stack(inputs["x"]))


@pytest.mark.parametrize("late", [1, 5])
@pytest.mark.parametrize("size", [100, 200, 300, 700])
def test_launches_of_a_recurrent_layer(size, late):
    scan, call, _ = recurrent_calls("lif", "x", "spikes", (40, 3, size), late=late)
    call, layers = on_device(replace(call, most=1)), RecurrentLayers()
    for _ in range(3):
        layers.forward(scan, call)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        layers.forward(scan, call)
        torch.cuda.synchronize()
    count = sum("lif_recurrent" in event.name for event in profile.events())
    assert count == (1 if size <= 512 else 40 // late)


@pytest.mark.parametrize("kind", ["one", "each"])
@pytest.mark.parametrize("checkpoint", [1, 7])
def test_late_inputs(kind, checkpoint):
    shape = (40, 3, 77)
    scan, target = scan_of("lif"), TritonTarget(empty=poisoned)
    call, backward_call = make_calls(scan, shape, checkpoint=checkpoint)
    late = lates(scan, shape, kind)
    seen = tuple(x if one is None else one.seen(x) for x, one in zip(call.inputs, late, strict=True))
    expected = forward(scan, replace(call, inputs=seen))
    there = tuple(one and Late(one.past.cuda(), moved(one.steps)) for one in late)
    got = target.forward(scan, replace(on_device(call), late=there))
    assert all(same_bits(got.stored[r].cpu(), expected.stored[r]) for r in call.store)
    back = backward_call(expected.saved)
    expected = backward(scan, replace(back, inputs=seen))
    got = target.backward(scan, replace(on_device(back), late=there))
    assert all(same_value(a.cpu(), b) for a, b in zip(got.states, expected.states, strict=True))


def test_one_launch_a_sequence_and_no_recompilation():
    scan = scan_of("lif")
    target = TritonTarget()
    for shape in ((40, 2, 30), (41, 2, 30), (56, 3, 64)):
        call, _ = make_calls(scan, shape, checkpoint=0)
        call = on_device(call)
        target.forward(scan, call)
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            target.forward(scan, call)
            torch.cuda.synchronize()
        assert sum("lif_forward" in event.name for event in profile.events()) == 1
    (kernel,) = target._kernels[scan].values()
    (device_cache, *_) = kernel.function.device_caches[torch.cuda.current_device()]
    assert len(device_cache) == 1


@pytest.mark.parametrize("name", ["additive", "root", "triplet", "reward"])
@pytest.mark.parametrize(("batch", "outs", "ins"), [(1, 100, 784), (1, 37, 5000), (3, 20, 150), (9, 20, 150)])
def test_layer_that_learns(name, batch, outs, ins):
    case = plastic_case(name, steps=50, batch=batch, outs=outs, ins=ins, rate=0.05, bias=True)
    want = PlainPlastic().forward(case.scan, case.rule, case.call)
    got = PlasticSequences(poisoned).forward(case.scan, case.rule, plastic_on(case, torch.device("cuda")).call)
    assert_same(replace(got, **{f.name: moved_back(getattr(got, f.name)) for f in fields(got)}), want)


@pytest.mark.parametrize("batch", [1, 3, 70])
@pytest.mark.parametrize("shares", [1, 2, 40])
@pytest.mark.parametrize("model", [regions.two_ways, regions.delayed, images.rivals, images.some_region(3)])
def test_regions_that_learn(monkeypatch, model, shares, batch):
    def forward(self, plan, call, run=PlasticRegions.forward):
        settings = RegionSettings(4, 64, sequences=2, taps=32, shares=shares)
        return run(PlasticRegions(poisoned, settings), plan, call)

    monkeypatch.setattr(PlasticRegions, "forward", forward)
    nets = region_pair(model)
    nets[1].cuda()
    x = region_inputs(nets[0], batch, 30)
    with torch.no_grad():
        want = nets[0].evolve(**x, record=True)
        got = nets[1].evolve(**moved(x), record=True)
    for a, b in zip(moved_back(got), want, strict=True):
        a, b = (v if isinstance(v, dict) else {"out": v} for v in (a, b))
        for name, value in b.items():
            assert torch.equal(a[name], value), name


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("batch", [3, 200])
@pytest.mark.parametrize("shared", [False, True])
def test_cycles_of_any_form(seed, batch, shared):
    """In one program for each tile of sequences, and shared by several, with lists of what is not zero."""
    net, record = compiled(seed, "triton")
    x = counts(seed, batch, 13)
    want = run(net, x, record, Executor(net.graph, PlainTarget()))
    target = TritonTarget(empty=poisoned)
    if shared:
        how = SharedSettings(rows=4, columns=1, ahead=2, warps=2, steps=2, shares=3, at_once=8)
        target.cycles = Cycles(poisoned, how, least=1)
    made = run(net.cuda(), x.cuda(), record, Executor(net.graph, target))
    got = Outcome(moved_back(made.values), moved_back(made.gradients))
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


def moved_back(value):
    """``value`` with every tensor in it on the host."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, tuple):
        return tuple(moved_back(v) for v in value)
    return {k: moved_back(v) for k, v in value.items()} if isinstance(value, dict) else value
