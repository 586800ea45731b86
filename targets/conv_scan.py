"""An event-driven convolution, the neurons that it alone feeds and their pooling, by chunks of sequences where large.

The current between the two is the largest course of a convolutional network, often larger than the cache. A few
sequences at a time it stays there: the scan reads it where the convolution has just left it, and backward the
convolution reads the current's gradient where the scan has, in memory that the next chunk then takes over.
Nothing depends on the number of threads: a chunk is a number of sequences that follows from the layer's size, and
gradients of weights are added up chunk by chunk. Only pooled neurons run so: what chunks give must be put together,
and to copy a whole course costs more than the cache saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from snncompile.ir.connection import Connection
from snncompile.ir.density import event_driven
from snncompile.ir.graph import Graph, Region
from snncompile.targets.autograd import BoundScan, Kept, flow, keep, named
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.event_conv import EventConvTarget, Window, conv_gradients, window_of
from snncompile.targets.event_linear import LEAST_ROWS
from snncompile.targets.linear_scan import LinearScan, candidates, hidden
from snncompile.targets.pooled_scan import PooledScan
from snncompile.targets.pooling import Windows
from snncompile.targets.scan import ForwardCall, ForwardResult

#: Bytes of the current of a chunk, at most, unless one sequence has more.
CHUNK = 2**22
#: Currents of more bytes run by chunks, without gradients and with them. With them the current stays anyway, and chunks
#: gain nothing until it is so large that target c asks the system for its memory every time.
FROM, TRAINED_FROM = 3 * 2**22, 2**26


def conv_pairs(graph: Graph, regions: Sequence[Region]) -> dict[str, LinearScan]:
    """Neurons -> the event-driven convolution that is all they read, where both run over all steps."""
    kinds = {region.nodes: region.kind for region in regions}
    found: dict[str, LinearScan] = {}
    for neurons, pair in candidates(graph, ("Conv2d",)):
        if kinds.get((pair.connection,)) != "product" or kinds.get((neurons,)) != "scan":
            continue
        if event_driven(pair.op) and len(graph.inputs_of(neurons)) == 1:
            found[neurons] = pair
    return found


def sequences(steps: int, batch: int, size: int) -> int:
    """Sequences of a chunk, for a current ``(T, B, N)``; chunks are about equally large."""
    most = max(CHUNK // max(4 * steps * size, 1), 1)
    return -(-batch // -(-batch // most)) if batch else 1


def by_chunks(ev: Evaluation, pair: LinearScan, pooled: PooledScan | None) -> bool:
    """Whether a pair runs by chunks here: the layer is large, its input batch first, its current hidden."""
    steps, batch = ev.r.steps, ev.r.batch
    if pooled is None or ev.wanted(pooled.scan)[0] != [pooled.windows.result] or not hidden(ev, pair):
        return False
    if steps * batch < LEAST_ROWS or ev.prepared.scans[pooled.scan].scan.draws:
        return False
    if 4 * steps * batch * pair.op.output.size <= (TRAINED_FROM if torch.is_grad_enabled() else FROM):
        return False
    return sequences(steps, batch, pair.op.output.size) < batch and ev.course(pair.edge).transpose(0, 1).is_contiguous()


@dataclass(frozen=True)
class _Pass:
    """What both directions know.

    Attributes:
        bound: the neurons.
        call: of the whole batch, without the current.
        target: computes convolutions.
        window: how the kernel goes over an image.
        image: the shape of the convolution's output for one image.
    """

    bound: BoundScan
    call: ForwardCall
    target: EventConvTarget
    window: Window
    image: tuple[int, ...]

    def chunks(self) -> Iterator[slice]:
        """The sequences of each chunk."""
        _, batch, _ = self.call.shape
        size = sequences(*self.call.shape)
        for first in range(0, batch, size):
            yield slice(first, min(first + size, batch))

    def shape(self, part: slice) -> tuple[int, int, int]:
        """T, B, N of a chunk."""
        return self.call.shape[0], part.stop - part.start, self.call.shape[2]

    def images(self, x: Tensor, part: slice) -> Tensor:
        """The inputs ``(images, C, H, W)`` of a chunk."""
        return x.transpose(0, 1)[part].flatten(0, 1)

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, use: Callable[[Tensor, ForwardResult], None]
    ) -> ForwardResult:
        """The result for the whole batch, but for saved states; ``use`` gets the current and result of every chunk."""
        call, scan = self.call, self.bound.prepared.scan
        made: ForwardResult | None = None
        for part in self.chunks():
            current = self.target.conv(self.images(x, part), weight, bias, self.window)
            steps, batch, size = shape = self.shape(part)
            current = current.view(batch, steps, size).transpose(0, 1)
            states = tuple([s[part] for s in call.states])
            result = self.bound.prepared.target.forward(
                scan, replace(call, inputs=(current,), states=states, shape=shape)
            )
            use(current, result)
            del current  # the next chunk's takes its memory where nobody keeps it
            made = made or _room(result, call.shape[1])
            for name, course in result.stored.items():
                made.stored[name][:, part] = course
            for name, total in result.sums.items():
                made.sums[name][part] = total
            for final, own in zip(made.finals, result.finals, strict=True):
                final[part] = own
        assert made is not None
        return made


def run_conv_scan(
    bound: BoundScan,
    target: EventConvTarget,
    op: Connection,
    product: tuple[Tensor, Tensor, Tensor | None],
    rest: tuple[Any, ...],
    windows: Windows,
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:
    """What :meth:`BoundScan.run` gives for neurons whose one input is a convolution.

    Args:
        bound: the neurons.
        target: computes convolutions.
        op: the convolution.
        product: its input ``(T, B, *features)``, batch first in memory, its weight and its bias, all float32.
        rest: what :meth:`BoundScan.call` takes from the states on, but for what makes inputs late.
        windows: pooling of the only result whose course is wanted.
    """
    leaves = [t for t in product if t is not None]
    call, wants_grad = bound.call((), *rest, (), *leaves)
    work = _Pass(bound, replace(call, windows=windows), target, window_of(op), op.output.shape)
    if wants_grad:
        return named(call, _ConvScan.apply(work, *product, *bound.tokens, *call.states))
    with torch.no_grad():
        made = work.forward(*product, lambda *_: None)
    return made.stored, made.sums, list(made.finals)


class _ConvScan(Function):
    """The convolution and the scan, and the gradients of both, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, work: _Pass, x: Tensor, weight: Tensor, bias: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.work = work
        if ctx.needs_input_grad[2]:
            work.target.expect_conv_gradients(weight, work.window)
        kept: list[Tensor] = []
        result = work.forward(x, weight, bias, lambda current, made: kept.extend((current, *made.saved)))
        return keep(ctx, work.bound, work.call, result, (x, weight, *kept))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        work: _Pass = ctx.work
        x, weight, *saved = ctx.saved_tensors
        _, *own = ctx.needs_input_grad[:4]
        tokens, states = ctx.counts[0], len(work.call.states)
        needs = ctx.needs_input_grad[4:]
        needs = (*needs[:tokens], any(own), *needs[tokens:])
        courses, each = len(work.call.store), len(saved) // len(list(work.chunks()))
        d_x: list[Tensor] = []
        totals: list[Tensor | None] = [None] * (2 + tokens)  # of weight, bias and tokens
        starts: list[list[Tensor]] = []
        for i, part in enumerate(work.chunks()):
            shape = work.shape(part)
            piece = Kept(work.bound, (shape, *ctx.call[1:]), [None], (tokens, 1, 0))
            given = [None if g is None else g[:, part] if k < courses else g[part] for k, g in enumerate(grads)]
            found = flow(piece, tuple(saved[i * each : (i + 1) * each]), needs, tuple(given))
            sums, current, first = found[:tokens], found[tokens], found[tokens + 1 :]
            made: tuple[Tensor | None, ...] = (None, None, None)
            grad: Tensor | None = None
            if current is not None:
                grad = current.transpose(0, 1).reshape(-1, *work.image)
                made = conv_gradients(work.target, grad, work.images(x, part), weight, work.window, own)
            if made[0] is not None:
                d_x.append(made[0])
            for k, more in enumerate((*made[1:], *sums)):
                so_far = totals[k]
                totals[k] = more if so_far is None or more is None else so_far.add_(more)
            starts.append([s for s in first if s is not None])
            del found, current, grad  # the next chunk's takes its memory
        d_weight, d_bias, *d_tokens = totals
        whole = torch.cat(d_x).view(x.transpose(0, 1).shape).transpose(0, 1) if d_x else None
        begun = [torch.cat(parts) for parts in zip(*starts, strict=True)] if states else []
        return None, whole, d_weight, d_bias, *d_tokens, *begun


def _room(part: ForwardResult, batch: int) -> ForwardResult:
    """Room for the results of the whole batch, after those of a chunk."""

    def make(like: Tensor, axis: int) -> Tensor:
        shape = list(like.shape)
        shape[axis] = batch
        return like.new_empty(shape)

    stored = {r: make(t, 1) for r, t in part.stored.items()}
    sums = {r: make(t, 0) for r, t in part.sums.items()}
    return ForwardResult(stored, sums, tuple([make(t, 0) for t in part.finals]), ())
