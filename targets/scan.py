"""The contract between the executor and a target: what a scan over time is given, and what it gives back.

A scan maps an elementwise node's step over T steps, B sequences and N neurons, states in place. A target implements
:class:`ScanTarget`; everything around it (derived parameters, gradients of parameters, shapes) is the executor's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from snncompile.ir.derive import hoisted
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.hoist import sink
from snncompile.ir.program import Program
from snncompile.ir.random import Draw, draws_in
from snncompile.targets.pooling import Windows


@dataclass(frozen=True, eq=False)
class Scan:
    """An elementwise node split for execution.

    ``forward`` takes states, inputs and ``coefs`` and gives the results (new states and outputs, under their names).
    ``reverse`` takes states, inputs, ``reverse_coefs`` and ``grad_<result>``; it gives ``grad_<state>``,
    ``grad_<input>`` and the accumulators, which the target sums over time. States here are the values *before* the
    step. Every value not listed as an input in a program's ``inputs`` is not used by it.

    Attributes:
        name: a valid identifier, for kernel names.
        states: state names.
        inputs: input names.
        results: what forward gives: states first, then outputs that are no states.
        params: parameter names.
        coefs: coefficients forward reads: parameters and derived values.
        derived: program parameters -> the derived values among ``coefs``.
        forward: the step.
        reverse_coefs: coefficients reverse reads.
        reverse_derived: program parameters -> the derived values among ``reverse_coefs``.
        reverse: the step's gradient.
        accumulators: reverse's outputs to be summed over time.
        epilogue: program accumulators (summed), parameters and what ``reverse_derived`` gives -> ``grad_<parameter>``;
            linear in the sums.
        members: source nodes that it computes, for comments.
    """

    name: str
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    results: tuple[str, ...]
    params: tuple[str, ...]
    coefs: tuple[str, ...]
    derived: Program
    forward: Program
    reverse_coefs: tuple[str, ...]
    reverse_derived: Program
    reverse: Program
    accumulators: tuple[str, ...]
    epilogue: Program
    members: tuple[str, ...] = ()

    @cached_property
    def draws(self) -> tuple[Draw, ...]:
        """The random numbers of a step, which forward and reverse draw with the operation ``uniform``."""
        return draws_in(self.forward, self.reverse)


def make_scan(name: str, node: Elementwise) -> Scan:
    """Split ``node`` into what is computed once and what is computed at every step."""
    node = hoisted(node)
    assert node.derived is not None
    params, derived = tuple(node.params), node.derived
    fixed = (*params, *derived.output_names)
    sunk = sink(node.reverse, params, tuple(n for n in node.reverse.inputs if n in fixed))
    # coefficients the epilogue alone needs are computed too, but do not enter the kernel
    in_body = {a for op in sunk.body.ops for a in op.args} | {a for _, a in sunk.body.outputs}
    kernel_coefs = tuple(c for c in sunk.body.inputs if c in fixed and c in in_body)
    kernel_inputs = tuple(n for n in sunk.body.inputs if n not in fixed or n in kernel_coefs)
    body = replace(sunk.body, inputs=kernel_inputs)
    return Scan(
        name=name,
        states=tuple(s.local for s in node.states),
        inputs=node.inputs,
        results=node.results,
        params=params,
        coefs=tuple(n for n in node.forward.inputs if n in fixed),
        derived=derived.select(node.forward.inputs),
        forward=node.forward,
        reverse_coefs=kernel_coefs,
        reverse_derived=derived.select(node.reverse.inputs),
        reverse=body,
        accumulators=sunk.accumulators,
        epilogue=sunk.epilogue,
        members=node.members,
    )


def one_number(scan: Scan, per_neuron: Collection[str], reverse: bool = False) -> set[str]:
    """Parameters and derived values that are one number."""
    program = scan.reverse_derived if reverse else scan.derived
    one = {p for p in scan.params if p not in per_neuron}
    for op in program.ops:
        if all(a in one for a in op.args if isinstance(a, str)):
            one.add(op.name)
    return one | {name for name, a in program.outputs if a in one}


@dataclass(frozen=True)
class Late:
    """What makes an input late: at step ``t`` a scan sees its step ``t - steps``, and before its first step ``past``.

    Attributes:
        past: ``(L, B, N)`` contiguous, oldest first: the L values before step 0.
        steps: how late: one number, which is L; or one for each neuron, ``(N,)`` int32 contiguous, from 0 to L. Of a
            part of a course they are less by as many steps as that has before the first: none may be left.
        share: so many neurons, one after the other, read one signal, each late by its own: the course and the past
            are that much narrower. Only of steps for each neuron.
    """

    past: Tensor
    steps: int | Tensor
    share: int = 1

    @property
    def kind(self) -> str:
        """``"one"`` number for all neurons, ``"each"`` its own, ``"shared"``: several of one signal. Three kernels."""
        return "one" if isinstance(self.steps, int) else "each" if self.share == 1 else "shared"

    def seen(self, x: Tensor) -> Tensor:
        """The late course as a tensor, ``(T, B, N)``: what a kernel sees of ``x`` without making it."""
        whole, steps = torch.cat([self.past, x]), len(x)
        if isinstance(self.steps, int):
            return whole[:steps]
        rows = torch.arange(len(self.past), len(whole), device=x.device)[:, None] - self.steps
        wide = whole.repeat_interleave(self.share, 2)
        return torch.gather(wide, 0, rows[:, None].expand(steps, *wide.shape[1:]))


@dataclass(frozen=True)
class Seen:
    """What a delay shows of a course, made step by step where that is read: nothing of the course's length is stored.

    Attributes:
        scan: what is computed of the values that it reads, each an input: no states, nothing drawn, the one result
            ``"seen"``.
        coefs: as in a forward call, ``()`` or one value for each that is shown.
        late: per input, what makes the course late; None: its present value.
    """

    scan: Scan
    coefs: tuple[Tensor, ...]
    late: tuple[Late | None, ...]

    @property
    def whole(self) -> Late | None:
        """What makes the course late where nothing is computed and all of it is equally late; else None."""
        program, late = self.scan.forward, self.late[0]
        plain = not program.ops and program.outputs[0][1] in self.scan.inputs
        return late if plain and late is not None and late.kind == "one" else None


@dataclass(frozen=True)
class ForwardCall:
    """Everything a forward scan reads.

    Attributes:
        inputs: one tensor per input, ``(T, B, N)`` float32, any strides (also 0).
        coefs: one tensor per coefficient, ``()`` or ``(N,)``, contiguous.
        states: one tensor per state, ``(B, N)`` contiguous: the values before the first step. Not to be written to.
        shape: T, B, N. Any of T and B may be 0.
        store: results whose whole course is wanted.
        sums: results whose sum over time is wanted.
        checkpoint: 0 saves nothing; K >= 1 saves the states before steps 0, K, 2K, ... (1: all).
        random: where the scan draws: ``(2,)`` int64, the seed and the number of the first step.
        late: per input what makes it late, or None; empty where none is. Only for targets that say ``offsets``, and
            inputs whose neurons lie one after the other and L steps within 2**31 elements.
        windows: pooling of one result in ``store``: its course is pooled, ``(T, B, N / area)``. Only for targets whose
            ``pools_scan`` says so.
        room: results in ``store`` -> where their course goes, contiguous, in place of a new tensor.
    """

    inputs: tuple[Tensor, ...]
    coefs: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    shape: tuple[int, int, int]
    store: tuple[str, ...]
    sums: tuple[str, ...] = ()
    checkpoint: int = 0
    random: Tensor | None = None
    late: tuple[Late | None, ...] = ()
    windows: Windows | None = None
    room: Mapping[str, Tensor] = field(default_factory=dict)

    def course_shape(self, result: str) -> tuple[int, int, int]:
        """The shape of the stored course of ``result``."""
        return pooled_shape(self.shape, self.windows if self.windows and self.windows.result == result else None)


def pooled_shape(shape: tuple[int, int, int], windows: Windows | None) -> tuple[int, int, int]:
    """``shape`` after pooling by ``windows``."""
    steps, batch, size = shape
    return shape if windows is None else (steps, batch, size // windows.area)


@dataclass(frozen=True)
class ForwardResult:
    """What a forward scan gives.

    Attributes:
        stored: result name -> ``(T, B, N)``, a pooled one ``(T, B, N / area)``.
        sums: result name -> ``(B, N)``.
        finals: one ``(B, N)`` tensor per state, after the last step.
        saved: one ``(ceil(T / checkpoint), B, N)`` tensor per state, or empty.
    """

    stored: dict[str, Tensor]
    sums: dict[str, Tensor]
    finals: tuple[Tensor, ...]
    saved: tuple[Tensor, ...]


def allocate(call: ForwardCall, make: Callable[[tuple[int, ...]], Tensor]) -> ForwardResult:
    """A result for ``call``, still to be written; ``make`` gives a tensor of a shape."""
    steps, batch, size = call.shape
    saves = -(-steps // call.checkpoint) if call.checkpoint else 0
    return ForwardResult(
        {r: call.room[r] if r in call.room else make(call.course_shape(r)) for r in call.store},
        {r: make((batch, size)) for r in call.sums},
        tuple([make((batch, size)) for _ in call.states]),
        tuple([make((saves, batch, size)) for _ in call.states]) if call.checkpoint else (),
    )


@dataclass(frozen=True)
class BackwardCall:
    """Everything a backward scan reads.

    Attributes:
        inputs: as in the forward call.
        coefs: one tensor per *reverse* coefficient.
        forward_coefs: the forward call's coefficients (a checkpointed backward replays the forward steps).
        saved: as the forward scan gave them, with its ``checkpoint``.
        shape: T, B, N.
        checkpoint: K of the forward call, at least 1.
        grads: result name -> gradient of its whole course, ``(T, B, N)``, any strides (a gradient of a sum over time
            comes as a tensor with time stride 0). A result not named has no gradient.
        grad_finals: one gradient per final state, ``(B, N)`` contiguous, or None.
        need_inputs: which input gradients are wanted.
        need_accumulators: whether parameter gradients are wanted.
        random: as in the forward call.
        late: as in the forward call.
        windows: as in the forward call; the gradient of that result is that of its pooled course.
        room: late inputs, by place -> ``(rows, B, N)``, where their gradient goes in place of a new tensor, from the
            row on that would be its first: to the rows that it comes from, and to no others. Contiguous; on a target
            whose ``panel`` takes single sequences, in any order of time and batch.
        add: whether it is added to what is there.
    """

    inputs: tuple[Tensor, ...]
    coefs: tuple[Tensor, ...]
    forward_coefs: tuple[Tensor, ...]
    saved: tuple[Tensor, ...]
    shape: tuple[int, int, int]
    checkpoint: int
    grads: Mapping[str, Tensor]
    grad_finals: tuple[Tensor | None, ...]
    need_inputs: tuple[bool, ...]
    need_accumulators: bool
    random: Tensor | None = None
    late: tuple[Late | None, ...] = ()
    windows: Windows | None = None
    room: Mapping[int, Tensor] = field(default_factory=dict)
    add: bool = False


class PanelSize(NamedTuple):
    """How much of a late signal is at hand at a time, for products that read it (``targets/late_panels.py``).

    Attributes:
        bytes: about as many.
        most: as many for what costs something for every panel: whose gradient reads panels again (the last one is still
            there), or which turns its weights for each.
        by_sequence: whether of few sequences, over as many steps as can be, rather than of all sequences: then what is
            read late is read again by no other panel. For a target that is as quick with few neurons.
        choose: whether those that are quicker so read a signal that is made first (``targets/late_choice.py``).
    """

    bytes: int
    most: int
    by_sequence: bool
    choose: bool = False


@dataclass(frozen=True)
class BackwardResult:
    """What a backward scan gives.

    Attributes:
        inputs: one ``(T, B, N)`` gradient per input, None where not wanted; that of a late one is of its past and of
            it together, ``(L + T, B, N)``, and narrower where neurons share a signal.
        states: one ``(B, N)`` gradient per initial state.
        accumulators: accumulator name -> ``(B, N)`` sum over time, empty where not wanted.
    """

    inputs: tuple[Tensor | None, ...]
    states: tuple[Tensor, ...]
    accumulators: dict[str, Tensor] = field(default_factory=dict)


def input_gradient(call: BackwardCall, i: int, make: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """The gradient of input ``i``, still to be written but for what a late input's kernel leaves out: zeros."""
    late = call.late[i] if call.late else None
    if i in call.room:
        return call.room[i]
    if late is None:
        return make(call.shape)
    steps, batch, size = call.shape
    grad = make((len(late.past) + steps, batch, size // late.share))
    (grad[steps:] if isinstance(late.steps, int) else grad).zero_()
    return grad


def late_gradient(
    late: Late | None, shape: tuple[int, int, int], make: Callable[[tuple[int, ...]], Tensor]
) -> Tensor:
    """The gradient of a signal that a recurrent layer or a cycle reads, still to be written but for zeros.

    Args:
        late: how late it is, or None; of neurons that share a signal, each has a column of its own all the same.
        shape: T, B, N.
        make: gives a tensor of a shape.

    Returns:
        ``(T, B, N)``; of what is late, ``(L + T, B, N)``, that of its past and of it together, in which what only some
        neurons read, or none, is zero already.
    """
    if late is None:
        return make(shape)
    (steps, batch, size), reach = shape, len(late.past)
    grad = make((reach + steps, batch, size))
    if isinstance(late.steps, int):
        grad[steps:].zero_()
    else:
        grad[:reach].zero_()
        grad[max(reach, steps) :].zero_()
    return grad


class ScanTarget(Protocol):
    """Runs scans. One object serves all nodes; it may cache by the identity of the scan.

    A target that can read an input some steps late (:class:`Late`) has an attribute ``offsets`` that is true, and a
    :class:`PanelSize` as ``panel`` if products may read what is late a panel at a time. One that
    can pool what a scan gives has a method ``pools_scan(windows)``, whether by these windows.
    It may have a method ``checkpoint(states, shape)``: how often states are best saved in a scan of that many states
    and that ``(T, B, N)``, where the user does not say. It depends on nothing else. Without one, all are saved.
    """

    name: str

    def forward(self, scan: Scan, call: ForwardCall) -> ForwardResult:
        """Run ``scan`` from the first step to the last."""
        ...

    def backward(self, scan: Scan, call: BackwardCall) -> BackwardResult:
        """Run the gradient of ``scan`` from the last step to the first."""
        ...


def checkpoint_of(asked: int | None, target: ScanTarget, states: int, shape: tuple[int, int, int]) -> int:
    """How often a scan saves its states: as asked for, else as the target likes best."""
    if asked is not None:
        return asked
    best: Callable[[int, tuple[int, int, int]], int] | None = getattr(target, "checkpoint", None)
    return 1 if best is None else best(states, shape)
