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
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from snncompile.ir.connection import Connection
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.hoist import misplaced
from snncompile.ir.locations import caller
from snncompile.ir.nodes.base import Node, check_order
from snncompile.ir.nodes.user import Const
from snncompile.ir.params import Param, Parameter, bind_param
from snncompile.ir.plasticity import FACTORS, PLASTIC, WEIGHT_ROLES, Plasticity, Trace
from snncompile.ir.program import IDENTIFIER, Program
from snncompile.ir.trace import trace

#: The functions of a rule, and the program each becomes.
PARTS = {"pre": "before", "post": "after", "synapse": "synapse", "update": "update"}

_TAKEN = frozenset({"z", "w", "change", "dt", "name", "post", "pre", *FACTORS, *WEIGHT_ROLES})


@dataclass(frozen=True, eq=False)
class Rule(Node):
    """Base of the classes that :func:`plasticity` makes: how a connection learns, for ``snn.learn``."""

    #: name of a part -> the function
    parts: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    #: side -> trace -> first value
    traces: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    #: further signals, one value per sequence
    signals: ClassVar[tuple[str, ...]] = ()
    #: pairs of parameters of which the first must be smaller than the second
    ordered: ClassVar[tuple[tuple[str, str], ...]] = ()

    inputs: ClassVar[tuple[str, ...]] = ()

    def for_inputs(self, signals: int) -> Node:
        """A rule is not applied to a signal."""
        raise ModelError(
            f"{type(self).__name__} is a learning rule, not a node to send a signal through: write"
            f" snn.learn(connection, {type(self).__name__}(...))",
            where=caller(),
        )

    def check(self) -> None:
        """Raise :class:`ModelError` where settings make no sense."""

    def bounds(self) -> tuple[str, ...]:
        """The two parameters between which weights must lie for the rule to mean anything; or none."""
        return ()

    def settings(self) -> dict[str, Any]:
        """What it was given besides parameters."""
        return {f.name: getattr(self, f.name) for f in fields(self) if "param" not in f.metadata and f.name != "name"}

    def on(
        self, connection: Connection, name: str, dt: float, where: Location | None = None, owner: str | None = None
    ) -> Plasticity:
        """The IR node of this rule at work on ``connection``.

        Args:
            connection: what learns.
            name: the node's unique name in the graph.
            dt: the time step in seconds.
            where: the line of the model.
            owner: name under which the parameters live, if another application of this object came first.

        Raises:
            ModelError: for parameters, settings or functions that cannot be.
        """
        try:
            self.check()
        except ModelError as err:
            raise ModelError(err.message, node=name, where=where) from None
        own = self._parameters(owner or name, where)
        check_order(self.ordered, {r: p.init.value_or_constant() for r, p in own.items()}, name, where)
        traces = [Trace(t, f"{name}.{t}", init, side) for side, held in self.traces.items() for t, init in held.items()]
        empty = Program((), (), ())
        op = Plasticity(
            kind=type(self).__name__,
            connection=connection.kind,
            settings={key: connection.attrs[key] for key in PLASTIC[connection.kind]},
            pre=connection.input.shape,
            post=connection.output.shape,
            signals=self.signals,
            traces=tuple(traces),
            params={**{r: connection.params[r] for r in WEIGHT_ROLES if r in connection.params}, **own},
            before=empty,
            after=empty,
            synapse=empty if "synapse" in self.parts else None,
            update=empty,
            members=(name,),
            ordered=self.ordered,
            bounded=self.bounds(),
            attrs={k: v if isinstance(v, (int, float, str, bool)) else repr(v) for k, v in self.settings().items()},
        )
        programs: Any = {PARTS[part]: self._program(op, part, dt, name, where) for part in self.parts}
        return replace(op, **programs)

    def _parameters(self, owner: str, where: Location | None) -> dict[str, Parameter]:
        found = {}
        for f in fields(self):
            if "param" not in f.metadata:
                continue
            declared = replace(f.metadata["param"].overridden(getattr(self, f.name)), layout="scalar")
            shape = tuple(getattr(declared.value, "shape", ()))
            if shape != () or isinstance(declared.value, (list, tuple)):
                said = f"an array {shape}" if shape else repr(declared.value)
                raise ModelError(f"{f.name} of a learning rule is one number, not {said}", node=owner, where=where)
            found[f.name] = bind_param(declared, f"{owner}.{f.name}", (1,), where)
        return found

    def _program(self, op: Plasticity, part: str, dt: float, name: str, where: Location | None) -> Program:
        fn, program = self.parts[part], PARTS[part]
        given = op.given(program)
        roles = [role for role in op.own if role in _keywords(fn)]
        results = op.results(program)
        what = f"{part} of {type(self).__name__}"

        def run(*args: Any) -> dict[str, Any]:
            values = dict(zip([*given, *roles], args, strict=True))
            out = fn(**self._arguments(fn, values, dt))
            if part in ("pre", "post") and isinstance(out, Mapping):
                out = {**dict.fromkeys(self._unread(), 0.0), **out}
            out = _result(out, results, what)
            return {**out, "w": _held(out["w"], values)} if part == "update" else out

        try:
            traced = trace(run, [*given, *roles], what=what)
        except ModelError as err:
            raise ModelError(err.message, node=name, where=err.where or where) from err.__cause__
        wrong = misplaced(traced, roles)
        if wrong is not None:
            place = f" ({wrong.where})" if wrong.where else ""
            raise ModelError(
                f"{what} uses {wrong.op} on a signal, a trace, a weight or a constant{place}; it exists on parameters"
                " only (math on numbers, torch on parameters)",
                node=name,
                where=where,
            )
        return traced

    def _unread(self) -> list[str]:
        """The factors of which nothing makes use: ``pre`` and ``post`` need not give them."""
        taken = inspect.signature(self.parts.get("synapse", self.parts["update"])).parameters
        return [f for f in FACTORS if f not in taken]

    def _arguments(self, fn: Callable[..., Any], values: Mapping[str, Any], dt: float) -> dict[str, Any]:
        known = {**self.settings(), **values, "dt": dt}
        return {name: known[name] for name in inspect.signature(fn).parameters}


def _result(out: Any, results: Sequence[str], what: str) -> dict[str, Any]:
    if not isinstance(out, Mapping):
        names = ", ".join(f'"{n}": ...' for n in results)
        raise ModelError(f"{what}: it must return a dict {{{names}}}, not {type(out).__name__}")
    missing = [r for r in results if r not in out]
    extra = [r for r in out if r not in results]
    if missing or extra:
        raise ModelError(
            f"{what}: it must return {', '.join(results)} and nothing else"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; not known: {', '.join(extra)}" if extra else "")
        )
    return {r: out[r] for r in results}


def _held(w: Any, values: Mapping[str, Any]) -> Any:
    """The new weight where mask and sign let it be: a wrong sign becomes 0, what is masked stays as it was."""
    if "sign" in values:
        w = torch.where(w * values["sign"] < 0.0, 0.0, w)
    if "mask" in values:
        w = torch.where(values["mask"] != 0.0, w, values["w"])
    return w


# -- the decorator -------------------------------------------------------------------------------------------------


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
    traces = {"pre": dict(pre or {}), "post": dict(post or {}), "synapse": dict(synapse or {})}
    where = caller()

    def decorate(cls: type) -> type[Rule]:
        try:
            if not inspect.isclass(cls):
                raise ModelError(f"it takes a class of functions, not {cls!r}")
            return _rule_class(cls, traces, tuple([signals] if isinstance(signals, str) else signals))
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


def _keywords(fn: Callable[..., Any]) -> list[str]:
    signature = inspect.signature(fn).parameters.values()
    return [a.name for a in signature if a.kind is inspect.Parameter.KEYWORD_ONLY and a.name != "dt"]


def _defaults(parts: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """Keyword argument -> its default, from whichever function gives one."""
    found: dict[str, Any] = {}
    empty = inspect.Parameter.empty
    for part, fn in parts.items():
        for name in _keywords(fn):
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
