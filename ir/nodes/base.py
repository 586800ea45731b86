"""Base classes of the nodes a model is written with."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise, OutPort, State
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.hoist import misplaced
from snncompile.ir.locations import caller
from snncompile.ir.params import Param, Parameter, bind_param
from snncompile.ir.random import stream_of
from snncompile.ir.trace import trace, trace_reverse
from snncompile.ir.types import SignalType

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, eq=False)
class Node:
    """Anything a signal can be sent through: ``signal >> node``.

    Two equal-looking nodes are two nodes. One object applied twice shares its parameters, not its state.

    Attributes:
        name: name in the graph; a free one such as ``lif_1`` is taken when it is None.
    """

    name: str | None = field(default=None, kw_only=True)

    #: what to add where a user gives too many values by place
    misplaced_hint: ClassVar[str] = ""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Refuse options that the node does not have; all else is the dataclass's own."""
        known = [f.name for f in fields(cls) if f.init]
        for option in options:
            if option not in known:
                near = difflib.get_close_matches(option, known, 1, cutoff=0.5)
                near = near or [k for k in known if k.startswith(f"{option}_")][:1]
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ModelError(
                    f"{cls.__name__} has no option {option!r}.{hint} Its options: {', '.join(known)}", where=caller()
                )
        placed = [f.name for f in fields(cls) if f.init and not f.kw_only]
        if len(args) > len(placed):
            takes = f"only {', '.join(placed)} by place, and all else" if placed else "everything"
            what = ", ".join(repr(value)[:40] for value in args[len(placed) :])
            raise ModelError(
                f"{cls.__name__} takes {takes} by name: say what {what} is, name=value{cls.misplaced_hint}",
                where=caller(),
            )
        return super().__new__(cls)

    @classmethod
    def default_name(cls) -> str:
        """``ExpSyn`` -> ``exp_syn``, ``LIF`` -> ``lif``."""
        return _WORD.sub("_", cls.__name__).lower()

    def for_inputs(self, signals: int) -> Node:
        """The node to apply where this one is applied to ``signals`` positional signals."""
        del signals
        return self

    def lower(
        self, name: str, inputs: Mapping[str, SignalType], dt: float, where: Location | None, owner: str | None = None
    ) -> Elementwise | Connection:
        """The IR node for this one.

        Args:
            name: its unique name in the graph.
            inputs: port -> type of what feeds it.
            dt: the time step in seconds.
            where: the line of the model.
            owner: name under which the parameters live, if another application of this object came first.
        """
        raise TypeError(f"{type(self).__name__} does not lower")

    def __rshift__(self, other: Any) -> Block:
        return Block((self,)) >> other

    def __add__(self, other: Any) -> Any:
        raise _plus_error()

    __radd__ = __add__

    def __call__(self, *signals: Any, **ports: Any) -> Any:
        """Apply to signals: one positional, or by port name, ``node(exc=a, inh=b)``."""
        given = [*signals, *ports.values()]
        applied = next((s for s in given if hasattr(s, "apply_node")), None)
        if applied is None:
            raise ModelError(
                f"{type(self).__name__}(...) is applied to signals, not to {given or 'nothing'}", where=caller()
            )
        return applied.apply_node(self, signals, ports)


@dataclass(frozen=True, eq=False)
class Block:
    """Nodes in a row, reusable: ``block = Linear(128) >> LIF()``; then ``x >> block``."""

    nodes: tuple[Node, ...]

    def __rshift__(self, other: Any) -> Block:
        if isinstance(other, Node):
            return Block((*self.nodes, other))
        if isinstance(other, Block):
            return Block(self.nodes + other.nodes)
        if hasattr(other, "apply_node"):
            raise ModelError("the signal stands on the left: `signal >> node`", where=caller())
        raise ModelError(f"`>>` leads to a node or a block, not to {other!r}", where=caller())

    def __add__(self, other: Any) -> Any:
        raise _plus_error()

    __radd__ = __add__

    def __call__(self, signal: Any) -> Any:
        """``block(signal)`` is ``signal >> block``."""
        return signal >> self


def _plus_error() -> ModelError:
    return ModelError(
        "`+` binds tighter than `>>`: write `(a >> node) + (b >> node)`, with parentheses around each", where=caller()
    )


class ElementwiseNode(Node):
    """A synapse or neuron: its meaning is :meth:`step`.

    A subclass is a frozen dataclass. Fields made by :func:`snncompile.ir.params.param` are its trainable parameters.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    #: pairs of parameters of which the first must be smaller than the second, everywhere
    ordered: ClassVar[tuple[tuple[str, str], ...]] = ()

    def states(self) -> Mapping[str, float]:
        """State variables and their values before the first step."""
        return {}

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """Output ports and their types; the first is the default one."""
        raise TypeError(f"{type(self).__name__} does not say what its outputs are")

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """One time step, in elementwise torch operations.

        Args:
            s: the states, by name.
            x: the inputs, by port.
            p: the parameters, by name.
            dt: the time step in seconds.

        Returns:
            the new value of every state, and every output, by name.
        """
        raise TypeError(f"{type(self).__name__} has no step")

    def past(self) -> Mapping[str, str]:
        """What a record of the past is kept of: name -> input port, state or output."""
        return {}

    def check(self) -> None:
        """Raise :class:`ModelError` where settings (not parameters) make no sense."""

    def declared(self) -> dict[str, Param]:
        """The parameters with the values this object was given."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if "param" in f.metadata}
        return {
            f.name: f.metadata["param"].overridden(given[f.name])
            for f in fields(self)
            if f.name in given and not (given[f.name] is None and f.default is None)
        }

    def settings(self) -> dict[str, Any]:
        """Everything else it was given, for a reader of the IR."""
        shown = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if "param" not in f.metadata and f.name != "name" and not _same(value, f.default):
                shown[f.name] = value if isinstance(value, (int, float, str, bool)) else repr(value)
        return shown

    def lower(
        self, name: str, inputs: Mapping[str, SignalType], dt: float, where: Location | None, owner: str | None = None
    ) -> Elementwise:
        """The IR node for this one, applied under ``name`` to signals of the given types.

        Args:
            name: its unique name in the graph.
            inputs: port -> type; all have the same feature shape.
            dt: the time step in seconds.
            where: the line of the model.
            owner: name under which the parameters live, if another application of this object came first.

        Raises:
            ModelError: for ports, shapes, parameters or a step function that cannot be.
        """
        shape = self._feature_shape(name, inputs, where)
        try:
            self.check()
        except ModelError as err:
            raise ModelError(err.message, node=name, where=where) from None
        declared = self.declared()
        params = {role: bind_param(p, f"{owner or name}.{role}", shape, where) for role, p in declared.items()}
        check_order(self.ordered, {r: p.init.value_or_constant() for r, p in params.items()}, name, where)
        states = tuple(State(local, f"{name}.{local}", init) for local, init in self.states().items())
        outputs = tuple(OutPort(local, f"{name}.{local}", t) for local, t in self.outputs(inputs).items())
        locals_ = [*(s.local for s in states), *self.inputs, *params]
        self._check_names(name, locals_, where)
        results = [s.local for s in states] + [o.local for o in outputs if o.local not in {s.local for s in states}]
        what = f"the step of {type(self).__name__}"
        run = self._runner([s.local for s in states], list(params), results, dt)
        try:
            forward = trace(run, locals_, what=what, stream=stream_of(name))
            reverse = trace_reverse(run, locals_, results, what=what, stream=stream_of(name))
        except ModelError as err:
            raise ModelError(err.message, node=name, where=err.where or where) from err.__cause__
        wrong = misplaced(forward, params) or misplaced(reverse, params)
        if wrong is not None:
            raise ModelError(
                f"{what} uses {wrong.op} on a signal, a state or a constant"
                + (f" ({wrong.where})" if wrong.where else "")
                + "; it exists on parameters only (math on numbers, torch on parameters)",
                node=name,
                where=where,
            )
        return Elementwise(
            kind=type(self).__name__,
            shape=shape,
            inputs=self.inputs,
            outputs=outputs,
            states=states,
            params=params,
            forward=forward,
            reverse=reverse,
            members=(name,),
            ordered=self.ordered,
            attrs=self.settings(),
        )

    def _feature_shape(self, name: str, inputs: Mapping[str, SignalType], where: Location | None) -> tuple[int, ...]:
        missing = [port for port in self.inputs if port not in inputs]
        if missing or not inputs:
            raise ModelError(
                f"{type(self).__name__} needs a signal on port {', '.join(missing)}", node=name, where=where
            )
        unknown = [port for port in inputs if port not in self.inputs]
        if unknown:
            raise ModelError(
                f"{type(self).__name__} has no port {', '.join(unknown)}; its ports are {', '.join(self.inputs)}",
                node=name,
                where=where,
            )
        shapes = {port: t.shape for port, t in inputs.items()}
        if len(set(shapes.values())) != 1:
            said = ", ".join(f"{port} {shape}" for port, shape in shapes.items())
            raise ModelError(f"its inputs have different feature shapes: {said}", node=name, where=where)
        return next(iter(shapes.values()))

    @staticmethod
    def _check_names(name: str, names: Sequence[str], where: Location | None) -> None:
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ModelError(
                f"{', '.join(twice)} names two things: states, inputs and parameters need names of their own",
                node=name,
                where=where,
            )

    def _runner(self, states: list[str], params: list[str], results: list[str], dt: float) -> Any:
        """The step as a function of positional tensors, in the order states, inputs, parameters."""

        def run(*args: Any) -> dict[str, Any]:
            s, x, p = _split(args, (states, self.inputs, params))
            out = dict(self.step(s, x, p, dt))
            missing = [r for r in results if r not in out]
            extra = [r for r in out if r not in results]
            if missing or extra:
                raise ModelError(
                    "it must return every state and output and nothing else"
                    + (f"; missing: {', '.join(missing)}" if missing else "")
                    + (f"; not known: {', '.join(extra)}" if extra else "")
                )
            return {r: out[r] for r in results}

        return run


def _same(value: Any, default: Any) -> bool:
    return value is default or bool(type(value) is type(default) and np.all(value == default))


def _split(args: Sequence[Any], groups: Sequence[Sequence[str]]) -> list[SimpleNamespace]:
    values = iter(args)
    return [SimpleNamespace(**{n: next(values) for n in names}) for names in groups]


def check_order(
    ordered: Sequence[tuple[str, str]], values: Mapping[str, np.ndarray], node: str, where: Location | None = None
) -> None:
    """Raise :class:`ModelError` unless in each pair the first parameter is everywhere smaller than the second."""
    for low, high in ordered:
        if not np.all(values[low] < values[high]):
            raise ModelError(
                f"{low} must be smaller than {high}, but {low} is {float(np.max(values[low])):g} and {high} is"
                f" {float(np.min(values[high])):g}",
                node=node,
                where=where,
            )


__all__ = ["Block", "ElementwiseNode", "Node", "Parameter", "check_order"]
