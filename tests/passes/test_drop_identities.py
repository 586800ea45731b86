"""Pass drop-identities: nodes that hand their input on unchanged go."""

from __future__ import annotations

import pytest
import torch

import snncompile as snn
from snncompile.passes.drop_identities import DropIdentities

from .rewrites import assert_golden_rewrite, assert_same_meaning, data, reasons, rewritten, seeded


@snn.model
def padded(x=snn.Spikes((2, 3, 3))):
    h = x >> snn.Dropout(0.5) >> snn.SumPool2d(1) >> snn.LIF(threshold=0.4)
    h = h >> snn.AvgPool2d(1) >> snn.MaxPool2d((1, 1)) >> snn.Flatten(name="row") >> snn.Flatten() >> snn.Linear(2)
    return h >> snn.Dropout(0.0)


def test_golden() -> None:
    graph = padded.build()
    after = rewritten(graph, DropIdentities())
    assert after.names == ("x", "lif", "row", "linear")
    assert_golden_rewrite("drop-identities", graph, after)
    assert_same_meaning(graph, after)


def test_dropout_drops_in_training() -> None:
    graph = padded.build()
    after = rewritten(graph, DropIdentities(training=True))
    assert after.names == ("x", "dropout", "lif", "row", "linear")
    assert_same_meaning(graph, after, training=True)


@pytest.mark.parametrize("pool", [snn.SumPool2d(1, 2), snn.MaxPool2d(2, 1, 1), snn.AvgPool2d(2)])
def test_pooling_that_changes_something_stays(pool: snn.Node) -> None:
    @snn.model
    def net(x=snn.Spikes((1, 4, 4))):
        return x >> pool

    assert len(rewritten(net.build(), DropIdentities()).names) == 2


def test_declined_for_a_record() -> None:
    after = rewritten(padded.build(), DropIdentities(keep=frozenset({"flatten.out", "lif.v"})))
    assert after.names == ("x", "lif", "row", "flatten", "linear")
    assert reasons(after, "drop-identities") == {"flatten": "not dropped: it is recorded"}


def test_declined_at_a_delay() -> None:
    """On either side a state is named after the node's own signal."""

    @snn.model
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3)
        out = back >> snn.Flatten(name="after")
        back.close(x >> snn.Flatten(name="before"))
        return out

    after = rewritten(net.build(), DropIdentities())
    told = "not dropped: a delay stands at it"
    assert reasons(after, "drop-identities") == {"after": told, "before": told}


def test_an_output_may_be_the_input() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.Dropout(0.5)

    graph = net.build()
    assert rewritten(graph, DropIdentities()).names == ("x",)
    assert torch.equal(seeded(graph)(data(graph)), data(graph))
