"""Other libraries on the workloads, each in its own convention, mapped to the same numbers.

Decays are given as the factors they are (where a library takes a time constant of another kind, the one that gives the
same factor), thresholds are 1, one spike at most in a step. Where a library divides its input by a time constant, the
weights are multiplied by it. How each resets is said by its contender.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain_loop import DECAY_MEM, DECAY_SYN, WINDOW
from benchmarks.workloads.contender import Absent, Contender, differentiable
from benchmarks.workloads.loops import conv_net
from benchmarks.workloads.shapes import DT, Data, Workload

Layer = Callable[[Tensor], Tensor]


def library(name: str) -> Any:
    """A module of a library, or :class:`Absent`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        raise Absent(f"not installed (no module {err.name})") from None


def _no_word(w: Workload, kinds: tuple[str, ...], what: str) -> None:
    if w.kind not in kinds:
        raise Absent(f"has no {what}")


FEED_FORWARD = ("lif", "synapse", "recurrent", "conv")


def spikingjelly(w: Workload, data: Data) -> Contender:
    """SpikingJelly, multi-step. Its leak is ``v - v/tau``; its low-pass neuron without spikes is the synapse."""
    _no_word(w, FEED_FORWARD, "plasticity of this form")
    neuron, layer = (library(f"spikingjelly.activation_based.{m}") for m in ("neuron", "layer"))
    functional, surrogate = (library(f"spikingjelly.activation_based.{m}") for m in ("functional", "surrogate"))

    def lif(mode: str = "m") -> Any:
        made = neuron.LIFNode(
            tau=1 / (1 - DECAY_MEM), decay_input=False, v_reset=None, surrogate_function=surrogate.Sigmoid()
        )
        made.step_mode = mode
        return made

    p = data.leaves(**({"weight": 1.0}))
    nodes: list[Any] = []
    if w.kind == "conv":
        nodes = [lif(), lif(), lif()]

        def run() -> Tensor:
            for n in nodes:
                functional.reset_net(n)
            turn = iter(nodes)
            return conv_net(data.x, p, lambda c: next(turn)(c))

    elif w.kind == "recurrent":
        cell = layer.ElementWiseRecurrentContainer(lif("s"), lambda y, x: x + F.linear(y, p["recurrent"]))
        cell.step_mode = "m"

        def run() -> Tensor:
            functional.reset_net(cell)
            return cell(F.linear(data.x, p["weight"], p["bias"]))

    else:
        node, syn = lif(), None
        if w.kind == "synapse":  # i' = i + (x - i)/tau: the weights bear the factor that this lacks
            p = data.scaled(DECAY_SYN / (1 - DECAY_SYN))
            syn = neuron.NonSpikingLIFNode(tau=1 / (1 - DECAY_SYN))

        def run() -> Tensor:
            functional.reset_net(node)
            h = F.linear(data.x, p["weight"], p["bias"])
            return node(torch.stack(syn(h)) if syn is not None else h)

    return differentiable("SpikingJelly", "library", run, p.values(), data)


def norse(w: Workload, data: Data) -> Contender:
    """Norse's step functions in a loop over time: its modules for sequences index time, quadratic in the backward pass.

    Its leak and input are multiplied by ``dt/tau``; a recurrent LIF has a current, here one without memory.
    """
    _no_word(w, FEED_FORWARD, "network of this form here")
    lif, box = library("norse.torch.functional.lif"), library("norse.torch.functional.lif_box")
    share = 1 - DECAY_MEM
    rate, alpha = torch.tensor(share / DT), torch.tensor(10.0)
    p = data.scaled((DECAY_SYN if w.kind == "synapse" else 1.0) / share)

    def over_time(step: Callable[..., Any], xs: Tensor, state: Any, *more: Any) -> Tensor:
        spikes = []
        for x in xs.unbind(0):
            s, state = step(x, state, *more)
            spikes.append(s)
        return torch.stack(spikes)

    def currents() -> Tensor:
        return F.linear(data.x, p["weight"], p["bias"])

    if w.kind in ("synapse", "recurrent"):
        slow = (1 - DECAY_SYN if w.kind == "synapse" else 1.0) / DT
        params = lif.LIFParameters(tau_mem_inv=rate, tau_syn_inv=torch.tensor(slow), alpha=alpha)
        zero = torch.zeros(w.batch, w.size, device=data.x.device)
        if w.kind == "synapse":

            def run() -> Tensor:
                return over_time(lif.lif_feed_forward_step, currents(), lif.LIFFeedForwardState(zero, zero), params)

        else:  # it multiplies its inputs in each step, and has no bias: one more input that always spikes
            x = torch.cat([data.x, torch.ones_like(data.x[..., :1])], -1)

            def run() -> Tensor:
                weight = torch.cat([p["weight"], p["bias"][:, None]], 1)
                return over_time(lif.lif_step, x, lif.LIFState(zero, zero, zero), weight, p["recurrent"], params)

        return differentiable("Norse", "library", run, p.values(), data, reset="zero")

    subtract = library("norse.torch.functional.reset").reset_subtract
    params = box.LIFBoxParameters(tau_mem_inv=rate, alpha=alpha, reset_method=subtract)

    def neurons(xs: Tensor) -> Tensor:
        start = box.LIFBoxFeedForwardState(torch.zeros_like(xs[0]))
        return over_time(box.lif_box_feed_forward_step, xs, start, params)

    run = (lambda: conv_net(data.x, p, neurons)) if w.kind == "conv" else (lambda: neurons(currents()))
    return differentiable("Norse", "library", run, p.values(), data)


def snntorch(w: Workload, data: Data) -> Contender:
    """snnTorch, with its default reset in the step after; the loop over time is the user's there."""
    _no_word(w, FEED_FORWARD, "plasticity")
    snn = library("snntorch")
    surrogate = library("snntorch.surrogate").fast_sigmoid()

    def over_time(neuron: Any, currents: Tensor) -> Tensor:
        state = neuron.reset_mem()
        state = state if isinstance(state, tuple) else (state,)
        spikes = []
        for x in currents.unbind(0):
            found = neuron(x, *state)
            state = found if w.kind == "recurrent" else found[1:]
            spikes.append(found[0])
        return torch.stack(spikes)

    p = data.leaves()
    if w.kind == "conv":
        neurons = [snn.Leaky(beta=DECAY_MEM, spike_grad=surrogate) for _ in range(3)]

        def run() -> Tensor:
            turn = iter(neurons)
            return conv_net(data.x, p, lambda c: over_time(next(turn), c))

    else:
        if w.kind == "synapse":
            p = data.scaled(DECAY_SYN)
            neuron = snn.Synaptic(alpha=DECAY_SYN, beta=DECAY_MEM, spike_grad=surrogate)
        elif w.kind == "recurrent":
            neuron = snn.RLeaky(beta=DECAY_MEM, linear_features=w.size, spike_grad=surrogate)
            neuron.recurrent = torch.nn.Linear(w.size, w.size, bias=False)
            neuron.recurrent.weight = torch.nn.Parameter(p["recurrent"].detach())
            p["recurrent"] = neuron.recurrent.weight
        else:
            neuron = snn.Leaky(beta=DECAY_MEM, spike_grad=surrogate)

        def run() -> Tensor:
            return over_time(neuron, F.linear(data.x, p["weight"], p["bias"]))

    return differentiable("snnTorch", "library", run, p.values(), data, reset="delayed")


def sinabs(w: Workload, data: Data) -> Contender:
    """Sinabs, without EXODUS; time constants in steps."""
    _no_word(w, FEED_FORWARD, "plasticity")
    layers, activation = library("sinabs.layers"), library("sinabs.activation")
    p = data.leaves()
    parts: dict[str, Any] = {
        "tau_mem": -1 / math.log(DECAY_MEM),
        "norm_input": False,
        "spike_fn": activation.SingleSpike,
    }
    x = data.x.transpose(0, 1).contiguous()
    if w.kind == "conv":
        nodes = [frozen(layers.LIF(**parts)) for _ in range(3)]

        def run() -> Tensor:
            turn = iter(nodes)

            def neurons(currents: Tensor) -> Tensor:
                node = next(turn)
                node.reset_states()
                return node(currents.transpose(0, 1)).transpose(0, 1)

            return conv_net(data.x, p, neurons)

        return differentiable("Sinabs", "library", run, p.values(), data)
    if w.kind == "recurrent":
        connect = torch.nn.Linear(w.size, w.size, bias=False)
        connect.weight = torch.nn.Parameter(p["recurrent"].detach())
        p["recurrent"] = connect.weight
        node = layers.LIFRecurrent(rec_connect=connect, **parts)
        node.tau_mem.requires_grad_(False)
    else:
        if w.kind == "synapse":
            parts["tau_syn"] = -1 / math.log(DECAY_SYN)
        node = frozen(layers.LIF(**parts))

    def run() -> Tensor:
        node.reset_states()
        return node(F.linear(x, p["weight"], p["bias"]))

    return differentiable("Sinabs", "library", run, p.values(), data, time_axis=1)


def frozen(module: Any) -> Any:
    """Train nothing of it, as in the other contenders."""
    return module.requires_grad_(False)


def rockpool(w: Workload, data: Data) -> Contender:
    """Rockpool's torch back end. Its LIF has a synapse: where the workload has none, one that forgets at once."""
    _no_word(w, FEED_FORWARD, "plasticity")
    nn = library("rockpool.nn.modules")
    constant = library("rockpool.parameters").Constant
    beta = DECAY_SYN if w.kind == "synapse" else 2.0**-40  # a power of two, so that scaling by it is exact
    p = data.leaves() if w.kind == "synapse" else data.scaled(1 / beta)

    def lif(size: int, **more: Any) -> Any:
        one = constant(torch.tensor(1.0))
        return nn.LIFTorch(
            (size, size) if more else size,
            leak_mode="decays",  # with time constants it computes every decay again in every step
            alpha=constant(torch.tensor(DECAY_MEM)), beta=constant(torch.tensor(beta)),
            threshold=one, bias=constant(torch.tensor(0.0)), learning_window=torch.tensor(WINDOW),
            max_spikes_per_dt=torch.tensor(1.0), dt=DT, **more,
        )  # fmt: skip

    x = data.x.transpose(0, 1).contiguous()
    if w.kind == "conv":
        nodes = [lif(n) for n in (w.size, 2 * w.size, 10)]  # per channel: pixels stand as sequences of the batch

        def run() -> Tensor:
            turn = iter(nodes)

            def neurons(currents: Tensor) -> Tensor:
                node = next(turn)
                node.reset_state()
                if currents.dim() == 3:
                    return node(currents.transpose(0, 1))[0].transpose(0, 1)
                t, b, c = currents.shape[:3]
                out = node(currents.flatten(3).permute(1, 3, 0, 2).flatten(0, 1))[0]
                return out.view(b, -1, t, c).permute(2, 0, 3, 1).reshape(currents.shape)

            return conv_net(data.x, p, neurons)

        return differentiable("Rockpool", "library", run, p.values(), data)
    if w.kind == "recurrent":
        node = lif(w.size, has_rec=True, w_rec=p["recurrent"].detach().t().contiguous())
        p["recurrent"] = node.w_rec
    else:
        node = lif(w.size)

    def run() -> Tensor:
        node.reset_state()
        return node(F.linear(x, p["weight"], p["bias"]))[0]

    return differentiable("Rockpool", "library", run, p.values(), data, time_axis=1)


def import_part(package: str, *parts: str) -> list[Any]:
    """Modules of a package without running the package's own ``__init__``, which may want far more than they do."""
    if package not in sys.modules:
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise Absent("not installed")
        stand_in = types.ModuleType(package)
        stand_in.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[package] = stand_in
    return [library(f"{package}.{part}") for part in parts]


LIBRARIES: dict[str, Callable[[Workload, Data], Contender]] = {
    "SpikingJelly": spikingjelly,
    "Norse": norse,
    "snnTorch": snntorch,
    "Sinabs": sinabs,
    "Rockpool": rockpool,
}
