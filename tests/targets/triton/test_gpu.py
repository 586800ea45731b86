"""The compiled kernels on a device: the same bits as the plain loop on the CPU."""

from dataclasses import fields, replace

import pytest
import torch

from snncompile.targets.triton.recurrent import RecurrentSteps
from snncompile.targets.triton.target import TritonTarget

from ..scan_calls import make_calls, poisoned, scan_of
from ..scan_loop import backward, forward, same_bits, same_value
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


@pytest.mark.parametrize("shape", [(20, 3, 19), (12, 17, 130), (5, 20, 600)])
def test_recurrent(shape):
    scan, call, backward_call = recurrent_calls("chain", "inh", "spikes", shape)
    courses, _, _, _ = loop_forward(scan, call)
    steps = RecurrentSteps(empty=poisoned)
    got = steps.forward(scan, on_device(call))
    for r, course in courses.items():
        assert same_bits(got.stored[r].cpu(), torch.stack(course)), r
    host = replace(got, saved=tuple(s.cpu() for s in got.saved), product=got.product.cpu())
    call = backward_call(host, ("spikes",))
    inputs, _, start, _ = loop_backward(scan, call)
    got = steps.backward(scan, on_device(call))
    assert close(got.product.cpu(), torch.stack(inputs["inh"]))
    assert close(got.start.cpu(), start)


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
