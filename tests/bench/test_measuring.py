"""Timing, memory and the floor."""

from __future__ import annotations

import time

import pytest
import torch

import snncompile as snn
from snncompile.bench import roofline
from snncompile.bench.comparing import Options, compare, sample
from snncompile.bench.memory import peak_memory
from snncompile.bench.roofline import Rates, floor
from snncompile.bench.timing import interleaved
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.c.memory import MEMORY


@snn.model(dt=1e-3)
def model(x=snn.Spikes(8, max=1), i=snn.Current(4)):
    return (x >> snn.Linear(4)) + i >> snn.LIF(threshold=0.3)


def test_contenders_take_turns():
    order: list[str] = []

    def run(name: str, seconds: float):
        def once() -> None:
            order.append(name)
            time.sleep(seconds)

        return once

    found = interleaved({"a": run("a", 0.012), "b": run("b", 0.02)}, 0.0, (2, 5))
    assert order[0] == "a" and order.count("b") >= 4
    changes = [k for k in range(1, len(order)) if order[k] != order[k - 1]]
    assert len(changes) == 3  # two rounds
    a, b = found["a"], found["b"]
    assert a.runs == order.count("a") - 2  # the first run of a turn does not count
    assert 12 <= a.min <= a.median and 20 <= b.min <= b.median
    assert interleaved({"a": run("a", 0.31)}, 0.0, (1, 1))["a"].runs == 1  # long runs all count


def test_peak_memory():
    mib = 2**20
    if (peak := peak_memory(lambda: torch.ones(16 * mib))) is None:
        pytest.skip("this system keeps no account")
    assert 60 * mib < peak < 80 * mib
    freed = peak_memory(lambda: [torch.ones(16 * mib).sum() for _ in range(3)])  # never two at a time
    kept = [peak_memory(lambda: MEMORY.empty((4 * mib,)).fill_(1.0)) for _ in range(2)][1]  # what is kept counts again
    assert kept is not None and 15 * mib < kept < 24 * mib
    assert freed is not None and 60 * mib < freed < 100 * mib


def test_the_floor_is_what_limits_each_region():
    graph = compile_graph(snn.compile(model).graph, Request(False))
    slow_memory = floor(graph, Rates(1, 1e3, 1e30), 10, 2)
    slow_products = floor(graph, Rates(1, 1e30, 1e3), 10, 2)
    costs = roofline.region_costs(graph)
    assert slow_memory.forward == pytest.approx(sum(c.inference.bytes for c in costs) * 20)
    assert slow_products.forward == pytest.approx(sum(c.inference.flops for c in costs) * 20)
    assert slow_memory.both > slow_memory.forward > 0
    assert roofline.largest_signal(graph, 10, 2) == 4 * 10 * 2 * 8


def test_the_input_has_the_density_asked_for():
    types = snn.compile(model).layout.inputs
    given = sample(types, Options(steps=100, batch=10, density=0.2))
    assert 0.18 < float(given.inputs["x"].mean()) < 0.22
    assert set(given.inputs["x"].unique().tolist()) == {0.0, 1.0}
    assert given.inputs["i"].shape == (100, 10, 4)
    again = sample(types, Options(steps=100, batch=10, density=0.2))
    assert torch.equal(given.inputs["i"], again.inputs["i"])


def test_a_target_that_computes_something_else_is_not_timed(monkeypatch):
    from snncompile.bench import comparing
    from snncompile.checks.running import Check

    monkeypatch.setattr(comparing, "check_whole", lambda net, target, *_: Check("c", "failed", f"{target} is off"))
    found = compare(snn.compile(model), {"torch": None}, Options(4, 2, seconds=0.0), torch.device("cpu"))
    (row,) = found.targets
    assert (row.status, row.detail, row.forward) == ("failed", "torch is off", None)


def test_what_learns_is_timed_without_a_backward_pass():
    @snn.model
    def learner(x=snn.Spikes(8, max=1)):
        connection = snn.Linear(4)
        h = x >> connection >> snn.LIF(threshold=0.3)
        snn.learn(connection, snn.STDP())
        return h

    net = snn.compile(learner, target="torch")
    before = net.value("linear.weight").detach().clone()
    found = compare(net, {"torch": None, "c": None}, Options(steps=5, batch=2, seconds=0.0), torch.device("cpu"))
    assert [(t.status, t.forward is None, t.both) for t in found.targets] == [("ok", False, None)] * 2
    assert found.notes == ("it learns while it runs: no backward pass",)
    assert torch.equal(net.value("linear.weight"), before)
