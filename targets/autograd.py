"""Scans under torch's autograd: coefficients from parameters, one node for the whole sequence.

Parameters enter once per sequence, through :class:`_Coefficients`, which hands out one *token* per sum over time that
their gradients need. A scan reads the tokens and ignores their values; its backward returns the sums as the tokens'
gradients, autograd adds those of several scans (a recurrent layer has one per step), and the backward of the tokens
applies the rest of the chain rule, once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.interp import Interpreter
from snncompile.targets.late_inputs import Lateness, joined, kept_of, parted, pasts_of, wanted
from snncompile.targets.pooling import Windows
from snncompile.targets.scan import (
    BackwardCall,
    BackwardResult,
    ForwardCall,
    ForwardResult,
    Late,
    Scan,
    ScanTarget,
    make_scan,
)
from snncompile.targets.transfer import move

_CPU = torch.device("cpu")


class PreparedScan:
    """A node made ready to run on a target: its scan, and how its parameters become coefficients."""

    def __init__(self, name: str, node: Elementwise, target: ScanTarget) -> None:
        self.node = node
        self.scan = make_scan(name, node)
        self.target = target
        self._derived = Interpreter(self.scan.derived, host=True)
        self._reverse_derived = Interpreter(self.scan.reverse_derived, host=True)
        self._epilogue = Interpreter(self.scan.epilogue, host=True)
        self._known: tuple[tuple[Any, ...], tuple[Tensor, ...], dict[str, Tensor]] | None = None

    def bind(
        self, values: Mapping[str, Tensor], on_host: Mapping[str, Tensor], device: torch.device, training: bool
    ) -> BoundScan:
        """The scan with parameter values for one sequence on ``device``.

        Args:
            values: parameter name -> tensor, as autograd knows it.
            on_host: parameter name -> its value on the CPU.
            device: where the sequence lives.
            training: whether a backward pass may follow.
        """
        coefs, reverse = self.coefficients(on_host, device, training)
        trained = [values[p.name] for p in self.node.params.values()]
        tokens: tuple[Tensor, ...] = ()
        if training and self.scan.accumulators and any(v.requires_grad for v in trained):
            tokens = _Coefficients.apply(self, reverse, device, *trained)
        return BoundScan(self, coefs, tuple(reverse[c] for c in self.scan.reverse_coefs) if training else (), tokens)

    def coefficients(
        self, on_host: Mapping[str, Tensor], device: torch.device, training: bool
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """What the scan reads besides signals and states, and what its gradient reads (empty unless ``training``).

        They are kept until a parameter's value is another one, bit for bit: however it was changed, that is seen.
        """
        params = self.node.params
        key = (device, training, *(_bits(on_host[p.name]) for p in params.values()))
        if self._known is None or self._known[0] != key:
            with torch.no_grad():
                # exp(-dt/tau) comes from torch's exp on the CPU, whatever the device: all targets start from equal bits
                flat = {r: _flat(on_host[p.name], self.node.shape, self.node.size).clone() for r, p in params.items()}
                table = {**flat, **self._derived.named(flat, _CPU)}
                forward = move({c: table[c] for c in self.scan.coefs}, device)
                reverse = move({**flat, **self._reverse_derived.named(flat, _CPU)}, device) if training else {}
            self._known = key, tuple(forward.values()), reverse
        return self._known[1:]

    def parameter_gradients(
        self, sums: Sequence[Tensor | None], reverse: Mapping[str, Tensor], shapes: Sequence[torch.Size]
    ) -> list[Tensor]:
        """Gradients of the parameters from the accumulators' sums over time and batch, ``(N,)`` each."""
        device = next((s.device for s in sums if s is not None), _CPU)
        zero = torch.zeros((), dtype=torch.float32, device=device)
        given = [zero if s is None else s for s in sums]
        values = {**reverse, **dict(zip(self.scan.accumulators, given, strict=True))}
        grads = self._epilogue.named(values, device)
        features = self.node.shape
        return [
            _sum_to(grads[f"grad_{role}"], features, shape)
            for role, shape in zip(self.scan.params, shapes, strict=True)
        ]


@dataclass(frozen=True)
class BoundScan:
    """A prepared scan with the coefficients of one sequence."""

    prepared: PreparedScan
    coefs: tuple[Tensor, ...]
    reverse_coefs: tuple[Tensor, ...]
    tokens: tuple[Tensor, ...]

    def run(
        self,
        inputs: Sequence[Tensor],
        states: Sequence[Tensor],
        shape: tuple[int, int, int],
        store: Sequence[str],
        sums: Sequence[str] = (),
        checkpoint: int = 1,
        random: Tensor | None = None,
        late: Sequence[Late | None] = (),
        windows: Windows | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:
        """Stored courses and sums by result name, and final states; differentiable.

        Args:
            inputs: ``(T, B, N)`` each, any strides.
            states: ``(B, N)`` each.
            shape: T, B, N.
            store: results whose course is wanted.
            sums: results whose sum over time is wanted.
            checkpoint: K: how often states are saved where a backward pass may follow.
            random: seed and number of the first step, where the scan draws.
            late: per input what makes it late, for a target that has offsets; empty where none is.
            windows: pooling of a result in ``store``, for a target that pools what scans give.
        """
        call, wants_grad = self.call(inputs, states, shape, store, sums, checkpoint, random, late)
        if windows is not None:
            call = replace(call, windows=windows)
        if not wants_grad:
            result = self.prepared.target.forward(self.prepared.scan, call)
            return result.stored, result.sums, list(result.finals)
        return named(call, _Scan.apply(self, call, *self.tokens, *call.inputs, *call.states, *pasts_of(late)))

    def call(
        self,
        inputs: Sequence[Tensor],
        states: Sequence[Tensor],
        shape: tuple[int, int, int],
        store: Sequence[str],
        sums: Sequence[str],
        checkpoint: int,
        random: Tensor | None,
        late: Sequence[Late | None],
        *more: Tensor,
    ) -> tuple[ForwardCall, bool]:
        """The call for a target, arguments as :meth:`run`; and whether it, or ``more``, takes gradients."""
        wants_grad = torch.is_grad_enabled()
        if wants_grad:
            wants_grad = any([x.requires_grad for x in (*more, *inputs, *states, *self.tokens, *pasts_of(late))])
        call = ForwardCall(
            tuple([x.float() for x in inputs]),
            self.coefs,
            tuple([s.float().contiguous() for s in states]),
            shape,
            tuple(store),
            tuple(sums),
            checkpoint if wants_grad else 0,
            random if self.prepared.scan.draws else None,
            tuple(late),
        )
        return call, wants_grad


def named(
    call: ForwardCall, flat: Sequence[Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:
    """Courses and sums by result, and final states, from what an autograd node gave."""
    n, m = len(call.store), len(call.sums)
    stored = dict(zip(call.store, flat[:n], strict=True))
    return stored, dict(zip(call.sums, flat[n : n + m], strict=True)), list(flat[n + m :])


class _Coefficients(torch.autograd.Function):
    """Tokens for the accumulators; backward turns their gradients into those of the parameters."""

    @staticmethod
    def forward(
        ctx: Any, prepared: PreparedScan, reverse: dict[str, Tensor], device: torch.device, *params: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.prepared, ctx.reverse = prepared, reverse
        ctx.shapes = [p.shape for p in params]
        ctx.set_materialize_grads(False)
        size, many = prepared.node.size, len(prepared.scan.accumulators)
        return tuple([torch.zeros(size, dtype=torch.float32, device=device) for _ in range(many)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *sums: Tensor | None) -> Any:
        grads = ctx.prepared.parameter_gradients(sums, ctx.reverse, ctx.shapes)
        return None, None, None, *grads


class _Scan(torch.autograd.Function):
    """One scan over a whole sequence."""

    @staticmethod
    def forward(ctx: Any, bound: BoundScan, call: ForwardCall, *tensors: Tensor) -> tuple[Tensor, ...]:
        return keep(ctx, bound, call, bound.prepared.target.forward(bound.prepared.scan, call))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        return None, None, *flow(ctx, ctx.saved_tensors, ctx.needs_input_grad[2:], grads)


def keep(
    ctx: Any, bound: BoundScan, call: ForwardCall, result: ForwardResult, more: tuple[Tensor, ...] = ()
) -> tuple[Tensor, ...]:
    """What :func:`flow` needs goes into ``ctx``, and ``more`` before it; the outputs of the autograd node."""
    pasts = pasts_of(call.late)
    ctx.bound = bound
    ctx.call = (call.shape, call.store, call.sums, call.checkpoint, call.random, call.windows)
    ctx.late = kept_of(call.late)
    ctx.counts = (len(bound.tokens), len(call.inputs), len(pasts))
    ctx.save_for_backward(*more, *call.inputs, *pasts, *result.saved)
    ctx.set_materialize_grads(False)
    stored = [result.stored[name] for name in call.store]
    sums = [result.sums[name] for name in call.sums]
    return (*stored, *sums, *_fresh(result.finals, call.states))


class Kept(NamedTuple):
    """What :func:`flow` reads of a context, where a scan is part of something else."""

    bound: BoundScan
    call: tuple[Any, ...]
    late: list[Lateness]
    counts: tuple[int, int, int]


def flow(
    ctx: Any,
    saved: tuple[Tensor, ...],
    needs: tuple[bool, ...],
    grads: tuple[Tensor | None, ...],
    run: Callable[[Scan, BackwardCall], BackwardResult] | None = None,
) -> tuple[Tensor | None, ...]:
    """The gradients of tokens, inputs, states and pasts, from those of what :func:`keep` gave.

    Args:
        ctx: the autograd node's, or :class:`Kept`.
        saved: its saved tensors, without ``more``.
        needs: of which of these a gradient is wanted.
        grads: the gradients of its outputs.
        run: computes the scan's gradient, where that is not the target's own.
    """
    bound = ctx.bound
    scan, target = bound.prepared.scan, bound.prepared.target
    shape, store, summed, checkpoint, random, windows = ctx.call
    n_tokens, n_inputs, n_pasts = ctx.counts
    n, m = len(store), len(summed)
    courses: dict[str, Tensor] = {k: g for k, g in zip(store, grads[:n], strict=True) if g is not None}
    for name, grad in zip(summed, grads[n : n + m], strict=True):
        if grad is not None:  # each step's share of a sum's gradient is that gradient
            wide = grad.unsqueeze(0).expand(shape[0], *grad.shape)
            courses[name] = courses[name] + wide if name in courses else wide
    late = joined(ctx.late, saved[n_inputs : n_inputs + n_pasts])
    result = (run or target.backward)(
        scan,
        BackwardCall(
            saved[:n_inputs],
            bound.reverse_coefs,
            bound.coefs,
            saved[n_inputs + n_pasts :],
            shape,
            checkpoint,
            courses,
            tuple([None if g is None else g.contiguous() for g in grads[n + m :]]),
            wanted(late, needs[n_tokens : n_tokens + n_inputs], needs[len(needs) - n_pasts :]),
            any(needs[:n_tokens]),
            random,
            late,
            windows,
        ),
    )
    sums = [over_batch(result.accumulators.get(a)) for a in scan.accumulators] if n_tokens else []
    inputs, pasts = parted(late, result.inputs)
    return (*sums, *inputs, *result.states, *pasts)


def over_batch(total: Tensor | None) -> Tensor | None:
    """The sum of ``(B, N)`` over the batch, in a fixed order."""
    return None if total is None else total.sum(0)


def _fresh(finals: Sequence[Tensor], states: Sequence[Tensor]) -> list[Tensor]:
    """Final states that are the initial ones (no step was taken) as tensors of their own, which autograd asks for."""
    given = {s.data_ptr() for s in states}
    return [f.clone() if f.data_ptr() in given else f for f in finals]


def _bits(value: Tensor) -> bytes:
    """The bits of a value on the CPU: equal only where two values are, also for -0.0 and NaN."""
    value = value.contiguous()
    return ctypes.string_at(value.data_ptr(), 4 * value.numel())


def _flat(value: Tensor, features: tuple[int, ...], size: int) -> Tensor:
    """A parameter as a scalar or one value per neuron."""
    return value if value.dim() == 0 else value.expand(features).reshape(size).contiguous()


def _sum_to(grad: Tensor, features: tuple[int, ...], shape: torch.Size) -> Tensor:
    """The gradient of a broadcast: sums over the axes along which the parameter was repeated."""
    size = prod(features)
    return grad.expand(size).reshape(features).sum_to_size(shape) if shape else grad.expand(size).sum()
