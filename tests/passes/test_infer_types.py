"""Pass infer-types: connections know what a feedback carries."""

from __future__ import annotations

import snncompile as snn
from snncompile.ir.types import SignalType
from snncompile.passes.infer_types import InferTypes

from .rewrites import assert_golden_rewrite, assert_same_meaning, rewritten


@snn.model
def late(x=snn.Spikes((1, 2, 2), max=1)):
    back = snn.Feedback((1, 2, 2))
    h = x >> snn.LIF(threshold=0.4, max_spikes_per_dt=3)
    out = back >> snn.SumPool2d(2) >> snn.Flatten() >> snn.Linear(2) >> snn.LI()
    back.close(h)
    return out


def test_golden() -> None:
    graph = late.build()
    after = rewritten(graph, InferTypes())
    assert_golden_rewrite("infer-types", graph, after)
    assert_same_meaning(graph, after)
    assert after.op("linear").input == SignalType("spikes", (1,), 12)


def test_a_feedback_that_carries_less_than_was_declared() -> None:
    @snn.model
    def net(x=snn.Current(4)):
        back = snn.Feedback(4, max=8)
        back.close(x >> snn.LIF(max_spikes_per_dt=2))
        return back >> snn.Flatten() >> snn.Dropout(0.0) >> snn.Linear(2)

    graph = rewritten(net.build(), InferTypes())
    assert graph.op("flatten").output == graph.op("linear").input == SignalType("spikes", (4,), 2)


def test_a_late_edge_from_a_node_further_on() -> None:
    @snn.model
    def net(x=snn.Spikes((2, 2), max=1)):
        first, second = snn.Feedback((2, 2)), snn.Feedback(4)
        out = second >> snn.Linear(3)
        second.close(first >> snn.Flatten())
        first.close(x >> snn.LIF(max_spikes_per_dt=2))
        return out

    graph = rewritten(net.build(), InferTypes())
    assert graph.op("linear").input == SignalType("spikes", (4,), 2)


def test_a_connection_that_scales_stays_a_current() -> None:
    @snn.model
    def net(x=snn.Spikes((1, 2, 2), max=1)):
        back = snn.Feedback((1, 2, 2))
        back.close(x >> snn.LIF())
        return back >> snn.AvgPool2d(2) >> snn.Dropout(0.5)

    graph = rewritten(net.build(), InferTypes())
    assert graph.op("avg_pool2d").input.kind == "spikes"
    assert graph.op("avg_pool2d").output.kind == graph.op("dropout").output.kind == "current"
