"""NIR's connections: products, pooling and changes of shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from snncompile.interop.nir.neurons import numbers
from snncompile.ir.errors import InterchangeError
from snncompile.ir.nodes import AvgPool2d, Conv1d, Conv2d, Flatten, Linear, Node, Scale, SumPool2d

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """A node for a connection.

    Attributes:
        node: None where the signal goes through unchanged.
        values: role -> first value, for what the node itself cannot be given.
    """

    node: Node | None
    values: dict[str, np.ndarray] = field(default_factory=dict)


def linear(name: str, node: Any, shape: Shape) -> Made:
    """``W x``, or ``W x + b``."""
    weight = numbers(node, "weight")
    if weight.ndim != 2:
        raise InterchangeError(f"its weight has shape {weight.shape}; only a matrix (out, in) can be represented")
    expect(shape, (weight.shape[1],), "its weight takes")
    bias = _bias(node, weight.shape[0]) if hasattr(node, "bias") else None
    made = Linear(weight.shape[0], init=weight, bias=bias is not None, name=name)
    return Made(made, {} if bias is None else {"bias": bias})


def conv(name: str, node: Any, shape: Shape) -> Made:
    """A convolution over positions or images."""
    two = type(node).__name__ == "Conv2d"
    dims = 2 if two else 1
    weight = numbers(node, "weight")
    if weight.ndim != dims + 2:
        raise InterchangeError(f"its weight has shape {weight.shape}; it needs {dims + 2} dimensions")
    groups = whole("groups", node.groups)
    if len(shape) != dims + 1:
        raise InterchangeError(f"it takes {dims + 1} dimensions, channels first, but is given {shape}")
    said = None if node.input_shape is None else tuple(int(n) for n in np.atleast_1d(node.input_shape))
    expect(shape, (weight.shape[1] * groups, *(said or shape[1:])), "its weight and input_shape take")
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        padding = whole_each("padding", padding, dims)
    options: dict[str, Any] = {
        "stride": whole_each("stride", node.stride, dims),
        "padding": 0 if padding == "valid" else padding,
        "dilation": whole_each("dilation", node.dilation, dims),
        "groups": groups,
    }
    kernel = tuple(int(k) for k in weight.shape[2:])
    made = (Conv2d if two else Conv1d)(weight.shape[0], kernel, init=weight, name=name, **options)
    return Made(made, {"bias": _bias(node, weight.shape[0])})


def pool(name: str, node: Any, shape: Shape) -> Made:
    """Sums or means of windows."""
    del shape
    options = {role: whole_each(role, getattr(node, role), 2) for role in ("kernel_size", "stride", "padding")}
    kind = SumPool2d if type(node).__name__ == "SumPool2d" else AvgPool2d
    return Made(kind(**options, name=name))


def flatten(name: str, node: Any, shape: Shape) -> Made:
    """One row of all features, or no change; what lies between has no node here."""
    start, end = (int(d) for d in (node.start_dim, node.end_dim))
    n = len(shape)
    first, last = (d + n if d < 0 else d for d in (start, end))
    if not 0 <= first <= last < n:
        raise InterchangeError(
            f"dimensions {start} to {end} do not exist in features {shape} (the batch is not counted)"
        )
    said = node.input_type.get("input") if isinstance(node.input_type, dict) else None
    if said is not None:
        expect(shape, tuple(int(k) for k in np.atleast_1d(said)), "its input_type says")
    result = (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])
    if result == shape:
        return Made(None)
    if len(result) == 1:
        return Made(Flatten(name=name))
    raise InterchangeError(
        f"it makes {shape} into {result}, and only all dimensions can be flattened. NIR does not count the batch: where"
        " the writer did, start_dim must be one less"
    )


def scale(name: str, node: Any, shape: Shape) -> Made:
    """One factor per feature."""
    factor = numbers(node, "scale")
    same_features(shape, factor.shape, "scale")
    return Made(Scale(factor.astype(np.float32), name=name))


CONNECTIONS: dict[str, Callable[[str, Any, Shape], Made]] = {
    "Affine": linear,
    "AvgPool2d": pool,
    "Conv1d": conv,
    "Conv2d": conv,
    "Flatten": flatten,
    "Linear": linear,
    "Scale": scale,
    "SumPool2d": pool,
}


def expect(given: Shape, wanted: Shape, what: str) -> None:
    """Raise :class:`InterchangeError` unless the shapes are equal."""
    if given != wanted:
        batched = len(given) > 1 and given[1:] == wanted
        hint = "; its first dimension may be the batch, which NIR does not count and some writers do" if batched else ""
        raise InterchangeError(f"{what} features {wanted}, but it is given {given}{hint}")


def same_features(given: Shape, shape: Shape, what: str) -> None:
    """Raise :class:`InterchangeError` unless a parameter has one value per feature, or one for all."""
    if shape not in ((), given):
        raise InterchangeError(f"{what} has shape {shape}, but it is given features {given}")


def whole(name: str, value: Any) -> int:
    """``value`` as a whole number."""
    (number,) = whole_each(name, value, 1)
    return number


def whole_each(name: str, value: Any, dims: int) -> Shape:
    """A whole number per dimension, from one or several."""
    array = np.atleast_1d(np.asarray(value))
    if not np.issubdtype(array.dtype, np.number) or array.shape not in ((1,), (dims,)) or np.any(array != array // 1):
        raise InterchangeError(f"{name} is a whole number per dimension, not {value!r}")
    return tuple(int(k) for k in np.broadcast_to(array, (dims,)))


def _bias(node: Any, out: int) -> np.ndarray:
    bias = numbers(node, "bias")
    if bias.shape != (out,):
        raise InterchangeError(f"its bias has shape {bias.shape}, its weight {out} outputs")
    return bias.astype(np.float32)
