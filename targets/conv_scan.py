"""An event-driven convolution and the neurons that it alone feeds as one operation, on a target that offers it.

The current between the two is the largest course of a convolutional network, often larger than the cache. Sequence by
sequence it stays there: the scan reads it where the convolution has just left it, and the next sequence's takes its
place. Backward it is made again where that is little work, and the convolution's weight reads the current's gradient
where the scan has just left that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from snncompile.ir.connection import Connection
from snncompile.ir.density import density, event_driven
from snncompile.ir.graph import Graph, Region
from snncompile.targets.autograd import BoundScan, Kept, flow, keep, named
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.event_conv import ImageCourse, input_gradient, window_of
from snncompile.targets.event_linear import LEAST_ROWS
from snncompile.targets.linear_scan import LinearScan, candidates, hidden
from snncompile.targets.pooling import Windows
from snncompile.targets.scan import BackwardCall, BackwardResult, ForwardCall, ForwardResult, Scan

#: A thread takes whole sequences: of fewer, convolution and scan run apart, where threads can share one.
LEAST_SEQUENCES = 8
#: Currents of more bytes run sequence by sequence however few there are.
FROM = 3 * 2**22
#: Weights of more numbers take too much room to add up their gradients in many parts.
MOST_WEIGHTS = 2**17
#: Products of an output, on average, up to which the current is made again backward instead of kept.
AGAIN = 3.0


class ConvScanTarget(Protocol):
    """Runs a scan whose one input is a convolution of mostly zero images. All tensors are float32."""

    def forward(
        self, scan: Scan, call: ForwardCall, conv: ImageCourse, keep: bool
    ) -> tuple[ForwardResult, Tensor | None]:
        """What the scan gives for a call without its input; and the current ``(T, B, N)``, where it is to be kept."""
        ...

    def expect_backward(self, scan: Scan, call: BackwardCall, conv: ImageCourse) -> None:
        """A call of :meth:`backward` is to follow: a target may get ready."""
        ...

    def backward(
        self, scan: Scan, call: BackwardCall, conv: ImageCourse, current: Tensor | None, whole: bool, weighted: bool
    ) -> tuple[BackwardResult, tuple[Tensor, Tensor] | None]:
        """The gradients, from a call without the scan's input.

        Args:
            scan: the scan.
            call: its call; ``need_inputs`` says whether anything of the convolution is wanted.
            conv: the convolution.
            current: its result, or None where it was not kept.
            whole: whether the gradient of its result is wanted, in the memory order of ``conv.x``.
            weighted: whether the gradients of its weight and bias are.

        Returns:
            What the scan's gradient gives, and the gradients of weight and bias where they are wanted.
        """
        ...


def conv_pairs(graph: Graph, regions: Sequence[Region]) -> dict[str, LinearScan]:
    """Neurons -> the event-driven convolution that is all they read, where both run over all steps."""
    kinds = {region.nodes: region.kind for region in regions}
    found: dict[str, LinearScan] = {}
    for neurons, pair in candidates(graph, ("Conv2d",)):
        if kinds.get((pair.connection,)) != "product" or kinds.get((neurons,)) != "scan":
            continue
        small = prod(pair.op.params["weight"].shape) <= MOST_WEIGHTS
        if small and event_driven(pair.op) and len(graph.inputs_of(neurons)) == 1:
            found[neurons] = pair
    return found


def by_sequence(ev: Evaluation, pair: LinearScan) -> bool:
    """Whether a pair runs as one here: there are many sequences, or much of a current, and that is nobody else's."""
    steps, batch = ev.r.steps, ev.r.batch
    many = batch >= LEAST_SEQUENCES or (batch > 1 and 4 * steps * batch * pair.op.output.size > FROM)
    return steps * batch >= LEAST_ROWS and many and hidden(ev, pair)


def made_again(op: Connection) -> bool:
    """Whether backward the current is made again: few of an output's taps meet anything but zeros."""
    taps = prod(op.params["weight"].shape[1:])
    return taps * (density(op) or 0.0) <= AGAIN


@dataclass(frozen=True)
class ConvPair:
    """What both directions know.

    Attributes:
        bound: the neurons.
        call: theirs, without the current.
        target: runs both.
        op: the convolution.
    """

    bound: BoundScan
    call: ForwardCall
    target: ConvScanTarget
    op: Connection

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> ImageCourse:
        """The convolution of ``x (T, B, C, H, W)``."""
        return ImageCourse(x, weight, bias, window_of(self.op))

    def expected(self, x: Tensor, wanted: bool) -> BackwardCall:
        """What a call of the gradient will most likely look like; ``wanted`` if anything of the convolution is."""
        call, bound, scan = self.call, self.bound, self.bound.prepared.scan
        return BackwardCall(
            inputs=(),
            coefs=bound.reverse_coefs,
            forward_coefs=bound.coefs,
            saved=(),
            shape=call.shape,
            checkpoint=call.checkpoint,
            grads=dict.fromkeys((*call.store, *call.sums), x),
            grad_finals=(None,) * len(scan.states),
            need_inputs=(wanted,),
            need_accumulators=bool(bound.tokens),
            random=call.random,
            windows=call.windows,
        )

    def forward(self, conv: ImageCourse, keep: bool) -> tuple[ForwardResult, Tensor | None]:
        """What the neurons give, and the current where it is to be kept."""
        return self.target.forward(self.bound.prepared.scan, self.call, conv, keep)


def run_conv_scan(
    bound: BoundScan,
    target: ConvScanTarget,
    op: Connection,
    product: tuple[Tensor, Tensor, Tensor | None],
    rest: tuple[Any, ...],
    windows: Windows | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:
    """What :meth:`BoundScan.run` gives for neurons whose one input is a convolution.

    Args:
        bound: the neurons.
        target: runs both.
        op: the convolution.
        product: its input ``(T, B, *features)``, its weight and its bias, all float32.
        rest: what :meth:`BoundScan.call` takes from the states on, but for what makes inputs late.
        windows: pooling of a result.
    """
    x, weight, bias = product
    x = x if x[0, 0].is_contiguous() else x.contiguous()
    call, wants_grad = bound.call((), *rest, (), *[t for t in (x, weight, bias) if t is not None])
    pair = ConvPair(bound, replace(call, windows=windows), target, op)
    if wants_grad:
        return named(call, _ConvScan.apply(pair, x, weight, bias, *bound.tokens, *call.states))
    with torch.no_grad():
        made, _ = pair.forward(pair.conv(x, weight, bias), False)
    return made.stored, made.sums, list(made.finals)


class _ConvScan(Function):
    """The convolution and the scan, and the gradients of both."""

    @staticmethod
    def forward(
        ctx: Any, pair: ConvPair, x: Tensor, weight: Tensor, bias: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        conv = pair.conv(x, weight, bias)
        current_too = any(ctx.needs_input_grad[1:4])
        pair.target.expect_backward(pair.bound.prepared.scan, pair.expected(x, current_too), conv)
        result, current = pair.forward(conv, not made_again(pair.op))
        ctx.pair = pair
        return keep(ctx, pair.bound, pair.call, result, (x, weight, bias, current))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        pair: ConvPair = ctx.pair
        x, weight, bias, current, *saved = ctx.saved_tensors
        _, need_x, need_weight, need_bias, *needs = ctx.needs_input_grad
        tokens, any_of_it = ctx.counts[0], need_x or need_weight or need_bias
        conv = pair.conv(x, weight, bias)
        weights: list[Tensor] = []

        def run(scan: Scan, call: BackwardCall) -> BackwardResult:
            result, found = pair.target.backward(scan, call, conv, current, need_x, need_weight or need_bias)
            weights.extend(found or ())
            return result

        piece = Kept(pair.bound, ctx.call, [], (tokens, 1, 0))
        wanted = (*needs[:tokens], any_of_it, *needs[tokens:])
        found = flow(piece, (x, *saved), wanted, grads, run)
        grad, d_x = found[tokens], None
        if need_x and grad is not None:
            d_x = _input_gradient(grad.unflatten(2, pair.op.output.shape), conv)
        d_weight, d_bias = weights or (None, None)
        own = (d_weight if need_weight else None, d_bias if need_bias else None)
        return None, d_x, *own, *found[:tokens], *found[tokens + 1 :]


def _input_gradient(grad: Tensor, conv: ImageCourse) -> Tensor:
    """The gradient of the images, from that of what the convolution makes of them, ``(T, B, O, h, w)``."""
    x, swapped = conv.x, not grad.is_contiguous()
    if swapped:
        x, grad = x.transpose(0, 1), grad.transpose(0, 1)
    found = input_gradient(grad.flatten(0, 1), x.flatten(0, 1), conv.weight, conv.window).view(x.shape)
    return found.transpose(0, 1) if swapped else found
