"""Pass fuse-populations: populations that do the same thing side by side become one."""

from __future__ import annotations

import numpy as np

import snncompile as snn
from snncompile import ms
from snncompile.ir.graph import Graph
from snncompile.passes.fuse_chains import FuseChains
from snncompile.passes.fuse_populations import FusePopulations
from snncompile.passes.infer_types import InferTypes

from .rewrites import assert_golden_rewrite, assert_same_meaning, reasons, rewritten

LOW = 0.4


def fused(graph: Graph) -> Graph:
    after = rewritten(graph, InferTypes(), FuseChains(), FusePopulations())
    records = tuple(r for r in graph.recordable() if r != "x")
    assert_same_meaning(graph, after, record=records)
    return after


def declined(graph: Graph) -> dict[str, str]:
    return reasons(fused(graph), "fuse-populations")


@snn.model(dt=1 * ms)
def twins(x=snn.Spikes(4)):
    fast = x >> snn.Linear(3) >> snn.LIF(np.linspace(0.005, 0.01, 3), threshold=LOW)
    slow = x >> snn.Linear(3) >> snn.LIF(50 * ms, threshold=LOW)
    return fast, slow


def test_golden() -> None:
    graph = twins.build()
    after = fused(graph)
    assert after.op("lif_lif_1").inputs == ("linear", "linear_1")
    assert_golden_rewrite("fuse-populations", graph, after)


def test_a_shared_input_is_read_once() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return tuple(x >> snn.LIF(tau, threshold=LOW) for tau in (5 * ms, 10 * ms, 20 * ms))

    after = fused(net.build())
    assert after.op("lif_lif_1_lif_2").inputs == ("x",)


def test_shared_parameters() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        cell = snn.LIF(threshold=LOW)
        return (x >> snn.Linear(3) >> cell >> snn.Linear(2)) + (x >> snn.Linear(3) >> cell >> snn.Linear(2))

    after = fused(net.build())
    assert len(after.op("lif_lif_1").params) == 3


def test_different_programs_stay_apart() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        a = x >> snn.LIF(threshold=LOW)
        return a, x >> snn.LIF(threshold=LOW, reset="zero"), x >> snn.LI()

    after = fused(net.build())
    assert after.names == ("x", "lif", "lif_1", "li") and not after.notes


def test_declined_for_features() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(3) >> snn.LI(), x >> snn.Linear(2) >> snn.LI()

    assert declined(net.build()) == {"li_1": "not fused with li: their features differ: (3,) and (2,)"}


def test_declined_for_a_path() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(3) >> snn.LI() >> snn.Linear(3) >> snn.LI()

    assert declined(net.build()) == {"li_1": "not fused with li: one needs the other's output"}


def test_declined_for_a_late_path() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        back = snn.Feedback(3)
        out = back >> snn.Linear(3) >> snn.LI()
        back.close(x >> snn.Linear(3) >> snn.LI())
        return out

    (told,) = declined(net.build()).values()
    assert told.endswith("one needs the other's output")


def test_declined_for_cycles() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        h = x >> snn.Linear(3)
        first = h >> snn.recurrent(snn.LIF(threshold=LOW), via=snn.Linear(3))
        return first, h >> snn.recurrent(snn.LIF(threshold=LOW), via=snn.Linear(3))

    told = "not fused with add_lif: one stands on a cycle that the other is not part of"
    assert declined(net.build()) == {"add_1_lif_1": told}


def test_declined_for_states() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return tuple(x >> snn.CubaLIF(threshold=LOW, refractory=2 * ms) for _ in range(6))

    after = fused(net.build())
    told = "together they have 18 states, more than the 16 that fit in registers"
    assert reasons(after, "fuse-populations")["cuba_lif_5"] == f"not fused with cuba_lif: {told}"
