"""Networks in which everything meets, on every target, in pieces, step by step, and through every form."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile.checks import check_network
from snncompile.ir.random import RANDOM
from snncompile.targets.executor import Executor

from ..compare import Outcome, assert_close_gradients, assert_same_bits, outcome, run_pure
from ..mixed_models import counts, mixed_model
from ..plain_target import PlainTarget

#: Seed, and whether a connection learns.
NETWORKS = [*((seed, False) for seed in range(6)), *((seed, True) for seed in range(4))]
FEW = [(1, False), (3, False), (2, True)]
SHAPES = [(2, 13), (1, 1), (3, 7), (2, 0), (1, 9)]


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def compiled(seed: int, learns: bool, target: str, **options) -> snn.Network:
    torch.manual_seed(seed)
    return snn.compile(mixed_model(seed, learns), target=target, **options)


def run(net: snn.Network, x: torch.Tensor, learns: bool, executor=None) -> Outcome:
    """What a run leaves; without gradients where something learns."""
    record = [r for r in net.graph.recordable() if r != "x"]
    torch.manual_seed(7)
    return run_pure(net, x, record, executor) if learns else outcome(net, x, record, executor)


@pytest.mark.parametrize(("seed", "learns"), NETWORKS)
@pytest.mark.parametrize("target", ["torch", "c", "triton"])
def test_every_target_gives_the_same_bits(seed, learns, target):
    if target == "triton" and (seed, learns) not in FEW:
        pytest.skip("the interpreter is slow: a few networks stand for the others")
    net = compiled(seed, learns, target, checkpoint=3 if seed % 2 and not learns else None)
    x = counts(seed, *SHAPES[seed % len(SHAPES)])
    want = run(net, x, learns, Executor(net.graph, PlainTarget()))
    got = run(net, x, learns)
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


@pytest.mark.parametrize(("seed", "learns"), NETWORKS)
@pytest.mark.parametrize("target", ["torch", "c"])
def test_pieces_and_steps_are_one_run(seed, learns, target):
    net, x = compiled(seed, learns, target), counts(seed, 2, 9)
    with torch.no_grad():
        torch.manual_seed(7)
        whole, end, _ = net.evolve(x)
        for piece in (4, 1):
            torch.manual_seed(7)
            state, outs = net.initial_state(2), []
            for part in x.split(piece, 1):
                out, state, _ = net.evolve(part, state=state)
                outs.append(out)
            assert all(torch.equal(course, torch.cat([o[k] for o in outs], 1)) for k, course in whole.items())
            assert all(torch.equal(value, state[k]) for k, value in end.items())
        torch.manual_seed(7)
        state, outs = None, []
        for t in range(9):
            out, state = net.step(x[:, t], state=state)
            outs.append(out)
    assert all(torch.equal(course, torch.stack([o[k] for o in outs], 1)) for k, course in whole.items())
    assert all(torch.equal(value, state[k]) for k, value in end.items())


@pytest.mark.parametrize(("seed", "learns"), FEW)
def test_saved_and_loaded(seed, learns, tmp_path):
    net, x = compiled(seed, learns, "c"), counts(seed, 2, 6)
    again = snn.load(net.save(tmp_path / "net.snn"))
    assert_same_bits(run(net, x, learns), run(again, x, learns))


@pytest.mark.parametrize(("seed", "learns"), FEW)
def test_inside_torch_compile(seed, learns):
    net, x = compiled(seed, learns, "c"), counts(seed, 2, 6)

    def around(x):
        out, state, _ = net.evolve(x * 1.0)
        return [*out.values(), *state.values()]

    results = []
    with torch.set_grad_enabled(not learns):
        for call in (around, torch.compile(around, fullgraph=not learns, backend="aot_eager")):
            torch.manual_seed(7)
            results.append(call(x))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("seed", "learns"), FEW)
def test_onnx_holds_it_or_says_what_it_cannot(seed, learns, tmp_path):
    """What is exported was compared, in ONNX Runtime, with the reference."""
    net = compiled(seed, learns, "torch")
    try:
        net.to_onnx(tmp_path / "net.onnx")
    except snn.InterchangeError as err:
        assert "draws random numbers, which ONNX cannot repeat" in str(err)
    else:
        assert RANDOM not in net.graph.states()


@pytest.mark.parametrize(("seed", "learns"), FEW)
def test_checks_find_nothing(seed, learns):
    checks = check_network(compiled(seed, learns, "torch"), ["torch", "c"], steps=7)
    assert not [c for c in checks if c.status == "failed"]
