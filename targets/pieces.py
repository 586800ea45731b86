"""Training over long sequences in pieces: forward keeps the states between them, backward runs each piece again.

What a run without this keeps for its backward pass grows with time for every layer: currents, spikes, saved states.
Here nothing is kept but inputs, outputs, and the states where one piece ends and the next begins. The price is a
second forward pass, products included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snncompile.ir.connection import Connection
from snncompile.ir.graph import Graph
from snncompile.ir.plasticity import Plasticity
from snncompile.targets.evaluation import Run, RunResult

SHORTEST = 128  # steps of a piece, at least: enough work for what a call costs
FEWEST = 4  # pieces, at least: below, little is saved

Runner = Callable[[Run], RunResult]


def piece_of(graph: Graph, run: Run) -> int:
    """Steps of a piece, or 0 where the run is not to be cut.

    It is where states are kept at intervals and the sequence is long, unless something looks at all of it (BatchNorm
    and Dropout in training) or learns in it.
    """
    if run.checkpoint in (None, 1) or not torch.is_grad_enabled():
        return 0
    piece = -(-SHORTEST // run.checkpoint) * run.checkpoint
    if run.steps < FEWEST * piece or not any(t.requires_grad for t in _tensors(run)):
        return 0
    if run.differentiable or any(True for _ in graph.of_type(Plasticity)):
        return 0
    if run.training and any(op.kind in ("BatchNorm", "Dropout") for _, op in graph.of_type(Connection)):
        return 0
    return piece


def run_pieces(runner: Runner, run: Run, piece: int) -> RunResult:
    """As ``runner(run)``, differentiable, in pieces of ``piece`` steps."""
    plan = _Plan(runner, run, piece)
    flat = _Pieces.apply(plan, *_tensors(run))
    return plan.layout.unflatten(flat)


def _tensors(run: Run) -> list[Tensor]:
    return [*run.values.values(), *run.inputs.values(), *run.state.values()]


@dataclass(frozen=True)
class _Layout:
    """Names of a result's tensors, in a fixed order."""

    outputs: tuple[str, ...]
    courses: tuple[str, ...]
    sums: tuple[str, ...]
    state: tuple[str, ...]

    @classmethod
    def of(cls, result: RunResult) -> _Layout:
        return cls(tuple(result.outputs), tuple(result.courses), tuple(result.sums), tuple(result.state))

    def timed(self, result: RunResult) -> list[Tensor]:
        """What has a time axis."""
        return [*(result.outputs[n] for n in self.outputs), *(result.courses[n] for n in self.courses)]

    def flatten(self, result: RunResult) -> list[Tensor]:
        return [*self.timed(result), *(result.sums[n] for n in self.sums), *(result.state[n] for n in self.state)]

    def split(self, grads: Sequence[Tensor | None]) -> tuple[Sequence, Sequence, dict[str, Tensor | None]]:
        """Gradients of what has a time axis, of sums, and of final states by name."""
        n = len(self.outputs) + len(self.courses)
        m = n + len(self.sums)
        return grads[:n], grads[n:m], dict(zip(self.state, grads[m:], strict=True))

    def unflatten(self, flat: Sequence[Tensor]) -> RunResult:
        parts = iter(flat)
        outputs, courses, sums, state = (
            {n: next(parts) for n in names} for names in (self.outputs, self.courses, self.sums, self.state)
        )
        return RunResult(outputs, state, courses, sums)


class _Plan:
    """One run in pieces: what is known of it between forward and backward."""

    layout: _Layout

    def __init__(self, runner: Runner, run: Run, piece: int) -> None:
        self.runner = runner
        self.piece = piece
        self.starts = range(0, run.steps, piece)
        # tensors come back through autograd, so that it knows what was changed in between
        self.run = replace(run, values={}, inputs={}, state={})
        self.names = (tuple(run.values), tuple(run.inputs), tuple(run.state))
        kind = run.device.type  # the backward pass runs outside of the caller's autocast
        self.autocast = {"enabled": torch.is_autocast_enabled(kind), "dtype": torch.get_autocast_dtype(kind)}

    def split(self, tensors: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Values, inputs and state from what :func:`_tensors` gives."""
        parts = iter(tensors)
        return [{n: next(parts) for n in names} for names in self.names]

    def cut(self, values: dict[str, Tensor], inputs: dict[str, Tensor], state: dict[str, Tensor], start: int) -> Run:
        """The run of one piece."""
        stop = min(start + self.piece, self.run.steps)
        parts = {n: x[start:stop] if x.shape[0] == self.run.steps else x for n, x in inputs.items()}
        return replace(self.run, values=values, inputs=parts, state=state, steps=stop - start)

    def forward(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Results over all steps, and the states before each piece, ``(pieces, B, *features)``."""
        values, inputs, state = self.split(tensors)
        # room for all that stays is made first: small blocks that stay between large ones that go fragment the heap
        before = [s.new_empty((len(self.starts), *s.shape)) for s in state.values()]
        whole: list[Tensor] = []
        sums: list[Tensor] = []
        for k, start in enumerate(self.starts):
            for kept, held in zip(before, state.values(), strict=True):
                kept[k] = held
            result = self.runner(self.cut(values, inputs, state, start))
            if not start:
                self.layout = _Layout.of(result)
                whole = [_whole(y, self.run.steps) for y in self.layout.timed(result)]
                sums = [torch.zeros_like(result.sums[n]) for n in self.layout.sums]
            for total, name in zip(sums, self.layout.sums, strict=True):
                total += result.sums[name]
            for y, part in zip(whole, self.layout.timed(result), strict=True):
                y[start : start + part.shape[0]] = part
            state = {**state, **result.state}
        return [*whole, *sums, *(state[n].clone() for n in self.layout.state)], before

    def gradients(
        self, piece: Run, grads: Sequence[Tensor | None], tensors: Sequence[Tensor]
    ) -> list[Tensor | None]:
        """Run a piece again; the gradients of ``tensors`` from those of its results."""
        with torch.enable_grad(), torch.autocast(self.run.device.type, **self.autocast):
            results = self.layout.flatten(self.runner(piece))
        pairs = [(y, g) for y, g in zip(results, grads, strict=True) if g is not None and y.requires_grad]
        leaves = [t for t in tensors if t.requires_grad]
        if not pairs or not leaves:
            return [None] * len(tensors)
        ys, gs = zip(*pairs, strict=True)
        made = iter(torch.autograd.grad(ys, leaves, gs, allow_unused=True))
        return [next(made) if t.requires_grad else None for t in tensors]


def _whole(part: Tensor, steps: int) -> Tensor:
    """Room for all steps of what begins with ``part``, laid out in memory like it: batch first or time first."""
    t, b, *features = part.shape
    if b > 1 and t > 1 and part.stride(0) < part.stride(1):
        return part.new_empty((b, steps, *features)).transpose(0, 1)
    return part.new_empty((steps, b, *features))


class _Pieces(torch.autograd.Function):
    """A run in pieces, as one operation."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor) -> tuple[Tensor, ...]:
        results, before = plan.forward(tensors)
        ctx.plan = plan
        ctx.before = before
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(r for r in results if not r.is_floating_point()))
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        plan: _Plan = ctx.plan
        n_values, n_inputs, _ = map(len, plan.names)
        tensors, needs = ctx.saved_tensors, ctx.needs_input_grad[1:]
        values = [v.detach().requires_grad_(need) for v, need in zip(tensors[:n_values], needs, strict=False)]
        inputs = tensors[n_values : n_values + n_inputs]
        timed, sums, at_end = plan.layout.split(grads)
        totals: list[Tensor | None] = [None] * n_values
        courses: list[Tensor | None] = [None] * n_inputs
        for k in reversed(range(len(plan.starts))):
            # states before the first piece need a gradient where somebody wants it; those between hand it on
            wanted = [s.is_floating_point() for s in ctx.before] if k else needs[n_values + n_inputs :]
            states = [s[k].detach().requires_grad_(need) for s, need in zip(ctx.before, wanted, strict=True)]
            named, given, held = plan.split([*values, *inputs, *states])
            piece = plan.cut(named, given, held, plan.starts[k])
            cuts = zip(piece.inputs.values(), needs[n_values:], strict=False)
            parts = [x.detach().requires_grad_(need) for x, need in cuts]
            piece = replace(piece, inputs=dict(zip(plan.names[1], parts, strict=True)))
            window = slice(plan.starts[k], plan.starts[k] + piece.steps)
            flowing = [*(None if g is None else g[window] for g in timed), *sums, *at_end.values()]
            found = plan.gradients(piece, flowing, [*values, *parts, *states])
            totals = [_added(t, g) for t, g in zip(totals, found, strict=False)]
            for i, g in enumerate(found[n_values : n_values + n_inputs]):
                courses[i] = _placed(courses[i], g, window, plan.run.steps, len(inputs[i]) == plan.run.steps)
            before = dict(zip(plan.names[2], found[n_values + n_inputs :], strict=True))
            at_end = {n: before.get(n) for n in plan.layout.state}
        return None, *totals, *courses, *before.values()


def _added(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    """The sum of what earlier calls gave and ``more``, in place of the former."""
    return total if more is None else more.clone() if total is None else total.add_(more)


def _placed(whole: Tensor | None, part: Tensor | None, window: slice, steps: int, timed: bool) -> Tensor | None:
    """The gradient of an input over all steps with that of one piece put in; of an input without time, the sum."""
    if part is None or not timed:
        return _added(whole, part)
    if whole is None:
        whole = part.new_zeros((steps, *part.shape[1:]))
    whole[window] = part
    return whole
