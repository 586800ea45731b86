"""The workloads as compiled networks."""

from __future__ import annotations

import inspect
import time
from typing import Any

import torch
from torch import Tensor

import snncompile as snn
from benchmarks.plain_loop import TAU_MEM, TAU_SYN
from benchmarks.workloads.contender import Contender, differentiable
from benchmarks.workloads.shapes import DT, ETA, TAU_TRACE, Data, Workload


def spikes(w: Workload, hint: bool = True) -> Any:
    """The input's declaration, with its density where the language has a word for it."""
    known = inspect.signature(snn.Spikes).parameters
    more = {"density": w.density} if hint and "density" in known else {}
    return snn.Spikes(w.features if w.kind == "conv" else w.inputs, max=1, **more)


def fixed(value: float) -> snn.Param:
    """A number that is not trained, as in the other contenders."""
    return snn.Param(value, layout="scalar", trainable=False)


def neuron(**more: Any) -> snn.LIF:
    """The neuron of all workloads."""
    parts = {"tau_mem": fixed(TAU_MEM), "threshold": fixed(1.0), "bias": fixed(0.0), "max_spikes_per_dt": 1}
    return snn.LIF(**(parts | more))


def model(w: Workload, hint: bool = True) -> Any:
    """The workload as a model."""

    @snn.model(dt=DT)
    def net(x=spikes(w, hint)):  # type: ignore[no-untyped-def]  # noqa: B008
        if w.kind == "conv":
            h = x >> snn.Conv2d(w.size, 5, name="conv1") >> neuron() >> snn.AvgPool2d(2)
            h = h >> snn.Conv2d(2 * w.size, 5, name="conv2") >> neuron() >> snn.AvgPool2d(2)
            return h >> snn.Flatten() >> snn.Linear(10, name="linear") >> neuron()
        if w.kind == "plastic":
            linear = snn.Linear(w.size, bias=False, name="linear")
            h = x >> linear >> neuron()
            rule = snn.STDP(eta_plus=ETA, eta_minus=ETA, tau_pre=TAU_TRACE, tau_post=TAU_TRACE, algorithm="additive")
            snn.learn(linear, rule)
            return h
        h = x >> snn.Linear(w.size, name="linear")
        if w.kind == "recurrent":
            return h >> snn.recurrent(neuron(), via=snn.Linear(w.size, bias=False, name="recurrent"))
        if w.kind == "synapse":
            h = h >> snn.ExpSyn(tau=fixed(TAU_SYN))
        return h >> neuron()

    return net


def compiled(
    w: Workload, data: Data, target: str, hint: bool = True, checkpoint: int | None = None
) -> snn.Network:
    """The workload's network with the data's weights."""
    net = snn.compile(model(w, hint), target=target, checkpoint=checkpoint).to(data.x.device)
    held = dict(net.state_dict())
    with torch.no_grad():
        for name, value in data.weights.items():
            own = f"{name}.weight" if name == "recurrent" else name if "." in name else f"linear.{name}"
            held[own].copy_(value)
    return net


def ours(target: str, hint: bool = True, checkpoint: int | None = None, label: str = "") -> Any:
    """A builder of the contender on ``target``."""

    def build(w: Workload, data: Data) -> Contender:
        start = time.perf_counter()
        net = compiled(w, data, target, hint, checkpoint)
        x = data.x.transpose(0, 1).contiguous()
        title = label or f"snncompile {target}"
        if w.kind == "plastic":
            made = _plastic(title, net, x)
        else:
            named = {n: p for n, p in net.named_parameters() if p.requires_grad}
            short = {n if w.kind == "conv" else _data_name(n): p for n, p in named.items()}
            made = differentiable(
                title, "ours", lambda: net(x), short.values(), data, time_axis=1, names=short
            )  # fmt: skip
        made.built = time.perf_counter() - start
        return made

    return build


def _data_name(name: str) -> str:
    return {"recurrent.weight": "recurrent", "linear.weight": "weight", "linear.bias": "bias"}.get(name, name)


def _plastic(title: str, net: snn.Network, x: Tensor) -> Contender:
    def forward() -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            out, state, _ = net.evolve(x)
        return out, state

    def weights() -> Tensor:
        return next(v for n, v in forward()[1].items() if n.endswith("weight"))

    return Contender(
        title, "ours", forward, output=lambda: forward()[0].transpose(0, 1), weights=weights
    )  # fmt: skip
