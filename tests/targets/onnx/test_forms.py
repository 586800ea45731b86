"""Every form gives the reference's spikes and states, bit for bit, where products are exact."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import snncompile as snn

from ...random_models import random_model, spikes
from .conftest import assert_equal, in_onnx_runtime, reference, stream

STEPS = 7


def network(seed: int) -> snn.Network:
    return snn.compile(random_model(seed), target="torch").eval()


@pytest.mark.parametrize("inline", [False, True], ids=["functions", "inline"])
@pytest.mark.parametrize("seed", range(10))
def test_scan(seed, inline, runner, tmp_path):
    net, path = network(seed), tmp_path / "net.onnx"
    net.to_onnx(path, inline=inline, check=False)
    x = spikes(seed, 3, STEPS)
    assert_equal(runner(path)({"x": x.numpy()}), reference(net, x))


@pytest.mark.parametrize("seed", range(10, 18))
def test_unrolled(seed, runner, tmp_path):
    net, path = network(seed), tmp_path / "net.onnx"
    net.to_onnx(path, "unrolled", steps=STEPS, check=False)
    x = spikes(seed, 2, STEPS)
    assert_equal(runner(path)({"x": x.numpy()}), reference(net, x))
    model = onnx.load(path)
    assert not model.functions and {n.domain for n in model.graph.node} == {""}
    assert "Scan" not in {n.op_type for n in model.graph.node}


@pytest.mark.parametrize("seed", range(18, 26))
def test_streaming_the_step_form_is_the_scan_form(seed, runner, tmp_path):
    net = network(seed)
    made = net.to_onnx(tmp_path / "step.onnx", "step", check=False)
    net.to_onnx(tmp_path / "scan.onnx", check=False)
    x = spikes(seed, 2, STEPS)
    state = {n: s.numpy() for n, s in net.initial_state(2).items() if n in made.states}
    got = stream(runner(tmp_path / "step.onnx"), {"x": x.numpy()}, state)
    assert_equal(got, runner(tmp_path / "scan.onnx")({"x": x.numpy()}))
    assert_equal(got, reference(net, x))


@pytest.mark.parametrize("form", ["scan", "unrolled"])
@pytest.mark.parametrize("seed", [1, 3, 4, 5])
def test_state_is_handed_over(seed, form, runner, tmp_path):
    """Two halves, the second from the state that the first ended in, are the whole."""
    net, path = network(seed), tmp_path / "net.onnx"
    made = net.to_onnx(path, form, steps=4 if form == "unrolled" else None, check=False)
    x = spikes(seed, 3, 8)
    run = runner(path)
    one = run({"x": x[:, :4].numpy()})
    two = run({"x": x[:, 4:].numpy(), **{before: one[after] for before, after in made.states.items()}})
    joined = {n: np.concatenate([one[n], two[n]], 1) for n in made.outputs}
    assert_equal({**two, **joined}, reference(net, x))


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (1, 13), (5, 2)])
def test_batch_and_time_are_dynamic(batch, steps, runner, tmp_path):
    net, path = network(0), tmp_path / "net.onnx"
    net.to_onnx(path, check=False)
    x = spikes(1, batch, steps)
    assert_equal(runner(path)({"x": x.numpy()}), reference(net, x))


@pytest.mark.parametrize("seed", range(40, 44))
def test_the_check_passes(seed, tmp_path):
    net = network(seed)
    for form, steps in (("scan", None), ("step", None), ("unrolled", 5)):
        made = net.to_onnx(tmp_path / "net.onnx", form, steps=steps)
        assert [who for who, _ in made.checks] == ["onnx.checker", "ONNX Runtime", "reference evaluator"]
        assert all("whole network bit-identical" in found for _, found in made.checks[1:])


def test_one_state_for_all_sequences(runner, tmp_path):
    """An initial state of batch 1 stands for every sequence."""
    net, path = network(3), tmp_path / "net.onnx"
    made = net.to_onnx(path, check=False)
    x = spikes(3, 3, STEPS)
    start = {n: torch.full_like(s, 0.25) for n, s in net.initial_state(3).items()}
    given = {n: start[n][:1].numpy() for n in made.states}
    out, state, _ = net.evolve(x, state=start)
    want = {**out, **{f"{n}.next": s for n, s in state.items()}}
    assert_equal(runner(path)({"x": x.numpy(), **given}), {n: v.numpy() for n, v in want.items()})


def test_no_steps_is_refused_by_name(tmp_path):
    net = network(0)
    net.to_onnx(tmp_path / "net.onnx", check=False)
    with pytest.raises(Exception, match="at_least_one_time_step"):
        in_onnx_runtime(tmp_path / "net.onnx")({"x": np.zeros((2, 0, 5), np.float32)})
