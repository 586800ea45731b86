"""Random sources, which need no input, and encoders, which turn values into random spikes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.nodes.noise import normal, uniform
from snncompile.ir.params import Param, param
from snncompile.ir.types import SignalType

#: Largest ``max`` of Poisson counts: each costs a comparison.
MAX_POISSON = 64


def poisson(rate: Tensor, most: int) -> Tensor:
    """Spikes of a Poisson process in a step, by inversion: ``rate`` a step, no more than ``most``.

    With ``most`` of 1, one spike with probability ``rate``: the mean is right where two spikes would be rare.
    """
    u = uniform()
    if most == 1:
        return (u < rate).float()
    share = torch.exp(-rate)
    below = share
    count = (u >= below).float()
    for k in range(1, most):
        share = share * (rate * (1.0 / k))
        below = below + share
        count = count + (u >= below).float()
    return count


def check_most(most: Any) -> None:
    """Raise :class:`ModelError` unless ``most`` can be the largest count."""
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MAX_POISSON:
        raise ModelError(f"max must be a whole number from 1 to {MAX_POISSON}, not {most!r}")


def _largest(value: Any) -> float:
    value = value.value if isinstance(value, Param) else value
    try:
        return float(np.max(value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)))
    except (TypeError, ValueError):
        return math.nan  # binding the parameter says what is wrong


class Rated(ElementwiseNode):
    """Base of what spikes at a rate: the largest rate must fit ``max`` spikes a step."""

    rate_name: ClassVar[str] = "rate"
    max: int

    def check(self) -> None:
        """Settings that make no sense."""
        check_most(self.max)

    def lower(
        self, name: str, inputs: Mapping[str, SignalType], dt: float, where: Location | None, owner: str | None = None
    ) -> Elementwise:
        """The IR node for this one; see the base."""
        made = super().lower(name, inputs, dt, where, owner)
        rate = _largest(getattr(self, self.rate_name))
        if rate * dt > self.max * (1 + 1e-9):
            raise ModelError(
                f"{self.rate_name} is {rate:g} a second, which is {rate * dt:g} spikes in a step of dt = {dt:g} s: more"
                f" than max={self.max}",
                node=name,
                where=where,
            )
        return made


class Source(ElementwiseNode):
    """Base of nodes without inputs: they know their features."""

    inputs: ClassVar[tuple[str, ...]] = ()
    shape: tuple[int, ...]

    def _feature_shape(self, name: str, inputs: Mapping[str, SignalType], where: Location | None) -> tuple[int, ...]:
        return self.shape


@dataclass(frozen=True, eq=False)
class Poisson(Source, Rated):
    """Independent Poisson spike trains.

    Each step a neuron spikes ``n`` times, ``n`` from the Poisson distribution of mean ``rate * dt``, cut at ``max``.
    With ``max`` of 1 it spikes once with probability ``rate * dt``.

    Shapes: output ``(batch, time, *shape)``. No gradient flows through it.

    Attributes:
        rate: spikes a second, at least 0; family ``rates``, one for all unless an array is given; not trained.
        shape: the feature shape.
        max: the most spikes in one step, up to 64. Default 1.
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    rate: Any = param(0.0, "rates", layout="scalar", constraint="nonnegative", trainable=False)
    max: int = 1

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spike counts."""
        return {"spikes": SignalType("spikes", self.shape, self.max)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"spikes": poisson(p.rate * dt, self.max)}


@dataclass(frozen=True, eq=False)
class Bernoulli(Source):
    """Independent spikes: one in each step with probability ``p``.

    Shapes: output ``(batch, time, *shape)``. No gradient flows through it.

    Attributes:
        p: probability of a spike in a step, from 0 to 1; family ``probabilities``, one for all unless an array is
            given; not trained.
        shape: the feature shape.
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    p: Any = param(0.0, "probabilities", layout="scalar", constraint="nonnegative", trainable=False)

    def check(self) -> None:
        """Settings that make no sense."""
        if _largest(self.p) > 1.0:
            raise ModelError(f"p is a probability from 0 to 1, not {_largest(self.p):g}")

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spikes, 0 or 1."""
        return {"spikes": SignalType("spikes", self.shape, 1)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"spikes": (uniform() < p.p).float()}


@dataclass(frozen=True, eq=False)
class Normal(Source):
    """A current that is drawn anew at each step: ``mean + std * N(0, 1)``.

    Shapes: output ``(batch, time, *shape)``.

    Attributes:
        mean: its mean; family ``means``, one for all unless an array is given. Not trained unless a Param says so.
        std: its deviation in a step, at least 0; family ``noise_stds``, likewise. (For the increments of a Wiener
            process that deviates by ``s`` after one second, take ``s * sqrt(dt)``.)
        shape: the feature shape.
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    mean: Any = param(0.0, "means", layout="scalar", trainable=False)
    std: Any = param(1.0, "noise_stds", layout="scalar", constraint="nonnegative", trainable=False)

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The current."""
        return {"current": SignalType("current", self.shape)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"current": p.mean + p.std * normal()}


@dataclass(frozen=True, eq=False)
class PoissonEncoder(Rated):
    """Values from 0 to 1 as Poisson spike trains of up to ``max_rate``.

    Each step as :class:`Poisson` with the rate ``x * max_rate``; a value below 0 never spikes, one above 1 spikes more.

    Shapes: input and output ``(batch, time, *features)``. No gradient flows through it.

    Attributes:
        max_rate: spikes a second for an input of 1, at least 0; family ``rates``, one for all; not trained. The
            default is 100.
        max: the most spikes in one step, up to 64. Default 1.
    """

    rate_name: ClassVar[str] = "max_rate"
    max_rate: Any = param(100.0, "rates", layout="scalar", constraint="nonnegative", trainable=False)
    _: KW_ONLY
    max: int = 1

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spike counts."""
        return {"spikes": SignalType("spikes", inputs["x"].shape, self.max)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        rate = torch.clamp(x.x.detach() * (p.max_rate * dt), min=0.0)
        return {"spikes": poisson(rate, self.max)}


@dataclass(frozen=True, eq=False)
class BernoulliEncoder(ElementwiseNode):
    """Values from 0 to 1 as the probability of a spike in each step.

    Shapes: input and output ``(batch, time, *features)``. No gradient flows through it.
    """

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Spikes, 0 or 1."""
        return {"spikes": SignalType("spikes", inputs["x"].shape, 1)}

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step."""
        return {"spikes": (uniform() < x.x.detach()).float()}
