"""Rules: the decorator, and the rules that come with the library against a loop written by hand."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.ir.power import power


def learnt(rule: Any, x: Tensor, start: Tensor, reward: Tensor | None = None) -> tuple[Tensor, Tensor, dict]:
    """Output spikes, weights and state after ``x``."""

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(start.shape[1]), reward=snn.Current(1)):
        connection = snn.Linear(start.shape[0], bias=False, init=start)
        h = x >> connection >> snn.LIF(tau_mem=10 * ms, threshold=1.5, max_spikes_per_dt=1)
        snn.learn(connection, rule, **({"reward": reward} if rule.signals else {}))
        return h

    reward = torch.zeros(*x.shape[:2], 1) if reward is None else reward
    z, state, _ = snn.compile(net, target="torch").learn(x, reward)
    return z, state["linear.weight"], state


def spikes(batch: int, steps: int, size: int, rate: float = 0.1) -> Tensor:
    return (torch.rand(batch, steps, size, generator=torch.Generator().manual_seed(batch)) < rate).float()


def test_triplets_as_in_the_paper() -> None:
    """Event by event in float64: traces jump by 1 at a spike, and r2 and o2 are read just before they do."""
    x, start = spikes(2, 150, 6), torch.full((3, 6), 0.5)
    rule = snn.TripletSTDP(a2_plus=4e-3)
    z, got, _ = learnt(rule, x, start)
    tau = {"r1": 16.8, "r2": 101.0, "o1": 33.7, "o2": 125.0}
    w, trace = start.double(), {}
    for side, source in (("r", x), ("o", z)):
        for k in "12":
            trace[side + k] = torch.zeros_like(source[:, 0]).double()
    for t in range(x.shape[1]):
        for name in trace:
            trace[name] = trace[name] * math.exp(-1 / tau[name])
        pre, post = x[:, t].double(), z[:, t].double()
        r2, o2 = trace["r2"], trace["o2"]
        trace["r1"], trace["o1"] = trace["r1"] + pre, trace["o1"] + post
        up = torch.einsum("bi,bj->ij", post * (4e-3 + 6.2e-3 * o2), trace["r1"])
        down = torch.einsum("bi,bj->ij", trace["o1"], pre * (7e-3 + 2.3e-4 * r2))
        trace["r2"], trace["o2"] = r2 + pre, o2 + post
        w = (w + up - down).clamp(0, 1)
    assert float((w - start).abs().max()) > 0.1
    assert float((got - w).abs().max()) < 1e-5


def test_reward_acts_through_the_eligibility_of_each_sequence() -> None:
    x, start = spikes(3, 120, 5, 0.2), torch.full((4, 5), 0.5)
    reward = torch.zeros(3, 120, 1)
    reward[0, 60:80], reward[1, 100:] = 1.0, -2.0
    rule = snn.MSTDPET(eta=0.3)
    z, got, state = learnt(rule, x, start, reward)
    w, e = start.double(), torch.zeros(3, 4, 5).double()
    p, m = torch.zeros(3, 5).double(), torch.zeros(3, 4).double()
    for t in range(120):
        pre, post = x[:, t].double(), z[:, t].double()
        p, m = p * math.exp(-1 / 20) + pre, m * math.exp(-1 / 20) + post
        e = e * math.exp(-1 / 25) + (post[:, :, None] * p[:, None] - m[:, :, None] * pre[:, None]) / 25
        w = (w + (0.3 * reward[:, t].double()[:, :, None] * e).sum(0)).clamp(0, 1)
    assert float((w - start).abs().max()) > 0.02
    assert float((got - w).abs().max()) < 1e-5
    assert state["mstdpet.eligibility"].shape == (3, 4, 5)
    assert torch.allclose(state["mstdpet.eligibility"].double(), e, atol=1e-5)
    untouched = learnt(rule, x, start)[1]
    assert torch.equal(untouched, start)  # no reward, no change


def test_masked_weights_stay_and_signs_hold() -> None:
    mask = torch.ones(3, 6)
    mask[:, ::2] = 0
    sign = torch.ones(6)
    sign[3] = -1

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(6)):
        connection = snn.Linear(3, bias=False, init=torch.full((3, 6), 0.5), mask=mask, sign=sign)
        h = x >> connection >> snn.LIF(threshold=0.5)
        snn.learn(connection, snn.STDP(eta_plus=0.2, eta_minus=0.01, w_min=-1.0))
        return h

    out, state, _ = snn.compile(net, target="torch").learn(spikes(1, 80, 6, 0.5))
    weight = state["linear.weight"]
    assert float(out.sum()) > 10
    assert torch.equal(weight[:, ::2], torch.full((3, 3), 0.5))
    assert float(weight[:, 1].min()) > 0.6
    assert float(weight[:, 3].max()) == 0.0  # potentiated from below: stopped at 0


@pytest.mark.parametrize("exponent", [0.0, 0.02, 0.3, 0.5, 0.9, 1.0, 1.7, 3.0])
def test_powers(exponent: float) -> None:
    x = torch.cat([torch.rand(20_000), torch.logspace(-35, 3, 5_000), torch.tensor([0.0, 1.0, 1e-40])])
    want = torch.pow(x.double(), exponent)
    normal = want > 2.0**-126
    apart = ((power(x, exponent).double() - want).abs() / want)[normal]
    assert float(apart.max()) < 4 * 2.0**-24
    assert power(torch.tensor([0.0, math.inf]), exponent or 1.0).tolist() == [0.0, math.inf]
    if exponent not in (0.0, 1.0):
        assert torch.isnan(power(torch.tensor([-1.0, math.nan]), exponent)).all()


# -- the decorator -------------------------------------------------------------------------------------------------


@snn.plasticity(pre={"t": 0.0})
class Hebb:
    """Output spikes strengthen what came in shortly before."""

    def pre(z, t, *, tau=snn.Param(10 * ms, family="taus", constraint="positive"), dt):
        t = t * torch.exp(-dt / tau) + z
        return {"t": t, "potentiation": t, "depression": 0.0}

    def post(z):
        return {"potentiation": z, "depression": 0.0}

    def update(w, potentiation, *, rate=0.01, bounded=True):
        w = w + rate * potentiation
        return {"w": torch.clamp(w, 0.0, 1.0) if bounded else w}


def test_a_rule_of_ones_own() -> None:
    x, start = spikes(1, 60, 5, 0.2), torch.full((3, 5), 0.4)
    z, got, _ = learnt(Hebb(rate=0.02), x, start)
    t, w = torch.zeros(5), start
    for k in range(60):
        t = t * torch.exp(torch.tensor(-1.0 / 10)) + x[0, k]
        w = (w + 0.02 * torch.outer(z[0, k], t)).clamp(0, 1)
    assert torch.allclose(got, w, atol=1e-6) and not torch.equal(got, start)
    assert float(learnt(Hebb(rate=2.0, bounded=False), x, start)[1].max()) > 1


def test_a_factor_that_nobody_takes_need_not_be_given() -> None:
    @snn.plasticity(pre={"t": 0.0})
    class Short:
        """Hebb, in fewer words."""

        def pre(z, t, *, tau=snn.Param(10 * ms, family="taus"), dt):
            t = t * torch.exp(-dt / tau) + z
            return {"t": t, "potentiation": t}

        def post(z):
            return {"potentiation": z}

        def update(w, potentiation, *, rate=0.01):
            return {"w": torch.clamp(w + rate * potentiation, 0.0, 1.0)}

    x, start = spikes(2, 60, 5, 0.2), torch.full((3, 5), 0.4)
    got = learnt(Short(), x, start)[1]
    assert torch.equal(got, learnt(Hebb(), x, start)[1]) and not torch.equal(got, start)


def test_rules_are_picklable_and_documented() -> None:
    assert Hebb.__doc__ == "Output spikes strengthen what came in shortly before."
    rule = pickle.loads(pickle.dumps(Hebb(rate=0.5)))
    assert type(rule) is Hebb and rule.rate == 0.5 and copy.copy(rule).bounded is True
    assert issubclass(Hebb, snn.Rule) and snn.STDP(tau_pre=1 * ms).tau_pre == 1 * ms


def _pre(z):
    return {"potentiation": z, "depression": 0.0}


def _update(w, potentiation, depression):
    return {"w": w + potentiation}


def rule_of(decorated: dict[str, Any] | None = None, **parts: Any) -> Any:
    members = {"pre": _pre, "post": _pre, "update": _update, **parts}
    return snn.plasticity(**(decorated or {}))(type("Mine", (), {k: v for k, v in members.items() if v is not None}))


@pytest.mark.parametrize(
    ("decorated", "parts", "said"),
    [
        ({}, {"update": None}, "it has no function update"),
        ({}, {"pre": 3}, "pre is no function"),
        ({"signals": ("reward",)}, {}, "reward is one of every sequence: write a function synapse"),
        ({"synapse": {"e": 0.0}}, {}, "e is one of every sequence"),
        ({"pre": {"t": math.nan}}, {}, "the trace t must start from a finite number"),
        ({"pre": {"t": 0.0}, "post": {"t": 0.0}}, {}, "t names two things"),
        ({"pre": {"w": 0.0}}, {}, "w is reserved"),
        ({"signals": 5}, {}, r"signals are names, signals=\('reward',\), not 5"),
        ({"signals": (3,)}, {}, r"signals are names, signals=\('reward',\), not \(3,\)"),
        ({"pre": {"a b": 0.0}}, {}, "'a b' is no name"),
        ({}, {"pre": lambda z, t: None}, "pre has no t; before the `\\*` it may name z"),
        ({}, {"pre": lambda *args: None}, "pre names its arguments one by one"),
        ({}, {"pre": lambda z=1: None}, "z has a default"),
        ({}, {"pre": lambda *, z: None}, "z stands before the"),
        ({}, {"update": lambda w, change: None}, "update has no change"),
        ({}, {"ordered": (("low", "high"),)}, "ordered names 'low', which is none of its parameters"),
        ({}, {"pre": lambda z, *, a=1.0: _pre(z), "post": lambda z, *, a=2.0: _pre(z)}, "a has two defaults"),
    ],
)
def test_rules_that_cannot_be(decorated: dict[str, Any], parts: dict[str, Any], said: str) -> None:
    with pytest.raises(snn.ModelError, match=said):
        rule_of(decorated, **parts)


def test_without_parentheses() -> None:
    with pytest.raises(snn.ModelError, match=r"write @plasticity\(pre=\{...\}, post=\{...\}\)"):
        snn.plasticity(Hebb)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"pre": lambda z: z}, "pre of Mine: it must return a dict"),
        ({"pre": lambda z: {"potentiation": z}}, "missing: depression"),
        ({"update": lambda w: {"w": w, "v": w}}, "not known: v"),
        ({"update": lambda w, *, top=1.0: {"w": torch.clamp(w, 0.0, top)}}, "torch.clamp is for bounds"),
        ({"update": lambda w: {"w": torch.maximum(w, 0.0)}}, "maximum for those that are parameters: write"),
        ({"update": lambda w: {"w": w.sum()}}, "not elementwise|not known"),
        ({"update": lambda w: {"w": torch.log(w)}}, "uses log on a signal, a trace, a weight or a constant"),
        ({"update": lambda w: {"w": torch.rand_like(w)}}, "draws other random numbers on every machine"),
        ({"update": lambda w: {"w": w + snn.normal()}}, "it draws random numbers, which only the step of a synapse"),
    ],
)
def test_functions_that_cannot_be(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(snn.ModelError, match=said) as caught:
        learnt(rule_of(**parts)(), spikes(1, 2, 3), torch.ones(2, 3))
    assert __file__ in str(caught.value)


def test_parameters_that_torchs_modules_have_no_room_for() -> None:
    rule = rule_of(update=lambda w, *, double=1.0: {"w": w * double})
    with pytest.raises(snn.ModelError, match=r"'mine' at .*a parameter cannot be called 'double', as torch's modules"):
        learnt(rule(), spikes(1, 2, 3), torch.ones(2, 3))
