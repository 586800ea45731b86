"""Scans that read a signal late themselves, in place of what a delay would make of it.

A delay by whole steps is an offset in the loads of the scan that reads it. One that computes what it shows of one or
two values of the past (between two steps, or with something in place of what lies too far back) is composed with the
node that reads it (``ir/interpolated.py``): its values are late inputs of that scan, and its factors coefficients. What
no scan reads is made by a scan of its own, which does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from snncompile.ir.connection import DELAYS, WHOLE_SEQUENCE, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph, Ref
from snncompile.ir.interpolated import Reader, roles, showing, taps, with_delays
from snncompile.ir.regions import panel_readers, takes_panels
from snncompile.targets.autograd import BoundScan
from snncompile.targets.conv_scan import by_sequence
from snncompile.targets.evaluation import Evaluation, Shown
from snncompile.targets.late_chain import first_of, further, joined, source_of
from snncompile.targets.late_choice import quicker_made
from snncompile.targets.late_kinds import behind_views, late_kinds
from snncompile.targets.late_panels import Panels
from snncompile.targets.scan import Late, PanelSize
from snncompile.targets.torch.delays import Past


def late_of(ev: Evaluation, name: str, op: Connection, history: Tensor, x: Tensor) -> Shown | None:
    """What those that read a Delay need to read ``x`` late themselves; None where the late signal is made."""
    if not (op.attrs.get("offset") and ev.prepared.offsets) or recorded(ev, name) or not _fits(ev, name):
        return None
    several = op.output.size > op.input.size and torch.is_grad_enabled()
    if several and products_behind(ev, name) and not _in_one(ev, op):
        return None
    if ev.prepared.panel is not None and ev.prepared.panel.choose and _apart(ev, name, op):
        given = (x, history, *ev.params(name).values())
        signal = torch.is_grad_enabled() and any([t.requires_grad for t in given])
        panels = [n for n in panel_readers(ev.graph, name) if not _with_neurons(ev, n)]
        if any([quicker_made(ev.graph.op(n), ev.params(n), signal) for n in panels]):
            return None
    return shown(ev, name, op, history, x)


def _apart(ev: Evaluation, name: str, op: Connection) -> bool:
    """Whether what a delay shows is no other view of the signal."""
    first = first_of(ev, name)
    return op.same_for_all is None or (first is not None and not isinstance(first.lags[0][0], int))


def _with_neurons(ev: Evaluation, name: str) -> bool:
    """Whether a connection runs as one with its neurons here, and makes what it reads where it does so."""
    pair = ev.prepared.by_sequence.get(name)
    return pair is not None and by_sequence(ev, pair)


def products_behind(ev: Evaluation, name: str) -> bool:
    """Whether a product or a pooling reads a delay, or another view of it."""
    readers = [(n, ev.graph.op(n)) for n, _ in ev.prepared.readers[name]]
    return any([
        products_behind(ev, n) if getattr(op, "kind", "") == "Flatten" else takes_panels(op) for n, op in readers
    ])  # fmt: skip


def _in_one(ev: Evaluation, op: Connection) -> bool:
    """Whether all that a delay shows is one panel."""
    most = 0 if ev.prepared.panel is None else ev.prepared.panel.most
    return 4 * ev.r.steps * ev.r.batch * op.output.size <= most


def recorded(ev: Evaluation, name: str) -> bool:
    """Whether the signal of a connection is wanted itself."""
    return Ref(name) in ev.want_course or Ref(name) in ev.want_sum


def _fits(ev: Evaluation, name: str) -> bool:
    """Whether all that read a delay, or another view of it, can do so late here."""
    for reader, port in ev.prepared.readers[name]:
        op, in_region = ev.graph.op(reader), ev.prepared.reads_late(ev, reader, port)
        if in_region is False:
            return False
        if in_region or isinstance(op, Elementwise) or op.kind in DELAYS:
            continue  # a delay reads through (targets/late_chain.py)
        if not ev.prepared.panel or (op.kind in WHOLE_SEQUENCE and ev.r.training):
            return False
        if op.kind == "Flatten":
            if recorded(ev, reader) or not _fits(ev, reader):
                return False
            continue
    return True


def one_each(op: Connection) -> Connection:
    """A Delay that shows several values of each neuron as one that shows one of each of as many neurons."""
    return op if op.output.shape == op.input.shape else replace(op, input=replace(op.input, shape=op.output.shape))


def made_late(ev: Evaluation, name: str, op: Connection, history: Tensor, x: Tensor) -> Tensor | None:
    """What a Delay shows, made by a scan of its own, which reads ``x`` late; None where nothing is to be gathered, or
    the target has no offsets."""
    if op.kind != "Delay" or not ev.prepared.offsets or (op.same_for_all is not None and first_of(ev, name) is None):
        return None
    found = shown(ev, name, op, history, x)
    return None if found is None else whole(ev, found, flat_course(ev, op, x))


def whole(ev: Evaluation, found: Shown, x: Tensor) -> Tensor:
    """What a delay shows of ``x (T, B, channels)``, made: by a scan, or as another view where all is equally late."""
    if not found.factors and len(found.lags) == 1 and isinstance(found.lags[0][0], int):
        reach = found.lags[0][1]
        return torch.cat([found.before[len(found.before) - reach :], x])[: len(x)].unflatten(2, found.features)
    shape = (ev.r.steps, ev.r.batch, found.op.output.size)
    courses, _, _ = shower(ev, found).run([x] * len(found.lags), [], shape, ["seen"], late=found.late)
    return courses["seen"].unflatten(2, found.features)


def settled(ev: Evaluation, name: str, x: Tensor) -> Tensor:
    """What the delay ``name`` reads: ``x``, or what another one before it shows of that, made."""
    found = ev.late.pop(source_of(ev, name), None)
    if found is not None:
        x = ev.courses[source_of(ev, name)] = whole(ev, found, x)
    return x


def shower(ev: Evaluation, found: Shown) -> BoundScan:
    """What computes what a delay shows, with this run's coefficients."""
    return ev.bind_reader(ev.prepared.shower(found.name, one_each(found.op)), found.factors)


def flat_course(ev: Evaluation, op: Connection, x: Tensor) -> Tensor:
    """The course that ``op`` delays, ``(T, B, channels)``."""
    return x.reshape(ev.r.steps, ev.r.batch, op.input.size)


def shown(ev: Evaluation, name: str, op: Connection, history: Tensor, x: Tensor) -> Shown | None:
    """What a Delay shows of ``x``; None where kernels do not read that late."""
    each = one_each(op)
    past = Past(each, ev.params(name), ev.r.device)
    offsets, first = past.offsets(), first_of(ev, name)
    own = most = max(reach for _, reach in offsets)
    flat, share = flat_course(ev, op, x), op.output.size // max(op.input.size, 1)
    if first is not None:
        offsets, most = further(first, offsets, share), own + first.lags[0][1]
    apart = flat.stride(2) != 1 and flat.shape[2] != 1
    few = ev.r.steps < most or not ev.r.batch  # then there is little to copy, or nothing
    if few or not most or apart or most * flat.stride(0) >= 2**31:
        return None  # a kernel reads neighbours late, and not too far away
    if share > 1 and (share > ev.prepared.most_shared or any(isinstance(steps, int) for steps, _ in offsets)):
        return None
    if share > 1 and not all(reach for _, reach in offsets):
        return None
    before = history.reshape(op.depth, *flat.shape[1:]).float()
    before = before if first is None else joined(first, before, own)
    factors = {f"{name}.{role}": value for role, value in past.factors().items()}
    return Shown(name, op, op.output.shape, before, tuple(offsets), factors)


def shown_by(op: Connection) -> Connection:
    """The Delay in a connection whose synapses are all equally late."""
    return Connection("Delay", op.attrs, {}, op.input, op.input)


def flattened(found: Shown) -> Shown:
    """The same behind a Flatten."""
    return replace(found, features=(found.op.output.size,))


def panels(ev: Evaluation, found: Shown, x: Tensor, large: bool) -> Panels:
    """What a delay shows of ``x (T, B, channels)``, a panel at a time; ``large`` ones for what costs for each."""
    same = len(found.lags) == 1 and not found.factors and isinstance(found.lags[0][0], int)
    steps, batch, channels = x.shape
    return Panels(
        found.lags,
        None if same else shower(ev, found),
        (steps, batch, channels),
        found.features,
        _shape(ev.prepared.panel, large, steps, batch, found.op.output.size, max(reach for _, reach in found.lags)),
    )


def _shape(
    size: PanelSize | None, large: bool, steps: int, batch: int, features: int, reach: int
) -> tuple[int, int]:
    """Steps and sequences of a panel."""
    assert size is not None
    rows = max(1, (size.most if large else size.bytes) // (4 * max(features, 1)))  # of one step of one sequence
    # what is read before a panel is read for the one before it, too: more than twice as much it shall not be
    if size.by_sequence:
        # two or three sequences go one by one: then what a product makes of one lies in rows at equal distances
        few = 1 if batch > rows // steps < 4 else rows // steps
        return (steps, min(batch, few)) if rows >= steps else (min(steps, max(rows, 2 * reach)), 1)
    return min(steps, max(rows // batch, 2 * reach, 1)), batch


def offsets(ev: Evaluation, edges: Sequence[Edge]) -> tuple[Late | None, ...]:
    """What makes each input of a scan late that computes nothing of it; empty where none is."""
    late = tuple([ev.late[edge.source].late[0] if edge.source in ev.late else None for edge in edges])
    return late if any([one is not None for one in late]) else ()


def computes(ev: Evaluation, edges: Iterable[Edge]) -> bool:
    """Whether a delay before a node, whose signal is not made, computes what it shows."""
    return any([edge.source in ev.late and ev.late[edge.source].factors for edge in edges])


class Computed(NamedTuple):
    """A node with what delays before it compute.

    Attributes:
        scan: it, with this run's coefficients.
        ports: for each of its inputs, the port of the node whose signal, or a value of the past of which, it is.
        late: and what makes it late.
    """

    scan: BoundScan
    ports: tuple[str, ...]
    late: tuple[Late | None, ...]


def computed(ev: Evaluation, name: str, op: Elementwise, edges: Mapping[str, Edge]) -> Computed:
    """``op``, which is node ``name`` or stands for what is behind it, with what delays before it compute."""
    shown = {port: ev.late[edge.source] for port, edge in edges.items() if edge.source in ev.late}
    delays = tuple([(port, one.name) for port, one in shown.items() if one.factors])
    reader, scan = ev.prepared.reader(name, op, delays)
    factors = {n: _as_features(v, shown[port]) for port, _ in delays for n, v in shown[port].factors.items()}
    reads = [(port, _tap(shown[port].op, tap) if tap else 0) for port, tap in reader.inputs]
    late = tuple([shown[port].late[which] if port in shown else None for port, which in reads])
    return Computed(ev.bind_reader(scan, factors), tuple([port for port, _ in reads]), late)


def _as_features(factor: Tensor, found: Shown) -> Tensor:
    """A factor in the shape of what is shown: that of a Flatten, where one stands behind the delay."""
    shape = found.op.output.shape
    return factor if not factor.dim() or found.features == shape else factor.expand(shape).reshape(found.features)


def _tap(op: Connection, tap: str) -> int:
    return taps(op).index(tap)


def late_reader(graph: Graph, name: str) -> tuple[Elementwise, tuple[str, ...]]:
    """An elementwise node as a run that is long enough computes it, with what delays make of what they read; and how
    late its inputs are, as in ``targets.variant.Layout``, empty where none is."""
    reader, kinds = usual_reader(graph, graph.op(name), graph.inputs_of(name))
    return reader.node, kinds


def usual_reader(graph: Graph, op: Elementwise, edges: Mapping[str, Edge]) -> tuple[Reader, tuple[str, ...]]:
    """As :func:`late_reader`, of a node that ``edges`` feed."""
    delays: dict[str, tuple[str, Connection]] = {}
    for port, edge in edges.items():
        at = behind_views(graph, edge.source.node)
        source = graph.op(at)
        if isinstance(source, Connection) and source.attrs.get("offset"):
            delays[port] = at, source
    computed = {port: one for port, one in delays.items() if roles(one[1])}
    reader = with_delays(op, computed) if computed else Reader(op, tuple((port, "") for port in op.inputs))
    kinds = [
        late_kinds(graph, delays[port][0])[_tap(delays[port][1], tap) if tap else 0] if port in delays else ""
        for port, tap in reader.inputs
    ]
    return reader, tuple(kinds) if any(kinds) else ()


def made_reader(graph: Graph, name: str) -> tuple[Elementwise, tuple[str, ...]]:
    """What makes the signal of a Delay, likewise."""
    return showing(name, one_each(graph.op(name))), tuple(late_kinds(graph, name))
