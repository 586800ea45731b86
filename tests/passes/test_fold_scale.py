"""Pass fold-scale: a Scale becomes part of the product before it."""

from __future__ import annotations

import numpy as np
import pytest

import snncompile as snn
from snncompile.ir.graph import Graph
from snncompile.passes.fold_norm import FoldNorm
from snncompile.passes.fold_scale import FoldScale

from .rewrites import assert_close_meaning, assert_golden_rewrite, reasons, rewritten


@snn.model
def scaled(x=snn.Spikes(4)):
    return x >> snn.Linear(3) >> snn.Scale(0.5, trainable=True)


def test_golden() -> None:
    graph = scaled.build()
    after = rewritten(graph, FoldScale())
    assert_golden_rewrite("fold-scale", graph, after)
    assert_close_meaning(graph, after)


@pytest.mark.parametrize(
    ("node", "factor", "shape"),
    [
        (snn.Linear(3, bias=False), -0.3, (4,)),
        (snn.Linear(3), np.array([0.5, 2.0, -1.0]), (4,)),
        (snn.Conv1d(2, 3), np.array([[0.5], [3.0]]), (2, 5)),
        (snn.Conv2d(2, 3), np.array([0.3, 1.5]), (1, 5, 5)),
    ],
)
def test_equal_up_to_rounding(node: snn.Node, factor, shape: tuple[int, ...]) -> None:
    @snn.model
    def net(x=snn.Spikes(shape)):
        return x >> node >> snn.Scale(factor, trainable=True) >> snn.Flatten() >> snn.Linear(2)

    graph = net.build()
    after = rewritten(graph, FoldScale())
    assert "scale_factor" in after.op("scale").params
    assert_close_meaning(graph, after)


def test_after_a_folded_norm() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(3) >> snn.BatchNorm() >> snn.Scale(0.3)

    graph = net.build()
    after = rewritten(graph, FoldNorm(), FoldScale())
    assert after.names == ("x", "scale")
    assert after.op("scale").members == ("linear", "batch_norm", "scale")
    assert_close_meaning(graph, after)


def declined(graph: Graph, **options) -> dict[str, str]:
    return reasons(rewritten(graph, FoldScale(**options)), "fold-scale")


def test_declined_before_a_neuron() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(3) >> snn.Scale(0.5) >> snn.LIF()

    assert declined(net.build()) == {"scale": "not folded: the scan after it takes it in for nothing"}


def test_declined_without_a_product() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return 2 * x

    assert declined(net.build()) == {"scale": "not folded: x before it is no product"}


def test_declined_at_a_delay() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        before, after = snn.Feedback(3), snn.Feedback(3)
        before.close(x >> snn.Linear(3))
        after.close(x >> snn.Linear(3) >> snn.Scale(2.0, name="second"))
        return before >> snn.Scale(2.0, name="first"), after >> snn.Linear(2)

    told = "not folded: a delay stands at it"
    assert declined(net.build()) == {"first": told, "second": told}


def test_declined_for_a_second_scale() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        h = x >> snn.Linear(3) >> snn.Scale(0.5) >> snn.Flatten()
        return h >> snn.Scale(0.5)

    graph = net.build()
    assert declined(graph) == {"scale_1": "not folded: flatten before it is no product"}
    graph.connect("scale_1", "x", graph.inputs_of("flatten")["x"])  # as drop-identities leaves it
    graph.nx.remove_node("flatten")
    assert declined(graph)["scale"] == "not folded: the scan after it takes it in for nothing"


def test_declined_within_a_channel() -> None:
    @snn.model
    def net(x=snn.Spikes((1, 3, 3))):
        return x >> snn.Conv2d(2, 3, padding=1) >> snn.Scale(np.linspace(1, 2, 18).reshape(2, 3, 3)) >> snn.Flatten()

    assert declined(net.build()) == {"scale": "not folded: its factor differs within a channel"}


def test_declined_for_another_reader() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        h = x >> snn.Linear(3)
        return h, 2 * h

    assert declined(net.build()) == {"scale": "not folded: linear is read elsewhere, too"}


@pytest.mark.parametrize("record", ["linear.out", "scale.y"])
def test_declined_for_a_record(record: str) -> None:
    assert declined(scaled.build(), keep=frozenset({record})) == {"scale": "not folded: its signal is recorded"}
