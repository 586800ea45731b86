"""What one writes by hand: a loop over time, that loop under ``torch.compile``, and the products alone.

All take the product of all steps at once where the network allows it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain_loop import DECAY_MEM, DECAY_SYN, Spike
from benchmarks.workloads.contender import Contender, differentiable
from benchmarks.workloads.shapes import CHUNK, Data, Workload


def fire(v: Tensor, s: Tensor, reset: str) -> tuple[Tensor, Tensor]:
    """Spikes, and the potential after them; ``s`` are those of the step before."""
    if reset == "delayed":
        v = v - s
    s = Spike.apply(v)
    if reset == "subtract":
        v = v - s
    elif reset == "zero":
        v = v * (1.0 - s)
    return v, s


def lif(currents: Tensor, reset: str = "subtract") -> Tensor:
    """Currents to spikes, time first."""
    v = s = torch.zeros_like(currents[0])
    spikes = []
    for x in currents.unbind(0):
        v, s = fire(v * DECAY_MEM + x, s, reset)
        spikes.append(s)
    return torch.stack(spikes)


def synapse_lif(currents: Tensor, reset: str = "subtract") -> Tensor:
    """The same behind an exponential synapse."""
    i = v = s = torch.zeros_like(currents[0])
    spikes = []
    for x in currents.unbind(0):
        i = (i + x) * DECAY_SYN
        v, s = fire(v * DECAY_MEM + i, s, reset)
        spikes.append(s)
    return torch.stack(spikes)


def recurrent_lif(currents: Tensor, weight: Tensor, reset: str = "subtract") -> Tensor:
    """The same with the spikes of the step before fed back."""
    v = s = torch.zeros_like(currents[0])
    spikes = []
    for x in currents.unbind(0):
        v, s = fire(v * DECAY_MEM + (x + F.linear(s, weight)), s, reset)
        spikes.append(s)
    return torch.stack(spikes)


def conv_net(x: Tensor, p: dict[str, Tensor], neurons: Callable[[Tensor], Tensor] = lif) -> Tensor:
    """The convolutional network; ``neurons`` maps currents to spikes, time first."""
    steps, batch = x.shape[:2]  # `view`, since `unflatten` is nothing that torch.compile can trace
    h = F.conv2d(x.flatten(0, 1), p["conv1.weight"], p["conv1.bias"])
    h = F.avg_pool2d(neurons(h.view(steps, batch, *h.shape[1:])).flatten(0, 1), 2)
    h = F.conv2d(h, p["conv2.weight"], p["conv2.bias"])
    h = F.avg_pool2d(neurons(h.view(steps, batch, *h.shape[1:])).flatten(0, 1), 2)
    h = F.linear(h.flatten(1), p["linear.weight"], p["linear.bias"])
    return neurons(h.view(steps, batch, *h.shape[1:]))


def network(w: Workload, x: Tensor, p: dict[str, Tensor], reset: str = "subtract") -> Tensor:
    """The workload as a plain loop."""
    if w.kind == "conv":
        return conv_net(x, p, lambda c: lif(c, reset))
    currents = F.linear(x, p["weight"], p["bias"])
    if w.kind == "recurrent":
        return recurrent_lif(currents, p["recurrent"], reset)
    return (synapse_lif if w.kind == "synapse" else lif)(currents, reset)


def plain(w: Workload, data: Data) -> Contender:
    """The plain loop."""
    p = data.leaves()
    return differentiable("plain loop", "loop", lambda: network(w, data.x, p), p.values(), data, names=p)


def compiled(w: Workload, data: Data) -> Contender:
    """The plain loop compiled by ``torch.compile``, in pieces of 25 steps that hand their state on."""
    p = data.leaves()
    torch._dynamo.reset()

    if w.kind == "conv":  # as many steps as one piece
        whole = torch.compile(conv_net, fullgraph=True, dynamic=False)
        return differentiable("torch.compile", "compile", lambda: whole(data.x, p), p.values(), data, names=p)

    @torch.compile(fullgraph=True, dynamic=False)
    def piece(i: Tensor, v: Tensor, s: Tensor, currents: Tensor, weight: Tensor | None) -> tuple[Tensor, ...]:
        spikes = []
        for x in currents.unbind(0):
            if w.kind == "synapse":
                i = (i + x) * DECAY_SYN
                x = i
            if weight is not None:
                x = x + F.linear(s, weight)
            v, s = fire(v * DECAY_MEM + x, s, "subtract")
            spikes.append(s)
        return i, v, s, torch.stack(spikes)

    def run() -> Tensor:
        currents = F.linear(data.x, p["weight"], p["bias"])
        i = v = s = torch.zeros_like(currents[0])
        pieces = []
        for part in currents.split(CHUNK):
            i, v, s, spikes = piece(i, v, s, part, p.get("recurrent"))
            pieces.append(spikes)
        return torch.cat(pieces)

    return differentiable("torch.compile", "compile", run, p.values(), data, names=p)


def products(w: Workload, data: Data) -> Contender:
    """The dense products alone, forward and backward, on data of the same shape: a floor for dense arithmetic."""
    p = data.leaves()
    if w.kind == "conv":
        return _conv_products(w, data, p)
    shape = (w.steps, w.batch, w.size)
    grad = torch.rand(shape, device=data.x.device)
    spikes = (torch.rand(shape, device=data.x.device) < 0.1).float()

    if w.kind == "plastic":
        weight = data.weights["weight"]

        def each() -> None:
            for x in data.x.unbind(0):
                F.linear(x, weight)

        return Contender("products alone", "floor", each)

    def forward() -> None:
        with torch.no_grad():
            F.linear(data.x, p["weight"], p["bias"])
            if w.kind == "recurrent":
                for s in spikes.unbind(0):
                    F.linear(s, p["recurrent"])

    def both() -> None:
        p["weight"].grad = p["bias"].grad = None
        F.linear(data.x, p["weight"], p["bias"]).backward(grad)
        if w.kind == "recurrent":
            with torch.no_grad():
                for s, g in zip(spikes.unbind(0), grad.unbind(0), strict=True):
                    F.linear(s, p["recurrent"])
                    g @ p["recurrent"]
                grad.flatten(0, 1).t() @ spikes.flatten(0, 1)

    return Contender("products alone", "floor", forward, both)


def _conv_products(w: Workload, data: Data, p: dict[str, Tensor]) -> Contender:
    def layer(x: Tensor, name: str) -> Tensor:
        fn = F.linear if name == "linear" else F.conv2d
        return fn(x, p[f"{name}.weight"], p[f"{name}.bias"])

    names = ("conv1", "conv2", "linear")
    side = (w.inputs - 4) // 2
    last = (side - 4) // 2
    frames = w.steps * w.batch
    shapes = ((w.size, side, side), (2 * w.size * last * last,))
    inputs = [data.x.flatten(0, 1)]
    inputs += [(torch.rand(frames, *s, device=data.x.device) < 0.1).float().requires_grad_() for s in shapes]
    with torch.no_grad():
        grads = [torch.rand_like(layer(x, n)) for x, n in zip(inputs, names, strict=True)]

    def forward() -> None:
        with torch.no_grad():
            for x, n in zip(inputs, names, strict=True):
                layer(x, n)

    def both() -> None:
        for leaf in (*p.values(), *inputs):
            leaf.grad = None
        for x, n, g in zip(inputs, names, grads, strict=True):
            layer(x, n).backward(g)

    return Contender("products alone", "floor", forward, both)
