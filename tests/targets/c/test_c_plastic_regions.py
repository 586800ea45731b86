"""Plastic regions of any form in one C function: against the loop that defines them, to the last bit."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile.artifact.printed import printed_kernels
from snncompile.targets.c import plastic_regions
from snncompile.targets.c.plastic_regions import PlasticRegions

from .. import plastic_regions as models


@pytest.fixture
def made(monkeypatch):
    """What ran as one function: its plan, its call and what came out."""
    found = []

    def forward(self, plan, call, run=PlasticRegions.forward):
        found.append((plan, call, run(self, plan, call)))
        return found[-1][2]

    monkeypatch.setattr(PlasticRegions, "forward", forward)
    monkeypatch.setattr(PlasticRegions, "_make", lambda self, shape: torch.full(shape, float("nan")))
    return found


def pair(model):
    """The same network on the reference and on C."""
    torch.manual_seed(0)
    nets = [snn.compile(model, target=target) for target in ("torch", "c")]
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def given(net, batch, steps, seed=0, strided=False):
    """Random inputs: spikes, and rewards of either sign."""
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for name, kind in net.graph.input_types().items():
        shape = (batch, steps, *kind.shape)
        if strided:
            shape = (steps, *kind.shape, 2, batch)
        spikes = (torch.rand(shape, generator=draw) < 0.3).float()
        value = torch.randn(shape, generator=draw) if name == "reward" else spikes
        found[name] = value[..., 1, :].movedim(-1, 0) if strided else value
    return found


def check(nets, x, state=None, record: bool | list[str] = True):
    """Both give the same of everything; what C gives."""
    plain, one = nets
    batch = next(iter(x.values())).shape[0]
    state = state or plain.initial_state(batch)
    with torch.no_grad():
        torch.manual_seed(1)  # what a Dropout draws
        want = plain.evolve(**x, state=state, record=record)
        torch.manual_seed(1)
        got = one.evolve(**x, state=state, record=record)
    for a, b in zip(got, want, strict=True):
        a, b = (v if isinstance(v, dict) else {"out": v} for v in (a, b))
        assert list(a) == list(b)
        for name, value in b.items():
            assert torch.equal(a[name], value), name
    return got


@pytest.mark.parametrize("model", [models.two_ways, models.chained, models.delayed, models.taught])
def test_every_form_is_that_of_the_loop(made, model):
    nets = pair(model)
    _, state, _ = check(nets, given(nets[0], 3, 21))
    assert made and all(not torch.equal(state[n], nets[0].value(n)) for n in nets[0].layout.learned)
    check(nets, given(nets[0], 3, 5, strided=True), state)  # goes on from there
    if model is not models.two_ways:  # whose file takes long to build
        check(nets, given(nets[0], 2, 17), record=["linear.out:sum"])
    for batch, steps in ((1, 13), (3, 1), (2, 0)):
        check(nets, given(nets[0], batch, steps))


def test_a_dropout_drops_in_training_alone(made):
    nets = pair(models.chained)
    x, outs = given(nets[0], 3, 15), []
    for training in (False, True):
        for net in nets:
            net.train(training)
        outs.append(check(nets, x)[0]["top"])
    assert not torch.equal(*outs) and all(o.sum() > 0 for o in outs)
    assert [len(plan.masks) for plan, _, _ in made if len(plan.nodes) > 4] == [0, 1]


def test_a_gradient_is_refused():
    net = pair(models.two_ways)[1]
    with pytest.raises(snn.InputError, match=r"no gradient flows through learning \(stdp, triplet_stdp, decaying\)"):
        net.evolve(**given(net, 1, 3))


@pytest.mark.parametrize("name", models.RULES)
def test_every_rule_is_that_of_the_loop(made, name):
    noisy = name in ("additive", "reward")
    nets = pair(models.competing(models.RULES[name](), noise=2.0 if noisy else 0.0))
    _, state, record = check(nets, given(nets[0], 1, 33))
    assert record["exc.spikes"].sum() > 5 and record["inh.spikes"].sum() > 5
    start = nets[0].initial_state(4, carry={"exc.theta": state["exc.theta"]})
    check(nets, given(nets[0], 4, 12, seed=1), start, name != "free")
    assert len(made) == 2


def test_threads_change_nothing(made):
    for model in (models.two_ways, models.chained, models.competing(models.RULES["free"]())):
        nets = pair(model)
        with torch.no_grad():
            nets[1].evolve(**given(nets[1], 3, 19), record=True)
        for plan, call, want in list(made):
            for threads in (1, 2, 5):
                got = PlasticRegions(threads).forward(plan, call)
                lines = [*got.cycle.lines, *got.cycle.sums, *got.weights]
                lines += [s for each in got.synapses for s in each.values()]
                other = [*want.cycle.lines, *want.cycle.sums, *want.weights]
                other += [s for each in want.synapses for s in each.values()]
                for a, b in zip(lines, other, strict=True):
                    assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
        made.clear()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(made, batch, value):
    nets = pair(models.two_ways)
    for net in nets:
        with torch.no_grad():
            net.value("linear.weight")[3, 4] = net.value("linear_3.weight")[2, 5] = value
    x = given(nets[0], batch, 9)
    x["x"][0, :4] = 0.0
    with torch.no_grad():
        want, got = (net.evolve(**x, record=True) for net in nets)
    assert not want[2]["linear.out"].isfinite().all()
    for a, b in zip(got, want, strict=True):
        for name, wanted in b.items():
            assert torch.equal(a[name].isnan(), wanted.isnan()), name
            assert torch.equal(a[name].nan_to_num(7.0), wanted.nan_to_num(7.0)), name


def test_build_prints_the_function_that_runs(made, monkeypatch):
    ran = []
    plain = plastic_regions.print_plastic_region
    monkeypatch.setattr(plastic_regions, "print_plastic_region", lambda *a: ran.append(plain(*a)) or ran[-1])
    net = pair(models.competing(models.RULES["additive"]()))[1]
    printed = {kernel.stem: kernel for kernel in printed_kernels(net.graph, None, "c")}
    assert list(printed) == ["plastic_linear_forward"] and printed["plastic_linear_forward"].node == "stdp"
    with torch.no_grad():
        net.evolve(**given(net, 1, 3))
    assert [source.text for source in ran] == [printed["plastic_linear_forward"].source.text]
