"""A recurrent region: the nodes of a cycle, run together one step after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Ref, Region
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.torch.products import apply_connection, dropout_mask


def run_recurrent(ev: Evaluation, region: Region) -> None:
    """Run ``region`` over all steps of ``ev``, leaving courses, sums and final states there."""
    _Loop(ev, region).run()


class _Loop:
    def __init__(self, ev: Evaluation, region: Region) -> None:
        self.ev = ev
        self.nodes = region.nodes
        inside = set(region.nodes)
        self.edges = {n: ev.sources(n) for n in region.nodes}
        self.held = {
            e.feedback: e.source for edges in self.edges.values() for e in edges if e.delay and e.source.node in inside
        }
        # what comes from outside is split once: indexing a course at every step would cost a quadratic backward
        outside = {e for edges in self.edges.values() for e in edges if e.source.node not in inside}
        self.outside = {e: ev.course(e).unbind(0) for e in outside}
        self.previous = {name: ev.r.state[name] for name in self.held}
        self.states = {s.name: ev.r.state[s.name] for n in region.nodes for s in self._states(n)}
        self.params = {n: ev.params(n) for n in region.nodes if isinstance(ev.graph.op(n), Connection)}
        self.masks = {
            n: dropout_mask(ev.graph.op(n), torch.ones(1, ev.r.batch, *ev.graph.op(n).output.shape, device=ev.r.device))
            for n in self.params
            if ev.graph.op(n).kind == "Dropout" and ev.r.training
        }
        self.now: dict[Ref, Tensor] = {}

    def _states(self, name: str) -> tuple:
        return getattr(self.ev.graph.op(name), "states", ())

    def run(self) -> None:
        ev = self.ev
        kept = {Ref(n, port) for n in self.nodes for port in ev.prepared.read[n]} | ev.want_course
        kept = {ref for ref in kept if ref.node in set(self.nodes)}
        courses: dict[Ref, list[Tensor]] = {ref: [] for ref in kept if self._leaves(ref)}
        summed = {ref for ref in ev.want_sum if ref.node in set(self.nodes) and ref not in courses}
        for t in range(ev.r.steps):
            for name in self.nodes:
                self._step(name, t, kept | summed)
            for ref, course in courses.items():
                course.append(self.now[ref])
            for ref in summed:
                ev.sums[ref] = ev.sums[ref] + self.now[ref] if ref in ev.sums else self.now[ref]
            # a state is float32, also under autocast
            self.previous = {name: self.now[source].float() for name, source in self.held.items()}
        for ref, course in courses.items():
            ev.courses[ref] = torch.stack(course) if course else self._empty(ref)
        for ref in summed - set(ev.sums):
            ev.sums[ref] = self._empty(ref).sum(0)
        ev.state.update(self.states)
        ev.state.update(self.previous)

    def _leaves(self, ref: Ref) -> bool:
        """Whether the course of ``ref`` is read outside the region, or recorded."""
        inside = set(self.nodes)
        readers = [dst for dst, _, e in self.ev.graph.consumers(ref.node) if e.source == ref and dst not in inside]
        is_output = any(out == ref for _, out in self.ev.graph.outputs)
        return bool(readers) or is_output or ref in self.ev.want_course

    def _empty(self, ref: Ref) -> Tensor:
        return torch.zeros(0, self.ev.r.batch, *self.ev.graph.type_of(ref).shape, device=self.ev.r.device)

    def _input(self, name: str, t: int) -> list[Tensor]:
        values = []
        for edge in self.edges[name]:
            if edge in self.outside:
                values.append(self.outside[edge][t])
            elif edge.delay:
                values.append(self.previous[edge.feedback])
            else:
                values.append(self.now[edge.source])
        return values

    def _step(self, name: str, t: int, kept: set[Ref]) -> None:
        op = self.ev.graph.op(name)
        inputs = self._input(name, t)
        if isinstance(op, Elementwise):
            self._scan_step(name, op, inputs, kept)
        elif name in self.masks:
            self.now[Ref(name)] = inputs[0] * self.masks[name][0]
        else:
            y = apply_connection(op, self.params[name], inputs[0].unsqueeze(0), self.ev.r.training)
            self.now[Ref(name)] = y[0]

    def _scan_step(self, name: str, op: Elementwise, inputs: list[Tensor], kept: set[Ref]) -> None:
        bound = self.ev.bind(name)
        batch = self.ev.r.batch
        finals_only = [s.local for s in op.states]
        store = [r for r in bound.prepared.scan.results if Ref(name, r) in kept and r not in finals_only]
        courses, _, finals = bound.run(
            [x.reshape(1, batch, op.size) for x in inputs],
            [self.states[s.name].reshape(batch, op.size) for s in op.states],
            (1, batch, op.size),
            store,
        )
        for result, course in courses.items():
            self.now[Ref(name, result)] = course[0].unflatten(1, op.shape)
        for state, final in zip(op.states, finals, strict=True):
            self.states[state.name] = final.unflatten(1, op.shape)
            self.now[Ref(name, state.local)] = self.states[state.name]

