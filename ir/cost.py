"""What a schedule costs, counted from the IR itself: arithmetic, memory traffic, states, parameters.

Everything is per time step and per sequence of the batch. Parameters, and what is derived from them alone, are read
once for many steps and sequences, so their traffic is left out (see :attr:`RegionCost.parameter_bytes` for its size).
A floating-point operation is any operation of a program on float32 values: arithmetic, comparison or choice; ``exp``
and its kin count as the operations they are made of, a multiply-add of a product as two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import networkx as nx

from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.definitions import definition
from snncompile.ir.derive import hoisted
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.exact import COMPOSITE
from snncompile.ir.graph import Graph
from snncompile.ir.hoist import sink
from snncompile.ir.interpolated import roles, taps
from snncompile.ir.ops import OPS
from snncompile.ir.params import Parameter
from snncompile.ir.plasticity import Plasticity
from snncompile.ir.program import Program
from snncompile.ir.regions import choose_regions

_FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Work:
    """Work per time step and sequence.

    Attributes:
        flops: floating-point operations.
        read: bytes read from memory.
        written: bytes written to memory.
    """

    flops: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.read + other.read, self.written + other.written)

    @property
    def bytes(self) -> int:
        """Bytes moved."""
        return self.read + self.written


@dataclass(frozen=True)
class RegionCost:
    """What one region (or a whole network) costs.

    Attributes:
        kind: as :attr:`Region.kind`, or ``"network"``.
        nodes: its nodes.
        inference: a forward step that saves nothing.
        training: a forward step that saves the states before it.
        backward: the gradient of a step, with what it computes again.
        state_bytes: its states, per sequence.
        parameters: trained values.
        constants: values that are not trained (masks, statistics, fixed parameters).
    """

    kind: str
    nodes: tuple[str, ...]
    inference: Work
    training: Work
    backward: Work
    state_bytes: int
    parameters: int
    constants: int

    @property
    def parameter_bytes(self) -> int:
        """What all parameters take: read once a run, or once a step in a recurrent region too large for the chip."""
        return _FLOAT * (self.parameters + self.constants)


def region_costs(graph: Graph) -> list[RegionCost]:
    """What each region of ``graph`` costs, in order (the regions it would have, where none are chosen yet)."""
    learning = _learning(graph)
    return [_cost(graph, r.kind, r.nodes, learning) for r in graph.regions or choose_regions(graph)]


def network_cost(graph: Graph) -> RegionCost:
    """What ``graph`` costs as a whole; a shared parameter counts once."""
    regions = graph.regions or choose_regions(graph)
    costs = region_costs(graph)
    trained, constants = _count(graph.parameters().values())
    zero = Work()
    return RegionCost(
        "network",
        tuple(n for r in regions for n in r.nodes),
        sum((c.inference for c in costs), zero),
        sum((c.training for c in costs), zero),
        sum((c.backward for c in costs), zero),
        sum(c.state_bytes for c in costs),
        trained,
        constants,
    )


def program_flops(program: Program) -> int:
    """Floating-point operations of a program, for one element."""
    return sum(_op_flops(op.op) for op in program.ops)


def _op_flops(op: str) -> int:
    if op in COMPOSITE:
        return program_flops(definition(op))
    return int("f32" in OPS[op].args)


def _learning(graph: Graph) -> set[str]:
    """Nodes whose output depends on a trained parameter: a gradient flows back to them."""
    trained = [n for n in graph.names if any(p.trainable for p in getattr(graph.op(n), "params", {}).values())]
    return set(trained).union(*(nx.descendants(graph.nx, n) for n in trained))


def _cost(graph: Graph, kind: str, names: Iterable[str], learning: set[str]) -> RegionCost:
    names = tuple(names)
    inference, training, backward = Work(), Work(), Work()
    params: dict[str, Parameter] = {}
    held = 0
    for name in names:
        op = graph.op(name)
        params.update((p.name, p) for p in op.params.values())
        if isinstance(op, Connection):
            one = _connection(graph, name, op, learning)
            held += _FLOAT * op.depth * op.input.size
        elif isinstance(op, Plasticity):
            one = _rule(op)
            held += _FLOAT * sum(prod(op.shape_of(t.side)) for t in op.traces)
        else:
            one = _scan(graph, name, op, learning)
            held += _FLOAT * op.size * len(op.states)
        inference, training, backward = inference + one[0], training + one[1], backward + one[2]
    if kind in ("recurrent", "plastic"):  # states leave the chip between steps, and so do the values held by late edges
        late = {e.feedback: e for n in names for e in graph.inputs_of(n).values() if e.delay}
        between = Work(0, held, held)
        # a weight that learns is no sequence's
        late = {f: e for f, e in late.items() if not isinstance(graph.op(e.source.node), Plasticity)}
        held += sum(_FLOAT * e.delay * graph.type_of(e.source).size for e in late.values())
        inference, training, backward = inference + between, training + between, backward + between
    if kind == "plastic":  # no gradient flows through what learns
        training, backward = inference, Work()
    trained, constants = _count(params.values())
    return RegionCost(kind, names, inference, training, backward, held, trained, constants)


def _count(params: Iterable[Parameter]) -> tuple[int, int]:
    sizes = [(p.trainable, prod(p.shape)) for p in params]
    return sum(n for trained, n in sizes if trained), sum(n for trained, n in sizes if not trained)


def _read_ports(graph: Graph, name: str) -> set[str]:
    """Ports of ``name`` that another node or an output reads: what has to be stored."""
    return {e.source.port for _, _, e in graph.consumers(name)} | {r.port for _, r in graph.outputs if r.node == name}


# -- elementwise nodes ---------------------------------------------------------------------------------------------


def _scan(graph: Graph, name: str, op: Elementwise, learning: set[str]) -> tuple[Work, Work, Work]:
    n = op.size
    signal = _FLOAT * n
    stored = len(_read_ports(graph, name))
    op = hoisted(op)
    assert op.derived is not None
    fixed = {*op.params, *op.derived.output_names}
    sunk = sink(op.reverse, tuple(op.params), [n for n in op.reverse.inputs if n in fixed])
    forward, reverse = op.forward, sunk.body
    # gradients that nobody wants are not computed
    feeds = graph.inputs_of(name)
    unwanted = {f"grad_{port}" for port, e in feeds.items() if e.source.node not in learning}
    reverse = reverse.select(out for out in reverse.output_names if out not in unwanted)
    inference = Work(n * program_flops(forward), signal * len(op.inputs), signal * stored)
    training = inference + Work(0, 0, signal * len(op.states))
    if name not in learning:
        return inference, training, Work()
    used = {a for o in reverse.ops for a in o.args} | {a for _, a in reverse.outputs}
    read = sum(local in used for local in (*(s.local for s in op.states), *op.inputs)) + stored
    flops = program_flops(reverse) + len(sunk.accumulators)  # each sum over time adds once a step
    backward = Work(n * flops, signal * read, signal * (len(op.inputs) - len(unwanted)))
    return inference, training, backward


def _rule(op: Plasticity) -> tuple[Work, Work, Work]:
    """A rule: traces, two outer products and the update, with the weights read and written; it has no gradient."""
    sizes = {"before": prod(op.pre), "after": prod(op.post), "synapse": prod(op.weight.shape)}
    sizes["update"] = sizes["synapse"]
    positions = prod(op.post[1:])
    flops = sum(sizes[part] * program_flops(program) for part, program in op.programs().items())
    flops += 2 * sizes["update"] * (2 * positions - 1 if positions > 1 else 1)
    weights = _FLOAT * sizes["update"]
    work = Work(flops, weights + _FLOAT * (sizes["before"] + sizes["after"]), weights)
    return work, work, Work()


# -- connections ---------------------------------------------------------------------------------------------------


def _connection(graph: Graph, name: str, op: Connection, learning: set[str]) -> tuple[Work, Work, Work]:
    n_in, n_out = op.input.size, op.output.size
    if op.kind == "DelayedLinear":
        n_in *= op.depth + 1  # every step reads its past again
    edge = graph.inputs_of(name)["x"]
    wants_input = edge.source.node in learning
    wants_weight = any(p.trainable for p in op.params.values())
    moved = Work(0, _FLOAT * n_in, _FLOAT * n_out)
    if op.kind in PRODUCTS or op.kind in ("DelayedLinear", "Sparse"):
        weights = op.params["weight"].shape
        product = 2 * weights[0] if op.kind == "Sparse" else 2 * n_out * prod(weights[1:])
        bias = n_out if "bias" in op.params or any(role.startswith("norm_") for role in op.params) else 0
        forward = Work(product + bias) + moved
        flops = product * (wants_input + wants_weight) + (bias if wants_weight else 0)
        read = _FLOAT * n_out + (_FLOAT * n_in if wants_weight else 0)
        backward = Work(flops, read, _FLOAT * n_in if wants_input else 0)
        return forward, forward, backward if wants_input or wants_weight else Work()
    now, learning_now = _other_flops(op)
    if op.attrs.get("offset"):  # those who read it read its signal, once or twice, and compute what it shows: panels
        # of it stay in the cache
        moved = Work(0, _FLOAT * n_out * (len(taps(op)) - 1), 0)
        once, back = Work(now or 0) + moved, Work(learning_now or 0) + moved
        return once, once, back if (wants_input or wants_weight) and roles(op) else Work()
    inference, training = (Work(f) + moved if f is not None else Work() for f in (now, learning_now))
    if not (wants_input or wants_weight) or learning_now is None:
        return inference, training, Work()
    keeps = op.kind in ("BatchNorm", "MaxPool2d")  # their gradients look at the input again
    read = _FLOAT * (n_out + (n_in if keeps else 0))
    return inference, training, Work(learning_now, read, _FLOAT * n_in if wants_input else 0)


def _other_flops(op: Connection) -> tuple[int | None, int | None]:
    """Operations in inference and in training; None for what is not carried out at all."""
    n, n_out = op.input.size, op.output.size
    if op.kind == "Flatten":
        return None, None  # another view of the same memory
    if op.kind == "Delay":
        flops = {"expdecay": n_out, "linear": 3 * n_out}.get(op.attrs["interpolation"], 0)
        return (None, None) if op.same_for_all is not None else (flops, flops)
    if op.kind == "Dropout":
        return None, n if op.attrs["p"] else None
    if op.kind == "BatchNorm":
        return 4 * n, 8 * n  # shift and scale twice; in training mean and variance too
    window = prod(op.attrs["kernel_size"])
    flops = n_out * (window - 1) + (n_out if op.kind == "AvgPool2d" else 0)
    return flops, flops
