"""A recurrent region: the nodes of a cycle, run together a few steps at a time.

What comes back is at least so many steps late as the shortest delay of the cycle: with a feedback of one step the
nodes run step by step, with one of ``k`` steps ``k`` steps at once, each node over all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.ir.connection import DELAYS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Ref, Region
from snncompile.ir.plasticity import Plasticity
from snncompile.targets.evaluation import Evaluation, rows_of, state_of
from snncompile.targets.sparse import apply_sparse
from snncompile.targets.torch.delays import Past
from snncompile.targets.torch.products import apply_connection, sequence_mask


def run_recurrent(ev: Evaluation, region: Region) -> None:
    """Run ``region`` over all steps of ``ev``, leaving courses, sums and final states there."""
    Loop(ev, region).run()


class _Record:
    """The last values of a signal, oldest first, as pieces of several steps: nothing is copied to add to it.

    Args:
        rows: ``(depth, B, *features)``.
    """

    def __init__(self, rows: Tensor) -> None:
        self.depth = len(rows)
        self._pieces = [rows]

    def push(self, rows: Tensor) -> None:
        """Add newer values, and forget what is older than ``depth`` steps."""
        self._pieces.append(rows)
        spare = sum(map(len, self._pieces)) - self.depth
        while spare >= len(self._pieces[0]) and len(self._pieces) > 1:
            spare -= len(self._pieces.pop(0))
        if spare:
            self._pieces[0] = self._pieces[0][spare:]

    def rows(self, count: int) -> Tensor:
        """The oldest ``count`` values."""
        taken: list[Tensor] = []
        for piece in self._pieces:
            if count <= 0:
                break
            taken.append(piece[:count])
            count -= len(piece)
        return taken[0] if len(taken) == 1 else torch.cat(taken)


class Loop:
    """A region in progress. What runs at a node can be refined."""

    def __init__(self, ev: Evaluation, region: Region) -> None:
        self.ev = ev
        self.nodes = region.nodes
        inside = self.inside = set(region.nodes)
        self.edges = {n: ev.sources(n) for n in region.nodes}
        self.held = {
            e.feedback: e for edges in self.edges.values() for e in edges if e.delay and e.source.node in inside
        }
        # what comes from outside is split once: indexing a course at every step would cost a quadratic backward
        outside = {e for edges in self.edges.values() for e in edges if e.source.node not in inside}
        self.outside = {e: ev.course(e) for e in outside}
        self.previous = {name: _Record(rows_of(e, ev.r.state[name])) for name, e in self.held.items()}
        self.states = {s.name: ev.r.state[s.name] for n in region.nodes for s in self._states(n)}
        self.params = {n: ev.params(n) for n in region.nodes if isinstance(ev.graph.op(n), Connection)}
        delays = [n for n in self.params if ev.graph.op(n).kind in DELAYS]
        self.pasts = {n: Past(ev.graph.op(n), self.params[n], ev.r.device) for n in delays}
        self.histories = {
            n: _Record(ev.r.state[f"{n}.history"].transpose(0, 1)) for n in delays if ev.graph.op(n).depth
        }
        #: delays that show nothing newer than what is known before their input is
        self.waiting = {n for n in delays if any(ev.graph.waits(e.source.node, n) for e in self.edges[n])}
        late = [e.delay for e in self.held.values()] + [ev.graph.op(n).late for n in self.waiting]
        self.block = max(1, min(late))
        self.masks = {
            n: sequence_mask(ev.graph.op(n), ev.r.batch, ev.r.device)
            for n in self.params
            if ev.graph.op(n).kind == "Dropout" and ev.r.training
        }
        self.now: dict[Ref, Tensor] = {}
        self.start = 0  # the first step of this block
        self.given: dict[Edge, Tensor] = {}

    def _states(self, name: str) -> tuple:
        op = self.ev.graph.op(name)
        return op.traces if isinstance(op, Plasticity) else getattr(op, "states", ())

    def run(self) -> None:
        """Run every node in every block of steps."""
        ev = self.ev
        kept = {Ref(n, port) for n in self.nodes for port in ev.prepared.read[n]} | ev.want_course
        kept = {ref for ref in kept if ref.node in self.inside}
        courses: dict[Ref, list[Tensor]] = {ref: [] for ref in kept if self._leaves(ref)}
        summed = {ref for ref in ev.want_sum if ref.node in self.inside and ref not in courses}
        pieces = {e: course.split(self.block) for e, course in self.outside.items()}
        for i, start in enumerate(range(0, ev.r.steps, self.block)):
            self.start, steps = start, min(self.block, ev.r.steps - start)
            self.given = {e: piece[i] for e, piece in pieces.items()}
            for name in self.nodes:
                self.step(name, steps, kept | summed)
            for ref, course in courses.items():
                course.append(self.now[ref])
            for ref in summed:
                for row in self.now[ref].unbind(0):
                    ev.sums[ref] = ev.sums[ref] + row if ref in ev.sums else row
            self._remember(steps)
        for ref, course in courses.items():
            ev.courses[ref] = torch.cat(course) if course else self._empty(ref)
        for ref in summed - set(ev.sums):
            ev.sums[ref] = self._empty(ref).sum(0)
        ev.state.update(self.states)
        ev.state.update({n: state_of(e, self.previous[n].rows(e.delay)) for n, e in self.held.items()})
        for name, record in self.histories.items():
            ev.state[f"{name}.history"] = record.rows(record.depth).transpose(0, 1).contiguous()

    def _remember(self, steps: int) -> None:
        """Add this block to what late edges and delays hold; a state is float32, also under autocast."""
        inputs = {name: self.arriving(name, steps)[0].float() for name in self.waiting if name in self.histories}
        for feedback, edge in self.held.items():
            self.previous[feedback].push(self.now[edge.source].float())
        for name, x in inputs.items():
            self.histories[name].push(x)

    def _leaves(self, ref: Ref) -> bool:
        """Whether the course of ``ref`` is read outside the region, or recorded."""
        readers = [
            dst for dst, _, e in self.ev.graph.consumers(ref.node) if e.source == ref and dst not in self.inside
        ]
        is_output = any(out == ref for _, out in self.ev.graph.outputs)
        return bool(readers) or is_output or ref in self.ev.want_course

    def _empty(self, ref: Ref) -> Tensor:
        shape = (0, self.ev.r.batch, *self.ev.graph.type_of(ref).shape)
        return torch.zeros(shape, dtype=torch.float32, device=self.ev.r.device)

    def arriving(self, name: str, steps: int) -> list[Tensor]:
        """What arrives at ``name`` in this block, ``(steps, B, *features)`` for each port."""
        values = []
        for edge in self.edges[name]:
            if edge in self.given:
                values.append(self.given[edge])
            elif edge.delay:
                values.append(self.previous[edge.feedback].rows(steps))
            else:
                values.append(self.now[edge.source])
        return values

    def step(self, name: str, steps: int, kept: set[Ref]) -> None:
        """Run node ``name`` over a block of steps; results among ``kept`` are wanted."""
        op = self.ev.graph.op(name)
        if name in self.pasts:
            self.now[Ref(name)] = self._delayed(name, steps)
        elif isinstance(op, Elementwise):
            self._scan_steps(name, op, steps, kept)
        elif op.kind == "Sparse":
            (x,) = self.arriving(name, steps)
            self.now[Ref(name)] = apply_sparse(op, self.params[name], x, self.ev.prepared.sparse)
        elif name in self.masks:
            self.now[Ref(name)] = self.arriving(name, steps)[0] * self.masks[name]
        else:
            (x,) = self.arriving(name, steps)
            self.now[Ref(name)] = apply_connection(op, self.params[name], x, self.ev.r.training)

    def _delayed(self, name: str, steps: int) -> Tensor:
        history = self.histories.get(name)
        if name in self.waiting and history is not None:
            return self.pasts[name](history.rows(history.depth), steps)
        (x,) = self.arriving(name, steps)
        if history is None:
            return self.pasts[name](x, steps)
        record = torch.cat([history.rows(history.depth), x.float()])
        history.push(x.float())
        return self.pasts[name](record, steps)

    def _scan_steps(self, name: str, op: Elementwise, steps: int, kept: set[Ref]) -> None:
        inputs = self.arriving(name, steps)
        bound = self.ev.bind(name)
        batch = self.ev.r.batch
        own = {s.local for s in op.states}
        store = [r for r in bound.prepared.scan.results if Ref(name, r) in kept and (steps > 1 or r not in own)]
        courses, _, finals = bound.run(
            [x.reshape(steps, batch, op.size) for x in inputs],
            [self.states[s.name].reshape(batch, op.size) for s in op.states],
            (steps, batch, op.size),
            store,
            random=self.ev.random(self.start) if bound.prepared.scan.draws else None,
        )
        for result, course in courses.items():
            self.now[Ref(name, result)] = course.unflatten(2, op.shape)
        for state, final in zip(op.states, finals, strict=True):
            self.states[state.name] = final.unflatten(1, op.shape)
            if steps == 1:  # of one step, the course of a state is its last value
                self.now[Ref(name, state.local)] = self.states[state.name].unsqueeze(0)
