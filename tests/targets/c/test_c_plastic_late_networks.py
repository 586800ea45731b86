"""Networks that learn behind delays: on C nothing that a delay shows is made, and all is as on torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.targets.c.plastic import PlasticLayers

LINEAR, IMAGE = {"interpolation": "linear"}, (2, 6, 5)


def times(shape, least=0, most=5, whole=True):
    drawn = np.random.default_rng(7).uniform(least, most, shape)
    return (drawn.round() if whole else drawn) * ms


@dataclass(frozen=True)
class Net:
    """A connection that learns, and delays before it, its neurons, and what the rule listens to.

    Attributes:
        rule: the rule.
        x: before the connection: times and options of a Delay.
        current: before the neurons.
        pre: before what the rule watches instead, where it does.
        post: before a teacher, where there are no neurons.
        conv: whether it is a convolution.
        seen: how late ``x`` and ``pre`` are read.
        late: how late neurons' inputs are.
    """

    rule: Any
    x: tuple[Any, dict[str, Any]] | None = None
    current: tuple[Any, dict[str, Any]] | None = None
    pre: tuple[Any, dict[str, Any]] | None = None
    post: tuple[Any, dict[str, Any]] | None = None
    conv: bool = False
    seen: dict[str, list[str]] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)


NETS = {
    "additive": Net(
        snn.STDP(eta_plus=0.02, eta_minus=0.03),
        x=(times((20, 2), 1), {}),
        current=(1.5 * ms, LINEAR),
        seen={"x": ["shared"]},
        late=["one", "one"],
    ),
    "step": Net(
        snn.STDP(algorithm="additive_step", eta_plus=0.02, eta_minus=0.03),
        x=(times((20,), whole=False), {**LINEAR, "trainable": True, "max_delay": 6 * ms}),
        pre=(3 * ms, {}),
        current=(times((9,)), {}),
        seen={"x": ["each", "each"], "pre": ["one"]},
        late=["each"],
    ),
    "power": Net(
        snn.STDP(algorithm="multiplicative_pow", mu=0.5, eta_plus=0.05, eta_minus=0.03),
        x=(2 * ms, {}),
        pre=(times(IMAGE[:1]), {}),
        conv=True,
        seen={"x": ["one"], "pre": ["each"]},
    ),
    "relu": Net(
        snn.STDP(algorithm="multiplicative_relu", eta_plus=0.05, eta_minus=0.03),
        x=(times((20,), most=7), {"max_delay": 4 * ms, "overbound": 1.0}),
        post=(times((9,)), {}),
        seen={"x": ["each"]},
        late=["each"],
    ),
    "reward": Net(
        snn.MSTDPET(eta=0.5), x=(times(IMAGE), {}), conv=True, seen={"x": ["each"], "signal.reward": ["one"]}
    ),
}


def model_of(net: Net) -> Any:
    features, outs = (IMAGE, (3, 5, 4)) if net.conv else ((20,), (9,))
    taken = 40 if net.x is not None and "shared" in net.seen["x"] else 20

    def late(x, given, name="snn_late"):  # names that mean something in the printed file
        if given is None:
            return x
        seen = x >> snn.Delay(given[0], **given[1], name=name)
        return seen >> snn.Flatten() if taken == 40 and x.shape == features else seen

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(features), more=snn.Current(outs), other=snn.Spikes(outs), reward=snn.Current(1)):
        weight = torch.rand((3, 2, 2, 2) if net.conv else (9, taken), generator=torch.Generator().manual_seed(3))
        connection = snn.Conv2d(3, (2, 2), init=weight) if net.conv else snn.Linear(9, init=weight)
        h = late(x, net.x) >> connection
        told = {"reward": reward >> snn.Delay(2 * ms)} if isinstance(net.rule, snn.MSTDPET) else {}
        if net.pre is not None:
            told["pre"] = late(x, net.pre, "t")
        if net.post is not None:
            told["post"] = late(other, net.post, "first")
        else:
            h = h + late(more, net.current, "b") >> snn.ExpSyn(tau=3 * ms) >> snn.LIF(threshold=4.0)
        snn.learn(connection, net.rule, **told)
        return h

    return model


@pytest.mark.parametrize("name", NETS)
def test_networks_learn_behind_delays_as_on_torch(monkeypatch, name):
    ran, plain = [], PlasticLayers.forward
    monkeypatch.setattr(PlasticLayers, "forward", lambda *a: ran.append(a[-1]) or plain(*a))
    of, model = NETS[name], model_of(NETS[name])
    torch.manual_seed(0)
    nets = {target: snn.compile(model, target=target) for target in ("torch", "c")}
    nets["c"].load_state_dict(nets["torch"].state_dict())
    features, outs = (IMAGE, (3, 5, 4)) if of.conv else ((20,), (9,))
    x, other = (torch.rand(2, 40, *features) < 0.2).float(), (torch.rand(2, 40, *outs) < 0.2).float()
    inputs = x, torch.rand(2, 40, *outs), other, torch.randn(2, 40, 1)
    with torch.no_grad():
        (want, before, _), (got, after, _) = (net.evolve(*inputs) for net in nets.values())
        (call,) = ran
        assert {k: [one.kind for one in seen.late] for k, seen in call.seen.items()} == of.seen
        assert [one.kind for one in call.late if one is not None] == of.late
        weight = next(n for n in after if n.endswith(".weight"))
        assert torch.equal(got, want) and want.sum() > 0 and not torch.equal(after[weight], nets["c"].value(weight))
        assert all(torch.equal(after[n], s) for n, s in before.items())
        held, parts = None, []
        for part in (slice(0, 12), slice(12, 13), slice(13, 40)):  # histories go on; one step is shorter than a delay
            y, held, _ = nets["c"].evolve(*(x[:, part] for x in inputs), state=held)
            parts.append(y)
        assert torch.equal(torch.cat(parts, 1), want)
        assert all(torch.equal(held[n], s) for n, s in before.items())
