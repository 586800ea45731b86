"""Training over long sequences in pieces: the same numbers, and nothing kept that grows with the network's depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import snncompile as snn
from snncompile.targets import pieces
from snncompile.targets.executor import Executor

from .random_models import random_model

STEPS, EVERY = 47, 5


@snn.model(dt=1e-3)
def model(x=snn.Spikes(12), c=snn.Current(8)):
    h = (x >> snn.Linear(8)) + c >> snn.ExpSyn() >> snn.recurrent(snn.ALIF(threshold=0.3), via=snn.Linear(8))
    return {"y": h >> snn.Linear(3) >> snn.LI(), "spikes": h}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "SHORTEST", 10)


def pair(built: Any, target: str = "torch") -> tuple[snn.Network, snn.Network]:
    """The same network without pieces, and with."""
    torch.manual_seed(0)
    whole, cut = snn.compile(built, target=target), snn.compile(built, target=target, checkpoint=EVERY)
    cut.load_state_dict(whole.state_dict())
    return whole, cut


Tensors = dict[str, Tensor]


def outcome(net: snn.Network, inputs: Tensors, record: list[str]) -> tuple[Tensors, Tensors]:
    """Everything that comes out, and every gradient, of a loss on all of it."""
    inputs = {n: x.clone().requires_grad_() for n, x in inputs.items()}
    torch.manual_seed(3)  # of noise
    state = {n: s.requires_grad_(s.is_floating_point()) for n, s in net.initial_state(3).items()}
    net.zero_grad()
    out, after, records = net.evolve(**inputs, state=state, record=record)
    found = {**(out if isinstance(out, dict) else {"out": out}), **records}
    found |= {f"{n} after": s for n, s in after.items()}
    terms = [(y * torch.linspace(-1, 1.3, y.numel()).reshape(y.shape)).sum() for y in found.values() if y.requires_grad]
    sum(terms[1:], terms[0]).backward()
    grads = {n: p.grad for n, p in net.named_parameters()} | {n: x.grad for n, x in inputs.items()}
    grads |= {f"{n} before": s.grad for n, s in state.items()}
    return {n: y.detach() for n, y in found.items()}, {n: g for n, g in grads.items() if g is not None}


def same(whole: snn.Network, cut: snn.Network, inputs: Tensors, record: list[str]) -> None:
    (want, want_grads), (got, got_grads) = outcome(whole, inputs, record), outcome(cut, inputs, record)
    assert {n for n in want if not torch.equal(want[n], got[n])} <= {n for n in want if n.endswith(":sum")}
    for n in want:
        assert got[n].dtype == want[n].dtype
        torch.testing.assert_close(got[n], want[n], rtol=1e-5, atol=1e-5)
    assert want_grads.keys() == got_grads.keys()
    for n, g in want_grads.items():
        assert float((got_grads[n] - g).norm()) <= 1e-5 * float(g.norm()), n


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long the pieces were, of each run that was cut."""
    found: list[int] = []
    right = pieces._Plan.__init__

    def noted(self, runner, run, piece):
        found.append(piece)
        right(self, runner, run, piece)

    monkeypatch.setattr(pieces._Plan, "__init__", noted)
    return found


@pytest.mark.parametrize("target", ["torch", "c"])
def test_the_same_numbers(target, cuts):
    whole, cut = pair(model, target)
    inputs = {"x": (torch.rand(3, STEPS, 12) < 0.3).float(), "c": torch.randn(3, STEPS, 8)}
    same(whole, cut, inputs, ["alif.v", "alif.spikes:sum", "exp_syn.isyn:sum"])
    assert cuts == [10]


@pytest.mark.parametrize("seed", range(4))
def test_random_networks(seed, cuts):
    built = random_model(seed, delays=True)
    whole, cut = pair(built)
    types = whole.layout.inputs
    inputs = {n: torch.poisson(torch.full((3, STEPS, *t.shape), 0.4)).clamp(max=3.0) for n, t in types.items()}
    same(whole, cut, inputs, [])
    assert cuts == [10]


def test_noise(cuts):
    @snn.model(dt=1e-3)
    def noisy(x=snn.Spikes(6)):
        return x >> snn.Linear(5) >> snn.ExpSyn() >> snn.LIF(threshold=0.3, noise_std=5.0)

    same(*pair(noisy), {"x": (torch.rand(3, STEPS, 6) < 0.3).float()}, ["lif.v"])
    assert cuts == [10]


def test_under_autocast(monkeypatch):
    """Each piece runs again as it ran before, though the backward pass is outside of autocast."""
    found: list[bool] = []
    right = Executor._run_whole

    def noted(self, run):
        found.append(torch.is_autocast_enabled("cpu"))
        return right(self, run)

    monkeypatch.setattr(Executor, "_run_whole", noted)
    inputs = {"x": (torch.rand(3, STEPS, 12) < 0.3).float(), "c": torch.randn(3, STEPS, 8)}
    grads = []
    for net in pair(model):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(**inputs)["y"]
        out.sum().backward()
        grads.append(net.get_parameter("linear_2.weight").grad)
    assert found == [True] * (1 + 5 + 5)
    assert grads[1].dtype == torch.float32
    assert float((grads[1] - grads[0]).norm()) < 0.1 * float(grads[0].norm())  # products round to bfloat16


def test_little_is_kept():
    """What autograd holds on to: the inputs, parameters, and states between pieces."""
    held: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    whole, cut = pair(model)
    inputs = {"x": (torch.rand(3, 400, 12) < 0.3).float(), "c": torch.randn(3, 400, 8)}
    kept = []
    for net in (whole, cut):
        held.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            net(**inputs)
        kept.append(sum(held.values()))
    given = sum(x.numel() * 4 for x in inputs.values()) + sum(p.numel() * 4 for p in cut.parameters())
    assert kept[1] <= given + 1000 < kept[0] / 3


def test_when_a_run_is_cut(cuts):
    @snn.model(dt=1e-3)
    def normed(x=snn.Spikes(6)):
        return x >> snn.Linear(5) >> snn.BatchNorm() >> snn.LIF(threshold=0.3) >> snn.Dropout(0.5) >> snn.Linear(2)

    x = (torch.rand(3, STEPS, 6) < 0.3).float()
    _, cut = pair(normed)
    cut(x)  # they look at the whole sequence
    assert cuts == []
    cut.eval()
    cut(x)
    assert cuts == [10]
    with torch.no_grad():
        cut(x)
    cut(x[:, :39])  # fewer than four pieces
    cut.requires_grad_(False)(x)
    assert cuts == [10]


def test_a_changed_input_is_noticed():
    _, cut = pair(model)
    x, c = torch.zeros(3, STEPS, 12), torch.zeros(3, STEPS, 8)
    out = cut(x, c)["y"].sum()
    x.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()
