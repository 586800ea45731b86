"""Names of outputs that mean something else, and feedbacks that carry more than they said."""

from __future__ import annotations

import pytest

import snncompile as snn


@pytest.mark.parametrize("names", [["out"], ["out_0", "out_1"]])
def test_a_dict_cannot_use_the_names_of_unnamed_outputs(names):
    @snn.model
    def network(x=snn.Spikes(3)):
        h = x >> snn.LIF()
        return dict.fromkeys(names, h)

    with pytest.raises(snn.ModelError, match=r"the names that unnamed outputs have \(out"):
        network.build()


def test_a_feedback_is_closed_with_no_more_spikes_than_declared():
    @snn.model
    def network(x=snn.Spikes(3)):
        back = snn.Feedback(3, max=1)
        h = (x + back) >> snn.LIF()
        back.close(h)
        return h

    with pytest.raises(snn.ModelError, match=r"declared with max=1, but closed with up to 65536 spikes a step"):
        network.build()


def test_a_feedback_of_no_shape_says_where():
    network = snn.model(lambda x=snn.Spikes(3): snn.Feedback(0))
    with pytest.raises(snn.ModelError, match=f"^at {__file__}:.*: snn.Feedback: a feature shape holds positive whole"):
        network.build()


def test_a_feedback_of_spikes_is_not_closed_with_a_current():
    @snn.model
    def network(x=snn.Spikes(3)):
        back = snn.Feedback(3, max=1)
        back.close((x + back) >> snn.ExpSyn())
        return x >> snn.LIF()

    with pytest.raises(snn.ModelError, match="closed with a current"):
        network.build()
