"""What a delay computes of the values it reads, as a node: so that a kernel that reads them can compute it, too.

The node is traced from :func:`snncompile.ir.delay.combined`, which is what a delay means. It is composed with the node
that reads the delay (``ir/compose.py``), as if both had been written one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import Tensor

from snncompile.ir.compose import compose
from snncompile.ir.connection import Connection
from snncompile.ir.delay import combined
from snncompile.ir.elementwise import Elementwise, OutPort
from snncompile.ir.graph import Graph, Input, Ref
from snncompile.ir.params import Init, Parameter
from snncompile.ir.program import Program, dce
from snncompile.ir.trace import trace, trace_reverse
from snncompile.ir.types import SignalType

#: How a delay combines what it reads, in words.
WORDS = {"linear": "linear interpolation", "expdecay": "the older value, decayed"}


def taps(op: Connection) -> tuple[str, ...]:
    """The values that a Delay reads of the past of each neuron: ``near``, and ``far`` one step before it."""
    return ("near", "far") if op.rule.interpolation == "linear" and op.same_for_all is None else ("near",)


def roles(op: Connection) -> tuple[str, ...]:
    """What a Delay combines them with: the other arguments of :func:`~snncompile.ir.delay.combined`."""
    if op.same_for_all is not None:
        return ()
    kind = op.rule.interpolation
    gains = ("gain", "far_gain") if kind == "linear" else ("gain",) if kind == "expdecay" else ()
    return gains if op.rule.overbound is None else (*gains, "valid")


def moves_only(op: Connection) -> bool:
    """Whether a Delay computes nothing and shows one value of each channel: then another one can read through it."""
    return op.kind == "Delay" and op.depth > 0 and not roles(op) and op.output.size == op.input.size


@dataclass(frozen=True)
class Reader:
    """A node and the delays before it, as one node.

    Attributes:
        node: it.
        inputs: for each of its inputs: the input of the node as it was that it stands for, and for a delay the value
            that it reads of the past, else ``""``.
    """

    node: Elementwise
    inputs: tuple[tuple[str, str], ...]


def with_delays(node: Elementwise, delays: Mapping[str, tuple[str, Connection]]) -> Reader:
    """``node`` with what some of its inputs' delays compute.

    Args:
        node: what reads them; its states, outputs and parameters keep their names.
        delays: input -> name of the delay, and the delay. The result has parameters ``<name>.<role>`` besides those of
            ``node``, one for each of :func:`roles`.
    """
    graph, prefix = Graph("late", 1.0), _unused(node)
    feeds, origin = {}, {}
    for k, port in enumerate(node.inputs):
        if port not in delays:
            graph.add(f"{prefix}_{k}", Input(_type(node)))
            feeds[port], origin[f"{prefix}_{k}"] = Ref(f"{prefix}_{k}"), (port, "")
            continue
        name, op = delays[port]
        read = {tap: f"{prefix}_{k}_{tap}" for tap in taps(op)}
        for tap, source in read.items():
            graph.add(source, Input(_type(node)))
            origin[source] = (port, tap)
        combining = _combining(name, op, _type(node))
        graph.add(f"{prefix}_{k}", combining, {tap: Ref(source) for tap, source in read.items()})
        feeds[port] = Ref(f"{prefix}_{k}", "seen")
    graph.add(f"{prefix}_reader", replace(_whole(node), kind="Fused"), feeds)
    made = compose(graph, [n for n in graph.names if not isinstance(graph.op(n), Input)])
    inputs = tuple(origin[made.feeds[x].source.node] for x in made.node.inputs)
    return Reader(made.node, inputs)


def showing(name: str, op: Connection) -> Elementwise:
    """A Delay that shows one value of each neuron as a node, which reads the values that :func:`taps` names late; its
    result is ``seen``, its parameters as for :func:`with_delays`."""
    return _combining(name, op, op.input)


def _unused(node: Elementwise) -> str:
    """A beginning of names that no name of ``node`` has."""
    taken = {*node.forward.inputs, *node.reverse.inputs, *node.results, *node.params}
    taken |= {op.name for program in (node.forward, node.reverse, node.derived) if program for op in program.ops}
    k = 0
    while any(name.startswith(f"late{k or ''}_") for name in taken):
        k += 1
    return f"late{k or ''}"


def _type(node: Elementwise) -> SignalType:
    return SignalType("any", node.shape)


def _whole(node: Elementwise) -> Elementwise:
    """``node`` as it was before what depends on parameters alone was moved out of its step."""
    if node.derived is None:
        return node
    derived, params = node.derived, tuple(node.params)
    known = {*derived.output_names, *params}

    def inside(program: Program) -> Program:
        inputs = tuple(n for n in program.inputs if n not in known)
        return Program((*inputs, *params), (*derived.ops, *program.ops), program.outputs)

    return replace(node, forward=inside(node.forward), reverse=inside(node.reverse), derived=None)


def _combining(name: str, op: Connection, type: SignalType) -> Elementwise:
    """What a delay does with the values it reads, of which each has this type."""
    used = roles(op)
    over = op.rule.overbound
    steps = op.params.get("steps")
    shape, trained = ((), False) if steps is None else (steps.shape, steps.trainable)
    shape = type.shape if shape and op.output.shape != type.shape else shape  # a Flatten stands in between
    forward, reverse = _programs(taps(op), used, None if over is None else repr(over), trained)
    init = Init("constant", (1.0,))
    return Elementwise(
        kind="Interpolation",
        shape=type.shape,
        inputs=taps(op),
        outputs=(OutPort("seen", f"{name}.seen", type),),
        states=(),
        params={role: Parameter(f"{name}.{role}", shape, "delays", init, trained) for role in used},
        forward=forward,
        reverse=reverse,
        members=(name,),
    )


@lru_cache
def _programs(
    read: tuple[str, ...], used: tuple[str, ...], overbound: str | None, trained: bool
) -> tuple[Program, Program]:
    names, over = (*read, *used), None if overbound is None else float(overbound)  # as text, since 0.0 == -0.0

    def step(*values: Tensor) -> dict[str, Tensor]:
        given = dict(zip(names, values, strict=True))
        if "valid" in given:
            given["valid"] = given["valid"] != 0.0
        return {"seen": combined(**given, over=over)}

    what = "a delay"
    reverse = trace_reverse(step, names, ["seen"], what=what)
    if not trained:  # nobody wants to know
        fixed = {f"grad_{role}" for role in used}
        reverse = dce(replace(reverse, outputs=tuple((n, 0.0 if n in fixed else a) for n, a in reverse.outputs)))
    return trace(step, names, what=what), reverse
