"""Learning rules of the user's own: a class of torch functions becomes a rule for ``snn.learn``.

    @snn.plasticity(pre={"t_pre": 0.0}, post={"t_post": 0.0})
    class MyRule:
        '''Potentiation where a trace of input spikes meets a spike, depression the other way round.'''

        def pre(z, t_pre, *, tau=snn.Param(20 * ms, family="taus", constraint="positive"), dt):
            t_pre = t_pre * torch.exp(-dt / tau) + z
            return {"t_pre": t_pre, "potentiation": t_pre, "depression": z}

        def post(z, t_post, *, tau, dt):
            t_post = t_post * torch.exp(-dt / tau) + z
            return {"t_post": t_post, "potentiation": z, "depression": t_post}

        def update(w, potentiation, depression, *, rate=1e-3):
            return {"w": torch.clamp(w + rate * (potentiation - depression), 0.0, 1.0)}
"""

from __future__ import annotations

import inspect
import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, make_dataclass
from typing import Any

import numpy as np

from snncompile.ir.errors import Location, ModelError
from snncompile.ir.locations import caller
from snncompile.ir.nodes.rules import PARTS, Rule, keywords
from snncompile.ir.nodes.user import Const
from snncompile.ir.params import Param
from snncompile.ir.plasticity import FACTORS, WEIGHT_ROLES
from snncompile.ir.program import IDENTIFIER

_TAKEN = frozenset({"z", "w", "change", "dt", "name", "post", "pre", *FACTORS, *WEIGHT_ROLES})


def plasticity(
    pre: Mapping[str, float] | None = None,
    post: Mapping[str, float] | None = None,
    synapse: Mapping[str, float] | None = None,
    signals: Sequence[str] = (),
) -> Callable[[type], type[Rule]]:
    """Turns a class of functions into a learning rule for :func:`snncompile.learn`.

    Every step, once the spikes are known, these functions of elementwise torch operations run:

    - ``pre(z, <traces>, *, ...)`` over the connection's inputs returns a dict with the new traces and two factors,
      ``"potentiation"`` and ``"depression"``; ``z`` is the signal that arrives;
    - ``post(z, <traces>, *, ...)`` the same over its outputs;
    - ``update(w, potentiation, depression, *, ...)`` over its weights returns ``{"w": ...}``. For each weight,
      ``potentiation`` is the output's factor times the input's, summed over the batch (and the positions of a
      convolution); ``depression`` alike.

    A rule whose synapses remember something, or that hears a signal such as a reward, has a fourth function, and
    ``update(w, change, *, ...)`` then gets the sum of its ``"change"`` over the batch:

    - ``synapse(w, potentiation, depression, <traces>, <signals>, *, ...)`` runs over the weights for each sequence, and
      returns the new traces and ``"change"``.

    Positional arguments are taken by name, and what is not needed may be left out; a factor that no function takes need
    not be returned. Keyword-only arguments are the
    rule's parameters (a number or :class:`Param` as default: one number, not trained unless it says so) and settings
    (any other default); two functions that name one mean the same, and one of them gives its default. ``dt`` is the
    time step in seconds.

    The class may hold ``ordered``, pairs of parameters of which the first must be smaller than the second, and
    ``check(self)``, which raises :class:`ModelError` where settings make no sense.

    Args:
        pre: trace of the inputs -> first value.
        post: trace of the outputs -> first value.
        synapse: trace of the synapses of every sequence -> first value.
        signals: names of further signals, one value per sequence: ``snn.learn(..., reward=signal)``.

    Raises:
        ModelError: for functions or names that do not fit together.
    """
    if inspect.isclass(pre):
        raise ModelError("write @plasticity(pre={...}, post={...}), with parentheses", where=caller())
    for side, given in (("pre", pre), ("post", post), ("synapse", synapse)):
        if given is not None and not isinstance(given, Mapping):
            raise ModelError(
                f"@plasticity: {side} is a dict of traces and their first values, not {given!r}", where=caller()
            )
    heard = [signals] if isinstance(signals, str) else signals
    if not isinstance(heard, Sequence) or any(not isinstance(name, str) for name in heard):
        raise ModelError(f"@plasticity: signals are names, signals=('reward',), not {signals!r}", where=caller())
    traces = {"pre": dict(pre or {}), "post": dict(post or {}), "synapse": dict(synapse or {})}
    where = caller()

    def decorate(cls: type) -> type[Rule]:
        try:
            if not inspect.isclass(cls):
                raise ModelError(f"it takes a class of functions, not {cls!r}")
            return _rule_class(cls, traces, tuple(heard))
        except ModelError as err:
            name = getattr(cls, "__name__", "")
            raise ModelError(f"@plasticity {name}: {err.message}", where=err.where or where) from None

    return decorate


def _rule_class(cls: type, traces: dict[str, dict[str, float]], signals: tuple[str, ...]) -> type[Rule]:
    parts = {part: _function(cls, part) for part in PARTS if part in vars(cls)}
    _check_parts(parts, traces, signals)
    for part, fn in parts.items():
        _check_arguments(part, fn, _given(part, parts, traces, signals))
    declared: dict[str, Field] = {}
    for name, default in _defaults(parts).items():
        declared[name] = _declaration(default)
    _check_names([*declared, *signals, *(t for held in traces.values() for t in held)])
    for name in (name for pair in vars(cls).get("ordered", ()) for name in pair):
        if name not in declared or "param" not in declared[name].metadata:
            raise ModelError(f"ordered names {name!r}, which is none of its parameters")
    kept = {k: v for k, v in vars(cls).items() if k not in PARTS and k not in ("__dict__", "__weakref__")}
    made = make_dataclass(
        cls.__name__,
        [(name, Any, one) for name, one in declared.items()],
        bases=(Rule,),
        namespace={
            **kept,
            "__doc__": inspect.getdoc(cls) or f"The learning rule ``{cls.__name__}``.",
            "parts": parts,
            "traces": traces,
            "signals": signals,
        },
        frozen=True,
        eq=False,
        kw_only=True,
    )
    made.__module__, made.__qualname__ = cls.__module__, cls.__qualname__  # pickled by reference
    return made


def _function(cls: type, part: str) -> Callable[..., Any]:
    fn = vars(cls)[part]
    fn = fn.__func__ if isinstance(fn, staticmethod) else fn
    if not inspect.isfunction(fn):
        raise ModelError(f"{part} is no function")
    return fn


def _check_parts(
    parts: Mapping[str, Any], traces: Mapping[str, Mapping[str, float]], signals: Sequence[str]
) -> None:
    missing = [part for part in ("pre", "post", "update") if part not in parts]
    if missing:
        raise ModelError(f"it has no function {', '.join(missing)}")
    if "synapse" not in parts and (traces["synapse"] or signals):
        what = ", ".join([*traces["synapse"], *signals])
        raise ModelError(f"{what} is one of every sequence: write a function synapse(w, potentiation, depression, ...)")
    for held in traces.values():
        for name, start in held.items():
            if isinstance(start, bool) or not isinstance(start, (int, float)) or not math.isfinite(start):
                raise ModelError(f"the trace {name} must start from a finite number, not {start!r}")
    names = [*(t for held in traces.values() for t in held), *signals]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"{name} names two things: every trace and signal has a name of its own")


def _given(
    part: str, parts: Mapping[str, Any], traces: Mapping[str, Mapping[str, float]], signals: Sequence[str]
) -> list[str]:
    if part in ("pre", "post"):
        return ["z", *traces[part]]
    if part == "synapse":
        return ["w", *FACTORS, *traces["synapse"], *signals]
    return ["w", "change"] if "synapse" in parts else ["w", *FACTORS]


def _check_arguments(part: str, fn: Callable[..., Any], given: Sequence[str]) -> None:
    where = Location(fn.__code__.co_filename, fn.__code__.co_firstlineno)
    for a in inspect.signature(fn).parameters.values():
        if a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD):
            raise ModelError(f"{part} names its arguments one by one, no *{a.name}", where=where)
        if a.kind is a.KEYWORD_ONLY and a.name in given:
            raise ModelError(f"{part}: {a.name} stands before the `*`", where=where)
        if a.kind is not a.KEYWORD_ONLY and a.name not in given:
            raise ModelError(
                f"{part} has no {a.name}; before the `*` it may name {', '.join(given)}, and after it parameters,"
                " settings and dt",
                where=where,
            )
        if a.kind is not a.KEYWORD_ONLY and a.default is not a.empty:
            raise ModelError(f"{part}: {a.name} has a default: parameters come after a `*`", where=where)


def _defaults(parts: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """Keyword argument -> its default, from whichever function gives one."""
    found: dict[str, Any] = {}
    empty = inspect.Parameter.empty
    for part, fn in parts.items():
        for name in keywords(fn):
            default = inspect.signature(fn).parameters[name].default
            known = found.setdefault(name, default)
            if known is empty:
                found[name] = default
            elif default is not empty and default is not known and repr(default) != repr(known):
                raise ModelError(f"{name} has two defaults, {known!r} and, in {part}, {default!r}")
    return found


def _declaration(default: Any) -> Field:
    """The dataclass field for a keyword argument with this default."""
    if isinstance(default, Const):
        return field(default=default.value)
    plain = Param(None, "scalar", "parameters", False)
    if default is inspect.Parameter.empty:
        return field(default=MISSING, metadata={"param": plain})
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    if is_number or isinstance(default, (Param, np.ndarray)):
        declared = plain.overridden(default)
        return field(default=MISSING if declared.value is None else declared.value, metadata={"param": declared})
    return field(default=default)


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not isinstance(name, str) or not IDENTIFIER.match(name) or keyword.iskeyword(name):
            raise ModelError(f"{name!r} is no name: use ASCII letters, digits and underscores")
        if name in _TAKEN or name in dir(Rule) or name.startswith("_"):
            raise ModelError(f"{name} is reserved: choose another name for it")
        if names.count(name) > 1:
            raise ModelError(f"{name} names two things: traces, signals and arguments have names of their own")
