"""Plastic regions with convolutions and poolings in one C function: against the loop, to the last bit."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile.artifact.printed import printed_kernels
from snncompile.explain import explain, explain_text
from snncompile.targets.c import plastic_regions
from snncompile.targets.c.plastic_regions import PlasticRegions

from .. import plastic_images as models
from ..plastic_regions import RULES, Decaying, drawn
from .test_c_plastic_regions import check, given, made, pair  # noqa: F401 (made is a fixture)

MODELS = {
    "rivals": models.rivals,
    "rewarded": models.layered(RULES["reward"](), RULES["reward"]()),
    "decaying": models.layered(Decaying(), RULES["reward"]()),
    "lines": models.lines,
}


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Nothing may be read of the room to work in that was not written before."""

    def scratch(*shape, dtype=torch.float32):
        return torch.full(shape, float("nan") if dtype.is_floating_point else 2**30, dtype=dtype)

    monkeypatch.setattr(plastic_regions, "scratch", scratch)


@pytest.mark.parametrize("name", MODELS)
def test_every_form_is_that_of_the_loop(made, name):  # noqa: F811
    nets = pair(MODELS[name])
    _, state, record = check(nets, given(nets[0], 3, 13))
    assert made and all(record[n].any() for n in record if n.endswith(".spikes"))
    assert all(not torch.equal(state[n], nets[0].value(n)) for n in nets[0].layout.learned)
    check(nets, given(nets[0], 3, 5, strided=True), state)  # goes on from there
    for batch, steps in ((1, 11), (2, 1), (2, 0)):
        check(nets, given(nets[0], batch, steps))


@pytest.mark.parametrize("seed", range(2))
def test_random_regions(made, seed):  # noqa: F811
    nets = pair(models.some_region(seed))
    check(nets, given(nets[0], 1 + seed % 3, 7 + seed % 4, seed))
    assert made


def test_a_dropout_in_front_of_what_learns(made):  # noqa: F811
    nets = pair(models.some_region(5))
    for net in nets:
        net.train()
    check(nets, given(nets[0], 2, 9))
    assert made


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(made, batch, value):  # noqa: F811
    nets = pair(MODELS["decaying"])
    for net in nets:
        with torch.no_grad():
            net.value("conv2d_1.weight")[3, 1, 0, 1] = net.value("conv2d_3.weight")[2, 2, 0, 0] = value
    x = given(nets[0], batch, 9)
    x["x"][0, :4] = 0.0
    with torch.no_grad():
        want, got = (net.evolve(**x, record=True) for net in nets)
    for a, b in zip(got, want, strict=True):
        for name, wanted in b.items():
            assert torch.equal(a[name].isnan(), wanted.isnan()), name
            assert torch.equal(a[name].nan_to_num(7.0), wanted.nan_to_num(7.0)), name


def test_threads_change_nothing(made):  # noqa: F811
    for name in ("rivals", "rewarded"):
        nets = pair(MODELS[name])
        with torch.no_grad():
            nets[1].evolve(**given(nets[1], 3, 9), record=True)
        for plan, call, want in list(made):
            for threads in (1, 2, 5):
                got = PlasticRegions(threads).forward(plan, call)
                lines = [*got.cycle.lines, *got.weights, *(s for each in got.synapses for s in each.values())]
                other = [*want.cycle.lines, *want.weights, *(s for each in want.synapses for s in each.values())]
                for a, b in zip(lines, other, strict=True):
                    assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
        made.clear()


def test_fewer_threads_than_asked_for(made, monkeypatch):  # noqa: F811
    """OpenMP may start fewer, by its own limits."""

    @snn.model
    def wide(x=snn.Spikes((2, 14, 14), max=1)):
        learnt = snn.Conv2d(40, 5, bias=False, init=0.4 * drawn(40, 2, 5, 5))
        h = x >> learnt >> snn.LIF(threshold=3.0, max_spikes_per_dt=1)
        snn.learn(learnt, snn.STDP(), post=h >> snn.Conv2d(40, 1, init=drawn(40, 40, 1, 1)) >> snn.LIF())
        return h

    plain = PlasticRegions._kernel

    def fewer(self, plan, variant):
        source, run = plain(self, plan, variant)
        return source, lambda *given: run(*given[:-1], 2)

    nets = pair(wide)
    with torch.no_grad():
        nets[1].evolve(**given(nets[1], 2, 20), record=["stdp.t_pre"])
    ((plan, call, want),) = made
    monkeypatch.setattr(PlasticRegions, "_kernel", fewer)
    for _ in range(5):
        got = PlasticRegions(5).forward(plan, call)
        assert torch.equal(got.weights[0], want.weights[0])


def test_build_prints_the_function_that_runs(made, monkeypatch):  # noqa: F811
    ran = []
    plain = plastic_regions.print_plastic_region
    monkeypatch.setattr(plastic_regions, "print_plastic_region", lambda *a: ran.append(plain(*a)) or ran[-1])
    net = pair(models.rivals)[1]
    printed = {kernel.stem: kernel for kernel in printed_kernels(net.graph, None, "c")}
    assert list(printed) == ["plastic_conv2d_forward"] and printed["plastic_conv2d_forward"].node == "stdp"
    with torch.no_grad():
        net.evolve(**given(net, 1, 3))
    assert [source.text for source in ran] == [printed["plastic_conv2d_forward"].source.text]
    assert "one function for all steps, weights updated at each: 2 kernels, 3 products, 1 rule inside (C)" in (
        explain_text(explain(models.rivals.build(), "c"))
    )
