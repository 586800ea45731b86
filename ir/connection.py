"""The connection node of the IR: a linear map or a change of shape, with a fixed lowering on every target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from snncompile.ir.params import Parameter
from snncompile.ir.types import SignalType

if TYPE_CHECKING:
    from snncompile.ir.delay import Rule

#: Every kind of connection, with its settings. A target lowers exactly these.
CONNECTIONS: Mapping[str, tuple[str, ...]] = {
    "Linear": (),
    "Sparse": ("out",),
    "Conv1d": ("stride", "padding", "dilation", "groups"),
    "Conv2d": ("stride", "padding", "dilation", "groups"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "MaxPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": (),
    "Dropout": ("p",),
    "BatchNorm": ("eps", "momentum"),
    "Delay": ("steps", "limit", "least", "interpolation", "tau", "overbound", "tolerance"),
    "DelayedLinear": ("steps", "limit", "least", "interpolation", "tau", "overbound", "tolerance"),
}

#: Settings that may be there or not, and change nothing but how a target computes: see ``ir/density.py``, and for the
#: offset the pass ``delays-to-offsets``.
HINTS: Mapping[str, tuple[str, ...]] = {
    "Linear": ("density",),
    "Conv1d": ("density",),
    "Conv2d": ("density",),
    "Delay": ("offset",),
    "DelayedLinear": ("density",),
}

#: Connections that are matrix products: what a schedule hoists over time and what costs arithmetic.
PRODUCTS = frozenset({"Linear", "Conv1d", "Conv2d"})

#: Connections that show the past of their input: they hold a history of it as their state (``ir/delay.py``).
DELAYS = frozenset({"Delay", "DelayedLinear"})

#: What a delay between two steps shows; ``"exact"`` where every delay is on the grid.
INTERPOLATIONS = ("exact", "previous", "nearest", "expdecay", "linear")

#: Connections whose meaning involves several time steps or draws once per sequence.
WHOLE_SEQUENCE = frozenset({"BatchNorm", "Dropout"})


@dataclass(frozen=True, eq=False)
class Connection:
    """A map of one signal, the same at every step; without state, but for the history of a delay.

    One that learns (``attrs["plastic"]``) has a second port, ``weight``: the weights of this step.

    Attributes:
        kind: a key of :data:`CONNECTIONS`.
        attrs: its settings.
        params: role (``"weight"``, ``"bias"``, ``"mask"``, ``"running_mean"``, ...) -> parameter.
        input: type of the input.
        output: type of the output.
    """

    kind: str
    attrs: Mapping[str, Any]
    params: Mapping[str, Parameter]
    input: SignalType
    output: SignalType
    members: tuple[str, ...] = field(default=())

    @property
    def plastic(self) -> bool:
        """Whether its weight changes from step to step."""
        return bool(self.attrs.get("plastic", False))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Input ports."""
        return ("x", "weight") if self.plastic else ("x",)

    def port_shape(self, port: str) -> tuple[int, ...]:
        """The features that an input port takes."""
        return self.params["weight"].shape if port == "weight" else self.input.shape

    @property
    def depth(self) -> int:
        """Past steps of the input that it holds: 0 but for a delay."""
        return self.rule.depth if self.kind in DELAYS else 0

    @property
    def late(self) -> int:
        """Steps by which its output is behind its input at the least: what a cycle through it need not know yet."""
        return self.attrs["least"] if self.kind in DELAYS else 0

    @cached_property
    def rule(self) -> Rule:
        """How a delay reads the past."""
        from snncompile.ir.delay import Rule

        a, steps = self.attrs, self.params.get("steps")
        over = None if a["overbound"] == "limit" else a["overbound"]
        trained = steps is not None and steps.trainable
        return Rule(a["limit"], a["interpolation"], a["tau"], over, a["tolerance"], trained)

    @property
    def same_for_all(self) -> int | None:
        """The whole steps by which a delay shifts its input, where it does nothing else."""
        if self.kind not in DELAYS or not isinstance(self.attrs["steps"], float):
            return None
        return int(self.attrs["steps"]) if self.attrs["steps"].is_integer() and self._in_reach() else None

    @property
    def by_synapse(self) -> bool:
        """Whether it has a delay for each synapse."""
        return self.kind == "DelayedLinear" and self.attrs["steps"] == "given"

    def _in_reach(self) -> bool:
        return 0 <= self.attrs["steps"] <= self.attrs["limit"]


def delayed_type(source: SignalType, shape: tuple[int, ...], interpolation: str, overbound: float | str) -> SignalType:
    """The type of a delayed signal: still spikes or a membrane, unless values are mixed or put in its place."""
    alien = isinstance(overbound, float) and not (overbound.is_integer() and 0 <= overbound <= (source.max or 0))
    if interpolation in ("expdecay", "linear") or alien:
        return SignalType("current", shape)
    return SignalType(source.kind, shape, source.max)
