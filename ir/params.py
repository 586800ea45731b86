"""Parameters: what a node asks for (:class:`Param`) and what a graph refers to (:class:`Parameter`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from snncompile.ir.errors import Location, ModelError
from snncompile.ir.locations import caller

#: What a constraint demands, in words, and the test of it.
CONSTRAINTS: Mapping[str, str] = {
    "positive": "greater than 0",
    "nonnegative": "at least 0",
    "nonzero": "other than 0",
}

LAYOUTS = ("scalar", "channel", "neuron")

INITS = ("constant", "kaiming_uniform", "fan_in_uniform", "given")


@dataclass(frozen=True, eq=False)
class Param:
    """A parameter as a model writes it.

    Give one in place of a plain value to say more than the value: ``LIF(tau_mem=snn.Param(20 * ms, trainable=False))``.
    In a user's own step function it is the default of a keyword argument.

    Attributes:
        value: a number (every neuron starts there) or an array, one value per channel or per neuron.
        layout: ``"scalar"`` (one value shared), ``"channel"`` (one per channel: per neuron for flat features,
            ``(C, 1, 1)`` for images) or ``"neuron"`` (one for every element). None takes the node's own.
        family: name under which ``net.family(...)`` finds it, e.g. ``"taus"``.
        trainable: whether optimisers see it.
        constraint: ``"positive"``, ``"nonnegative"``, ``"nonzero"`` or None.
    """

    value: Any = None
    layout: str | None = None
    family: str | None = None
    trainable: bool | None = None
    constraint: str | None = None

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ModelError(f"layout {self.layout!r} is unknown; use one of {', '.join(LAYOUTS)}", where=caller())
        if self.constraint is not None and self.constraint not in CONSTRAINTS:
            known = ", ".join(CONSTRAINTS)
            raise ModelError(f"constraint {self.constraint!r} is unknown; use one of {known}", where=caller())
        if self.trainable is not None and not isinstance(self.trainable, bool):
            raise ModelError(f"trainable is True or False, not {self.trainable!r}", where=caller())

    def overridden(self, given: Any) -> Param:
        """This declaration with what the user gave: a value, or a Param whose set fields win."""
        if not isinstance(given, Param):
            return replace(self, value=given)
        fields = {k: v for k, v in vars(given).items() if v is not None}
        return replace(self, **fields)


def param(
    value: float | None,
    family: str,
    *,
    layout: str = "channel",
    constraint: str | None = None,
    trainable: bool = True,
) -> Any:
    """A dataclass field that declares a parameter of a node class.

    With a default of None the parameter is optional: a node that is given none does not have it.
    """
    declared = Param(value, layout, family, trainable, constraint)
    return field(default=value, metadata={"param": declared})


@dataclass(frozen=True)
class Init:
    """How a parameter gets its first value.

    Attributes:
        kind: ``"constant"`` (``args[0]``), ``"kaiming_uniform"`` (torch's default for weights, ``a = sqrt(5)``),
            ``"fan_in_uniform"`` (uniform within ``1/sqrt(args[0])``, torch's default for biases), or ``"given"``.
        args: numbers the kind needs.
        value: the array of ``"given"``; absent after reading a file, where weights come from beside it.
        sign: where not None, an array of +1 and -1 that broadcasts against the shape: what was drawn is given this
            sign.
    """

    kind: str
    args: tuple[float, ...] = ()
    value: np.ndarray | None = field(default=None, compare=False, repr=False)
    sign: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in INITS:
            raise ModelError(f"unknown initialisation {self.kind!r}")

    def value_or_constant(self) -> np.ndarray:
        """The first value where it is known without drawing: an array, or one number for all."""
        if self.value is not None:
            return self.value
        return np.asarray(self.args[0] if self.kind == "constant" else np.nan, dtype=np.float32)


@dataclass(frozen=True)
class Parameter:
    """A reference to a parameter, whose value lives in the network under ``name``.

    Attributes:
        name: its key in ``state_dict``: ``"<node>.<role>"``.
        shape: its shape; it broadcasts against the features from the right.
        family: ``"taus"``, ``"thresholds"``, ``"biases"``, ``"weights"``, ...
        init: its first value.
        trainable: whether it is a torch ``Parameter``; otherwise it is a buffer.
        constraint: a key of :data:`CONSTRAINTS`, or None.
    """

    name: str
    shape: tuple[int, ...]
    family: str
    init: Init
    trainable: bool = True
    constraint: str | None = None


def channel_shape(features: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one value per channel: ``(N,)`` for flat features, ``(C, 1, 1)`` for images."""
    return (features[0],) + (1,) * (len(features) - 1)


def bind_param(declared: Param, name: str, features: tuple[int, ...], where: Location | None = None) -> Parameter:
    """The reference for ``declared`` on a node with feature shape ``features``.

    A number fills the declared layout; an array keeps its own shape, which must broadcast against ``features``.

    Raises:
        ModelError: where the value is no number, breaks the constraint, or has a shape that does not fit.
    """
    node = name.rsplit(".", 1)[0]
    role = name.rsplit(".", 1)[1]
    try:
        if declared.value is None or isinstance(declared.value, bool):
            raise TypeError
        value = np.asarray(_plain(declared.value), dtype=np.float32)
    except (TypeError, ValueError):
        raise ModelError(f"{role} is {declared.value!r}, not a number or an array", node=node, where=where) from None
    check_constraint(value, declared.constraint, role, node, where)
    if isinstance(declared.value, (int, float)):
        layouts = {"scalar": (), "channel": channel_shape(features), "neuron": features}
        shape: tuple[int, ...] = layouts[declared.layout or "channel"]
        init = Init("constant", (float(value),))
    else:
        shape = _fitting_shape(value.shape, features, role, node, where)
        init = Init("given", (), value.reshape(shape))
    trainable = True if declared.trainable is None else declared.trainable
    return Parameter(name, shape, declared.family or "parameters", init, trainable, declared.constraint)


def check_constraint(
    value: np.ndarray, constraint: str | None, role: str, node: str, where: Location | None = None
) -> None:
    """Raise :class:`ModelError` where ``value`` is not finite or breaks ``constraint``."""
    if not np.all(np.isfinite(value)):
        raise ModelError(f"{role} holds a value that is not finite", node=node, where=where)
    if constraint is None:
        return
    holds = {"positive": value > 0, "nonnegative": value >= 0, "nonzero": value != 0}[constraint]
    if not np.all(holds):
        worst = float(np.min(value[~holds]))
        raise ModelError(f"{role} must be {CONSTRAINTS[constraint]}, but is {worst:g}", node=node, where=where)


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _fitting_shape(
    shape: tuple[int, ...], features: tuple[int, ...], role: str, node: str, where: Location | None
) -> tuple[int, ...]:
    if shape == () or shape == features:
        return shape
    if shape == (features[0],):
        return channel_shape(features)
    padded = (1,) * (len(features) - len(shape)) + shape
    if len(shape) <= len(features) and all(a in (1, b) for a, b in zip(padded, features, strict=True)):
        return shape
    per_channel = f"one value per channel {channel_shape(features)}, or " if len(features) > 1 else "or "
    raise ModelError(
        f"{role} has shape {shape}, which does not fit the features {features}: give a number, {per_channel}one value"
        f" per neuron {features}",
        node=node,
        where=where,
    )
