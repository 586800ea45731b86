"""Nodes of the user's own: a torch step function becomes a node class.

    @snn.neuron(states={"v": 0.0}, outputs={"spikes": 1})
    def MyLIF(v, x, *, tau=snn.Param(20 * ms, family="taus", constraint="positive"), threshold=1.0, dt):
        '''My own leaky neuron.'''
        v = v * torch.exp(-dt / tau) + x
        s = snn.spike(v, threshold)
        return {"v": v - s * threshold, "spikes": s}

    h = x >> MyLIF(tau=10 * ms)
"""

from __future__ import annotations

import inspect
import keyword
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, make_dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from snncompile.ir.errors import Location, ModelError
from snncompile.ir.locations import caller
from snncompile.ir.nodes.base import ElementwiseNode
from snncompile.ir.params import Param
from snncompile.ir.program import IDENTIFIER
from snncompile.ir.types import SignalType

_RESERVED = frozenset(dir(ElementwiseNode)) | {"name", "step_function"}
_KINDS = ("current", "membrane")


@dataclass(frozen=True)
class Const:
    """Marks the default of a keyword argument as a plain setting: no parameter, passed to the step as it is.

    Attributes:
        value: the default.
    """

    value: Any


class UserNode(ElementwiseNode):
    """Base of the classes that :func:`neuron` and :func:`synapse` make."""

    #: the function decorated
    step_function: ClassVar[Callable[..., Any]]
    _states: ClassVar[Mapping[str, float]]
    _outputs: ClassVar[Mapping[str, int | str]]
    _params: ClassVar[tuple[str, ...]]
    _settings: ClassVar[tuple[str, ...]]
    _takes_dt: ClassVar[bool]

    def check(self) -> None:
        """Settings that make no sense."""
        for name in self._settings:
            if isinstance(getattr(self, name), Param):
                raise ModelError(f"{name} is a plain setting of {type(self).__name__}, not a parameter")

    def states(self) -> Mapping[str, float]:
        """The states named in the decorator."""
        return self._states

    def outputs(self, inputs: Mapping[str, SignalType]) -> Mapping[str, SignalType]:
        """The outputs named in the decorator."""
        shape = next(iter(inputs.values())).shape
        return {
            name: SignalType(kind, shape) if isinstance(kind, str) else SignalType("spikes", shape, kind)
            for name, kind in self._outputs.items()
        }

    def step(self, s: SimpleNamespace, x: SimpleNamespace, p: SimpleNamespace, dt: float) -> Mapping[str, Any]:
        """The function decorated."""
        given = {**vars(s), **vars(x), **vars(p), **{n: getattr(self, n) for n in self._settings}}
        if self._takes_dt:
            given["dt"] = dt
        result = type(self).step_function(**given)
        if not isinstance(result, Mapping):
            names = ", ".join(f'"{n}": ...' for n in dict.fromkeys([*self._states, *self._outputs]))
            raise ModelError(f"it must return a dict {{{names}}}, not {type(result).__name__}")
        return result


def neuron(
    states: Mapping[str, float] | None = None, outputs: Mapping[str, int | str] | None = None
) -> Callable[[Callable[..., Mapping[str, Any]]], type[UserNode]]:
    """Turns a step function into a neuron class.

    The function computes one time step with elementwise torch operations, and returns a dict with the new value of
    every state and the value of every output (an output that is a state is given once). Its arguments are

    - positional: the states, by the names in ``states``, and the inputs: all others, at least one;
    - keyword-only: the parameters and settings. A number as default makes a trainable parameter with one value per
      channel, :class:`Param` says more, and none makes a parameter that must be given. Any other default (text, a bool,
      None, a surrogate, or :class:`Const` of a number) makes a plain setting, passed as it is;
    - ``dt``, keyword-only, if wanted: the time step in seconds.

    Compute what depends on parameters and ``dt`` alone, such as ``torch.exp(-dt / tau)``, where it is used: it is moved
    out of the loop over time. :func:`snncompile.spike` gives spikes with a surrogate gradient.

    Args:
        states: state name -> value before the first step.
        outputs: output name -> the most spikes in one step, or ``"current"`` or ``"membrane"``; the first is the
            default one. Default: ``{"spikes": 1}``.

    Raises:
        ModelError: for a function or names that do not fit together, with its file and line.
    """
    return _decorator("neuron", states, outputs, {"spikes": 1})


def synapse(
    states: Mapping[str, float] | None = None, outputs: Mapping[str, int | str] | None = None
) -> Callable[[Callable[..., Mapping[str, Any]]], type[UserNode]]:
    """Turns a step function into a synapse class; all as for :func:`neuron`, but ``outputs``.

    Args:
        states: state name -> value before the first step.
        outputs: as for :func:`neuron`. Default: the first state, as a current.

    Raises:
        ModelError: as for :func:`neuron`.
    """
    first = next(iter(states), None) if isinstance(states, Mapping) else None
    return _decorator("synapse", states, outputs, {first or "current": "current"})


def _decorator(
    what: str, states: Any, outputs: Any, default: Mapping[str, int | str]
) -> Callable[[Callable[..., Mapping[str, Any]]], type[UserNode]]:
    if callable(states) and not isinstance(states, Mapping):
        raise ModelError(
            f"write @{what}(states={{...}}, outputs={{...}}), with parentheses", where=_location(states)
        )

    def decorate(fn: Callable[..., Mapping[str, Any]]) -> type[UserNode]:
        if not inspect.isfunction(fn):
            raise ModelError(f"@{what} takes a step function, not {fn!r}", where=caller())
        try:
            for key, given in (("states", states), ("outputs", outputs)):
                if given is not None and not isinstance(given, Mapping):
                    raise ModelError(f"{key} is a dict by name, {key}={{...}}, not {given!r}")
            return _node_class(fn, dict(states or {}), dict(default if outputs is None else outputs))
        except ModelError as err:
            raise ModelError(f"@{what} {fn.__name__}: {err.message}", where=_location(fn)) from None

    return decorate


def _node_class(fn: Callable[..., Any], states: dict[str, float], outputs: dict[str, int | str]) -> type[UserNode]:
    signature = inspect.signature(fn).parameters.values()
    positional = [a.name for a in signature if a.kind in (a.POSITIONAL_ONLY, a.POSITIONAL_OR_KEYWORD)]
    keywords = [a for a in signature if a.kind is inspect.Parameter.KEYWORD_ONLY and a.name != "dt"]
    _check_arguments(list(signature), positional, states)
    _check_states_and_outputs(states, outputs, [*positional, *(a.name for a in keywords)])
    inputs = tuple(n for n in positional if n not in states)
    _check_names([*positional, *(a.name for a in keywords), *outputs])
    declared = {a.name: _declaration(a.default) for a in keywords}
    made = make_dataclass(
        fn.__name__,
        [(name, Any, one) for name, one in declared.items()],
        bases=(UserNode,),
        namespace={
            "__doc__": inspect.getdoc(fn) or f"A node made from the step function ``{fn.__name__}``.",
            "inputs": inputs,
            "step_function": staticmethod(fn),
            "_states": {name: float(value) for name, value in states.items()},
            "_outputs": dict(outputs),
            "_params": tuple(n for n, one in declared.items() if "param" in one.metadata),
            "_settings": tuple(n for n, one in declared.items() if "param" not in one.metadata),
            "_takes_dt": any(a.name == "dt" for a in signature),
        },
        frozen=True,
        eq=False,
        kw_only=True,
    )
    made.__module__, made.__qualname__ = fn.__module__, fn.__qualname__  # pickled by reference
    return made


def _declaration(default: Any) -> Field:
    """The dataclass field for a keyword argument with this default."""
    if isinstance(default, Const):
        return field(default=default.value)
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    is_array = hasattr(default, "detach") or isinstance(default, np.ndarray)
    if default is inspect.Parameter.empty:
        return field(default=MISSING, metadata={"param": Param(None, "channel", "parameters", True)})
    if is_number or is_array or isinstance(default, Param):
        declared = Param(None, "channel", "parameters", True).overridden(default)
        required = isinstance(default, Param) and default.value is None
        return field(default=MISSING if required else declared.value, metadata={"param": declared})
    return field(default=default)


def _check_arguments(signature: list[inspect.Parameter], positional: list[str], states: Mapping[str, float]) -> None:
    for a in signature:
        if a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD):
            stars = "*" if a.kind is a.VAR_POSITIONAL else "**"
            raise ModelError(f"{stars}{a.name} is not possible: states, inputs and parameters are named one by one")
        if a.name in positional and a.default is not a.empty:
            raise ModelError(f"{a.name} has a default: parameters come after a `*`, as keyword-only arguments")
        if a.name == "dt" and a.name in positional:
            raise ModelError("dt must be keyword-only: put it after a `*`")
    missing = [n for n in states if n not in positional]
    if missing:
        named = ", ".join(positional) or "none"
        raise ModelError(
            f"the state{'s' * (len(missing) > 1)} {', '.join(missing)} must be among its positional arguments ({named})"
        )
    if len(positional) == len(states):
        raise ModelError("it has no input: name one among its positional arguments, beside the states")


def _check_states_and_outputs(states: Mapping, outputs: Mapping, arguments: list[str]) -> None:
    for name, start in states.items():
        if isinstance(start, bool) or not isinstance(start, (int, float)) or not math.isfinite(start):
            raise ModelError(f"the state {name} must start from a finite number, not {start!r}")
    if not outputs:
        raise ModelError("it has no output")
    for name, kind in outputs.items():
        is_count = isinstance(kind, int) and not isinstance(kind, bool) and kind >= 1
        if not is_count and kind not in _KINDS:
            raise ModelError(
                f"the output {name} must be the most spikes in one step (a whole number), 'current' or 'membrane',"
                f" not {kind!r}"
            )
        if name in arguments and name not in states:
            raise ModelError(f"{name} names two things: an argument and an output")


def _check_names(names: list[str]) -> None:
    for name in names:
        if not isinstance(name, str) or not IDENTIFIER.match(name) or keyword.iskeyword(name):
            raise ModelError(f"{name!r} is no name: use ASCII letters, digits and underscores")
        if name in _RESERVED or name.startswith(("_", "grad_")):
            raise ModelError(f"{name} is reserved: choose another name for it")


def _location(fn: Any) -> Location | None:
    code = getattr(fn, "__code__", None)
    return None if code is None else Location(code.co_filename, code.co_firstlineno)
