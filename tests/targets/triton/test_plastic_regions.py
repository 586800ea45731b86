"""Plastic regions of any form in one kernel: against the loop that defines them, to the last bit, interpreted."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
import torch

import snncompile as snn
from snncompile.artifact.kernels import make_kernels
from snncompile.artifact.printed_cycles import plastic_plans, taught_kernels
from snncompile.explain import explain, explain_text
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.cycle_limits import MEETING_WEIGHTS, NODE_WEIGHTS, Way, way_of
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.plastic_region_design import RegionSettings, choose_region_settings
from snncompile.targets.triton.plastic_regions import PlasticRegions

from .. import plastic_regions as models
from ..scan_calls import poisoned


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list:
    """The plans that ran as one kernel, in small tiles, with outputs of NaN."""
    found = []

    def forward(self, plan, call, run=PlasticRegions.forward):
        found.append(plan)
        return run(PlasticRegions(poisoned, RegionSettings(2, 16, warps=4, sequences=2, taps=16)), plan, call)

    monkeypatch.setattr(PlasticRegions, "forward", forward)
    return found


def pair(model) -> list[snn.Network]:
    """The same network on the reference and on Triton."""
    torch.manual_seed(0)
    nets = [snn.compile(model, target=target) for target in ("torch", "triton")]
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def given(net, batch: int, steps: int) -> dict[str, torch.Tensor]:
    """Random inputs: spikes, and rewards of either sign."""
    draw = torch.Generator().manual_seed(0)
    found = {}
    for name, kind in net.graph.input_types().items():
        shape = (batch, steps, *kind.shape)
        spikes = (torch.rand(shape, generator=draw) < 0.3).float()
        found[name] = torch.randn(shape, generator=draw) if name == "reward" else spikes
    return found


def check(nets, batch: int, steps: int, record=True, strided: bool = False) -> tuple:
    """Both give the same of everything; what the reference gives."""
    x = given(nets[0], batch, (1 + strided) * steps)
    x = {name: course[:, ::2] if strided else course for name, course in x.items()}
    found = []
    for net in nets:
        torch.manual_seed(3)  # what is dropped
        with torch.no_grad():
            found.append(net.evolve(**x, record=record))
    want, got = found
    for a, b in zip(got, want, strict=True):
        a, b = (v if isinstance(v, dict) else {"out": v} for v in (a, b))
        assert list(a) == list(b)
        for name, value in b.items():
            assert torch.equal(a[name], value), name
    return want


@pytest.mark.parametrize(
    ("model", "batch", "steps"),
    [(models.two_ways, 2, 3), (models.chained, 2, 3), (models.delayed, 1, 4), (models.taught, 3, 5)],
)
def test_every_form_is_that_of_the_loop(ran: list, model, batch: int, steps: int) -> None:
    nets = pair(model)
    state = check(nets, batch, steps)[1]
    assert ran and all(not torch.equal(state[n], nets[0].value(n)) for n in nets[0].layout.learned)


@pytest.mark.parametrize("name", ["additive", "free", "triplet", "reward", "decaying"])
def test_every_rule_is_that_of_the_loop(ran: list, name: str) -> None:
    nets = pair(models.competing(models.RULES[name](), rate=1.5))
    out = check(nets, 1, 6)[0]
    assert len(ran) == 1 and out.sum() > 5


def test_inputs_of_any_strides(ran: list) -> None:
    check(pair(models.competing(models.RULES["reward"]())), 3, 3, strided=True)
    assert len(ran) == 1


@pytest.mark.parametrize(("batch", "steps"), [(3, 1), (2, 0), (0, 2)])
def test_no_steps_one_and_no_sequences(ran: list, batch: int, steps: int) -> None:
    check(pair(models.competing(models.RULES["additive"]())), batch, steps, record=["exc.spikes:sum", "exc.theta"])
    assert len(ran) == 1


def test_several_blocks_of_outputs_inputs_and_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    @snn.model
    def model(x=snn.Spikes(140, max=1)):
        connection = snn.Linear(10, bias=False, init=0.2 * models.drawn(10, 140))
        back = snn.Feedback(10)
        own = back >> snn.Linear(10, init=-0.1 * models.drawn(10, 10), trainable=False)
        h = (x >> connection) + own >> snn.LIF()
        back.close(h)
        snn.learn(connection, snn.MSTDPET(eta=0.5), post=h, reward=h >> snn.Linear(1, trainable=False))
        return h

    def forward(self, plan, call, run=PlasticRegions.forward):
        used.append(choose_region_settings(plan, call.cycle.shape[1]))
        return run(PlasticRegions(poisoned, RegionSettings(2, 4, outs=8, warps=4, sequences=2)), plan, call)

    monkeypatch.setattr(PlasticRegions, "forward", forward)
    assert check(pair(model), 3, 3)[0].sum() > 3
    assert used == [RegionSettings(4, 256, sequences=4)]


def region(model) -> tuple:
    """The compiled graph of a model, and the plan of its region that learns."""
    graph = compile_graph(model.build(), Request())
    return graph, plastic_plans(graph, (), "triton")[-1]


def test_how_many_programs_run_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = region(models.competing(models.RULES["additive"]()))[1]
    taught, stay = models.IN * models.OUT, models.OUT**2  # what learns is read twice more, and written
    fewest = -(-(4 * MEETING_WEIGHTS - 3 * taught) // (taught + stay))
    assert way_of(plan, "triton") == Way(shared_from=fewest)
    assert choose_region_settings(plan, fewest - 1, processors=132) == RegionSettings(64, 16, sequences=4)
    assert choose_region_settings(plan, fewest, processors=132).shares > 1
    assert choose_region_settings(plan, 1, processors=132, form="several").shares > 1
    assert choose_region_settings(plan, fewest, processors=132, form="one").shares == 1
    monkeypatch.setenv("SNNCOMPILE_CYCLE_FORM", "several")
    assert PlasticRegions().form == "several"
    assert choose_region_settings(plan, fewest, processors=132, steps=2**31 // 132).shares == 1  # too many arrivals
    wide = replace(plan, lines=tuple(replace(line, size=1000) for line in plan.lines), sizes=(1000,))
    assert way_of(wide, "triton").shared_from == 1
    assert choose_region_settings(wide, 1, processors=132) == RegionSettings(1, 256, outs=8, shares=132)
    assert choose_region_settings(wide, 1) == RegionSettings(1, 1024)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert way_of(plan, "triton") == Way(at_most=(NODE_WEIGHTS * len(plan.nodes) - 3 * taught) // (taught + stay))
    assert 1 <= way_of(wide, "triton").at_most < 10 and way_of(wide, "triton").suits(wide, 1, False)
    assert not way_of(wide, "triton").suits(wide, 10, False)
    huge = replace(plan, lines=tuple(replace(line, size=30000) for line in plan.lines), sizes=(3000,))
    assert way_of(huge, "triton").blocks_up_to == inf
    assert way_of(huge, "triton").why == "its 90,000,441 weights are read quicker by many programs"


def test_a_batch_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def forward(self, plan, call, run=PlasticRegions.forward):
        ran.append(choose_region_settings(plan, call.cycle.shape[1]))
        return run(PlasticRegions(poisoned), plan, call)

    monkeypatch.setattr(PlasticRegions, "forward", forward)
    check(pair(models.competing(models.RULES["additive"]())), 67, 3)
    assert ran == [RegionSettings(64, 16, sequences=4)]


def test_batches_beyond_the_limit_go_step_by_step(ran: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snncompile.targets.region_runner.way_of", lambda plan, target: Way(at_most=2))
    check(pair(models.competing(models.RULES["additive"]())), 3, 1)
    assert not ran


def test_an_artifact_has_the_kernel_and_explain_says_so() -> None:
    graph = models.competing(models.RULES["additive"]()).build()
    made = make_kernels(graph, "triton", ["sm_90"])
    (report,) = [r for r in made.reports if r.node == "stdp"]
    assert report.kernel == "plastic_linear_forward" and report.spills == 0
    said = explain_text(explain(graph, "triton"))
    assert "one kernel for all steps, weights updated at each: 1 kernel, 2 products, 1 rule inside, in one" in said


@pytest.mark.parametrize("model", [models.chained, models.competing(models.RULES["power"]())])
def test_compiles_for_every_chip(model) -> None:
    ((_, name, source, settings),) = taught_kernels(*region(model), list(ARCHS))
    for b in compile_jobs([Job(name, source, ARCHS[arch], s) for arch, s in settings.items()]):
        assert b.resources.spills == 0, f"{b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared
        for word in (".ftz", "fma.", ".approx", "div.full"):
            assert b.arch.backend != "cuda" or word not in b.assembly
