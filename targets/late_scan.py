"""Scans that read a signal late themselves, in place of what a delay would make of it.

A delay by whole steps is an offset in the loads of the scan that reads it. One that computes what it shows of one or
two values of the past (between two steps, or with something in place of what lies too far back) is composed with the
node that reads it (``ir/interpolated.py``): its values are late inputs of that scan, and its factors coefficients. What
no scan reads is made by a scan of its own, which does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.delay import read
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph, Ref
from snncompile.ir.interpolated import Reader, roles, showing, taps, with_delays
from snncompile.targets.autograd import BoundScan
from snncompile.targets.evaluation import Evaluation, Shown
from snncompile.targets.scan import Late
from snncompile.targets.torch.delays import Past


def late_of(ev: Evaluation, name: str, op: Connection, past: Past, history: Tensor, x: Tensor) -> Shown | None:
    """What a scan needs to read ``x`` late itself; None where the late signal is made."""
    if not (op.attrs.get("offset") and ev.prepared.offsets) or Ref(name) in ev.want_course | ev.want_sum:
        return None
    return _shown(ev, name, op, past, history, x)


def gathers(op: Connection) -> bool:
    """Whether what ``op`` shows is no other view of its input: where it is made, that is a kernel's work."""
    return op.kind == "Delay" and bool(op.depth) and op.same_for_all is None


def one_each(op: Connection) -> Connection:
    """A Delay that shows several values of each neuron as one that shows one of each of as many neurons."""
    return op if op.output.shape == op.input.shape else replace(op, input=replace(op.input, shape=op.output.shape))


def made_late(ev: Evaluation, name: str, op: Connection, past: Past, history: Tensor, x: Tensor) -> Tensor | None:
    """What a Delay shows, made by a scan of its own, which reads ``x`` late; None where nothing is to be gathered, or
    the target has no offsets."""
    if not ev.prepared.offsets or not gathers(op):
        return None
    each = one_each(op)
    if each is not op:
        shape = each.input.shape
        x, history = (v.unsqueeze(-1).expand(*v.shape[:2], *shape) for v in (x, history))
        past = Past(each, ev.params(name), ev.r.device)
    flat = x.reshape(ev.r.steps, ev.r.batch, each.input.size)
    shown = _shown(ev, name, each, past, history, flat)
    if shown is None:
        return None
    scan, store = ev.prepared.shower(name, each), ["seen"]
    bound = ev.bind_reader(scan, shown.factors)
    courses, _, _ = bound.run([flat] * len(shown.late), [], flat.shape, store, late=shown.late)
    return courses["seen"].unflatten(2, op.output.shape)


def _shown(ev: Evaluation, name: str, op: Connection, past: Past, history: Tensor, x: Tensor) -> Shown | None:
    offsets = past.offsets()
    most = max(reach for _, reach in offsets)
    shape = (ev.r.steps, ev.r.batch, op.input.size)
    flat = x.reshape(shape)
    apart = flat.stride(2) != 1 and shape[2] != 1
    if ev.r.steps < most or not most or apart or most * flat.stride(0) >= 2**31:
        return None  # so short a run has little to copy; a kernel reads neighbours late, and not too far away
    before = history.reshape(op.depth, *shape[1:]).float().contiguous()
    late = [Late(before[op.depth - reach :], steps) if reach else None for steps, reach in offsets]
    return Shown(tuple(late), {f"{name}.{role}": value for role, value in past.factors().items()})


def offsets(ev: Evaluation, edges: Sequence[Edge]) -> tuple[Late | None, ...]:
    """What makes each input of a scan late that computes nothing of it; empty where none is."""
    late = tuple([ev.late[edge.source].late[0] if edge.source in ev.late else None for edge in edges])
    return late if any([one is not None for one in late]) else ()


def computes(ev: Evaluation, name: str) -> bool:
    """Whether a delay before a node, whose signal is not made, computes what it shows."""
    return any([edge.source in ev.late and ev.late[edge.source].factors for edge in ev.sources(name)])


def computed(ev: Evaluation, name: str) -> tuple[BoundScan, list[Tensor], tuple[Late | None, ...]]:
    """The scan of a node with what delays before it compute, its inputs, and what makes each late."""
    edges = ev.prepared.inputs[name]
    shown = {port: ev.late[edge.source] for port, edge in edges.items() if edge.source in ev.late}
    ports = tuple([port for port, one in shown.items() if one.factors])
    reader, scan = ev.prepared.reader(name, ports)
    factors = {n: v for port in ports for n, v in shown[port].factors.items()}
    reads = [(port, _tap(ev.graph.op(edges[port].source.node), tap) if tap else 0) for port, tap in reader.inputs]
    late = tuple([shown[port].late[which] if port in shown else None for port, which in reads])
    return ev.bind_reader(scan, factors), [ev.course(edges[port]) for port, _ in reads], late


def _tap(op: Connection, tap: str) -> int:
    return taps(op).index(tap)


def late_reader(graph: Graph, name: str) -> tuple[Elementwise, tuple[str, ...]]:
    """An elementwise node as a run that is long enough computes it, with what delays make of what they read; and how
    late its inputs are, as in ``targets.variant.Layout``, empty where none is."""
    op: Elementwise = graph.op(name)
    delays: dict[str, tuple[str, Connection]] = {}
    for port, edge in graph.inputs_of(name).items():
        source = graph.op(edge.source.node)
        if isinstance(source, Connection) and source.attrs.get("offset"):
            delays[port] = edge.source.node, source
    computed = {port: one for port, one in delays.items() if roles(one[1])}
    reader = with_delays(op, computed) if computed else Reader(op, tuple((port, "") for port in op.inputs))
    kinds = [
        _kinds(delays[port][1])[_tap(delays[port][1], tap) if tap else 0] if port in delays else ""
        for port, tap in reader.inputs
    ]
    return reader.node, tuple(kinds) if any(kinds) else ()


def made_reader(name: str, op: Connection) -> tuple[Elementwise, tuple[str, ...]]:
    """What makes the signal of a Delay of which :func:`gathers` holds, likewise."""
    each = one_each(op)
    return showing(name, each), tuple(_kinds(each))


def _kinds(op: Connection) -> list[str]:
    """How late each value is that a Delay reads; the present one is not late."""
    steps = op.attrs["steps"]
    if steps == "given":
        return ["each" if op.params["steps"].shape else "one"] * len(taps(op))
    if op.same_for_all is not None:
        return ["one"]
    seen = read(torch.tensor(steps, dtype=torch.float64), op.rule)
    return ["one" if int(index) else "" for index in (seen.index, seen.other) if index is not None]
