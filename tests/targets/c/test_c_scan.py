"""The C functions against the plain loop: forward bit for bit, gradients as the reverse program gives them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.c.target import CTarget

from ..scan_calls import (
    check,
    check_constant_states,
    check_inputs_kept,
    check_nothing_saved,
    make_calls,
    poisoned,
    scan_of,
)
from ..scan_loop import forward, same_bits
from ..scans import ALL

TARGET = CTarget(empty=poisoned)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("checkpoint", [1, 3, 50])
def test_matches_loop(kind, checkpoint):
    check(TARGET, scan_of(kind), (13, 3, 17), checkpoint=checkpoint, full=checkpoint == 3, seed=checkpoint)


@pytest.mark.parametrize("checkpoint", [1, 3])
@pytest.mark.parametrize(
    "shape", [(0, 2, 5), (1, 1, 1), (7, 1, 33), (4, 5, 32), (9, 2, 1), (5, 0, 4), (1, 0, 0), (4, 2, 128), (5, 2, 301)]
)
def test_shapes(shape, checkpoint):
    check(TARGET, scan_of("lif"), shape, checkpoint=checkpoint, full=True)


@pytest.mark.parametrize("checkpoint", [1, 3])
@pytest.mark.parametrize("layout", ["batch_first", "neurons_first", "still", "one", "gaps"])
def test_layouts(layout, checkpoint):
    check(TARGET, scan_of("chain"), (6, 3, 5), layout=layout, checkpoint=checkpoint, full=True)


@settings(max_examples=30)
@given(
    steps=st.integers(0, 9),
    batch=st.integers(0, 3),
    size=st.one_of(st.integers(0, 9), st.integers(120, 260)),
    layout=st.sampled_from(["flat", "batch_first", "still", "gaps"]),
    checkpoint=st.sampled_from([1, 2, 5]),
    full=st.booleans(),
    seed=st.integers(0, 99),
    threads=st.integers(1, 3),
)
def test_any_call(steps, batch, size, layout, checkpoint, full, seed, threads):
    target = CTarget(threads, poisoned)
    check(target, scan_of("lif"), (steps, batch, size), layout=layout, checkpoint=checkpoint, full=full, seed=seed)


@pytest.mark.parametrize("kind", ["lif", "chain", "awkward"])
@pytest.mark.parametrize("special", [0.02, 0.7])
def test_nan_infinity_and_subnormals(kind, special):
    check(TARGET, scan_of(kind), (7, 2, 45), special=special)


def test_subnormal_states():
    scan = scan_of("integrator")
    call, _ = make_calls(scan, (40, 1, 37))
    object.__setattr__(call, "inputs", tuple(x * 1e-42 for x in call.inputs))
    object.__setattr__(call, "states", tuple(s * 1e-42 for s in call.states))
    expected, got = forward(scan, call), TARGET.forward(scan, call)
    assert same_bits(got.stored["v"], expected.stored["v"])
    assert expected.stored["v"].abs().max() < 2.0**-126


@pytest.mark.parametrize("checkpoint", [1, 4])
@pytest.mark.parametrize("given_", [(), ("spikes",), ("v",), ("a", "spikes"), ("wait",)])
def test_absent_gradients(given_, checkpoint):
    check(TARGET, scan_of("chain"), (6, 2, 5), given=given_, finals=False, checkpoint=checkpoint)


def test_unwanted_gradients():
    check(TARGET, scan_of("lif"), (6, 2, 5), need=False)
    check(TARGET, scan_of("lif"), (6, 2, 5), need=False, checkpoint=4)


def test_constant_states():
    check_constant_states(TARGET)


def test_nothing_saved():
    check_nothing_saved(TARGET)


def test_inputs_are_not_written_to():
    check_inputs_kept(TARGET)


@pytest.mark.parametrize("checkpoint", [1, 4])
def test_threads_change_nothing(checkpoint):
    scan = scan_of("lif")
    call, backward_call = make_calls(scan, (11, 3, 300), checkpoint=checkpoint, layout="batch_first", full=True)
    back = backward_call(TARGET.forward(scan, call).saved)
    one, many = CTarget(1, poisoned), CTarget(5, poisoned)
    f, g = one.forward(scan, call), many.forward(scan, call)
    for a, b in zip((*f.stored.values(), *f.finals), (*g.stored.values(), *g.finals), strict=True):
        assert same_bits(a, b)
    f, g = one.backward(scan, back), many.backward(scan, back)
    for a, b in zip((*f.inputs, *f.accumulators.values()), (*g.inputs, *g.accumulators.values()), strict=True):
        assert same_bits(a, b)


def test_small_calls_stay_on_one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    target = CTarget()
    assert target._threads_for(1, 1, 128) == 1
    assert target._threads_for(1000, 16, 512) == 8
    assert target._threads_for(100_000, 1, 64) == 1  # one block
    assert target._threads_for(100_000, 1, 128) == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert target._threads_for(1000, 16, 512) == 1


def test_default_dtype_does_not_matter():
    torch.set_default_dtype(torch.float64)
    try:
        scan = scan_of("integrator")
        call, _ = make_calls(scan, (3, 1, 4))
        call = type(call)(
            tuple(x.float() for x in call.inputs), (), tuple(s.float() for s in call.states), call.shape, ("v",)
        )
        assert CTarget().forward(scan, call).stored["v"].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_other_devices_are_refused():
    scan = scan_of("integrator")
    call, _ = make_calls(scan, (3, 1, 4))
    object.__setattr__(call, "inputs", tuple(x.to("meta") for x in call.inputs))
    with pytest.raises(UnsupportedError, match="the data is on meta"):
        TARGET.forward(scan, call)
