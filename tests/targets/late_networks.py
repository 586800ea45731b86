"""Networks whose cycles, and regions that learn, read delays from outside: as on the reference, for every target."""

from __future__ import annotations

import numpy as np
import torch

import snncompile as snn
from snncompile import ms
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.executor import Executor

from ..compare import assert_close_gradients, assert_same_bits, outcome
from ..mixed_models import counts
from ..plain_target import PlainTarget
from ..random_models import dyadic
from .late_cycles import Gated
from .plastic_regions import drawn

#: Steps, different ones next to each other.
EACH = np.arange(6) * 5 % 4
SEVERAL = np.stack([EACH[:3], EACH[:3][::-1] + 1], 1)

DELAYS = {
    "one": lambda: snn.Delay(2 * ms),
    "each": lambda: snn.Delay(EACH * ms),
    "several": lambda: snn.Delay(SEVERAL * ms),
    "between": lambda: snn.Delay((EACH + 0.5) * ms, interpolation="linear"),
    "all between": lambda: snn.Delay(1.25 * ms, interpolation="linear"),
    "several between": lambda: snn.Delay((SEVERAL + 0.25) * ms, interpolation="expdecay", tau=5 * ms),
    "trained": lambda: snn.Delay((EACH + 0.5) * ms, interpolation="linear", trainable=True),
    "too far": lambda: snn.Delay((EACH + 1) * ms, max_delay=3 * ms, overbound=0.5),
}


def cycle_with(*kinds: str) -> snn.Model:
    """A cycle that reads three signals through delays of these kinds."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(5, max=3)):
        rng = np.random.default_rng(3)

        def through(n_in: int, n: int, signal: snn.Signal) -> snn.Signal:
            return signal >> snn.Linear(n, bias=False, init=dyadic(rng, n, n_in))

        def late(kind: str) -> snn.Signal:
            some = "several" in kind
            shown = through(5, 3 if some else 6, x) >> DELAYS[kind]()
            return shown >> snn.Flatten() if some else shown

        down = snn.Feedback(4, delay=2 * ms)
        first = Gated(name="first")(a=late(kinds[0]), b=late(kinds[1]), back=through(4, 6, down))
        second = through(6, 6, first) + late(kinds[2]) >> snn.LIF(threshold=0.5, name="second")
        down.close(second >> snn.Linear(4, bias=False, init=dyadic(rng, 4, 6)) >> snn.LIF(threshold=0.25, name="third"))
        return {"second": second, "pull": first["pull"]}

    return model


@snn.model(dt=1 * ms)
def region(x=snn.Spikes(6, max=1), y=snn.Spikes(6, max=1), reward=snn.Current(1)):
    """What learns takes, and watches, what delays show; so do its neurons and its reward."""
    learnt, other = snn.Linear(6, init=0.3 * drawn(6, 6)), snn.Linear(6, init=0.3 * drawn(6, 6, seed=1))
    back = snn.Feedback(6)
    current = (x >> snn.Delay(EACH * ms) >> learnt) + (y >> snn.Delay(2 * ms) >> other)
    a = y >> DELAYS["between"]()
    first = Gated(name="first")(a=a, b=x >> snn.Delay(1.25 * ms, interpolation="nearest"), back=current + back)
    back.close(first >> snn.Linear(6, init=-0.2 * drawn(6, 6, seed=2)) >> snn.LIF(threshold=0.5, name="second"))
    snn.learn(learnt, snn.STDP(eta_plus=0.05, eta_minus=0.06), pre=x >> snn.Delay(3 * ms), post=first)
    snn.learn(other, snn.MSTDPET(eta=0.3), post=first, reward=reward >> snn.Delay(1 * ms))
    return first


def watched(net: snn.Network, target, part: str):
    """An executor of ``net`` on ``target`` after all passes, and the ``offsets`` of the plans that it then runs."""
    executor, ran = Executor(compile_graph(net.graph, Request(net.training)), target), []
    owner = getattr(executor.runner, part)
    forward = owner.forward

    def spied(plan, call):
        ran.append(plan.offsets)
        return forward(plan, call)

    owner.forward = spied
    return executor, ran


def check_as_plain(net, executor, shapes) -> None:
    """Everything that comes out and all gradients are those of the plain target, for batches and steps ``shapes``."""
    for i, shape in enumerate(shapes):
        x = counts(i, *shape)
        a, b = outcome(net, x, [], Executor(net.graph, PlainTarget())), outcome(net, x, [], executor)
        assert_same_bits(a, b)
        assert_close_gradients(a, b)


def check_cycle(kinds, shapes, target, want: tuple[str, ...]) -> None:
    """Everything that comes out and all gradients; ``want``: how late the cycle reads where a run is long enough."""
    net = snn.compile(cycle_with(*kinds), target=target.name)
    executor, ran = watched(net, target, "cycles")
    check_as_plain(net, executor, shapes)
    assert ran[0] == want and ran[-1] != want, ran


def check_region(shapes, target, want: tuple[str, ...]) -> None:
    """Likewise for :func:`region`, on the loop's bits."""
    net = snn.compile(region, target=target.name)
    executor, ran = watched(net, target, "_taught")
    for i, (batch, steps) in enumerate(shapes):
        g = torch.Generator().manual_seed(i)
        x = {n: (torch.rand(batch, steps, 6, generator=g) < 0.4).float() for n in "xy"}
        x["reward"] = torch.randn(batch, steps, 1, generator=g)
        found = []
        for one in (Executor(net.graph, PlainTarget()), executor):
            net.executor = lambda device, keep=frozenset(), one=one: one
            with torch.no_grad():
                out, state, _ = net.evolve(**x)
            found.append({"out": out, **state})
        assert all(torch.equal(found[1][n], value) for n, value in found[0].items())
        assert steps < 9 or any(not torch.equal(found[0][n], net.value(n)) for n in net.layout.learned)
    assert ran[0] == want and ran[-1] != want, ran
