"""Models: functions of signals, built into graphs."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from snncompile.dsl.builder import Builder
from snncompile.dsl.signals import InputSpec, Signal
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.graph import Graph
from snncompile.ir.locations import caller
from snncompile.ir.nodes import Block, Node
from snncompile.ir.program import IDENTIFIER

#: Names that a call by name could not reach.
_TAKEN_HYPERPARAMETERS = dict.fromkeys(("model", "target", "checkpoint"), "snn.compile")
_TAKEN_INPUTS = dict.fromkeys(
    ("self", "state", "record", "steps", "batch", "keep", "differentiable"), "a network's call"
)

_building: ContextVar[Builder | None] = ContextVar("building", default=None)


def current_builder(what: str, where: Location | None) -> Builder:
    """The model being built.

    Raises:
        ModelError: outside a model function.
    """
    builder = _building.get()
    if builder is None:
        raise ModelError(f"{what} can only be used inside a model function", where=where)
    return builder


class Model:
    """A network as a function: inputs to outputs. Made by :func:`model`; :meth:`build` gives its graph.

    Attributes:
        name: the function's name.
        dt: the time step in seconds.
        where: where the function stands.
    """

    def __init__(self, function: Callable[..., Any], dt: float) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        name = getattr(function, "__name__", "model")
        self.name = "model" if name == "<lambda>" else name
        code = getattr(function, "__code__", None)
        self.where = Location(code.co_filename, code.co_firstlineno) if code else None
        if not IDENTIFIER.match(self.name):
            raise ModelError(f"{self.name!r} cannot name a model: use letters, digits and _", where=self.where)
        self.dt = _checked_dt(dt, self.where)
        self._inputs, self.hyperparameters = self._signature(function)

    def _signature(self, function: Callable[..., Any]) -> tuple[dict[str, InputSpec], dict[str, Any]]:
        inputs: dict[str, InputSpec] = {}
        hyper: dict[str, Any] = {}
        for p in inspect.signature(function).parameters.values():
            if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                raise ModelError("a model function takes no *args or **kwargs", where=self.where)
            taken = _TAKEN_HYPERPARAMETERS if p.kind is p.KEYWORD_ONLY else _TAKEN_INPUTS
            if p.name in taken:
                raise ModelError(
                    f"{p.name!r} is an argument of {taken[p.name]}: give that parameter of model {self.name!r} another"
                    " name",
                    where=self.where,
                )
            if p.kind is p.KEYWORD_ONLY:
                hyper[p.name] = p.default
            elif isinstance(p.default, InputSpec):
                inputs[p.name] = p.default
            else:
                raise ModelError(
                    f"parameter {p.name!r} of model {self.name!r} is no input: write {p.name}=snn.Spikes(...) or"
                    f" snn.Current(...); hyperparameters stand after a `*`",
                    where=self.where,
                )
        return inputs, hyper

    def build(self, **hyperparameters: Any) -> Graph:
        """The graph of the model, as written: no pass has run.

        Args:
            **hyperparameters: values for keyword-only arguments of the function.

        Raises:
            ModelError: where the model cannot mean anything.
        """
        unknown = [name for name in hyperparameters if name not in self.hyperparameters]
        if unknown:
            known = ", ".join(self.hyperparameters) or "none"
            raise ModelError(
                f"model {self.name!r} has no hyperparameter {unknown[0]!r}; it has: {known}", where=self.where
            )
        values = {**self.hyperparameters, **hyperparameters}
        missing = [name for name, value in values.items() if value is inspect.Parameter.empty]
        if missing:
            raise ModelError(f"model {self.name!r} needs a value for {', '.join(missing)}", where=self.where)
        builder = Builder(self.name, self.dt)
        signals = [builder.input(name, spec.type, self.where, spec.density) for name, spec in self._inputs.items()]
        token = _building.set(builder)
        try:
            result = self.function(*signals, **values)
        finally:
            _building.reset(token)
        return builder.finish(self._outputs(result))

    def _outputs(self, result: Any) -> list[tuple[str, Signal]]:
        if isinstance(result, Signal):
            named: Mapping[str, Any] = {"out": result}
        elif isinstance(result, tuple | list):
            named = {f"out_{i}": signal for i, signal in enumerate(result)}
        elif isinstance(result, Mapping):
            named = result
        else:
            what = repr(result)
            if isinstance(result, (Node, Block)):
                what = f"a {type(result).__name__}, which nothing goes into (write signal >> node)"
            raise ModelError(
                f"model {self.name!r} returns {what}; return a signal, a tuple or a dict of signals", where=self.where
            )
        if not named:
            raise ModelError(f"model {self.name!r} has no output", where=self.where)
        unnamed = ({"out"}, {f"out_{i}" for i in range(len(named))})
        if isinstance(result, Mapping) and set(named) in unnamed:
            raise ModelError(
                f"model {self.name!r} returns a dict with the names that unnamed outputs have ({', '.join(named)});"
                " name them otherwise, or return the signal or a tuple",
                where=self.where,
            )
        for key, signal in named.items():
            if not isinstance(signal, Signal):
                raise ModelError(f"output {key!r} of model {self.name!r} is {signal!r}, not a signal", where=self.where)
            if not isinstance(key, str) or not IDENTIFIER.match(key):
                raise ModelError(f"{key!r} cannot name an output: use letters, digits and _", where=self.where)
        return list(named.items())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Inside another model function, a model is a part like any other: called on signals."""
        if not any(isinstance(a, Signal) for a in (*args, *kwargs.values())):
            raise ModelError(
                f"model {self.name!r} is not called on data: compile it first, net = snn.compile({self.name})",
                where=caller(),
            )
        return self.function(*args, **{k: v for k, v in {**self.hyperparameters, **kwargs}.items()})


def model(function: Callable[..., Any] | None = None, *, dt: float = 1e-3) -> Any:
    """Turn a function of signals into a :class:`Model`.

    Args:
        function: its parameters are inputs (``x=snn.Spikes(64)``); those after ``*`` are hyperparameters. It returns a
            signal, a tuple or a dict of signals.
        dt: the time step in seconds.
    """
    if function is not None and not callable(function):
        raise ModelError("use it as @snn.model(dt=1 * ms)", where=caller())
    return Model(function, dt) if function is not None else lambda f: Model(f, dt)


def _checked_dt(dt: Any, where: Location | None) -> float:
    if isinstance(dt, bool) or not isinstance(dt, (int, float)) or not math.isfinite(dt) or dt <= 0:
        raise ModelError(f"dt is a time in seconds greater than 0, not {dt!r}", where=where)
    return float(dt)
