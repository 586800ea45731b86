"""``snn.learn``: what it infers, what it asks for, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import snncompile as snn
from snncompile.ir.graph import Edge, Graph, Ref
from snncompile.passes.pipeline import Request, compile_graph


def build(body: Callable[..., Any], features: int | tuple[int, ...] = 4) -> Graph:
    @snn.model
    def net(x=snn.Spikes(features), y=snn.Spikes(4), reward=snn.Current(1)):
        return body(x, y, reward)

    return net.build()


def test_pre_and_post_are_what_stands_around_the_connection() -> None:
    def body(x, y, reward):
        c = snn.Linear(4)
        h = (x >> c) + (y >> snn.Linear(4)) >> snn.ExpSyn() >> snn.LIF()
        snn.learn(c, snn.STDP())
        return h >> snn.Linear(2) >> snn.LIF()

    graph = build(body)
    assert graph.inputs_of("stdp") == {"pre": Edge(Ref("x")), "post": Edge(Ref("lif", "spikes"))}
    assert graph.inputs_of("linear")["weight"] == Edge(Ref("stdp", "weight"), 1, "linear.weight")
    assert graph.op("linear").plastic and not graph.op("linear_1").plastic
    assert graph.learned() == {"linear.weight": "stdp"}


def test_it_may_stand_before_the_neurons_and_take_the_signal() -> None:
    def body(x, y, reward):
        current = x >> snn.Linear(4)
        snn.learn(current, snn.STDP(name="rule"))
        return current >> snn.LIF()

    assert build(body).inputs_of("rule")["post"] == Edge(Ref("lif", "spikes"))


def test_learning_goes_by_a_current_where_that_is_said() -> None:
    def body(x, y, reward):
        c = snn.Linear(4)
        current = x >> snn.ExpSyn()
        h = current >> c >> snn.LIF()
        snn.learn(c, snn.STDP(), pre=current)
        return h

    assert build(body).inputs_of("stdp")["pre"] == Edge(Ref("exp_syn", "isyn"))


def test_a_recurrent_connection_watches_the_spikes_of_the_step_before() -> None:
    def body(x, y, reward):
        c = snn.Linear(4)
        h = x >> snn.recurrent(snn.LIF(), via=c)
        snn.learn(c, snn.STDP())
        return h

    graph = build(body)
    assert graph.inputs_of("stdp")["pre"] == Edge(Ref("lif", "spikes"), 1, "lif_back")
    assert graph.inputs_of("stdp")["post"] == Edge(Ref("lif", "spikes"))


def test_two_connections_may_share_a_rules_parameters() -> None:
    def body(x, y, reward):
        a, b, rule = snn.Linear(4), snn.Linear(3), snn.STDP()
        h = x >> a >> snn.LIF()
        out = h >> b >> snn.LIF()
        snn.learn(a, rule)
        snn.learn(b, rule)
        return out

    graph = build(body)
    assert graph.op("stdp_1").own["tau_pre"].name == "stdp.tau_pre"
    assert list(graph.learned()) == ["linear.weight", "linear_1.weight"]


def several(x, y, reward):
    c = snn.Linear(4)
    current = x >> c
    snn.learn(c, snn.STDP())
    return current >> snn.LIF(), current >> snn.LIF()


def nobody(x, y, reward):
    c = snn.Linear(4)
    snn.learn(current := x >> c, snn.STDP())
    return current >> snn.LI()


def after_flatten(x, y, reward):
    c = snn.Conv2d(2, 3)
    snn.learn(current := x >> c, snn.STDP())
    return current >> snn.Flatten() >> snn.LIF()


def twice(x, y, reward):
    c = snn.Linear(4)
    h = x >> c >> snn.LIF()
    snn.learn(c, snn.STDP())
    snn.learn(c, snn.TripletSTDP())
    return h


def shared(x, y, reward):
    c = snn.Linear(4)
    h = (x >> c) + (y >> c) >> snn.LIF()
    snn.learn(c, snn.STDP())
    return h


def shared_by_signal(x, y, reward):
    c = snn.Linear(4)
    snn.learn(current := x >> c, snn.STDP())
    return current + (y >> c) >> snn.LIF()


def grouped(x, y, reward):
    c = snn.Conv2d(2, 3, groups=2)
    h = x >> c >> snn.LIF()
    snn.learn(c, snn.STDP())
    return h


def a_neuron(x, y, reward):
    snn.learn(h := x >> snn.LIF(), snn.STDP())
    return h


def an_input(x, y, reward):
    snn.learn(x, snn.STDP())
    return x >> snn.LIF()


def not_applied(x, y, reward):
    snn.learn(snn.Linear(4), snn.STDP())
    return x >> snn.LIF()


def a_class(x, y, reward):
    snn.learn(h := x >> snn.Linear(4), snn.STDP)
    return h >> snn.LIF()


def no_rule(x, y, reward):
    snn.learn(h := x >> snn.Linear(4), "stdp")
    return h >> snn.LIF()


def applied_rule(x, y, reward):
    return x >> snn.STDP()


def no_reward(x, y, reward):
    snn.learn(h := x >> snn.Linear(4), snn.MSTDPET())
    return h >> snn.LIF()


def wide_reward(x, y, reward):
    snn.learn(h := x >> snn.Linear(4), snn.MSTDPET(), reward=y)
    return h >> snn.LIF()


def strange_signal(x, y, reward):
    snn.learn(h := x >> snn.Linear(4), snn.STDP(), reward=reward)
    return h >> snn.LIF()


def wrong_post(x, y, reward):
    snn.learn(h := x >> snn.Linear(3), snn.STDP(), post=y)
    return h >> snn.LIF()


def of_a_current(x, y, reward):
    snn.learn(h := x >> snn.ExpSyn() >> snn.Linear(4), snn.STDP())
    return h >> snn.LIF()


def post_is_a_node(x, y, reward):
    snn.learn(h := x >> snn.Linear(3), snn.STDP(), post=snn.LIF())
    return h >> snn.LIF()


def no_connection(x, y, reward):
    h = x >> snn.Linear(3) >> snn.LIF()
    snn.learn("linear", snn.STDP())
    return h


def delayed(x, y, reward):
    c = snn.Linear(3, delay=np.full((3, 4), 2e-3))
    h = x >> c >> snn.LIF()
    snn.learn(c, snn.STDP())
    return h


def normalised(x, y, reward):
    c = snn.Linear(4)
    h = x >> c >> snn.BatchNorm() >> snn.LIF()
    snn.learn(c, snn.STDP(), post=h)
    return h


@pytest.mark.parametrize(
    ("body", "features", "said"),
    [
        (several, 4, r"several populations come next \(lif.spikes, lif_1.spikes\): .*post=signal"),
        (nobody, 4, "no spiking population follows: say whose spikes"),
        (after_flatten, (2, 5, 5), "no spiking population follows"),
        (twice, 4, "'linear' .*learns by another rule already"),
        (shared, 4, "weights are shared: it is applied as linear, linear_1"),
        (shared_by_signal, 4, "weights are shared: it is applied as linear, linear_1"),
        (grouped, (2, 5, 5), r"a grouped convolution \(groups=2\) cannot learn: use groups=1"),
        (a_neuron, 4, "a LIF cannot learn; Linear and Conv2d can"),
        (an_input, 4, "'x' at .*: an input cannot learn; Linear and Conv2d can"),
        (not_applied, 4, "this Linear was not applied to a signal so far: call snn.learn after `x >> connection`"),
        (no_connection, 4, "takes a connection of this model, .* not 'linear'"),
        (delayed, 4, r"a Linear with delay= cannot learn; .*x >> snn.Delay\(...\) >> snn.Linear"),
        (of_a_current, 4, r"what it takes is a current, no spikes: .*snn.learn\(..., pre=signal\)"),
        (a_class, 4, r"needs an object: write STDP\(...\)"),
        (no_rule, 4, r"takes a rule such as snn.STDP\(\), not 'stdp'"),
        (applied_rule, 4, r"STDP is a learning rule, .*snn.learn\(connection, STDP\(...\)\)"),
        (no_reward, 4, r"MSTDPET needs the signal reward: snn.learn\(..., reward=signal\)"),
        (wide_reward, 4, r"the signal 'reward' has one value per sequence, features \(1,\), not \(4,\)"),
        (strange_signal, 4, "STDP has no signal 'reward'; it has: none"),
        (wrong_post, 4, r"post= has features \(4,\), but the connection gives \(3,\)"),
        (post_is_a_node, 4, "post is a signal, not LIF"),
        (normalised, 4, "BatchNorm needs all steps at once"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_refused(body: Callable[..., Any], features: Any, said: str) -> None:
    with pytest.raises(snn.ModelError, match=said) as caught:
        compile_graph(snn.model(_model(body, features)).build(), Request())
    assert __file__ in str(caught.value)


def _model(body: Callable[..., Any], features: Any) -> Callable[..., Any]:
    def net(x=snn.Spikes(features), y=snn.Spikes(4), reward=snn.Current(1)):
        return body(x, y, reward)

    return net


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda: snn.STDP(algorithm="oja"), "algorithm 'oja' is unknown; use one of additive, additive_step"),
        (lambda: snn.STDP(algorithm="multiplicative_pow", hardbound=False), "multiplicative_pow needs hardbound=True"),
        (lambda: snn.STDP(w_min=1.0), "w_min must be smaller than w_max, but w_min is 1 and w_max is 1"),
        (lambda: snn.STDP(tau_pre=0.0), "tau_pre must be greater than 0, but is 0"),
        (lambda: snn.TripletSTDP(tau_y=-1.0), "tau_y must be greater than 0, but is -1"),
        (lambda: snn.STDP(mu=-1), "mu is a plain number of at least 0"),
        (lambda: snn.STDP(mu=snn.Param(0.5)), "mu is a plain number of at least 0"),
        (lambda: snn.STDP(hardbound="no"), "hardbound is True or False"),
        (lambda: snn.STDP(eta_plus=np.ones(4)), r"eta_plus of a learning rule is one number, not an array \(4,\)"),
        (lambda: snn.STDP(eta=1.0), "STDP has no option 'eta'. Did you mean 'eta_plus'"),
        (lambda: snn.STDP(eta_plus=float("nan")), "eta_plus holds a value that is not finite"),
    ],
)
def test_rules_that_make_no_sense(rule: Callable[[], Any], said: str) -> None:
    def body(x, y, reward):
        snn.learn(h := x >> snn.Linear(4), rule())
        return h >> snn.LIF()

    with pytest.raises(snn.ModelError, match=said):
        build(body)


def test_learning_outside_a_model() -> None:
    with pytest.raises(snn.ModelError, match=r"snn.learn can only be used inside a model function"):
        snn.learn(snn.Linear(4), snn.STDP())
