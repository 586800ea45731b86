"""A dense connection and the neurons that it alone feeds, as one operation of torch's autograd.

Nothing is computed otherwise than apart: a product over all steps, then a scan. But the current between them is seen by
nobody else, so it needs no node of its own, no view, and its gradient no accumulation: much of the time of a small
network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph, Ref, Region
from snncompile.targets.autograd import BoundScan, flow, keep, named
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.event_linear import EventTarget, gradients
from snncompile.targets.scan import ForwardCall
from snncompile.targets.torch.products import dense


@dataclass(frozen=True)
class LinearScan:
    """Two nodes that run as one where gradients are wanted.

    Attributes:
        connection: the name of the connection.
        op: the connection.
        edge: what feeds it.
        place: which input of the neurons it is.
    """

    connection: str
    op: Connection
    edge: Edge
    place: int


def candidates(graph: Graph, wanted: tuple[str, ...] = ("Linear",)) -> Iterator[tuple[str, LinearScan]]:
    """Neurons, and a connection of a wanted kind that feeds them within the step and nothing else: every such pair."""
    shown = {ref.node for _, ref in graph.outputs}
    for name, op in graph.of_type(Connection):
        readers = graph.consumers(name)
        if op.kind not in wanted or op.plastic or name in shown or len(readers) != 1:
            continue
        neurons, port, edge = readers[0]
        if isinstance(graph.op(neurons), Elementwise) and not edge.delay:
            (source,) = graph.inputs_of(name).values()
            yield neurons, LinearScan(name, op, source, list(graph.inputs_of(neurons)).index(port))


def matches(graph: Graph, regions: Sequence[Region]) -> dict[str, LinearScan]:
    """Neurons -> the connection that runs with them over all steps; of several, the first."""
    kinds = {region.nodes: region.kind for region in regions}
    found: dict[str, LinearScan] = {}
    for neurons, pair in candidates(graph):
        if kinds.get((pair.connection,)) == "product" and kinds.get((neurons,)) == "scan":
            found.setdefault(neurons, pair)
    return found


def together(ev: Evaluation, pair: LinearScan) -> bool:
    """Whether a pair runs as one here, which is worth it where gradients are wanted."""
    return torch.is_grad_enabled() and hidden(ev, pair)


def hidden(ev: Evaluation, pair: LinearScan) -> bool:
    """Whether the current is nobody else's: a record shows it, and under autocast it has a precision of its own."""
    ref = Ref(pair.connection)
    return not torch.is_autocast_enabled("cpu") and ref not in ev.want_course and ref not in ev.want_sum


def run_linear_scan(
    bound: BoundScan,
    place: int,
    events: EventTarget | None,
    product: tuple[Tensor, Tensor, Tensor | None],
    inputs: list[Tensor],
    rest: tuple[Any, ...],
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:
    """What :meth:`BoundScan.run` gives, with the product in place of one input.

    Args:
        bound: the neurons.
        place: which input of the neurons the product is.
        events: computes the product where its input is sparse; None is torch.
        product: the connection's input ``(T, B, in)``, float32, its weight and its bias.
        inputs: the other inputs of the neurons.
        rest: what :meth:`BoundScan.call` takes from the states on.
    """
    x, weight, bias = product
    if events is not None:
        if weight.requires_grad:
            events.expect_gradients()
        current = events.forward(x, weight, bias)
    else:
        with torch.no_grad():
            current = dense(x, weight, bias)
    inputs.insert(place, current)
    leaves = [t for t in product if t is not None]
    call, wants_grad = bound.call(inputs, *rest, *leaves)
    if not wants_grad:
        made = bound.prepared.target.forward(bound.prepared.scan, call)
        return made.stored, made.sums, list(made.finals)
    pasts = [one.past for one in call.late if one is not None]
    tensors = (*product, *bound.tokens, *call.inputs, *call.states, *pasts)
    return named(call, _LinearScan.apply(bound, call, events, place, *tensors))


class _LinearScan(Function):
    """The scan, whose input ``place`` is a product that was computed before, and the gradients of both."""

    @staticmethod
    def forward(
        ctx: Any,
        bound: BoundScan,
        call: ForwardCall,
        events: EventTarget | None,
        place: int,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.events, ctx.place = events, place
        need_x, need_weight = ctx.needs_input_grad[4:6]
        result = bound.prepared.target.forward(bound.prepared.scan, call)
        more = (x if need_weight else None, weight if need_x else None)
        return keep(ctx, bound, call, result, more)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        x, weight, *saved = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[7:])
        own = ctx.needs_input_grad[4:7]
        at = ctx.counts[0] + ctx.place
        needs[at] = any(own)
        found = list(flow(ctx, tuple(saved), tuple(needs), grads))
        current, found[at] = found[at], None
        made = (None, None, None) if current is None else gradients(ctx.events, current, x, weight, own)
        return None, None, None, None, *made, *found
