"""Layers that learn from other signals than their own: the same bits on every target, each in one kernel."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.kernels import make_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.triton.plastic import PlasticSequences
from snncompile.targets.triton.plastic_plan import choose_plan

from ..plastic_calls import PlainPlastic, assert_same, plastic_case
from ..scan_calls import poisoned
from .test_plastic import held, streamed
from .test_plastic_conv import SMALL, Narrow


def start(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@snn.model(dt=1 * ms)
def teacher(x=snn.Spikes(13, max=1), wanted=snn.Spikes(4, max=1), reward=snn.Current(1)):
    """A teacher says who should have fired."""
    connection = snn.Linear(4, init=start(4, 13), mask=(start(4, 13) < 0.8).float())
    current = x >> connection
    snn.learn(connection, snn.MSTDPET(eta=0.5), post=wanted, reward=reward)
    return {"current": current, "spikes": current >> snn.LIF(threshold=2.0)}


@snn.model(dt=1 * ms)
def itself(x=snn.Spikes(13, max=1), wanted=snn.Spikes(4, max=1), reward=snn.Current(1)):
    """It learns from its own current, which no neuron takes part in."""
    connection = snn.Linear(4, bias=False, init=start(4, 13))
    current = x >> connection
    snn.learn(connection, snn.STDP(eta_plus=1e-3, eta_minus=1e-3), post=current)
    return current


@snn.model(dt=1 * ms)
def spikes_before(x=snn.Spikes(13, max=1), wanted=snn.Spikes(4, max=1), reward=snn.Current(1)):
    """What it takes is a current; it learns from the spikes before the synapse."""
    connection = snn.Linear(4, init=start(4, 13))
    spikes = x >> snn.ExpSyn(tau=4 * ms) >> connection >> snn.LIF(threshold=2.0)
    snn.learn(connection, snn.STDP(eta_plus=0.05, eta_minus=0.04), pre=x)
    return spikes


@snn.model(dt=1 * ms)
def image(x=snn.Spikes((2, 5, 4), max=1), wanted=snn.Spikes((3, 6, 3), max=1), reward=snn.Current(1)):
    """Both, of a convolution."""
    connection = snn.Conv2d(3, 2, padding=(1, 0), init=start(3, 2, 2, 2), sign=1)
    current = x >> snn.ExpSyn(tau=4 * ms) >> connection
    snn.learn(connection, snn.TripletSTDP(), pre=x, post=wanted)
    return current >> snn.LIF(threshold=2.0)


RUNS = [(teacher, 2, 3), (itself, 1, 4), (spikes_before, 1, 5), (image, 2, 2)]


@pytest.mark.parametrize(("model", "batch", "steps"), RUNS)
def test_every_target_learns_the_same(model: snn.Model, batch: int, steps: int) -> None:
    nets = [snn.compile(model, target=target) for target in ("torch", "c", "triton")]
    draw = torch.Generator().manual_seed(1)
    shapes = ((2, 5, 4), (3, 6, 3)) if model is image else ((13,), (4,))
    given = [(torch.rand(batch, steps, *shape, generator=draw) < 0.4).float() for shape in shapes]
    given.append(torch.randn(batch, steps, 1, generator=draw))
    found = []
    for net in nets:
        net.load_state_dict(nets[0].state_dict())
        names = [n for n in net.layout.records if n.endswith((".out", "_pre", "_post"))]
        with torch.no_grad():
            found.append(net.evolve(*given, record=names))
    out, state, record = found[0]
    learned = nets[0].layout.learned[0]
    assert not torch.equal(state[learned], nets[0].value(learned))
    for other in found[1:]:
        for a, b in zip((out, state, record), other, strict=True):
            a, b = ({"out": v} if isinstance(v, torch.Tensor) else v for v in (a, b))
            assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("model", [teacher, itself, spikes_before, image])
def test_each_is_one_kernel_which_an_artifact_has(model: snn.Model) -> None:
    for target, ending in (("c", ".c"), ("triton", ".py")):
        assert "one kernel for all steps" in explain_text(explain(model.build(), target))
        made = make_kernels(model.build(), target, ["sm_90"] if target == "triton" and model is teacher else [])
        assert sum("_plastic" in name and name.endswith(ending) for name in made.files) == 1
        assert all(report.spills == 0 for report in made.reports)


@pytest.mark.parametrize("name", ["additive", "reward"])
def test_kernels_that_watch_another_input(name: str) -> None:
    for runs, conv in (
        (PlasticSequences(poisoned, choose_plan), None), (PlasticSequences(poisoned, streamed), None),
        (PlasticSequences(poisoned, held), None),
        (Narrow(poisoned), SMALL),
    ):  # fmt: skip
        case = plastic_case(name, 3, 2, 3, 20, conv=conv, elsewhere=True)
        with torch.no_grad():
            want = PlainPlastic().forward(case.scan, case.rule, case.call)
            assert_same(runs.forward(case.scan, case.rule, case.call), want)
