"""Plastic layers on their own: random calls, and the plainest run of one, for every target with kernels for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.interp import Interpreter
from snncompile.ir.ordered import ordered_positions, ordered_product, ordered_taps, summed_over_batch
from snncompile.ir.plasticity import FACTORS, Plasticity
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.plastic_call import PlasticForwardCall, PlasticForwardResult
from snncompile.targets.plastic_fields import fields_of
from snncompile.targets.plastic_layer import PlasticLayer, match
from snncompile.targets.plastic_rule import PlasticRule, PreparedRule
from snncompile.targets.scan import Scan, make_scan


@snn.plasticity(pre={"lif_v": 0.25}, post={"exp_syn_isyn": 0.5}, synapse={"lif_spikes": 0.0})
class Namesakes:
    """Its traces are called as states and results of the neurons."""

    def pre(z, lif_v):
        lif_v = lif_v * 0.5 + z
        return {"lif_v": lif_v, "potentiation": lif_v, "depression": z}

    def post(z, exp_syn_isyn):
        exp_syn_isyn = exp_syn_isyn * 0.75 + z
        return {"exp_syn_isyn": exp_syn_isyn, "potentiation": z, "depression": exp_syn_isyn}

    def synapse(potentiation, depression, lif_spikes):
        lif_spikes = lif_spikes * 0.5 + (potentiation - depression)
        return {"lif_spikes": lif_spikes, "change": lif_spikes}

    def update(w, change, *, rate=0.01):
        return {"w": w + rate * change}


#: Rules of every kind: programs without and with synapses, factors that are no traces, a power, names that clash.
RULES: dict[str, Any] = {
    "additive": snn.STDP(eta_plus=0.02, eta_minus=0.03),
    "free": snn.STDP(hardbound=False, eta_plus=0.02, eta_minus=0.01),
    "step": snn.STDP(algorithm="additive_step", eta_plus=0.02, eta_minus=0.03),
    "root": snn.STDP(algorithm="multiplicative_pow", mu=0.5, eta_plus=0.05, eta_minus=0.03),
    "power": snn.STDP(algorithm="multiplicative_pow", mu=0.2, eta_plus=0.05, eta_minus=0.03),
    "relu": snn.STDP(algorithm="multiplicative_relu", eta_plus=0.05, eta_minus=0.03),
    "triplet": snn.TripletSTDP(),
    "reward": snn.MSTDPET(eta=0.5),
    "namesakes": Namesakes(),
}


@dataclass(frozen=True)
class Case:
    """A plastic layer and one call of it."""

    scan: Scan
    rule: PlasticRule
    call: PlasticForwardCall


@dataclass(frozen=True)
class Convolution:
    """A convolution in place of a dense connection; each entry of a pair is for rows, then for columns."""

    image: tuple[int, int, int] = (2, 6, 5)
    outs: int = 3
    kernel: tuple[int, int] = (3, 2)
    options: dict[str, Any] = field(default_factory=dict)


def plastic_case(
    name: str,
    steps: int = 9,
    batch: int = 1,
    outs: int = 6,
    ins: int = 20,
    *,
    rate: float = 0.3,
    bias: bool = False,
    seed: int = 0,
    strided: bool = False,
    store: bool = True,
    conv: Convolution | None = None,
    fixed: Sequence[str] = (),
    elsewhere: bool = False,
) -> Case:
    """A random call for the rule ``name`` of :data:`RULES`; the neurons also get a current from outside.

    ``fixed`` is what the connection has of mask and sign: the first output has no input, signs are mixed. ``elsewhere``
    is whether the rule watches another input than the connection takes.
    """
    rule = RULES[name]
    draw = torch.Generator().manual_seed(seed)
    given: tuple[int, ...] = (ins,) if conv is None else conv.image
    rows, columns = (outs, ins) if conv is None else (conv.outs, conv.image[0] * math.prod(conv.kernel))
    weight = torch.rand(rows, columns, generator=draw)
    held = _held(fixed, (rows, columns), draw)
    if "sign" in held and name not in ("root", "power"):  # whose weights lie between the bounds
        weight = weight * held["sign"] * (torch.rand(rows, columns, generator=draw) - 0.1).sign()  # some are wrong
    if conv is None:
        connection = snn.Linear(outs, bias=bias, init=weight, **held)
        features: tuple[int, ...] = (outs,)
    else:
        full = (rows, conv.image[0], *conv.kernel)
        shaped = {"init": weight.reshape(full), **{role: value.reshape(full) for role, value in held.items()}}
        connection = snn.Conv2d(conv.outs, conv.kernel, bias=bias, **shaped, **conv.options)
        plain = torch.nn.Conv2d(conv.image[0], conv.outs, conv.kernel, **conv.options)
        features = tuple(plain(torch.zeros(conv.image)).shape)
    outs, ins = math.prod(features), math.prod(given)

    @snn.model(dt=1 * ms)
    def layer(x=snn.Spikes(given), more=snn.Current(features), reward=snn.Current(1)):
        h = (x >> connection) + more >> snn.ExpSyn(tau=3 * ms) >> snn.LIF(threshold=2.5)
        snn.learn(connection, rule, **({"reward": reward} if rule.signals else {}))
        return h

    graph = compile_graph(layer.build(), Request())
    (region,) = [r for r in graph.regions if r.kind == "plastic"]
    found = match(graph, region)
    assert isinstance(found, PlasticLayer), found
    neurons: Elementwise = graph.op(found.neurons)
    taught: Plasticity = graph.op(found.rule)
    scan = make_scan(found.neurons, neurons)
    prepared = PreparedRule(found.rule, taught)
    params = {role: _first(p, features, draw) for role, p in neurons.params.items()}
    table = {**params, **Interpreter(scan.derived, host=True).named(params, torch.device("cpu"))}
    own = {p.name: torch.tensor(p.init.args[0]) for p in taught.own.values()}
    bound = prepared.bind(own, own, torch.device("cpu"), False)
    x = (torch.rand(steps, batch, ins, generator=draw) < rate).float()
    other = torch.rand(steps, batch, outs, generator=draw)
    if strided:
        x, other = x.transpose(0, 1).contiguous().transpose(0, 1), other.repeat(1, 1, 2)[..., ::2]
    shapes = {"pre": (batch, ins), "post": (batch, outs), "synapse": (batch, rows, columns)}
    (outside,) = [p for p in scan.inputs if p != found.port]
    call = PlasticForwardCall(
        port=found.port,
        source=found.source,
        weight=weight,
        bias=torch.rand(rows, generator=draw) if bias else None,
        fixed=held,
        x=x,
        pre=(torch.rand(steps, ins, batch, generator=draw) < rate).float().transpose(1, 2) if elsewhere else None,
        inputs=tuple(other if p == outside else None for p in scan.inputs),
        coefs=tuple(table[c] for c in scan.coefs),
        states=tuple(torch.rand(batch, outs, generator=draw) for _ in scan.states),
        traces={t.local: torch.rand(shapes[t.side], generator=draw) for t in taught.traces},
        signals={s: torch.randn(steps, batch, generator=draw) for s in taught.signals},
        rule_coefs=bound.coefs,
        shape=(steps, batch, outs, ins),
        store=scan.results if store else (found.source,),
        store_traces=tuple(t.local for t in taught.traces if t.side != "synapse") if store else (),
        store_product=store,
    )
    return Case(scan, prepared.rule, call)


def _held(fixed: Sequence[str], shape: tuple[int, int], draw: torch.Generator) -> dict[str, Tensor]:
    values = {}
    if "mask" in fixed:
        values["mask"] = (torch.rand(shape, generator=draw) < 0.7).float()
        values["mask"][0] = 0.0
    if "sign" in fixed:
        values["sign"] = torch.where(torch.rand(shape, generator=draw) < 0.7, 1.0, -1.0)
    return values


def _first(p: Any, features: tuple[int, ...], draw: torch.Generator) -> Tensor:
    value = torch.full(p.shape, p.init.args[0])
    if not p.shape:
        return value
    return (value * (1 + 0.1 * torch.rand(p.shape, generator=draw))).expand(features).flatten().contiguous()


class PlainPlastic:
    """The contract, word by word: one step after the other, one program after the other."""

    def why_not(self, scan: Scan, rule: PlasticRule, shape: tuple[int, int], batch: int | None = None) -> str:
        """It runs everything."""
        return ""

    def forward(self, scan: Scan, rule: PlasticRule, call: PlasticForwardCall) -> PlasticForwardResult:
        """Run from the first step to the last."""
        step = Interpreter(scan.forward)
        learn = {part: Interpreter(program) for part, program in rule.programs.items()}
        steps, batch, outs, _ = call.shape
        states, traces, w = list(call.states), dict(call.traces), call.weight
        stored: dict[str, list[Tensor]] = {name: [] for name in call.store}
        stored_traces: dict[str, list[Tensor]] = {name: [] for name in call.store_traces}
        products = []
        for t in range(steps):
            seen = w * call.fixed["mask"] if "mask" in call.fixed else w
            product = _product(rule, seen, call.x[t], call.bias)
            products.append(product)
            values = dict(zip(scan.states, states, strict=True))
            values.update({p: product if x is None else x[t] for p, x in zip(scan.inputs, call.inputs, strict=True)})
            values.update(zip(scan.coefs, call.coefs, strict=True))
            made = {n: v.expand(batch, outs) for n, v in step.named(values, w.device).items()}
            states = [made[s] for s in scan.states]
            factors = {}
            watched = call.x if call.pre is None else call.pre
            for part, z, side in (("before", watched[t], "pre"), ("after", made[call.source], "post")):
                held = {trace.local: traces[trace.local] for trace in rule.node.of_side(side)}
                new = learn[part].named({"z": z, **held, **call.rule_coefs[part]}, w.device)
                factors[side] = {f: new.pop(f).expand(z.shape) for f in FACTORS}
                traces.update({n: v.expand(z.shape) for n, v in new.items()})
            outer = {f: _outer(rule, factors["post"][f], factors["pre"][f]) for f in FACTORS}
            if "synapse" in learn:
                heard = {s: course[t].reshape(batch, 1, 1) for s, course in call.signals.items()}
                held = {trace.local: traces[trace.local] for trace in rule.node.of_side("synapse")}
                new = learn["synapse"].named({"w": w, **outer, **held, **heard, **call.rule_coefs["synapse"]}, w.device)
                given = {"change": summed_over_batch(new.pop("change").expand(batch, *w.shape))}
                traces.update({n: v.expand(batch, *w.shape) for n, v in new.items()})
            else:
                given = {f: summed_over_batch(product) for f, product in outer.items()}
            given |= {"w": w, **call.fixed, **call.rule_coefs["update"]}
            w = learn["update"].named(given, w.device)["w"].expand(w.shape)
            for name, course in stored.items():
                course.append(made[name])
            for name, course in stored_traces.items():
                course.append(traces[name])
        return PlasticForwardResult(
            {n: _stacked(course, (batch, outs)) for n, course in stored.items()},
            {n: _stacked(course, call.traces[n].shape) for n, course in stored_traces.items()},
            tuple(states),
            traces,
            w,
            _stacked(products, (batch, outs)) if call.store_product else None,
        )


def _fields(rule: PlasticRule, x: Tensor) -> Tensor:
    found = fields_of(rule.node)
    image = x.reshape(-1, found.channels, *found.image)
    return F.unfold(image, found.kernel, found.dilation, found.padding, found.stride)


def _product(rule: PlasticRule, w: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    if fields_of(rule.node) is None:
        product = ordered_product(w, x)
        return product if bias is None else product + bias
    product = ordered_taps(w, _fields(rule, x))
    return (product if bias is None else product + bias.unsqueeze(1)).flatten(1)


def _outer(rule: PlasticRule, post: Tensor, pre: Tensor) -> Tensor:
    if fields_of(rule.node) is None:
        return post.unsqueeze(2) * pre.unsqueeze(1)
    return ordered_positions(post.unflatten(1, (rule.node.post[0], -1)), _fields(rule, pre))


def _stacked(course: list[Tensor], shape: Any) -> Tensor:
    return torch.stack(course) if course else torch.zeros(0, *shape)


def assert_same(got: PlasticForwardResult, want: PlasticForwardResult) -> None:
    """Every value equal to the last bit, and nothing else given."""
    for name in ("stored", "stored_traces", "traces"):
        a, b = getattr(got, name), getattr(want, name)
        assert a.keys() == b.keys()
        for key in b:
            assert a[key].shape == b[key].shape and torch.equal(a[key], b[key]), f"{name} {key}"
    assert torch.equal(got.weight, want.weight), "weight"
    assert all(torch.equal(a, b) for a, b in zip(got.finals, want.finals, strict=True)), "finals"
    assert (got.product is None) == (want.product is None)
    assert want.product is None or torch.equal(got.product, want.product), "product"


def on(case: Case, device: torch.device) -> Case:
    """``case`` on another device."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        if isinstance(value, dict):
            return {k: moved(v) for k, v in value.items()}
        return tuple(map(moved, value)) if isinstance(value, tuple) else value

    return replace(case, call=replace(case.call, **{k: moved(v) for k, v in vars(case.call).items()}))
