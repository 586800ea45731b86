"""What must hold for one connection on its own: settings, parameters and shapes, by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from snncompile.ir.connection import CONNECTIONS, HINTS, INTERPOLATIONS, PRODUCTS, Connection
from snncompile.ir.params import channel_shape
from snncompile.ir.plasticity import PLASTIC
from snncompile.ir.verify_nodes import LIMITS, Fault, check_identifiers, check_params, check_type

_WEIGHTED = ({"weight"}, {"bias", "mask", "sign"})
_NORM = {"norm_running_mean", "norm_running_var"}
_ROLES: Mapping[str, tuple[set[str], set[str]]] = {
    **dict.fromkeys(PRODUCTS, _WEIGHTED),
    "Delay": (set(), {"steps"}),
    "DelayedLinear": (_WEIGHTED[0], _WEIGHTED[1] | {"steps"}),
    "BatchNorm": ({"running_mean", "running_var"}, {"weight", "bias"}),
    "Sparse": ({"weight", "targets", "counts"}, {"bias", "sign"}),
}


def check_connection(op: Connection) -> None:
    """Raise :class:`Fault` where ``op`` is not what its kind says."""
    if op.kind not in CONNECTIONS:
        raise Fault(f"{op.kind!r} is no kind of connection; known: {', '.join(CONNECTIONS)}")
    check_type(op.input, "its input")
    check_type(op.output, "its output")
    check_identifiers(op.members, "a source node")
    check_params(op.params)
    folded = op.kind in PRODUCTS and any(role.startswith("norm_") for role in op.params)
    scaled = {"scale_factor"} if op.kind in PRODUCTS else set()
    hints = {*HINTS.get(op.kind, ())}
    learning = {"plastic"} if op.kind in PLASTIC else set()
    _keys("setting", op.attrs, {*CONNECTIONS[op.kind], *(["norm_eps"] if folded else [])}, learning | hints)
    if op.attrs.get("plastic", True) is not True:
        raise Fault(f"plastic is {op.attrs['plastic']!r}; it is true, or not there")
    if op.plastic and (folded or "scale_factor" in op.params):
        raise Fault("nothing is folded into a weight that learns")
    needed, more = _ROLES.get(op.kind, (set(), set()))
    norm = (_NORM, {"norm_weight", "norm_bias"}) if folded else (set(), set())
    _keys("parameter", op.params, needed | norm[0], more | norm[1] | scaled)
    features, shapes = _RULES[op.kind](op)
    if op.output.shape != features:
        raise Fault(f"{op.kind} of {op.input.shape} gives {features}, not {op.output.shape}")
    for role, p in op.params.items():
        wanted = shapes.get(role, features[:1])
        if role == "scale_factor":  # one value for all, or one per channel
            wanted = channel_shape(features) if p.shape else ()
        if p.shape != wanted:
            raise Fault(f"the parameter {role!r} has shape {p.shape}, {op.kind} needs {wanted}")


def _keys(what: str, given: Mapping[str, object], needed: set[str], more: set[str]) -> None:
    for key in given:
        if key not in needed | more:
            raise Fault(f"unknown {what} {key!r}")
    for key in sorted(needed):
        if key not in given:
            raise Fault(f"the {what} {key!r} is missing")


Shape = tuple[int, ...]
Shapes = tuple[Shape, Mapping[str, Shape]]


def _linear(op: Connection) -> Shapes:
    density = op.attrs.get("density", 1.0)
    if isinstance(density, bool) or not isinstance(density, (int, float)) or not 0 < density <= 1:
        raise Fault(f"density is {density!r}, not a share above 0, up to 1")
    weight = op.params["weight"].shape
    if len(op.input.shape) != 1 or len(weight) != 2 or weight[1] != op.input.shape[0]:
        raise Fault(f"a weight of {weight} does not fit features {op.input.shape}")
    return weight[:1], _like(weight, weight)


def _sparse(op: Connection) -> Shapes:
    out, weight = op.attrs["out"], op.params["weight"].shape
    if isinstance(out, bool) or not isinstance(out, int) or out < 1:
        raise Fault(f"out is {out!r}, not a whole number of at least 1")
    if len(op.input.shape) != 1 or len(weight) != 1:
        raise Fault(f"synapses of {weight} do not fit features {op.input.shape}: both have one axis")
    return (out,), {"weight": weight, "targets": weight, "sign": weight, "counts": op.input.shape}


def _like(weight: Shape, effective: Shape) -> Mapping[str, Shape]:
    return {"weight": weight, "mask": effective, "sign": effective}


def _conv(op: Connection) -> Shapes:
    dims = 1 if op.kind == "Conv1d" else 2
    weight = op.params["weight"].shape
    stride, padding, dilation = (_per_dim(op, k, dims, int(k != "padding")) for k in ("stride", "padding", "dilation"))
    groups = op.attrs["groups"]
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise Fault(f"groups is {groups!r}, not a whole number of at least 1")
    if len(op.input.shape) != dims + 1 or len(weight) != dims + 2:
        raise Fault(f"a weight of {weight} does not fit features {op.input.shape}")
    if weight[1] * groups != op.input.shape[0] or weight[0] % groups:
        raise Fault(f"a weight of {weight} in {groups} groups does not fit features {op.input.shape}")
    counts = _windows(op.input.shape[1:], weight[2:], stride, padding, dilation)
    return (weight[0], *counts), _like(weight, weight)


def _pool(op: Connection) -> Shapes:
    kernel, stride = _per_dim(op, "kernel_size", 2, 1), _per_dim(op, "stride", 2, 1)
    padding = _per_dim(op, "padding", 2, 0)
    if len(op.input.shape) != 3:
        raise Fault(f"{op.kind} takes features (channels, height, width), not {op.input.shape}")
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise Fault(f"padding {padding} is more than half of kernel_size {kernel}")
    return (op.input.shape[0], *_windows(op.input.shape[1:], kernel, stride, padding, (1, 1))), {}


def _per_dim(op: Connection, key: str, dims: int, least: int) -> Shape:
    value = op.attrs[key]
    whole = isinstance(value, tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not whole or len(value) != dims or min(value) < least:
        raise Fault(f"{key} is {value!r}, not {dims} whole numbers of at least {least}")
    return value


def _windows(size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape:
    counts = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        if d * (k - 1) + 1 > n + 2 * p:
            raise Fault(f"a kernel of {kernel} is larger than the image {size}")
        counts.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
    return tuple(counts)


def _flatten(op: Connection) -> Shapes:
    return (op.input.size,), {}


def _dropout(op: Connection) -> Shapes:
    p = op.attrs["p"]
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
        raise Fault(f"p is {p!r}, not a probability below 1")
    return op.input.shape, {}


def _norm(op: Connection) -> Shapes:
    eps, momentum = op.attrs["eps"], op.attrs["momentum"]
    for key, value in (("eps", eps), ("momentum", momentum)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise Fault(f"{key} is {value!r}, not a number of at least 0")
    return op.input.shape, {}


def _least(op: Connection) -> None:
    """What a cycle counts on is so: nothing newer is read."""
    import torch

    from snncompile.ir.delay import read

    seen = int(read(torch.tensor(op.attrs["steps"], dtype=torch.float64), op.rule).index)
    if seen < op.attrs["least"]:
        raise Fault(f"least is {op.attrs['least']}, but it reads what is {seen} steps old")


def _delay(op: Connection) -> Shapes:
    a = op.attrs
    for key in ("limit", "tau", "tolerance"):
        if not isinstance(a[key], float) or not isfinite(a[key]) or a[key] < 0:
            raise Fault(f"{key} is {a[key]!r}, not a number of steps of at least 0")
    if a["limit"] > LIMITS.steps:
        raise Fault(f"its longest delay of {a['limit']:g} steps is over the limit of {LIMITS.steps}")
    if a["interpolation"] not in INTERPOLATIONS:
        raise Fault(f"interpolation is {a['interpolation']!r}, not one of {', '.join(INTERPOLATIONS)}")
    if a["overbound"] != "limit" and (not isinstance(a["overbound"], float) or not isfinite(a["overbound"])):
        raise Fault(f"overbound is {a['overbound']!r}, neither a number nor 'limit'")
    if isinstance(a["least"], bool) or not isinstance(a["least"], int) or not 0 <= a["least"] <= max(op.depth, 0):
        raise Fault(f"least is {a['least']!r}, not a whole number of steps up to {op.depth}")
    if a["steps"] == "given" and "steps" not in op.params:
        raise Fault("the parameter 'steps' is missing")
    single = isinstance(a["steps"], float) and isfinite(a["steps"])
    if a["steps"] != "given" and ("steps" in op.params or not single):
        raise Fault(f"steps is {a['steps']!r}, neither a number nor 'given' as a parameter")
    if single and a["least"]:
        _least(op)
    if op.depth * op.input.size > LIMITS.values:
        raise Fault(f"its history holds {op.depth * op.input.size} values, more than the limit of {LIMITS.values}")
    if op.kind == "DelayedLinear":
        features, shapes = _linear(op)
        return features, {**shapes, "steps": op.params["weight"].shape}
    shape = op.params["steps"].shape if "steps" in op.params else ()
    if len(shape) > len(op.input.shape):  # several delays for each: one more axis
        padded = op.input.shape
        if len(shape) != len(padded) + 1 or any(s not in (1, n) for s, n in zip(shape, padded, strict=False)):
            raise Fault(f"delays of shape {shape} do not fit features {op.input.shape}")
        return (*op.input.shape, shape[-1]), {"steps": shape}
    padded = (1,) * (len(op.input.shape) - len(shape)) + shape
    if any(s not in (1, n) for s, n in zip(padded, op.input.shape, strict=True)):
        raise Fault(f"delays of shape {shape} do not fit features {op.input.shape}")
    return op.input.shape, {"steps": shape}


_RULES = {
    "Linear": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "MaxPool2d": _pool,
    "Flatten": _flatten,
    "Dropout": _dropout,
    "BatchNorm": _norm,
    "Sparse": _sparse,
    "Delay": _delay,
    "DelayedLinear": _delay,
}
