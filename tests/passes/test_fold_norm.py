"""Pass fold-norm: in evaluation a BatchNorm becomes part of the product before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import snncompile as snn
from snncompile.ir.graph import Graph
from snncompile.passes.fold_norm import FoldNorm
from snncompile.passes.fold_scale import FoldScale

from .rewrites import assert_close_meaning, assert_golden_rewrite, data, reasons, rewritten, seeded

MASK = np.tile([1.0, 0.0], (5, 2))


@snn.model
def normed(x=snn.Spikes(4)):
    return x >> snn.Linear(3) >> snn.BatchNorm() >> snn.LI()


def test_golden() -> None:
    graph = normed.build()
    after = rewritten(graph, FoldNorm())
    assert_golden_rewrite("fold-norm", graph, after)
    assert_close_meaning(graph, after)


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        (snn.Linear(5), (4,)),
        (snn.Linear(5, bias=False), (4,)),
        (snn.Linear(5, mask=MASK), (4,)),
        (snn.Linear(5, mask=MASK, bias=False), (4,)),
        (snn.Conv1d(4, 3, padding=1, groups=2), (2, 7)),
        (snn.Conv2d(4, 3, stride=2), (2, 7, 7)),
        (snn.Conv2d(4, (3, 1), bias=False, dilation=2), (2, 7, 7)),
    ],
)
def test_equal_up_to_rounding(node: snn.Node, shape: tuple[int, ...]) -> None:
    """Also the gradients of weight, bias and of the norm's own parameters."""

    @snn.model
    def net(x=snn.Spikes(shape)):
        return x >> node >> snn.BatchNorm(eps=0.1) >> snn.LI()

    graph = net.build()
    after = rewritten(graph, FoldNorm())
    assert len(after.names) == 3
    assert_close_meaning(graph, after)


def test_against_torch() -> None:
    graph = normed.build()
    net, x = seeded(graph), data(graph)
    value = net.value
    h = F.linear(x, value("linear.weight"), value("linear.bias")).flatten(0, 1)
    statistics = value("batch_norm.running_mean"), value("batch_norm.running_var")
    h = F.batch_norm(h, *statistics, value("batch_norm.weight"), value("batch_norm.bias"))
    found = net.evolve(x, record="batch_norm.out")[2]["batch_norm.out"]
    torch.testing.assert_close(found, h.unflatten(0, x.shape[:2]))


def test_records_mean_what_they_meant() -> None:
    """What stands for both nodes has the name of the later one, whose signal it gives."""
    graph = normed.build()
    net, x = seeded(graph), data(graph)
    wanted = net.train(False).evolve(x, record=True)[2]
    for name in ("linear.out", "batch_norm.out"):
        torch.testing.assert_close(net.evolve(x, record=name)[2][name], wanted[name])
    assert "linear.out" not in rewritten(graph, FoldNorm()).recordable()


def declined(graph: Graph, **options) -> dict[str, str]:
    return reasons(rewritten(graph, FoldNorm(**options)), "fold-norm")


def test_declined_in_training() -> None:
    told = {"batch_norm": "not folded: in training its statistics come from the batch"}
    assert declined(normed.build(), training=True) == told


def test_declined_for_a_record() -> None:
    assert declined(normed.build(), keep=frozenset({"linear.out"})) == {"batch_norm": "not folded: linear is recorded"}
    assert declined(normed.build(), keep=frozenset({"batch_norm.out"})) == {}


def test_declined_without_a_product() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.BatchNorm() >> snn.LIF() >> snn.BatchNorm()

    assert declined(net.build()) == {
        "batch_norm": "not folded: x before it is no product",
        "batch_norm_1": "not folded: lif before it is no product",
    }


def test_declined_for_another_reader() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        h = x >> snn.Linear(3)
        return h >> snn.BatchNorm(), h

    assert declined(net.build()) == {"batch_norm": "not folded: linear is read elsewhere, too"}


def test_declined_for_a_second_norm() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(3) >> snn.BatchNorm() >> snn.BatchNorm()

    after = rewritten(net.build(), FoldNorm())
    assert reasons(after, "fold-norm") == {"batch_norm_1": "not folded: batch_norm holds another BatchNorm already"}
    assert_close_meaning(net.build(), after)


def test_declined_behind_a_scale() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(3) >> snn.Scale(2.0) >> snn.BatchNorm()

    after = rewritten(net.build(), FoldScale(), FoldNorm())
    assert reasons(after, "fold-norm") == {"batch_norm": "not folded: scale holds a Scale already"}
    assert_close_meaning(net.build(), after)


def test_declined_behind_a_delay() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        back = snn.Feedback(3)
        back.close(x >> snn.Linear(3))
        return back >> snn.BatchNorm()

    assert declined(net.build()) == {"batch_norm": "not folded: a delay stands before it"}


def test_a_delay_behind_it_stays() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        back = snn.Feedback(3)
        back.close(x >> snn.Linear(3) >> snn.BatchNorm())
        return back >> snn.LI()

    graph = net.build()
    after = rewritten(graph, FoldNorm())
    assert after.names == ("x", "batch_norm", "li")
    assert_close_meaning(graph, after)
