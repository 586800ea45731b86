"""Runs a graph: region after region, scans on a target, products in torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snncompile.ir.connection import DELAYS, Connection
from snncompile.ir.density import event_driven
from snncompile.ir.errors import InputError, ModelError
from snncompile.ir.graph import Graph, Ref
from snncompile.ir.regions import choose_regions
from snncompile.targets.conv_scan import ConvScanTarget, by_sequence, conv_pairs, run_conv_scan
from snncompile.targets.evaluation import Evaluation, Prepared, Run, RunResult, Shown
from snncompile.targets.event_conv import apply_event_conv
from snncompile.targets.event_linear import LEAST_ROWS, EventTarget, apply_events
from snncompile.targets.late_chain import first_of, kept
from snncompile.targets.late_conv_scan import run_late_conv_scan
from snncompile.targets.late_few import run_few
from snncompile.targets.late_linear import run_late_linear
from snncompile.targets.late_panels import read_panels
from snncompile.targets.late_scan import (
    Computed,
    computed,
    computes,
    flat_course,
    flattened,
    late_of,
    made_late,
    offsets,
    panels,
    settled,
    shown,
    shown_by,
)
from snncompile.targets.linear_scan import matches, run_linear_scan, together
from snncompile.targets.panel_readers import reader_of, turns_weights
from snncompile.targets.pieces import piece_of, run_pieces
from snncompile.targets.pooled_scan import PooledScan, pooled_scans, unseen
from snncompile.targets.pooling import PoolTarget, apply_pool, tiles
from snncompile.targets.region_runner import RegionRunner
from snncompile.targets.scan import ScanTarget, checkpoint_of
from snncompile.targets.sparse import apply_sparse
from snncompile.targets.stepping import Lookup, StepPlan, plan_step
from snncompile.targets.torch.delays import Past
from snncompile.targets.torch.products import apply_connection, folded

__all__ = ["Executor", "Run", "RunResult"]


class Executor:
    """A graph made ready to run on one target. It holds no values: those come with each run."""

    def __init__(self, graph: Graph, target: ScanTarget) -> None:
        self.graph = graph
        self.regions = graph.regions or choose_regions(graph)
        self._prepared = Prepared(graph, target)
        self._target = target
        self._events: EventTarget | None = getattr(target, "events", None)
        self._pools: PoolTarget | None = getattr(target, "pools", None)
        self._pairs = {} if self._events is None else matches(graph, self.regions)
        self._paired = {pair.connection: pair for pair in self._pairs.values()}
        self._conv_scans: ConvScanTarget | None = getattr(target, "conv_scans", None)
        self._convs = {} if self._conv_scans is None else conv_pairs(graph, self.regions)
        self._conv_paired = {pair.connection: pair for pair in self._convs.values()}
        self._prepared.by_sequence = self._conv_paired
        self._pooled = pooled_scans(graph, self.regions, target)
        self.runner = RegionRunner(graph, self.regions, self._prepared, target)

    def run(self, run: Run) -> RunResult:
        """Evolve the network over ``run.steps`` steps.

        Raises:
            InputError: where values, inputs and states are not all on one device.
        """
        _check_devices(run)
        piece = piece_of(self.graph, run)
        return run_pieces(self._run_whole, run, piece) if piece else self._run_whole(run)

    def _run_whole(self, run: Run) -> RunResult:
        ev = Evaluation(self._prepared, run)
        for region in self.regions:
            if region.kind in ("recurrent", "plastic"):
                self.runner.run(ev, region)
            elif region.kind == "product":
                if Ref(region.nodes[0]) in ev.courses:  # its scan pooled
                    continue
                pair, conv = self._paired.get(region.nodes[0]), self._conv_paired.get(region.nodes[0])
                if conv is not None and by_sequence(ev, conv):
                    continue
                if pair is None or pair.edge.source in ev.late or not together(ev, pair):
                    run_product(ev, region.nodes[0], self._events, self._pools)
            else:
                self._run_scan(ev, region.nodes[0])
        return ev.result()

    def _run_scan(self, ev: Evaluation, name: str) -> None:
        pair = self._pairs.get(name) or self._convs.get(name)
        if pair is not None and ev.late and computes(ev, ev.sources(name)):
            run_product(ev, pair.connection, self._events, self._pools)
        pooled = self._pooling(ev, name)
        if pair is None or Ref(pair.connection) in ev.courses:  # it ran already
            run_scan(ev, name, pooled)
            return
        product = ev.course(pair.edge).float(), *folded(pair.op, ev.params(pair.connection))
        if name in self._convs and self._conv_scans is not None:
            rest, windows = scan_call(ev, name, pair.place)[1][:-1], pooled and pooled.windows
            if pair.edge.source in ev.late:
                made = run_late_conv_scan(ev, pair, ev.bind(name), self._conv_scans, rest, windows)
            else:
                made = run_conv_scan(ev.bind(name), self._conv_scans, pair.op, product, rest, windows)
            keep_scan(ev, name, pooled, *made)
            return
        sparse = event_driven(pair.op) and ev.r.steps * ev.r.batch >= LEAST_ROWS
        events = self._events if sparse else None
        ev.keep(name, *run_linear_scan(ev.bind(name), pair.place, events, product, *scan_call(ev, name, pair.place)))

    def _pooling(self, ev: Evaluation, name: str) -> PooledScan | None:
        """The pooling that neurons do themselves here."""
        pooled = self._pooled.get(name)
        return pooled if pooled is not None and unseen(ev, pooled) else None

    def step_plan(self, batch: int, training: bool, lookup: Lookup) -> StepPlan | None:
        """A quicker way of running one step on the CPU without gradients, or None where there is none."""
        return plan_step(self.graph, self._prepared, self._target, batch, training, lookup)


def _check_devices(run: Run) -> None:
    """Kernels get addresses: one of another device would end the process."""
    first: tuple[str, torch.device] | None = None
    for what, tensors in (("input", run.inputs), ("state", run.state), ("", run.values)):
        for name, tensor in tensors.items():
            if first is not None and tensor.device != first[1]:
                said = f"{what} {name!r}" if what else repr(name)
                raise InputError(f"{said} is on {tensor.device}, {first[0]} on {first[1]}: move all to one device")
            first = first or (f"{what} {name!r}" if what else repr(name), tensor.device)


def run_product(
    ev: Evaluation, name: str, events: EventTarget | None = None, pools: PoolTarget | None = None
) -> None:
    """Run a connection over all steps at once."""
    op: Connection = ev.graph.op(name)
    (edge,) = ev.sources(name)
    x = ev.course(edge)
    if op.kind in DELAYS:
        ev.courses[Ref(name)] = run_delay(ev, name, op, x, events)
        return
    late = ev.late.get(edge.source)
    if late is not None and op.kind == "Flatten":
        ev.courses[Ref(name)], ev.late[Ref(name)] = x, flattened(late)
        return
    if late is not None:
        ev.courses[Ref(name)] = run_late(ev, name, op, late, x, events, pools)
        return
    if op.kind == "BatchNorm" and ev.r.training and x.numel() < 2 * x.shape[2]:
        raise ModelError(
            f"BatchNorm in training needs at least two values per channel, but batch {x.shape[1]} of"
            f" {x.shape[0]} steps has {x.numel() // x.shape[2]}. In eval() it takes any",
            node=name,
        )
    if op.kind == "Sparse":
        ev.courses[Ref(name)] = apply_sparse(op, ev.params(name), x, ev.prepared.sparse)
        return
    if events is not None and event_driven(op) and x.shape[0] * x.shape[1] >= LEAST_ROWS:
        weight, bias = folded(op, ev.params(name))
        if op.kind == "Linear":
            ev.courses[Ref(name)] = apply_events(events, x, weight, bias)
        else:
            ev.courses[Ref(name)] = apply_event_conv(events, op, x, weight, bias)
        return
    if pools is not None and tiles(op) and x.dtype is torch.float32:
        ev.courses[Ref(name)] = apply_pool(pools, op, x)
        return
    ev.courses[Ref(name)] = apply_connection(op, ev.params(name), x, ev.r.training)


def run_late(
    ev: Evaluation,
    name: str,
    op: Connection,
    late: Shown,
    x: Tensor,
    events: EventTarget | None,
    pools: PoolTarget | None = None,
) -> Tensor:
    """A connection on what a delay shows of ``x``, a panel at a time."""
    given = events if ev.r.steps * ev.r.batch >= LEAST_ROWS else None
    reader = reader_of(op, ev.params(name), ev.r.device, given, pools, ev.prepared.sparse)
    return read_panels(panels(ev, late, x, turns_weights(op)), reader, x.float(), late.before)


def run_delay(ev: Evaluation, name: str, op: Connection, x: Tensor, events: EventTarget | None = None) -> Tensor:
    """What a delay shows of ``x`` over all steps, or its product; leaves its new history in ``ev``."""
    state, first = f"{name}.history", first_of(ev, name)
    if not op.depth:
        return Past(op, ev.params(name), ev.r.device)(settled(ev, name, x), ev.r.steps)
    x = x if first is not None else settled(ev, name, x)
    history = ev.r.state[state].transpose(0, 1)
    ev.state[state] = kept(first, history, x, op)
    if ev.prepared.late is not None and op.by_synapse:
        made = run_late_linear(op, ev.params(name), x, history, ev.prepared.late, first)
        made = run_few(ev, name, op, history, x, first) if made is None else made
        if made is not None:
            return made
    if not ev.prepared.read[name] and Ref(name) not in ev.want_course | ev.want_sum:  # it is there for its history
        return x
    late = late_of(ev, name, op, history, x)
    if late is not None:
        ev.late[Ref(name)] = late
        return flat_course(ev, op, x)
    late = None if op.kind == "Delay" or op.by_synapse or not ev.prepared.panel else shown(
        ev, name, shown_by(op), history, x
    )
    if late is not None:
        return run_late(ev, name, op, late, flat_course(ev, op, x), events)
    made = made_late(ev, name, op, history, x)
    if made is not None:
        return made
    past, record = Past(op, ev.params(name), ev.r.device), torch.cat([history, settled(ev, name, x).float()])
    if events is not None and op.kind == "DelayedLinear" and op.same_for_all is not None and event_driven(op):
        return apply_events(events, past.seen(record, ev.r.steps), *folded(op, ev.params(name)))
    return past(record, ev.r.steps)


def run_scan(ev: Evaluation, name: str, pooled: PooledScan | None = None) -> None:
    """Run an elementwise node over all steps, in one scan, and the pooling behind it with it."""
    computing = None
    if ev.late and computes(ev, ev.sources(name)):
        computing = computed(ev, name, ev.prepared.elementwise[name], ev.prepared.inputs[name])
    inputs, rest = scan_call(ev, name, computing=computing)
    rest = (*rest, None if pooled is None else pooled.windows)
    keep_scan(ev, name, pooled, *(computing.scan if computing else ev.bind(name)).run(inputs, *rest))


def keep_scan(
    ev: Evaluation,
    name: str,
    pooled: PooledScan | None,
    courses: dict[str, Tensor],
    sums: dict[str, Tensor],
    finals: list[Tensor],
) -> None:
    """Keep what a scan gave; a pooled course is that of the pooling."""
    if pooled is not None:
        features = ev.graph.op(pooled.pool).output.shape
        ev.courses[Ref(pooled.pool)] = courses.pop(pooled.windows.result).unflatten(2, features)
    ev.keep(name, courses, sums, finals)


def scan_call(
    ev: Evaluation, name: str, without: int = -1, computing: Computed | None = None
) -> tuple[list[Tensor], tuple[Any, ...]]:
    """The inputs of an elementwise node, but for one that is not there yet, and what else its scan takes.

    Args:
        ev: the run.
        name: the node.
        without: the place of an input that is left out.
        computing: the node with what delays before it compute.
    """
    op = ev.prepared.elementwise[name]
    shape = (ev.r.steps, ev.r.batch, op.size)
    if computing is None:
        edges = ev.sources(name)
        courses = [ev.course(edge) for i, edge in enumerate(edges) if i != without]
        late = offsets(ev, edges) if ev.late else ()
    else:
        feeds = ev.prepared.inputs[name]
        courses, late = [ev.course(feeds[port]) for port in computing.ports], computing.late
    flat = len(op.shape) == 1
    states = [ev.r.state[s.name] for s in op.states]
    return [c if c.dim() == 3 else c.reshape(shape) for c in courses], (
        states if flat else [s.reshape(shape[1:]) for s in states],
        shape,
        *ev.wanted(name),
        checkpoint_of(ev.r.checkpoint, ev.prepared.scans[name].target, len(op.states), shape),
        ev.random(),
        late,
    )
