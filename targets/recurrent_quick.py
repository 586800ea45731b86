"""A cycle of any form without gradients on the CPU: node after node, each prepared once for the whole sequence.

It computes what ``targets/recurrent.py`` computes, with nothing around a step but the calls themselves; the nodes are
those of ``targets/stepping.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.ir.connection import DELAYS, WHOLE_SEQUENCE, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Ref, Region
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.scan import ScanTarget
from snncompile.targets.stepping import ProductStep, ScanNode


def run_quickly(ev: Evaluation, region: Region, target: ScanTarget) -> bool:
    """Run ``region`` over all steps of ``ev``, leaving courses and final states there; False where this cannot."""
    if not _fits(ev, region, target):
        return False
    inside = set(region.nodes)
    edges = {n: ev.sources(n) for n in region.nodes}
    held = {e.feedback: str(e.source) for es in edges.values() for e in es if e.delay and e.source.node in inside}
    kept = _leaving(ev, inside)
    nodes: list[ProductStep | ScanNode] = []
    for name in region.nodes:
        op = ev.graph.op(name)
        if isinstance(op, Connection):
            lookup = ev.r.values.__getitem__
            nodes.append(ProductStep(name, op, edges[name][0], lookup, ev.prepared.sparse))
            continue
        read = {*ev.prepared.read[name], *(ref.port for ref in kept if ref.node == name)}
        scan = ev.prepared.scans[name]
        nodes.append(ScanNode(name, scan, edges[name], target, ev.r.batch, tuple(read), ev.r.values.__getitem__))
    own = [s.name for n in region.nodes for s in getattr(ev.graph.op(n), "states", ())]
    state = {name: ev.r.state[name].contiguous() for name in (*own, *held)}
    outside = {e for es in edges.values() for e in es if e.source.node not in inside}
    rows = {(bool(e.delay), e.feedback if e.delay else str(e.source)): ev.course(e).unbind(0) for e in outside}
    courses: dict[Ref, list[Tensor]] = {ref: [] for ref in kept}
    for t in range(ev.r.steps):
        now: dict[str, Tensor] = {}
        for (late, key), course in rows.items():
            (state if late else now)[key] = course[t]
        after: dict[str, Tensor] = {}
        for node in nodes:
            node.run(now, state, after)
        for feedback, source in held.items():
            after[feedback] = now[source]
        for ref, course_so_far in courses.items():
            course_so_far.append(now[str(ref)])
        state.update(after)
    for ref, made in courses.items():
        ev.courses[ref] = torch.stack(made)
    ev.state.update({name: state[name] for name in own})
    ev.state.update({name: state[name].clone() for name in held})
    return True


def _fits(ev: Evaluation, region: Region, target: ScanTarget) -> bool:
    if not hasattr(target, "step") or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if ev.r.device.type != "cpu" or not ev.r.steps * ev.r.batch or any(r.node in region.nodes for r in ev.want_sum):
        return False
    for name in region.nodes:
        op = ev.graph.op(name)
        if any(e.delay > 1 for e in ev.sources(name)):
            return False
        if isinstance(op, Connection):
            if op.kind in DELAYS or op.plastic or (ev.r.training and op.kind in WHOLE_SEQUENCE):
                return False
        elif not isinstance(op, Elementwise) or ev.prepared.scans[name].scan.draws:
            return False
    return True


def _leaving(ev: Evaluation, inside: set[str]) -> list[Ref]:
    """Ports of the region whose course something outside reads, or which are recorded."""
    found = {ref for _, ref in ev.graph.outputs if ref.node in inside} | {r for r in ev.want_course if r.node in inside}
    for name in inside:
        found |= {e.source for reader, _, e in ev.graph.consumers(name) if reader not in inside}
    return sorted(found, key=str)
