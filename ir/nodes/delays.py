"""Delays of a signal, and what the connections with delays share."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch

from snncompile.ir.connection import Connection, delayed_type
from snncompile.ir.delay import SNAP, Rule, read, to_steps
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.weights import ConnectionNode
from snncompile.ir.params import Init, Param, Parameter, channel_shape
from snncompile.ir.types import SignalType

#: The interpolations that a model can name.
NAMED = ("previous", "nearest", "expdecay", "linear")


@dataclass(frozen=True)
class Delays:
    """The options of a delay, as a model gives them: times in seconds.

    Attributes:
        delay: one time, or an array of them.
        interpolation: one of :data:`NAMED`, or None: every delay is a whole number of steps.
        max_delay: the longest delay; None takes the longest there is.
        overbound: what stands in for a value that lies further back, or None.
        tolerance: the largest distance to a step that counts as none.
        tau: time constant of ``"expdecay"``.
        trainable: whether delays are trained.
    """

    delay: Any
    interpolation: str | None = None
    max_delay: float | None = None
    overbound: float | None = None
    tolerance: float = 0.0
    tau: float | None = None
    trainable: bool = False

    def lowered(
        self, dt: float, owner: str, shape: tuple[int, ...]
    ) -> tuple[dict[str, Any], dict[str, Parameter]]:
        """Settings and parameters of the IR's node.

        Args:
            dt: the time step in seconds.
            owner: name under which parameters live.
            shape: that of the parameter; ``()`` for one delay for all, which is no parameter unless it is trained.

        Raises:
            ModelError: for delays that cannot be.
        """
        if isinstance(self.delay, Param):
            raise ModelError("delay takes a time or an array of them; trainable= says whether it is trained")
        steps = to_steps(self.delay, dt, "delay")
        rule = self._rule(steps, dt)
        check_steps(steps, rule, dt)
        params: dict[str, Parameter] = {}
        if shape or self.trainable:
            value = np.broadcast_to(steps.reshape(shape) if steps.shape else steps, shape).astype(np.float32)
            given = Init("given", (), np.ascontiguousarray(value)) if shape else Init("constant", (float(value),))
            constraint = "nonnegative" if self.trainable else None
            params["steps"] = Parameter(f"{owner}.steps", shape, "delays", given, self.trainable, constraint)
            steps = value.astype(np.float64)
        reading = read(torch.tensor(steps), rule)
        least = 0 if self.trainable else int(reading.index.min())
        attrs = {
            "steps": "given" if params else float(steps), "limit": rule.limit, "least": least,
            "interpolation": rule.interpolation, "tau": float(rule.tau),
            "overbound": "limit" if rule.overbound is None else rule.overbound, "tolerance": rule.tolerance,
        }  # fmt: skip
        return attrs, params

    def _rule(self, steps: np.ndarray, dt: float) -> Rule:
        if self.interpolation is not None and self.interpolation not in NAMED:
            raise ModelError(f"interpolation {self.interpolation!r} is unknown; use one of {', '.join(NAMED)}")
        if not isinstance(self.trainable, bool):
            raise ModelError(f"trainable is True or False, not {self.trainable!r}")
        if self.trainable and self.interpolation != "linear":
            raise ModelError(
                f"a delay is trained through interpolation='linear', not {self.interpolation!r}, which has no gradient"
            )
        if (self.interpolation == "expdecay") != (self.tau is not None):
            has = "needs" if self.tau is None else "is what takes"
            raise ModelError(f"interpolation='expdecay' {has} tau=, the time constant of the decay")
        tau = float(_time("tau", self.tau, dt)) if self.tau is not None else 1.0
        if tau <= 0:
            raise ModelError(f"tau is a time greater than 0, not {self.tau!r}")
        tolerance = float(_time("tolerance", self.tolerance, dt))
        if tolerance < 0:
            raise ModelError(f"tolerance is a time of at least 0, not {self.tolerance!r}")
        over: Any = self.overbound
        if over is not None and (isinstance(over, bool) or not isinstance(over, Real) or not np.isfinite(float(over))):
            raise ModelError(f"overbound is a number, or None for the value at the limit, not {over!r}")
        if self.max_delay is None:
            limit = max(float(np.max(steps)), 0.0) if steps.size else 0.0
        else:
            limit = float(_time("max_delay", self.max_delay, dt))
            if limit < 0:
                raise ModelError(f"max_delay is a time of at least 0, not {self.max_delay!r}")
        kind = self.interpolation or "exact"
        return Rule(limit, kind, tau, None if over is None else float(over), tolerance, self.trainable)


def check_steps(steps: np.ndarray, rule: Rule, dt: float) -> None:
    """Raise :class:`ModelError` where ``steps``, delays in steps of ``dt`` seconds, break ``rule``.

    Those in float32, as parameters are, may be off by its rounding.
    """
    if not steps.size:
        raise ModelError("delay is an array without values")
    rounding = 1e-7 * rule.limit if steps.dtype == np.float32 else 0.0
    slack = max(rule.tolerance, SNAP, rounding)
    future = steps < (0.0 if rule.trained else -slack)
    outside = future | (steps > rule.limit + slack)
    if np.any(future) and (rule.overbound is None or rule.trained):
        trained = "a trained delay" if rule.trained else "a delay"
        raise ModelError(f"{trained} is at least 0, but one is {float(steps[future].reshape(-1)[0]) * dt:g} s")
    if rule.overbound is None and np.any(outside):
        worst = float(steps[outside].reshape(-1)[0])
        raise ModelError(
            f"a delay of {worst * dt:g} s is longer than max_delay, {rule.limit * dt:g} s: raise max_delay=, or"
            " say what stands in for what lies further back, overbound="
        )
    if rule.interpolation == "exact":
        off = np.abs(steps - np.round(steps)) > max(rule.tolerance, SNAP)
        off &= ~outside
        if np.any(off):
            worst = float(steps[off].reshape(-1)[0])
            raise ModelError(
                f"a delay of {worst * dt:g} s is {worst:g} steps of dt = {dt:g} s, not a whole number of them: name"
                f" an interpolation= ({', '.join(NAMED)}), or round the delay"
            )


def _time(name: str, value: Any, dt: float) -> np.ndarray:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ModelError(f"{name} is a time in seconds, not {value!r}")
    return to_steps(value, dt, name)


@dataclass(frozen=True, eq=False)
class Delay(ConnectionNode):
    """Shows a signal as it was some time before: ``y[t] = x[t - delay/dt]``.

    Delays are converted to steps once, in float64. With ``k`` whole steps and a rest, ``interpolation`` says what is
    seen between the older record, of ``k + 1`` steps ago, and the newer one. Source: the selectors of Inferno,
    ``inferno.RecordTensor.select``.

    Shapes: input ``(batch, time, *features)``; output the same, with one more axis D at the end for D delays per
    channel. State ``history``, ``(K, *features)``: the last K inputs, oldest first, initially 0, with K the longest
    delay in steps. Delays given as an array, or trained, are the parameter ``steps`` (in steps, not seconds), of family
    ``delays``.

    Attributes:
        delay: a time in seconds of at least 0; or an array: one per channel ``(C,)`` or per neuron ``(*features)``, or
            several for each, ``(C, D)`` or ``(*features, D)``.
        interpolation: ``"previous"`` (the older), ``"nearest"``, ``"expdecay"`` (the older, decayed by ``tau``) or
            ``"linear"``. None, the default: every delay must be a whole number of steps.
        max_delay: the longest delay, which says how long the history is. Default: the longest of ``delay``.
        overbound: what is seen in place of values from before ``max_delay``. None, the default: such a delay is an
            error (a trained one is held at the limit).
        tolerance: a delay this near to a step, in seconds, is on it. Default 0.
        tau: time constant in seconds of ``"expdecay"``.
        trainable: whether the delays are trained; needs ``interpolation="linear"``. Default False.
    """

    delay: Any
    _: KW_ONLY
    interpolation: str | None = None
    max_delay: float | None = None
    overbound: float | None = None
    tolerance: float = 0.0
    tau: float | None = None
    trainable: bool = False

    def timed_connection(self, owner: str, x: SignalType, name: str, dt: float) -> Connection:
        """The connection."""
        options = Delays(
            self.delay, self.interpolation, self.max_delay, self.overbound, self.tolerance, self.tau, self.trainable
        )
        shape = delay_shape(given_shape(self.delay), x.shape)
        several = len(shape) > len(x.shape)
        attrs, params = options.lowered(dt, owner, shape)
        out = (*x.shape, shape[-1]) if several else x.shape
        return Connection(
            "Delay", attrs, params, x, delayed_type(x, out, attrs["interpolation"], attrs["overbound"]), (name,)
        )


def record_node(name: str, x: SignalType, delay: float, dt: float) -> Connection:
    """The node that holds the last ``ceil(delay/dt) + 1`` values of a signal, the present one included."""
    depth = Rule(float(to_steps(delay, dt, "delay"))).depth + 1
    attrs = {
        "steps": float(depth), "limit": float(depth), "least": depth, "interpolation": "exact", "tau": 1.0,
        "overbound": "limit", "tolerance": 0.0,
    }  # fmt: skip
    return Connection("Delay", attrs, {}, x, x, (name,))


def given_shape(delay: Any) -> tuple[int, ...]:
    """The shape of what a model gave: ``()`` for a number.

    Raises:
        ModelError: where it has none.
    """
    try:
        return tuple(np.shape(delay.detach().cpu() if hasattr(delay, "detach") else delay))
    except ValueError:  # rows of different lengths
        raise ModelError(f"delay is {delay!r}, not a time in seconds or an array of them") from None


def delay_shape(given: tuple[int, ...], features: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of delays that broadcasts against ``features``, with one axis more for several delays.

    Raises:
        ModelError: where they do not fit.
    """
    per_channel = channel_shape(features)
    if given in ((), features):
        return given
    if given == features[:1]:
        return per_channel
    if len(given) <= len(features):
        several = len(given) == 2 and given[0] == features[0]  # for each channel of an image
        padded = (1,) * (len(features) - len(given)) + given
        fits = all(a in (1, b) for a, b in zip(padded, features, strict=True))
        if fits and not (several and len(features) > 2):
            return given
        if several:
            return (*per_channel, given[1])
    elif len(given) == len(features) + 1 and all(a in (1, b) for a, b in zip(given, features, strict=False)):
        return given
    raise ModelError(
        f"delay has shape {given}, which does not fit the features {features}: give a time, one per channel"
        f" {features[:1]}, one per neuron {features}, or several for each {(*features, 'D')}".replace("'", "")
    )


__all__ = ["Delay", "Delays", "check_steps", "delay_shape", "given_shape"]
