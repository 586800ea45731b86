"""Random sources: signals that a model makes itself."""

from __future__ import annotations

from typing import Any

from snncompile.dsl.model import current_builder
from snncompile.dsl.signals import Signal
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.locations import caller
from snncompile.ir.nodes import sources
from snncompile.ir.types import SignalType, as_shape


def Poisson(rate: Any, shape: int | tuple[int, ...], *, max: int = 1, name: str | None = None) -> Signal:
    """Independent Poisson spike trains, as a signal; see :class:`snncompile.ir.nodes.sources.Poisson`.

    Args:
        rate: spikes a second: a number, an array that fits ``shape``, or a Param.
        shape: feature shape, ``64`` or ``(2, 34, 34)``.
        max: the most spikes in one step; with 1, one spike with probability ``rate * dt``.
        name: name of the node, which decides the numbers it draws.
    """
    where = caller()
    return _source(sources.Poisson(_shape(shape, where), rate=rate, max=max, name=name), "snn.Poisson", where)


def Bernoulli(p: Any, shape: int | tuple[int, ...], *, name: str | None = None) -> Signal:
    """Independent spikes of a probability, as a signal; see :class:`snncompile.ir.nodes.sources.Bernoulli`.

    Args:
        p: probability of a spike in a step: a number, an array that fits ``shape``, or a Param.
        shape: feature shape.
        name: name of the node, which decides the numbers it draws.
    """
    where = caller()
    return _source(sources.Bernoulli(_shape(shape, where), p=p, name=name), "snn.Bernoulli", where)


def Normal(mean: Any, std: Any, shape: int | tuple[int, ...], *, name: str | None = None) -> Signal:
    """A current drawn anew at each step, as a signal; see :class:`snncompile.ir.nodes.sources.Normal`.

    Args:
        mean: its mean: a number, an array that fits ``shape``, or a Param.
        std: its deviation, likewise.
        shape: feature shape.
        name: name of the node, which decides the numbers it draws.
    """
    where = caller()
    return _source(sources.Normal(_shape(shape, where), mean=mean, std=std, name=name), "snn.Normal", where)


def _shape(shape: Any, where: Location | None) -> tuple[int, ...]:
    try:
        return SignalType("current", as_shape(shape)).shape
    except ModelError as err:
        raise ModelError(err.message, where=where) from None


def _source(node: sources.Source, what: str, where: Location | None) -> Signal:
    return current_builder(what, where).apply(node, (), {}, where)
