"""Networks that between them use every node, and what graphs can have: cycles, shared parameters, several outputs."""

from __future__ import annotations

import numpy as np
import torch

import snncompile as snn
from snncompile import ms
from snncompile.ir.graph import Graph
from snncompile.passes.pipeline import Request, compile_graph

TAU = snn.Param(20 * ms, family="taus", constraint="positive")


@snn.neuron(states={"v": 0.0, "w": -0.25}, outputs={"spikes": 1, "w": "membrane"})
def Adapting(v, w, x, inhibition, *, tau=TAU, gain=0.5, dt):
    """A user's neuron with two inputs, two states and a state that is an output."""
    v = v * torch.exp(-dt / tau) + x - torch.relu(inhibition)
    s = snn.spike(v, 1.0)
    return {"v": v - s, "w": w * 0.9 + gain * s, "spikes": s}


@snn.model(dt=1 * ms)
def layered(x=snn.Spikes(6, max=1)):
    return x >> snn.Linear(4) >> snn.ExpSyn(tau=5 * ms) >> snn.LIF(tau_mem=20 * ms)


@snn.model(dt=0.5 * ms)
def recurrent(x=snn.Spikes(6)):
    h = x >> snn.Linear(5, bias=False) >> snn.recurrent(snn.LIF(), via=snn.Linear(5))
    return {"spikes": h, "membrane": h.state("v")}


@snn.model(dt=1 * ms)
def feedback(x=snn.Current(3)):
    back = snn.Feedback(3, name="held")
    cell = snn.IF(name="cell")
    h = (x + back) >> cell
    back.close(h)
    return h, 2 * h


@snn.model(dt=1 * ms)
def shared(x=snn.Spikes(4), y=snn.Current(4)):
    cell, weights = snn.CubaLIF(), snn.Linear(4, init=np.eye(4), mask=np.eye(4), sign=1)
    return (x >> weights >> cell) + (y >> weights >> cell)


@snn.model(dt=1 * ms)
def images(x=snn.Spikes((2, 12, 12), max=1)):
    h = x >> snn.Conv2d(4, 3, padding=1) >> snn.BatchNorm() >> snn.LIF(refractory=2 * ms) >> snn.SumPool2d(2)
    h = h >> snn.Dropout(0.25) >> snn.Conv2d(8, 3, stride=(1, 2), groups=2) >> snn.ALIF() >> snn.MaxPool2d(2)
    return h >> snn.AvgPool2d((2, 1)) >> snn.Flatten() >> snn.Linear(3) >> snn.LI(tau_mem=np.linspace(0.01, 0.02, 3))


@snn.model(dt=1 * ms)
def sequences(x=snn.Current((2, 9))):
    return x >> snn.Conv1d(3, 3, dilation=2) >> snn.AlphaSyn() >> snn.Izhikevich()


@snn.model(dt=1 * ms)
def users(x=snn.Spikes(4), y=snn.Current(4)):
    h = Adapting(tau=snn.Param(10 * ms, layout="neuron", trainable=False))(x=x, inhibition=y)
    return h, h["w"]


MODELS = {m.name: m for m in (layered, recurrent, feedback, shared, images, sequences, users)}


def graphs() -> dict[str, Graph]:
    """Each network as written, and after all passes."""
    found: dict[str, Graph] = {}
    for name, model in MODELS.items():
        found[name] = model.build()
        found[f"{name}-compiled"] = compile_graph(found[name], Request())
    return found
