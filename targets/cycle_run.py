"""A cycle of any form as one operation, on a target that runs it with one function for the whole sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snncompile.ir.density import event_driven
from snncompile.ir.graph import Edge, Ref
from snncompile.targets.autograd import BoundScan, over_batch
from snncompile.targets.cycle_call import (
    CycleBackwardCall,
    CycleForwardCall,
    CycleTarget,
    last_values,
    values_at,
)
from snncompile.targets.cycle_conv import bias_gradient, conv_gradient
from snncompile.targets.cycle_late import bound_scans, outside
from snncompile.targets.cycle_plan import Conv, CyclePlan, Line, Mask, Product, Read
from snncompile.targets.cycle_weights import Weights, weights_of
from snncompile.targets.evaluation import Evaluation, rows_of, state_of
from snncompile.targets.event_linear import EventTarget
from snncompile.targets.late_inputs import joined, kept_of, parted, pasts_of, wanted
from snncompile.targets.scan import Late
from snncompile.targets.torch.products import sequence_mask


def run_cycle(ev: Evaluation, plan: CyclePlan, target: CycleTarget, events: EventTarget | None = None) -> None:
    """Run ``plan`` over all steps of ``ev``, leaving courses, sums and final states there."""
    late = {e.feedback: e for n in plan.nodes for e in ev.sources(n) if e.delay}
    refs = leaving(ev, plan)
    summed = sorted({r for r in ev.want_sum if r in plan.ports and r not in refs}, key=str)
    store = tuple(dict.fromkeys(plan.ports[ref] for ref in refs))
    sums = tuple(dict.fromkeys(plan.ports[ref] for ref in summed))
    inputs, offsets = outside(ev, plan)
    run = _Run(
        plan,
        target,
        bound_scans(ev, plan),
        (ev.r.steps, ev.r.batch),
        store,
        sums,
        tuple(weights_of(p, ev.graph.op(p.name), ev.params(p.name), ev.r.device) for p in plan.products),
        tuple(events if event_driven(ev.graph.op(p.name)) else None for p in plan.products),
        ev.random() if any(scan.draws for scan in plan.scans.values()) else None,
        tuple(mask(ev, m) for m in plan.masks),
        offsets,
    )
    starts = {i: start(ev, late, it) for i, it in enumerate(plan.lines) if it.depth}
    courses, totals, finals = run(inputs, starts)
    features = {ref: ev.graph.type_of(ref).shape for ref in (*refs, *summed)}
    for ref in refs:
        ev.courses[ref] = courses[plan.ports[ref]].unflatten(2, features[ref])
    for ref in summed:
        ev.sums[ref] = totals[plan.ports[ref]].unflatten(1, features[ref])
    for i, rows in finals.items():
        keep_state(ev, late, plan.lines[i], rows)


def mask(ev: Evaluation, step: Mask) -> Tensor:
    """What a Dropout multiplies with, ``(B, N)``: drawn once for all steps."""
    drawn = sequence_mask(ev.graph.op(step.name), ev.r.batch, ev.r.device)
    return drawn.flatten(2)[0].float()


def start(ev: Evaluation, late: Mapping[str, Edge], line: Line) -> Tensor:
    """A line's values before the first step, from the state."""
    value = ev.r.state[line.start]
    if line.start in late:
        value = rows_of(late[line.start], value)
    elif not line.is_state:
        value = value.transpose(0, 1)
    return value.reshape(line.depth, ev.r.batch, line.size).float().contiguous()


def keep_state(ev: Evaluation, late: Mapping[str, Edge], line: Line, rows: Tensor) -> None:
    """Leave a line's last values in the state."""
    name = line.start
    before = ev.r.state[name]
    if line.is_state:
        ev.state[name] = rows.reshape(before.shape)
    elif name in late:
        features = before.shape[1 if late[name].delay == 1 else 2 :]
        ev.state[name] = state_of(late[name], rows.unflatten(2, features))
    else:
        ev.state[name] = rows.unflatten(2, before.shape[2:]).transpose(0, 1).contiguous()


def leaving(ev: Evaluation, plan: CyclePlan) -> list[Ref]:
    """Ports whose course something outside reads, or which are recorded."""
    inside = set(plan.nodes)
    found = {ref for _, ref in ev.graph.outputs} | ev.want_course
    for name in inside:
        found |= {e.source for reader, _, e in ev.graph.consumers(name) if reader not in inside}
    return sorted((ref for ref in found if ref in plan.ports), key=str)


@dataclass(frozen=True)
class _Run:
    """One run of a cycle."""

    plan: CyclePlan
    target: CycleTarget
    bound: Mapping[str, BoundScan]
    shape: tuple[int, int]
    store: tuple[Read, ...]
    sums: tuple[Read, ...]
    weights: tuple[Weights, ...]
    events: tuple[EventTarget | None, ...]
    random: Tensor | None
    masks: tuple[Tensor, ...]
    late: tuple[Late | None, ...]

    def __call__(
        self, inputs: Sequence[Tensor], starts: Mapping[int, Tensor]
    ) -> tuple[dict[Read, Tensor], dict[Read, Tensor], dict[int, Tensor]]:
        """Courses, sums over time and last values; differentiable."""
        tokens = [t for b in self.bound.values() for t in b.tokens]
        biases = [w.bias for w in self.weights if w.bias is not None]
        tensors = [*tokens, *inputs, *starts.values(), *(w.values for w in self.weights), *biases]
        tensors += pasts_of(self.late)
        call = CycleForwardCall(
            self.shape,
            tuple(inputs),
            starts,
            {n: b.coefs for n, b in self.bound.items()},
            self.weights,
            self.store,
            self.sums,
            random=self.random,
            masks=self.masks,
            late=self.late,
        )
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            flat = list(_Cycle.apply(self, replace(call, keep=self._keep()), *tensors))
        else:
            flat = self.gather(call)[0]
        n, m = len(self.store), len(self.store) + len(self.sums)
        return (
            dict(zip(self.store, flat[:n], strict=True)),
            dict(zip(self.sums, flat[n:m], strict=True)),
            dict(zip(starts, flat[m:], strict=True)),
        )

    def _keep(self) -> frozenset[int]:
        """Lines that the backward reads."""
        trained = zip(self.plan.products, self.weights, strict=True)
        return self.plan.read_back | {p.read.line for p, w in trained if w.values.requires_grad}

    def gather(self, call: CycleForwardCall) -> tuple[list[Tensor], tuple[Tensor | None, ...]]:
        """Courses, sums and last values of a call, and all lines."""
        made = self.target.forward(self.plan, call)
        lines, steps = self.plan.lines, self.shape[0]
        flat = [values_at(there(made.lines[r.line]), lines[r.line].depth, r.lag, steps) for r in self.store]
        flat += made.sums
        flat += [last_values(there(made.lines[i]), lines[i].depth, steps) for i in call.starts]
        return flat, made.lines

    def weight_gradient(self, i: int, grad: Tensor, line: Tensor) -> Tensor:
        """The gradient of the weights of product ``i``."""
        product, weights = self.plan.products[i], self.weights[i]
        courses = self._read_by(product, weights, line)
        if isinstance(product, Conv):
            return conv_gradient(product, weights.values.detach(), grad, courses[0], self.events[i])
        if weights.synapses is not None:
            return self.target.synapse_gradient(weights.synapses, grad, courses)
        flat, events = grad.flatten(0, 1), self.events[i]
        if events is not None:
            return torch.stack([events.gradients(flat, x.flatten(0, 1), False)[0] for x in courses])
        return torch.stack([flat.T @ x.flatten(0, 1) for x in courses])

    def bias_gradient(self, i: int, grad: Tensor) -> Tensor:
        """The gradient of the bias of product ``i``."""
        product = self.plan.products[i]
        return bias_gradient(product, grad) if isinstance(product, Conv) else grad.sum((0, 1))

    def _read_by(self, product: Product | Conv, weights: Weights, line: Tensor) -> list[Tensor]:
        """What a product reads, for each of its lags."""
        depth, (steps, _) = self.plan.lines[product.read.line].depth, self.shape
        return [values_at(line, depth, product.read.lag + lag, steps) for lag in weights.lags]


def there(line: Tensor | None) -> Tensor:
    """A line that is kept."""
    assert line is not None
    return line


class _Cycle(torch.autograd.Function):
    """One cycle over a whole sequence."""

    @staticmethod
    def forward(ctx: Any, run: _Run, call: CycleForwardCall, *tensors: Tensor) -> tuple[Tensor, ...]:
        flat, lines = run.gather(call)
        ctx.run, ctx.starts, ctx.late = replace(run, late=()), tuple(call.starts), kept_of(call.late)
        ctx.kept = tuple(i for i in range(len(lines)) if i in call.keep)
        values = [w.values for w in call.weights]
        pasts = pasts_of(call.late)
        ctx.pasts = len(pasts)
        ctx.save_for_backward(*call.inputs, *values, *pasts, *(there(lines[i]) for i in ctx.kept))
        ctx.set_materialize_grads(False)
        return tuple(flat)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        run: _Run = ctx.run
        plan, needs = run.plan, ctx.needs_input_grad[2:]
        n_in, n_w = len(plan.outside), len(plan.products)
        inputs, rest = ctx.saved_tensors[:n_in], ctx.saved_tensors[n_in:]
        values, kept = rest[:n_w], rest[n_w + ctx.pasts :]
        late = joined(ctx.late, rest[n_w : n_w + ctx.pasts])
        lines = dict(zip(ctx.kept, kept, strict=True))
        n_tokens = sum(len(b.tokens) for b in run.bound.values())
        at_weights = n_tokens + n_in + len(ctx.starts)
        need_weights = needs[at_weights : at_weights + n_w]
        need_biases = iter(needs[at_weights + n_w :])
        need_bias = [w.bias is not None and next(need_biases) for w in run.weights]
        at_end = grads[len(run.store) + len(run.sums) :]
        made = run.target.backward(
            plan,
            CycleBackwardCall(
                run.shape,
                inputs,
                {n: b.reverse_coefs for n, b in run.bound.items()},
                tuple(replace(w, values=v) for w, v in zip(run.weights, values, strict=True)),
                tuple(lines.get(i) for i in range(len(plan.lines))),
                tuple(_courses(run, grads)),
                {i: g for i, g in zip(ctx.starts, at_end, strict=True) if g is not None},
                wanted(late, needs[n_tokens : n_tokens + n_in], needs[len(needs) - ctx.pasts :]),
                tuple(n for n, b in run.bound.items() if b.tokens),
                tuple(w or b for w, b in zip(need_weights, need_bias, strict=True)),
                run.random,
                run.masks,
                late,
            ),
        )
        sums = [
            over_batch(made.accumulators[n].get(a))
            for n, b in run.bound.items()
            for a in (b.prepared.scan.accumulators if b.tokens else ())
        ]
        d_weights: list[Tensor | None] = [
            run.weight_gradient(i, there(made.products[i]), lines[p.read.line]) if need_weights[i] else None
            for i, p in enumerate(plan.products)
        ]
        d_biases = [
            run.bias_gradient(i, there(made.products[i])) if need_bias[i] else None
            for i, w in enumerate(run.weights)
            if w.bias is not None
        ]
        inputs, pasts = parted(late, made.inputs)
        return None, None, *sums, *inputs, *(made.starts[i] for i in ctx.starts), *d_weights, *d_biases, *pasts


def _courses(run: _Run, grads: Sequence[Tensor | None]) -> list[tuple[Read, Tensor]]:
    """Gradients of courses; that of a sum over time is that of each step."""
    found = [(r, g) for r, g in zip(run.store, grads, strict=False) if g is not None]
    for r, g in zip(run.sums, grads[len(run.store) :], strict=False):
        if g is not None:
            found.append((r, g.unsqueeze(0).expand(run.shape[0], *g.shape)))
    return found
