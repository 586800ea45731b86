"""A learning rule: its functions at work on a connection, as a node of the IR."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch

from snncompile.ir.connection import Connection
from snncompile.ir.errors import Location, ModelError
from snncompile.ir.hoist import misplaced
from snncompile.ir.locations import caller
from snncompile.ir.nodes.base import Node, check_order
from snncompile.ir.params import Parameter, bind_param
from snncompile.ir.plasticity import FACTORS, PLASTIC, WEIGHT_ROLES, Plasticity, Trace
from snncompile.ir.program import Program
from snncompile.ir.trace import trace

#: The functions of a rule, and the program each becomes.
PARTS = {"pre": "before", "post": "after", "synapse": "synapse", "update": "update"}


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
        roles = [role for role in op.own if role in keywords(fn)]
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


def keywords(fn: Callable[..., Any]) -> list[str]:
    """The parameters and settings that a rule's function takes."""
    signature = inspect.signature(fn).parameters.values()
    return [a.name for a in signature if a.kind is inspect.Parameter.KEYWORD_ONLY and a.name != "dt"]


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
