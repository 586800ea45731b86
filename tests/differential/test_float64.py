"""Gradients against a float64 replay: the nodes' own step functions, eagerly, under torch's autograd.

The seeds are such that float64 fires the same spikes as float32, which each test checks first. Where rounding of the
membrane alone moves a gradient by more than 1e-5 (a steep surrogate, a sum that cancels), torch's own float32 autograd
is the measure of what float32 can give.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import snncompile as snn
from snncompile import ms

from ..random_models import SURROGATES

N, BATCH, STEPS = 5, 3, 40


def network(neuron: snn.Node) -> snn.Model:
    @snn.model(dt=1 * ms)
    def layer(x=snn.Current(N)):
        return x >> snn.ExpSyn(name="syn") >> neuron

    return layer


def replay(
    nodes: list, net: snn.Network, x: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Spikes of the last node, and gradients by parameter name, in the precision of ``x``."""
    leaves = {n: p.detach().to(x.dtype).requires_grad_() for n, p in net.named_parameters()}
    params, states = [], []
    for name, node in nodes:
        params.append(SimpleNamespace(**{n.split(".")[1]: v for n, v in leaves.items() if n.startswith(f"{name}.")}))
        states.append({s: torch.full((BATCH, N), v, dtype=x.dtype) for s, v in node.states().items()})
    spikes = []
    for t in range(STEPS):
        signal = x[:, t]
        for i, (_, node) in enumerate(nodes):
            out = node.step(SimpleNamespace(**states[i]), SimpleNamespace(x=signal), params[i], 1 * ms)
            states[i] = {s: out[s] for s in states[i]}
            port = next(iter(node.outputs({"x": snn.Current(N).type})))
            signal = out[port]
        spikes.append(signal)
    fired = torch.stack(spikes, 1)
    grads = torch.autograd.grad((fired * weights.to(x.dtype)).sum(), list(leaves.values()))
    return fired.detach(), dict(zip(leaves, (g.double() for g in grads), strict=True))


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm-relative difference."""
    return float((a.double() - b).norm() / b.norm().clamp_min(1e-12))


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "make",
    [
        lambda s: snn.LIF(name="n", surrogate=s),
        lambda s: snn.LIF(name="n", surrogate=s, reset="zero", refractory=2 * ms),
        lambda s: snn.LIF(name="n", surrogate=s, reset=-0.2, v_leak=0.1),
        lambda s: snn.ALIF(name="n", surrogate=s),
        lambda s: snn.CubaLIF(name="n", surrogate=s),
    ],
    ids=["LIF", "LIF-refractory", "LIF-leak", "ALIF", "CubaLIF"],
)
def test_gradients(make, surrogate):
    torch.manual_seed(3)
    node = make(surrogate)
    net = snn.compile(network(node), target="torch")
    x = torch.randn(BATCH, STEPS, N).abs() * 0.15
    weights = torch.randn(BATCH, STEPS, N)
    nodes = [("syn", snn.ExpSyn()), ("n", node)]
    fired, exact = replay(nodes, net, x.double(), weights)
    _, single = replay(nodes, net, x, weights)
    out = net(x)
    assert out.sum() > 20 and torch.equal(out, fired.float()), "float64 fires differently: choose another seed"
    (out * weights).sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        allowed = max(1e-5, 2 * gap(single[name], exact[name]))
        assert gap(p.grad, exact[name]) < allowed, f"{name}: {gap(p.grad, exact[name]):g}, allowed {allowed:g}"
