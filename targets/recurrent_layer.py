"""A recurrent layer as one operation: a cycle of one dense connection and the neurons it feeds.

A target that offers ``recurrent`` runs such a region with its own kernels; any other cycle runs node by node
(``targets/recurrent.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snncompile.ir.connection import Connection
from snncompile.ir.density import event_driven
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Ref, Region
from snncompile.targets.autograd import BoundScan, over_batch
from snncompile.targets.drawn import reading
from snncompile.targets.evaluation import Evaluation, rows_of, state_of
from snncompile.targets.event_linear import EventTarget
from snncompile.targets.late_inputs import joined, kept_of, parted, pasts_of, wanted
from snncompile.targets.layer_inputs import fed
from snncompile.targets.recurrent_call import (
    RecurrentBackwardCall,
    RecurrentForwardCall,
    RecurrentTarget,
    weight_gradients,
)
from snncompile.targets.torch.products import apply_connection, folded


@dataclass(frozen=True)
class Layer:
    """A recurrent region of the simple form.

    Attributes:
        connection: the dense connection's name.
        neurons: the elementwise node's name.
        port: the node's input that the connection feeds.
        source: the node's result that comes back.
        feedback: the state that holds it; "" where a delay's history does.
        most: the source's largest value where its type says that it counts spikes, else None.
        late: how many steps late it comes back, at least 1.
        delay: the node that makes it late, by whole steps that all neurons share: a Delay before the connection, or the
            connection itself; "" where the feedback does.
    """

    connection: str
    neurons: str
    port: str
    source: str
    feedback: str
    most: int | None = None
    late: int = 1
    delay: str = ""


def match(graph: Graph, region: Region, ring: bool = False) -> Layer | str:
    """The layer that ``region`` is, or why it is none.

    Args:
        graph: the network after the passes.
        region: a cycle in it.
        ring: whether the target runs layers whose source comes back more than one step late.
    """
    delay = _delay_in(graph, region) if ring and len(region.nodes) == 3 else ""
    if len(region.nodes) != (3 if delay else 2):
        return f"the cycle has {len(region.nodes)} nodes, not one connection and one population"
    connections = [n for n in region.nodes if isinstance(graph.op(n), Connection) and n != delay]
    populations = [n for n in region.nodes if isinstance(graph.op(n), Elementwise)]
    if len(connections) != 1 or len(populations) != 1:
        return "the cycle is not one connection and one population"
    (connection,), (neurons,) = connections, populations
    kind = graph.op(connection).kind
    if ring and not delay and kind == "DelayedLinear" and graph.op(connection).same_for_all:
        delay = connection
    if kind != "Linear" and delay != connection:
        return f"{connection} is a {kind}, not a Linear"
    (back,) = graph.inputs_of(connection).values()
    if delay not in ("", connection):
        if back.source.node != delay or back.delay:
            return f"{delay} stands behind {connection}"
        if any(ref.node == delay for _, ref in graph.outputs) or len(graph.consumers(delay)) != 1:
            return f"{delay} is read elsewhere, too"
        (back,) = graph.inputs_of(delay).values()
    if delay and back.delay:
        return f"what comes back is late twice, on its way to {delay} and there"
    if not delay and not back.delay:
        return f"the late edge leads to {neurons}, not to {connection}"
    if back.delay > 1 and not ring:
        return f"what comes back is {back.delay} steps late"
    if any(ref.node == connection for _, ref in graph.outputs) or len(graph.consumers(connection)) != 1:
        return f"{connection} is read elsewhere, too"
    feeds = graph.inputs_of(neurons)
    port = next(p for p, e in feeds.items() if e.source.node == connection)
    if feeds[port].delay or any(e.source.node == neurons for e in feeds.values()):
        return f"{neurons} reads another late value"
    if graph.op(connection).input.size != graph.op(connection).output.size:
        return f"{connection} is not square"
    signal = graph.type_of(back.source)
    most = signal.max if signal.kind == "spikes" else None
    late = graph.op(delay).same_for_all if delay else back.delay
    return Layer(connection, neurons, port, back.source.port, back.feedback, most, late, delay)


def _delay_in(graph: Graph, region: Region) -> str:
    """The Delay of a cycle that is the same whole number of steps for all neurons; "" where there is none."""
    found = [n for n in region.nodes if getattr(graph.op(n), "kind", "") == "Delay" and graph.op(n).same_for_all]
    return found[0] if len(found) == 1 else ""


def _held(ev: Evaluation, layer: Layer, shape: tuple[int, int, int]) -> Tensor:
    """What came back before the first step, oldest first, ``(at least late, B, N)``."""
    if layer.delay:
        rows = ev.r.state[f"{layer.delay}.history"].transpose(0, 1)
    else:
        (back,) = ev.prepared.inputs[layer.connection].values()
        rows = rows_of(back, ev.r.state[layer.feedback])
    return rows.reshape(len(rows), *shape[1:]).float()


def _hold(ev: Evaluation, layer: Layer, rows: Tensor) -> None:
    """Keep the last rows as a state, as :func:`_held` takes it."""
    if layer.delay:
        ev.state[f"{layer.delay}.history"] = rows.transpose(0, 1).contiguous()
    else:
        (back,) = ev.prepared.inputs[layer.connection].values()
        ev.state[layer.feedback] = state_of(back, rows)


def run_layer(ev: Evaluation, layer: Layer, target: RecurrentTarget, events: EventTarget | None = None) -> None:
    """Run ``layer`` over all steps of ``ev``, leaving courses, sums and final states there."""
    op: Elementwise = ev.graph.op(layer.neurons)
    shape = (ev.r.steps, ev.r.batch, op.size)
    edges = ev.prepared.inputs[layer.neurons]
    feed = fed(ev, layer.neurons, op, edges, layer.port, lambda: ev.bind(layer.neurons))
    store, sums = ev.wanted(layer.neurons)
    weight, bias = folded(ev.graph.op(layer.connection), ev.params(layer.connection))
    held = _held(ev, layer, shape)
    call = RecurrentForwardCall(
        port=feed.port,
        source=layer.source,
        weight=weight.float(),
        bias=None if bias is None else bias.float(),
        start=held[len(held) - layer.late :].contiguous(),
        inputs=feed.inputs,
        coefs=feed.scan.coefs,
        states=tuple(ev.r.state[s.name].reshape(shape[1:]).float().contiguous() for s in op.states),
        shape=shape,
        store=tuple(dict.fromkeys((*store, *sums, layer.source))),
        most=layer.most,
        late=layer.late,
        offsets=feed.late,
    )
    sparse = events if event_driven(ev.graph.op(layer.connection)) else None
    courses, finals = _run(feed.scan, call, target, sparse)
    ev.keep(layer.neurons, courses, {}, finals)
    newest = courses[layer.source][max(shape[0] - len(held), 0) :]
    last = newest if shape[0] >= len(held) else torch.cat([held[shape[0] :], newest])
    _hold(ev, layer, last.unflatten(2, op.shape))
    wanted = (ev.want_course | ev.want_sum) & {Ref(layer.connection), Ref(layer.delay)}
    if wanted:  # it stays in the kernel: for a record it is made again
        late = torch.cat([call.start, courses[layer.source]])[: shape[0]]
        made = apply_connection(ev.graph.op(layer.connection), ev.params(layer.connection), late, ev.r.training)
        ev.courses.update({ref: made if ref.node == layer.connection else late for ref in wanted})


def _run(
    bound: BoundScan, call: RecurrentForwardCall, target: RecurrentTarget, events: EventTarget | None
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Courses by result, and final states; differentiable."""
    scan = reading(bound.prepared.scan)
    tensors: list[Tensor] = [*bound.tokens, call.weight, *([] if call.bias is None else [call.bias]), call.start]
    tensors += [x for x in call.inputs if x is not None]
    tensors += [*call.states, *pasts_of(call.offsets)]
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        flat = _Layer.apply(bound, replace(call, train=True), target, events, *tensors)
        return dict(zip(call.store, flat[: len(call.store)], strict=True)), list(flat[len(call.store) :])
    made = target.forward(scan, call)
    return made.stored, list(made.finals)


class _Layer(torch.autograd.Function):
    """One recurrent layer over a whole sequence."""

    @staticmethod
    def forward(
        ctx: Any,
        bound: BoundScan,
        call: RecurrentForwardCall,
        target: RecurrentTarget,
        events: EventTarget | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        made = target.forward(reading(bound.prepared.scan), call)
        assert made.product is not None
        given = tuple(x for x in call.inputs if x is not None)
        source = made.stored[call.source]
        ctx.bound, ctx.target, ctx.events = bound, target, events
        present = tuple(x is not None for x in call.inputs)
        ctx.call = replace(call, inputs=present, states=(), start=None, weight=None, offsets=())
        ctx.late, pasts = kept_of(call.offsets), pasts_of(call.offsets)
        ctx.counts = (len(given), len(call.states), len(pasts))
        ctx.save_for_backward(call.weight, call.start, source, made.product, *given, *pasts, *made.saved)
        ctx.set_materialize_grads(False)
        return (*(made.stored[name] for name in call.store), *made.finals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        bound, call = ctx.bound, ctx.call
        n_inputs, n_states, n_pasts = ctx.counts
        weight, start, source, product, *rest = ctx.saved_tensors
        given, saved = iter(rest[:n_inputs]), tuple(rest[n_inputs + n_pasts :])
        inputs = tuple(next(given) if present else None for present in call.inputs)
        late = joined(ctx.late, rest[n_inputs : n_inputs + n_pasts])
        n_tokens = len(bound.tokens)
        needs = ctx.needs_input_grad[4:]
        with_bias = 0 if call.bias is None else 1
        at = n_tokens + 2 + with_bias
        need = iter(needs[at : at + n_inputs])
        need_inputs = [x is not None and next(need) for x in inputs]
        stored = grads[: len(call.store)]
        made = ctx.target.backward(
            reading(bound.prepared.scan),
            RecurrentBackwardCall(
                port=call.port,
                source=call.source,
                weight=weight,
                inputs=inputs,
                coefs=bound.reverse_coefs,
                saved=saved,
                product=product,
                shape=call.shape,
                grads={n: g for n, g in zip(call.store, stored, strict=True) if g is not None},
                grad_finals=tuple(None if g is None else g.contiguous() for g in grads[len(call.store) :]),
                need_inputs=wanted(late, need_inputs, needs[at + n_inputs + n_states :]),
                need_accumulators=any(needs[:n_tokens]),
                late=call.late,
                offsets=late,
            ),
        )
        d_weight, d_bias = weight_gradients(made.product, start, source, ctx.events)
        sums = [over_batch(made.accumulators.get(a)) for a in bound.prepared.scan.accumulators] if n_tokens else []
        grads_of, d_pasts = parted(late, made.inputs)
        d_inputs = [g for g, x in zip(grads_of, inputs, strict=True) if x is not None]
        d_bias_list: Sequence[Tensor] = [d_bias] if with_bias else []
        return None, None, None, None, *sums, d_weight, *d_bias_list, made.start, *d_inputs, *made.states, *d_pasts
