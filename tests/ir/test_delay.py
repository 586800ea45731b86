"""Delays in the IR: times in steps, the rule of reading, forms that read back, and what the verifier refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.ir.cost import network_cost
from snncompile.ir.delay import Rule, read, to_steps
from snncompile.ir.dot import to_dot
from snncompile.ir.errors import VerificationError
from snncompile.ir.graph import Graph
from snncompile.ir.json_form import graph_from_json, graph_to_json
from snncompile.ir.text_form import from_text, to_text
from snncompile.ir.verify import verify
from snncompile.passes.pipeline import Request, compile_graph

from ..golden_files import assert_golden


@snn.model(dt=1 * ms)
def late(x=snn.Spikes(4, max=1)):
    h = x >> snn.Delay(np.array([[0, 1], [2, 3], [4, 5], [0, 2]]) * ms) >> snn.Flatten()
    h = h >> snn.Linear(3, delay=np.arange(24).reshape(3, 8) * 0.5 * ms, interpolation="linear", trainable_delay=True)
    h = h >> snn.Delay(2.5 * ms, interpolation="expdecay", tau=4 * ms, max_delay=6 * ms, overbound=0.25)
    h = h >> snn.recurrent(snn.LIF(), via=snn.Linear(3), delay=7 * ms)
    back = snn.Feedback(3, delay=0)
    out = (h + (back >> snn.Delay(2 * ms, name="ring"))) >> snn.LIF()
    back.close(out)
    return out


def test_golden_and_back():
    for graph in (late.build(), compile_graph(late.build(), Request())):
        text = to_text(graph)
        assert to_text(from_text(text)) == text
        assert to_text(graph_from_json(graph_to_json(graph)), places=False) == to_text(graph, places=False)
    assert_golden("ir/delays.txt", to_text(late.build(), places=False))
    assert "(t-7)" in to_dot(late.build())


def test_costs():
    @snn.model(dt=1 * ms)
    def plain(x=snn.Spikes(4)):
        return x >> snn.Linear(3)

    @snn.model(dt=1 * ms)
    def delayed(x=snn.Spikes(4)):
        return x >> snn.Linear(3, delay=np.arange(12).reshape(3, 4) * ms)

    a, b = (network_cost(m.build()) for m in (plain, delayed))
    assert a.inference.flops == b.inference.flops and b.inference.read == 12 * a.inference.read
    assert (a.state_bytes, b.state_bytes, b.constants) == (0, 4 * 11 * 4, 12)


def test_times_are_converted_once_in_float64():
    assert to_steps(3 * ms, 1 * ms) == 3 and to_steps(0.3, 0.1) == 3 and to_steps(3e-4 * 7, 3e-4) == 7
    assert to_steps(1.4999e-3, 1e-3) == pytest.approx(1.4999)
    whole = np.arange(5000, dtype=np.float32) * np.float32(1e-4)
    assert np.array_equal(to_steps(whole, 1e-4), np.arange(5000))
    assert to_steps(torch.tensor([1e-3, 2e-3]), 1e-3).tolist() == [1, 2]
    halves = (torch.arange(100) + 0.5) * 5e-4  # in float32 as many lie beyond as before
    assert np.array_equal(to_steps(halves, 5e-4), np.arange(100) + 0.5)
    for wrong, said in ((float("inf"), "no finite time"), (True, "no finite time"), (None, "not a"), ("1", "not a")):
        with pytest.raises(snn.ModelError, match=said):
            to_steps(wrong, 1e-3)


def taken(steps, **rule):
    r = read(torch.tensor(steps, dtype=torch.float64), Rule(**rule))
    parts = [r.index, r.gain, r.other, r.other_gain, r.valid]
    return [None if p is None else p.tolist() for p in parts]


def test_the_rule():
    times = [0.0, 0.4, 0.5, 0.6, 1.0, 2.0]
    assert taken(times, limit=2.0, interpolation="previous")[0] == [0, 1, 1, 1, 1, 2]
    assert taken(times, limit=2.0, interpolation="nearest")[0] == [0, 0, 1, 1, 1, 2]
    assert taken(times, limit=2.0, interpolation="previous", tolerance=0.45)[0] == [0, 0, 1, 1, 1, 2]
    index, gain, *_ = taken([1.25, 3.0], limit=3.0, interpolation="expdecay", tau=2.0)
    assert index == [2, 3] and gain == pytest.approx([np.exp(-0.75 / 2.0), 1.0])
    index, gain, other, rest, _ = taken([1.25, 3.0, 0.0], limit=3.0, interpolation="linear")
    assert (index, other) == ([1, 2, 0], [2, 3, 1]) and (gain, rest) == ([0.75, 0.0, 1.0], [0.25, 1.0, 0.0])
    index, *_, valid = taken([-1.0, 0.0, 3.0, 3.2, 9.0], limit=3.0, overbound=0.0, tolerance=0.3)
    assert (index, valid) == ([0, 0, 3, 3, 3], [False, True, True, True, False])
    assert taken([0.0, 0.0], limit=0.0, interpolation="linear")[0] == [0, 0]
    assert Rule(2.0).depth == 2 and Rule(2.1).depth == 3 and Rule(0.0).depth == 0


def damaged(**attrs) -> Graph:
    graph = late.build()
    op = graph.op("ring")
    graph.nx.nodes["ring"]["op"] = replace(op, attrs={**op.attrs, **attrs})
    return graph


@pytest.mark.parametrize("attrs, message", [
    (dict(limit=-1.0), "limit is -1.0, not a number of steps of at least 0"),
    (dict(limit=1e9, steps=1e9), "its longest delay of 1e\\+09 steps is over the limit of 1000000"),
    (dict(tau="long"), "tau is 'long'"),
    (dict(interpolation="cubic"), "interpolation is 'cubic', not one of exact, previous, nearest, expdecay, linear"),
    (dict(overbound="none"), "overbound is 'none', neither a number nor 'limit'"),
    (dict(least=9), "least is 9, not a whole number of steps up to 2"),
    (dict(steps="given"), "the parameter 'steps' is missing"),
    (dict(steps="two"), "steps is 'two', neither a number nor 'given' as a parameter"),
    (dict(other=1), "unknown setting 'other'"),
])  # fmt: skip
def test_what_the_verifier_refuses(attrs, message):
    with pytest.raises(VerificationError, match=f"node 'ring'.*: {message}"):
        verify(damaged(**attrs))


def test_a_delay_that_lies_about_the_cycle_it_breaks():
    """A file that claims a delay reads nothing newer than it does is refused."""
    graph = damaged(steps=0.0)
    with pytest.raises(VerificationError, match=r"node 'ring'.*: least is 2, but it reads what is 0 steps old"):
        verify(graph)


def test_delays_that_fit_no_features():
    graph = late.build()
    op = graph.op("delay")
    wrong = {"steps": replace(op.params["steps"], shape=(3, 2))}
    graph.nx.nodes["delay"]["op"] = replace(op, params=wrong)
    with pytest.raises(VerificationError, match=r"delays of shape \(3, 2\) do not fit features \(4,\)"):
        verify(graph)
