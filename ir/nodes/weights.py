"""What the weighted connections share: weights, biases, masks and signs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from math import prod
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from snncompile.ir.connection import Connection
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.nodes.base import Node
from snncompile.ir.params import Init, Parameter
from snncompile.ir.types import SignalType


class ConnectionNode(Node):
    """Base of the nodes that lower to a :class:`~snncompile.ir.connection.Connection`."""

    inputs = ("x",)
    misplaced_hint: ClassVar[str] = ". The size of its input is not among them: the signal has it"

    def lower(
        self, name: str, inputs: Mapping[str, SignalType], dt: float, where: Location | None, owner: str | None = None
    ) -> Connection:
        """The IR node for this one; arguments as for :meth:`ElementwiseNode.lower`."""
        kind = type(self).__name__
        if tuple(inputs) != self.inputs:
            said = ", ".join(inputs) or "none"
            raise ModelError(f"{kind} takes one signal, on port x, not {said}", node=name, where=where)
        try:
            return self.timed_connection(owner or name, inputs["x"], name, dt)
        except ModelError as err:
            raise ModelError(f"{kind}: {err.message}", node=name, where=where) from None

    def timed_connection(self, owner: str, x: SignalType, name: str, dt: float) -> Connection:
        """The connection, where it depends on the time step."""
        del dt
        return self.connection(owner, x, name)

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection with its parameters named after ``owner``."""
        raise TypeError(f"{type(self).__name__} does not lower")


@dataclass(frozen=True, eq=False)
class Weighted(ConnectionNode):
    """Base of the connections with a weight: the options they share.

    Attributes:
        bias: whether a bias, one per output feature or channel, is added. Default True.
        init: first weights: an array of the weight's shape, a function from that shape to one, or None for torch's
            default (uniform within ``1/sqrt(fan_in)``, the bias too).
        trainable: whether weight and bias are trained. Default True.
        mask: an array of 0 and 1 that broadcasts to the weight's shape; the weight that acts is ``weight * mask``.
        sign: +1 or -1, or an array of them that broadcasts to the weight's shape (``(in,)``: one per source). The first
            weights get this sign, by their absolute value.
    """

    _: KW_ONLY
    bias: bool = True
    init: Any = None
    trainable: bool = True
    mask: Any = None
    sign: Any = None

    def parameters(self, owner: str, shape: tuple[int, ...]) -> dict[str, Parameter]:
        """Role -> parameter, for a weight of ``shape`` (outputs first)."""
        fan_in = float(prod(shape[1:]))
        sign = None if self.sign is None else _fixed("sign", self.sign, shape, (-1.0, 1.0))
        params = {"weight": weight_parameter(f"{owner}.weight", shape, self.init, self.trainable, sign)}
        if self.bias:
            drawn = Init("fan_in_uniform", (fan_in,))
            params["bias"] = Parameter(f"{owner}.bias", shape[:1], "biases", drawn, self.trainable)
        if self.mask is not None:
            mask = _fixed("mask", self.mask, shape, (0.0, 1.0))
            params["mask"] = Parameter(f"{owner}.mask", shape, "masks", Init("given", (), mask), False)
        if sign is not None:
            params["sign"] = Parameter(f"{owner}.sign", shape, "signs", Init("given", (), sign), False)
        return params


def weight_parameter(
    name: str,
    shape: tuple[int, ...],
    init: Any | Callable[[tuple[int, ...]], Any],
    trainable: bool,
    sign: np.ndarray | None = None,
) -> Parameter:
    """A weight with torch's default initialisation, or what is given; in either case with ``sign``."""
    if init is None:
        drawn = Init("kaiming_uniform", (float(prod(shape[1:])),), sign=sign)
        return Parameter(name, shape, "weights", drawn, trainable)
    value = _array("init", init(shape) if callable(init) else init)
    if value.shape != shape:
        raise ModelError(f"init has shape {value.shape}, but the weight is {shape}")
    if not np.all(np.isfinite(value)):
        raise ModelError("init holds a value that is not finite")
    if sign is not None:
        value = np.abs(value) * sign
    return Parameter(name, shape, "weights", Init("given", (), value), trainable)


def whole(name: str, value: Any, least: int = 1) -> int:
    """``value`` if it is a whole number of at least ``least``.

    Raises:
        ModelError: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ModelError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def per_dim(name: str, value: Any, dims: int, least: int = 1) -> tuple[int, ...]:
    """One whole number per dimension, from one number or from ``dims`` of them."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if len(values) != dims:
        raise ModelError(f"{name} takes a whole number or {dims} of them, not {value!r}")
    return tuple(whole(name, v, least) for v in values)


def window_counts(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """How often a window fits, per dimension.

    Raises:
        ModelError: where it does not fit at all.
    """
    counts = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        if reach > n + 2 * p:
            dilated = f" ({reach} wide with dilation {d})" if d > 1 else ""
            padded = f" with padding {p}" if p else ""
            raise ModelError(f"kernel_size {k}{dilated} is larger than the image {_times(size)}{padded}")
        counts.append((n + 2 * p - reach) // s + 1)
    return tuple(counts)


def _times(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _fixed(role: str, value: Any, shape: tuple[int, ...], allowed: tuple[float, float]) -> np.ndarray:
    array = _array(role, value)
    if not np.all(np.isin(array, allowed)):
        low, high = (f"{a:g}" for a in allowed)
        raise ModelError(f"{role} holds only {low} and {high}, but one value is {_stranger(array, allowed):g}")
    try:
        return np.ascontiguousarray(np.broadcast_to(array, shape))
    except ValueError:
        raise ModelError(f"{role} has shape {array.shape}, which does not fit the weight {shape}") from None


def _stranger(array: np.ndarray, allowed: tuple[float, float]) -> float:
    return float(array[~np.isin(array, allowed)].reshape(-1)[0])


def _array(role: str, value: Any) -> np.ndarray:
    try:
        return np.array(value.detach().cpu().numpy() if hasattr(value, "detach") else value, dtype=np.float32)
    except (TypeError, ValueError):
        raise ModelError(f"{role} is {value!r}, not an array of numbers") from None


def share(value: Any) -> float:
    """``value`` if it is a density: above 0, at most 1.

    Raises:
        ModelError: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= 1:
        raise ModelError(f"density is the share of values that are not zero, above 0 and up to 1, not {value!r}")
    return float(value)
