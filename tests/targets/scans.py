"""Scans to test with: steps written as a user would write them."""

import torch

from snncompile.ir.elementwise import Elementwise, OutPort, State
from snncompile.ir.trace import trace, trace_reverse
from snncompile.targets.scan import Scan, make_scan


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, threshold):
        ctx.save_for_backward(v, threshold)
        return (v >= threshold).float()

    @staticmethod
    def backward(ctx, grad):
        v, threshold = ctx.saved_tensors
        slope = 1.0 / (1.0 + torch.abs(v - threshold) * 5.0)
        grad = grad * slope * slope
        return grad, -grad


def build(name, step, states, inputs, outputs, params) -> Scan:
    """The scan of ``step``, whose arguments are states, inputs and parameters in this order."""
    names = (*states, *inputs, *params)
    results = (*states, *(o for o in outputs if o not in states))
    node = Elementwise(
        name,
        (5,),
        inputs,
        tuple(OutPort(o, f"{name}.{o}", None) for o in outputs),
        tuple(State(s, f"{name}.{s}") for s in states),
        dict.fromkeys(params),
        trace(step, names, what=name),
        trace_reverse(step, names, results, what=name),
        (name,),
    )
    return make_scan(name, node)


def lif() -> Scan:
    """Leaky integrate and fire, subtracting reset, trainable time constant, threshold and bias."""

    def step(v, x, tau, threshold, bias):
        v = v * torch.exp(-1e-3 / tau) + x + bias
        spikes = _Spike.apply(v, threshold)
        v = v - spikes * threshold
        return {"v": v, "spikes": spikes}

    return build("lif", step, ("v",), ("x",), ("spikes",), ("tau", "threshold", "bias"))


def chain() -> Scan:
    """Synapse, adaptive neuron, two inputs, refractoriness: four states, one of them counting."""

    def step(i, v, a, wait, exc, inh, decay, leak):
        i = i * decay + exc - inh
        v = torch.where(wait > 0.0, v * leak, v * leak + i - a)
        spikes = _Spike.apply(v, torch.ones_like(v))
        v = torch.where(spikes > 0.0, 0.0, v)
        a = a * 0.9 + spikes * 0.25
        wait = torch.clamp(torch.where(spikes > 0.0, 2.0, wait - 1.0), min=0.0)
        return {"i": i, "v": v, "a": a, "wait": wait, "spikes": spikes}

    states = ("i", "v", "a", "wait")
    return build("chain", step, states, ("exc", "inh"), ("spikes",), ("decay", "leak"))


def awkward() -> Scan:
    """Every operation, names that mean something in Python, and an output that is one number."""

    def step(tl, float, x, range, scale):
        y = torch.sigmoid(x * scale) + torch.tanh(tl) * torch.exp(-torch.abs(float))
        tl = torch.floor(y * 4.0) - torch.ceil(x) + torch.sqrt(torch.abs(tl) + 1e-40)
        q = torch.maximum(tl, x) / torch.minimum(scale, torch.abs(x) + 0.5)
        both = (q > y) & (x <= 1.0) | ~(y != x)
        float = torch.where(both, q * 0.5, -q * 0.25) + (x == range) * 0.125
        return {"tl": torch.clamp(tl, -3.0, 3.0), "float": float, "print": scale * 2.0, "y": y}

    return build("awkward", step, ("tl", "float"), ("x", "range"), ("y", "print"), ("scale",))


def integrator() -> Scan:
    """A state that is its own output, without parameters."""

    def step(v, x):
        v = v + x * 0.5
        return {"v": v}

    return build("integrator", step, ("v",), ("x",), ("v",), ())


def stateless() -> Scan:
    """A neuron without state."""

    def step(x, threshold):
        return {"spikes": _Spike.apply(x, threshold)}

    return build("stateless", step, (), ("x",), ("spikes",), ("threshold",))


def constant() -> Scan:
    """A state that is always the same number, one of them a negative zero, one made of a coefficient alone."""

    def step(a, b, c, x, rest):
        return {"a": torch.full_like(a, -0.0), "b": torch.full_like(b, 0.5), "c": rest * 2.0, "y": a + b * x + c}

    return build("constant", step, ("a", "b", "c"), ("x",), ("y",), ("rest",))


ALL = {fn.__name__: fn for fn in (lif, chain, awkward, integrator, stateless)}
