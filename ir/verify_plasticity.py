"""What must hold for plasticity: a rule on its own, and between it and the connection it teaches."""

from __future__ import annotations

from math import isfinite, prod

from snncompile.ir.connection import Connection
from snncompile.ir.errors import VerificationError
from snncompile.ir.graph import Graph, Ref
from snncompile.ir.plasticity import PLASTIC, SIDES, WEIGHT_ROLES, Plasticity
from snncompile.ir.types import SignalType
from snncompile.ir.verify_nodes import (
    Fault,
    check_distinct,
    check_identifiers,
    check_params,
    check_program,
    check_type,
    dotted,
)


def check_plasticity(op: Plasticity) -> None:
    """Raise :class:`Fault` or ``VerificationError`` where ``op`` breaks a rule."""
    check_identifiers([op.kind], "a kind of node")
    check_identifiers(op.members, "a source node")
    if op.connection not in PLASTIC:
        raise Fault(f"a {op.connection} does not learn; these do: {', '.join(PLASTIC)}")
    if sorted(op.settings) != sorted(PLASTIC[op.connection]):
        wanted = ", ".join(PLASTIC[op.connection]) or "none"
        raise Fault(f"its settings are {', '.join(op.settings) or 'none'}; those of a {op.connection} are {wanted}")
    for side, shape in (("input", op.pre), ("output", op.post)):
        if not shape or any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in shape):
            raise Fault(f"the features {shape!r} of its {side} are no positive whole numbers")
        check_type(SignalType("any", shape), f"its {side}")
    _names(op)
    check_params(op.params)
    if "weight" not in op.params:
        raise Fault("the parameter 'weight' is missing")
    for role, p in op.params.items():
        wanted_shape = op.weight.shape if role in WEIGHT_ROLES else ()
        if p.shape != wanted_shape:
            raise Fault(f"the parameter {role!r} has shape {p.shape}, not {wanted_shape}")
    _fits(op)
    for pair in (*op.ordered, *([op.bounded] if op.bounded else [])):
        if len(pair) != 2 or any(role not in op.own for role in pair):
            raise Fault(f"{' and '.join(pair)} are no pair of its parameters")
    if op.synapse is None and (op.signals or op.of_side("synapse")):
        raise Fault("it has signals or traces of synapses, but no program 'synapse' that reads them")
    for name, program in op.programs().items():
        given = [*op.given(name), *op.own]
        check_program(f"the program {name!r}", program, given, op.results(name), list(op.own))


def _names(op: Plasticity) -> None:
    check_identifiers([*op.inputs, *(t.local for t in op.traces), *op.params], "a value")
    check_distinct([*op.inputs, *(t.local for t in op.traces), "z", "w", "change", *op.params], "of its values")
    check_distinct([t.name for t in op.traces], "of its records")
    for t in op.traces:
        if not dotted(t.name):
            raise Fault(f"the trace {t.local!r} is called {t.name!r}, not '<node>.<name>'")
        if t.side not in SIDES:
            raise Fault(f"the trace {t.local!r} is of side {t.side!r}, not one of {', '.join(SIDES)}")
        if not isfinite(t.init):
            raise Fault(f"the trace {t.local!r} starts from {t.init}, which is not finite")


def _fits(op: Plasticity) -> None:
    """The weight is of the input's and the output's size."""
    shape = op.weight.shape
    if op.connection == "Linear":
        fits = shape == (prod(op.post), prod(op.pre)) and len(op.post) == len(op.pre) == 1
    else:
        fits = len(shape) == 4 and shape[:2] == (op.post[0], op.pre[0]) and len(op.post) == len(op.pre) == 3
    if not fits:
        raise Fault(f"a weight of {shape} does not lead from features {op.pre} to {op.post}")


def check_teaching(graph: Graph) -> None:
    """Every rule teaches one connection, every connection that learns has one rule, and they agree.

    Raises:
        VerificationError: where that is not so.
    """
    for name, rule in graph.of_type(Plasticity):
        where = graph.where(name)
        taught = [(reader, port) for reader, port, e in graph.consumers(name) if e.source == Ref(name, "weight")]
        if len(taught) != 1 or taught[0][1] != "weight":
            said = ", ".join(f"{reader}.{port}" for reader, port in taught) or "nothing"
            raise VerificationError(f"it teaches {said}, not one connection", node=name, where=where)
        op = graph.op(taught[0][0])
        same = isinstance(op, Connection) and op.kind == rule.connection
        same = same and all(op.params.get(role) == rule.params.get(role) for role in WEIGHT_ROLES)
        same = same and all(op.attrs.get(key) == value for key, value in rule.settings.items())
        same = same and (op.input.shape, op.output.shape) == (rule.pre, rule.post)
        if not same or op.attrs.get("groups", 1) != 1:
            raise VerificationError(f"it does not fit the connection '{taught[0][0]}'", node=name, where=where)
    users: dict[str, str] = {}
    learned = graph.learned()
    for name, op in graph.of_type(Connection):
        if op.plastic:
            edge = graph.inputs_of(name)["weight"]
            late = edge.delay == 1 and edge.feedback == op.params["weight"].name and edge.source.port == "weight"
            if not late or not isinstance(graph.op(edge.source.node), Plasticity):
                raise VerificationError("its weight is no late weight of a rule", node=name, where=graph.where(name))
        weight = op.params.get("weight")
        if weight is not None and weight.name in learned and users.setdefault(weight.name, name) != name:
            raise VerificationError(f"it shares {weight.name}, which learns, with '{users[weight.name]}'", node=name)


__all__ = ["check_plasticity", "check_teaching"]
