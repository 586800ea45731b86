"""Random networks on every target, and after every pass, against the reference on the graph as written."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile.passes.pipeline import Request, compile_graph, pass_names
from snncompile.targets.executor import Executor

from ..compare import assert_close_gradients, assert_same_bits, outcome
from ..plain_target import PlainTarget
from ..random_models import random_model, seeds, shapes, spikes


def _reference(net: snn.Network) -> Executor:
    return Executor(net.graph, PlainTarget())


@settings(max_examples=25)
@given(seeds, shapes)
def test_passes_change_nothing(seed, shape):
    """The reference on the optimised graph gives the bits that it gives on the graph as written."""
    net = snn.compile(random_model(seed, delays=True), target="torch")
    x = spikes(seed, *shape)
    record = list(net.graph.recordable())
    record = [r for r in record if r != "x"]
    want = outcome(net, x, record, _reference(net))
    got = outcome(net, x, record)
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


@pytest.mark.parametrize("upto", pass_names())
def test_each_pass_changes_nothing(upto):
    for seed in range(8):
        net = snn.compile(random_model(seed, delays=True), target="torch")
        x = spikes(seed, 2, 9)
        keep = frozenset(net.graph.recordable())
        part = Executor(compile_graph(net.graph, Request(keep=keep), upto), PlainTarget())
        want = outcome(net, x, [], _reference(net))
        got = outcome(net, x, [], part)
        assert_same_bits(want, got)
        assert_close_gradients(want, got)


def check_target(target: str, seed: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(seed)
    net = snn.compile(random_model(seed, delays=True), target=target)
    x = spikes(seed, *shape)
    record = [r for r in net.graph.recordable() if r != "x"][::2]
    want = outcome(net, x, record, _reference(net))
    got = outcome(net, x, record)
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


@settings(max_examples=12)
@given(seeds, shapes)
def test_triton_interpreter_gives_the_same_bits(seed, shape):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        check_target("triton", seed, shape)


@settings(max_examples=12)
@given(seeds, shapes)
def test_c_gives_the_same_bits(seed, shape):
    check_target("c", seed, shape)


@pytest.mark.parametrize("checkpoint", [2, 5, 100])
@pytest.mark.parametrize("target", ["torch", "triton", "c"])
def test_checkpoints_change_nothing(checkpoint, target, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for seed in range(3):
        net = snn.compile(random_model(seed, delays=True), target="torch")
        other = snn.compile(random_model(seed, delays=True), target=target, checkpoint=checkpoint)
        x = spikes(seed, 2, 11)
        want, got = outcome(net, x, []), outcome(other, x, [])
        assert_same_bits(want, got)
        assert_close_gradients(want, got)


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(20))
def test_triton_on_a_gpu_gives_the_same_bits(seed):
    net = snn.compile(random_model(seed, delays=True), target="torch")
    x = spikes(seed, 3, 37)
    record = [r for r in net.graph.recordable() if r != "x"]
    want = outcome(net, x, record, _reference(net))
    gpu = snn.compile(random_model(seed, delays=True), target="triton").cuda()
    got = outcome(gpu, x.cuda(), record)
    got.values = {k: v.cpu() for k, v in got.values.items()}
    got.gradients = {k: v.cpu() for k, v in got.gradients.items()}
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


@settings(max_examples=15)
@given(seeds, shapes, st.integers(0, 13), st.sampled_from(["torch", "c"]))
def test_a_run_in_two_pieces_is_the_run(seed, shape, cut, target):
    """The state carries everything on, histories of delays too: outputs and states are equal to the last bit."""
    torch.manual_seed(seed)
    net = snn.compile(random_model(seed, delays=True), target=target)
    x = spikes(seed, *shape)
    with torch.no_grad():
        want, last, _ = net.evolve(x)
        first, state, _ = net.evolve(x[:, :cut])
        second, state, _ = net.evolve(x[:, cut:], state=state)
    for name, y in want.items():
        assert torch.equal(torch.cat([first[name], second[name]], 1), y), name
    assert all(torch.equal(state[name], last[name]) for name in last)
