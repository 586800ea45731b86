"""Weights as int8, one scale for each output channel, and products whose inputs are int8, too.

Quantisation happens before the export, on the graph: each product gets the weights that its int8 codes stand for, and a
:class:`Quantize` before it where its input is rounded. So the torch reference computes the quantised network, and the
file is held against that, region by region, like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.errors import InterchangeError
from snncompile.ir.graph import Graph, Ref
from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.regions import choose_regions
from snncompile.ir.types import SignalType
from snncompile.targets.onnx.parts import Request
from snncompile.targets.torch.products import folded

KINDS = ("int8",)

#: The largest code. Weights use -127 to 127, so that a weight and its negative are equally exact.
TOP = 127

_ROUND = 12582912.0  # 1.5 * 2**23: added and taken away again, it rounds to the nearest whole number, halves to even


@dataclass(frozen=True, eq=False)
class Quantize(ElementwiseNode):
    """What ``QuantizeLinear`` and ``DequantizeLinear`` with int8 make of a signal.

    ``y = round(x / scale)`` (halves to even) within -128 and 127, times ``scale``; no state.

    Attributes:
        scale: what one code stands for.
    """

    scale: float = 1.0

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """A signal of the same kind."""
        (given,) = inputs.values()
        return {"y": replace(given, max=None if given.max is None else min(given.max, TOP))}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        code = torch.clamp(x.x / self.scale, -128.0, 127.0)
        return {"y": ((code + _ROUND) - _ROUND) * self.scale}


@dataclass(frozen=True)
class Int8:
    """The weight of one product.

    Attributes:
        name: of the weight that it stands for.
        codes: int8, in the weight's shape.
        scale: float32, one for each output channel.
        value: ``codes * scale``, the weight that acts.
    """

    name: str
    codes: np.ndarray
    scale: np.ndarray
    value: Tensor

    def on_grid(self, grid: float) -> Int8:
        """These weights as whole multiples of ``1 / grid``, so that sums of spikes are exact."""
        codes = np.clip(np.rint(self.value.numpy() * grid), -TOP, TOP).astype(np.int8)
        return of_codes(self.name, codes, np.full_like(self.scale, 1 / grid))


def checked_kind(quantize: str | None, calibrated: bool) -> None:
    """Raise :class:`InterchangeError` where there is no such quantisation, or no data for it."""
    if quantize is None:
        if calibrated:
            raise InterchangeError("calibration data is for a quantised file: quantize='int8' (--quantize int8)")
        return
    if quantize not in KINDS:
        raise InterchangeError(f"there is no quantisation {quantize!r}; there is: {', '.join(KINDS)}")
    if not calibrated:
        raise InterchangeError(
            "quantisation needs data like that which the network will see: calibrate=DATA.npz (--calibrate DATA.npz)"
        )


def products(graph: Graph) -> dict[str, bool]:
    """Product -> whether it stands outside all cycles, in the order of the graph."""
    cycles = {n for r in graph.regions or choose_regions(graph) if r.kind == "recurrent" for n in r.nodes}
    return {n: n not in cycles for n, op in graph.of_type(Connection) if op.kind in PRODUCTS}


def quantize(request: Request, extents: Mapping[Ref, float]) -> tuple[Request, dict[str, str]]:
    """The request for the quantised network, and for each product how its input is stored, in words.

    Args:
        request: the network in float32.
        extents: port that feeds a product outside cycles -> its largest size in the calibration data.

    Raises:
        InterchangeError: where there is nothing to quantise.
    """
    found = products(request.graph)
    if not found:
        raise InterchangeError("there is nothing to quantise: the network has no Linear, Conv1d or Conv2d")
    graph, values = request.graph.copy(), dict(request.values)
    weights: dict[str, Int8] = {}
    inputs: dict[str, str] = {}
    rounding: dict[str, float] = {}
    for name, free in found.items():
        op: Connection = graph.op(name)
        weights[name], plain, given = _baked(name, op, request.values)
        graph.nx.nodes[name]["op"] = plain
        values.update(given)
        if not free:
            inputs[name] = "float32, in a cycle"
            continue
        (edge,) = graph.inputs_of(name).values()
        scale, inputs[name] = _stored(op.input, extents[edge.source])
        if scale is not None:
            between = _free(graph, f"{name}_input")
            node = Quantize(scale=scale).lower(between, {"x": op.input}, graph.dt, graph.where(name))
            graph.add(between, node, {"x": edge}, graph.where(name))
            graph.connect(name, "x", Ref(between, "y"))
            rounding[between] = scale
    graph = replace(graph, regions=choose_regions(graph))
    return replace(request, graph=graph, values=values, int8=weights, rounding=rounding), inputs


def _baked(
    name: str, op: Connection, values: Mapping[str, Tensor]
) -> tuple[Int8, Connection, dict[str, Tensor]]:
    """The product with nothing folded into it and the weights of its codes; and its values."""
    own = {role: values[p.name] for role, p in op.params.items()}
    weight, bias = folded(op, own)
    weight = weight.detach().cpu()
    as_it_is = weight.data_ptr() == own["weight"].data_ptr()
    stem = op.params["weight"].name if as_it_is else f"{name}.weight.folded"
    per_channel = np.abs(weight.numpy()).reshape(len(weight), -1).max(1)
    scale = np.where(per_channel > 0, per_channel / np.float32(TOP), 1).astype(np.float32)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    codes = np.rint(weight.numpy() / scale.reshape(-1, *(1,) * (weight.dim() - 1)))
    int8 = of_codes(stem, np.clip(codes, -TOP, TOP).astype(np.int8), scale)
    params = {"weight": replace(op.params["weight"], name=f"{name}.weight", shape=tuple(weight.shape))}
    given = {f"{name}.weight": int8.value}
    if bias is not None:
        kept = op.params.get("bias", op.params["weight"])
        params["bias"] = replace(kept, name=f"{name}.bias", shape=tuple(bias.shape))
        given[f"{name}.bias"] = bias.detach().cpu()
    return int8, replace(op, params=params), given


def of_codes(name: str, codes: np.ndarray, scale: np.ndarray) -> Int8:
    """The weight that codes stand for, by the arithmetic of ``DequantizeLinear``."""
    wide = scale.reshape(-1, *(1,) * (codes.ndim - 1))
    return Int8(name, codes, scale, torch.from_numpy(codes.astype(np.float32) * wide))


def _stored(type: SignalType, largest: float) -> tuple[float | None, str]:
    """The scale of a product's input (None: it stays float32), and why."""
    if type.kind == "spikes":
        if (type.max or 1) <= TOP:
            return 1.0, "int8 spike counts, exact"
        if largest <= TOP:
            return 1.0, f"int8 spike counts, exact up to {TOP} in a step (calibration: at most {largest:g})"
        return None, f"float32: calibration has {largest:g} spikes in a step, and int8 ends at {TOP}"
    if largest == 0:
        return None, "float32: 0 throughout the calibration data"
    scale = float(np.float32(largest / TOP))
    if not scale > np.finfo(np.float32).tiny:
        return None, f"float32: at most {largest:g} in the calibration data"
    return scale, f"int8 times {scale:.4g} (calibration: up to {largest:.4g})"


def _free(graph: Graph, name: str) -> str:
    while name in graph.nx:
        name += "_"
    return name
