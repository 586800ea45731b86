"""The plastic workload, STDP: the loop by hand, compiled by torch, and other libraries.

All compute, in each step: the current from the weights as they are, the neuron, both traces, and the additive update
``w + eta*(post pre_trace - post_trace pre)``, clamped to 0 and 1. What they give is the spikes and the final weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain_loop import DECAY_MEM
from benchmarks.workloads.contender import Contender
from benchmarks.workloads.libraries import import_part, library
from benchmarks.workloads.shapes import CHUNK, DT, ETA, TAU_TRACE, Data, Workload

LEAK = DT / TAU_TRACE
Result = tuple[Tensor, Tensor]


def plastic(name: str, group: str, run: Callable[[], Result], reset: str = "subtract") -> Contender:
    """A contender from a function that gives spikes, time first, and final weights."""

    def forward() -> Result:
        with torch.no_grad():
            return run()

    return Contender(
        name, group, forward, output=lambda: forward()[0], reset=reset, weights=lambda: forward()[1]
    )  # fmt: skip


def step(
    w: Tensor, v: Tensor, pre: Tensor, post: Tensor, x: Tensor, reset: str = "subtract"
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One step: weights, potential, traces, spikes."""
    v = v * DECAY_MEM + F.linear(x, w)
    s = (v >= 1.0).float()
    v = v - s if reset == "subtract" else v * (1.0 - s)
    pre = pre + LEAK * (x - pre)
    post = post + LEAK * (s - post)
    w = (w + ETA * (s.t() @ pre - post.t() @ x)).clamp(0.0, 1.0)
    return w, v, pre, post, s


def loop(data: Data, reset: str = "subtract") -> Result:
    """The plain loop."""
    w = data.weights["weight"]
    v = post = torch.zeros(data.x.shape[1], w.shape[0], device=w.device)
    pre = torch.zeros_like(data.x[0])
    spikes = []
    for x in data.x.unbind(0):
        w, v, pre, post, s = step(w, v, pre, post, x, reset)
        spikes.append(s)
    return torch.stack(spikes), w


def plain(_: Workload, data: Data) -> Contender:
    """The plain loop."""
    return plastic("plain loop", "loop", lambda: loop(data))


def compiled(w: Workload, data: Data) -> Contender:
    """The plain loop compiled by ``torch.compile``, in pieces of 25 steps."""
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, dynamic=False)
    def piece(weight: Tensor, v: Tensor, pre: Tensor, post: Tensor, xs: Tensor) -> tuple[Tensor, ...]:
        spikes = []
        for x in xs.unbind(0):
            weight, v, pre, post, s = step(weight, v, pre, post, x)
            spikes.append(s)
        return weight, v, pre, post, torch.stack(spikes)

    def run() -> Result:
        weight = data.weights["weight"]
        v = post = torch.zeros(w.batch, w.size, device=weight.device)
        pre = torch.zeros_like(data.x[0])
        pieces = []
        for xs in data.x.split(CHUNK):
            weight, v, pre, post, spikes = piece(weight, v, pre, post, xs)
            pieces.append(spikes)
        return torch.cat(pieces), weight

    return plastic("torch.compile", "compile", run)


def norse(w: Workload, data: Data) -> Contender:
    """Norse: its STDP step behind its neuron step."""
    stdp = library("norse.torch.functional.stdp")
    box, resets = library("norse.torch.functional.lif_box"), library("norse.torch.functional.reset")
    share = 1 - DECAY_MEM
    inverse = torch.tensor(1 / TAU_TRACE)
    rule = stdp.STDPParameters(
        tau_pre_inv=inverse, tau_post_inv=inverse, eta_plus=ETA, eta_minus=ETA, stdp_algorithm="additive"
    )  # fmt: skip
    cell = box.LIFBoxParameters(tau_mem_inv=torch.tensor(share / DT), reset_method=resets.reset_subtract)

    def run() -> Result:
        weight, spikes = data.weights["weight"], []
        state = box.LIFBoxFeedForwardState(torch.zeros(w.batch, w.size))
        traces = stdp.STDPState(torch.zeros_like(data.x[0]), torch.zeros(w.batch, w.size))
        for x in data.x.unbind(0):
            s, state = box.lif_box_feed_forward_step(F.linear(x, weight) / share, state, cell, DT)
            weight, traces = stdp.stdp_step_linear(x, s, weight, traces, rule, DT)
            spikes.append(s)
        return torch.stack(spikes), weight

    return plastic("Norse", "library", run)


def bindsnet(w: Workload, data: Data) -> Contender:
    """BindsNET: ``PostPre`` between an input and LIF nodes; it resets to a value."""
    networks, nodes, topology, monitors, learning = import_part(
        "bindsnet", "network", "network.nodes", "network.topology", "network.monitors", "learning"
    )
    trace = {"traces": True, "traces_additive": True, "tc_trace": -1 / math.log(1 - LEAK), "trace_scale": LEAK}
    net = networks.Network(dt=1.0, batch_size=w.batch)
    before = nodes.Input(n=w.inputs, **trace)
    after = nodes.LIFNodes(
        n=w.size, **trace, thresh=1.0, rest=0.0, reset=0.0, refrac=0, tc_decay=-1 / math.log(DECAY_MEM)
    )
    net.add_layer(before, "in")
    net.add_layer(after, "out")
    link = topology.Connection(
        before, after, w=data.weights["weight"].t().clone(), wmin=0.0, wmax=1.0,
        update_rule=learning.PostPre, nu=(ETA, ETA),
    )  # fmt: skip
    net.add_connection(link, "in", "out")
    monitor = monitors.Monitor(after, ["s"], time=w.steps)
    net.add_monitor(monitor, "out")

    def run() -> Result:
        before.s = torch.zeros_like(before.s)  # it is the last input itself, which resetting would overwrite
        net.reset_state_variables()
        link.w.copy_(data.weights["weight"].t())
        net.run({"in": data.x}, time=w.steps, one_step=True)
        return monitor.get("s").float(), link.w.t()

    return plastic("BindsNET", "library", run, reset="zero")


LIBRARIES = {"Norse": norse, "BindsNET": bindsnet}
