"""Pass choose-regions: what runs together, and in which order."""

from __future__ import annotations

import pytest

import snncompile as snn
from snncompile.explain import explain
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.passes.regions import ChooseRegions

from ..random_models import random_model
from .rewrites import assert_golden_rewrite, assert_same_meaning, rewritten


@snn.model
def two_cycles(x=snn.Spikes(4)):
    back = snn.Feedback(3, name="late")
    out = back >> snn.Linear(2, name="readout") >> snn.LI()
    h = x >> snn.Linear(3, name="first_in") >> snn.recurrent(snn.LIF(name="first"), via=snn.Linear(3, name="first_via"))
    back.close(h)
    g = x >> snn.Linear(3, name="second_in") >> snn.recurrent(snn.LIF(name="second"), via=snn.Linear(3))
    return out, g


def test_golden() -> None:
    graph = two_cycles.build()
    after = rewritten(graph, ChooseRegions())
    assert_golden_rewrite("choose-regions", graph, after)
    assert_same_meaning(graph, after)


def test_two_cycles_are_two_regions_and_a_delay_comes_after_its_source() -> None:
    graph = compile_graph(two_cycles.build(), Request())
    order = [region.nodes for region in graph.regions]
    assert [r.kind for r in graph.regions].count("recurrent") == 2
    assert order.index(("readout",)) > order.index(("first_via", "add_first"))


def test_a_reason_names_the_cycle_own_delays_only() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        late = snn.Feedback(3, name="late")
        late.close(x)
        return late >> snn.recurrent(snn.LIF(), via=snn.Linear(3))

    (region,) = compile_graph(net.build(), Request()).regions
    assert region.reason == "a cycle through lif_back: step t needs step t-1"


def test_reasons() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        h = x >> snn.Linear(3)
        return h >> snn.LIF(), h + h >> snn.Linear(2)

    told = {r.nodes: (r.kind, r.reason) for r in compile_graph(net.build(), Request()).regions}
    assert told == {
        ("linear",): ("product", "no state: one call covers all steps"),
        ("lif",): ("scan", "state lif.v stays on chip from step to step"),
        ("add",): ("scan", "no state, elementwise: one kernel over all steps"),
        ("linear_1",): ("product", "no state: one call covers all steps"),
    }


def test_a_node_that_reads_its_own_late_value_is_a_region() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3)
        h = x + back
        back.close(h)
        return h, back >> snn.Linear(2)

    graph = rewritten(net.build(), ChooseRegions())
    assert [(r.kind, r.nodes) for r in graph.regions] == [("recurrent", ("add",)), ("product", ("linear",))]
    assert_same_meaning(net.build(), graph)


@pytest.mark.parametrize("seed", range(6))
def test_the_same_schedule_every_time(seed: int) -> None:
    first, second = (compile_graph(random_model(seed).build(), Request()) for _ in range(2))
    assert first.regions == second.regions


def test_a_late_cycle_runs_several_steps_at_a_time() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.recurrent(snn.LIF(), via=snn.Linear(3), delay=4e-3)

    (region,) = compile_graph(net.build(), Request()).regions
    assert region.reason == "a cycle through lif_back: step t needs step t-4, so 4 steps can run at a time"
    said = {target: explain(net.build(), target).regions[0].runs_as for target in ("c", "triton")}
    assert said["c"] == "one function for the cycle, over all steps: 1 population and 1 connection inside (C)"
    assert said["triton"].endswith("what comes back is a ring of 4 steps in the kernel (Triton)")

    @snn.model
    def two(x=snn.Spikes(3)):
        back = snn.Feedback(3, delay=4e-3)
        h = x + back >> snn.LIF() >> snn.Linear(3) >> snn.LIF()
        back.close(h)
        return h

    (said,) = [r.runs_as for r in explain(two.build(), "triton").regions if r.kind == "recurrent"]
    assert said == "one kernel for the cycle, over all steps: 2 populations and 1 connection inside (Triton)"
