"""Cycles of any form with one generated function for the whole sequence, forward and backward.

A thread takes some sequences through all steps. Of a line that nobody wants, as many steps are kept as something reads.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snncompile.targets.c.calling import Caller, check_all, scratch, zeros
from snncompile.targets.c.compiler import function
from snncompile.targets.c.courses import past_end
from snncompile.targets.c.cycle_backward import CycleBackward, print_cycle_backward
from snncompile.targets.c.cycle_forward import CycleForward, print_cycle_forward
from snncompile.targets.c.cycle_images import conv_table, work_size
from snncompile.targets.c.cycle_late import late_room
from snncompile.targets.c.cycle_source import SYNAPSES_NAME, SYNAPSES_TEXT, SYNAPSES_TYPES
from snncompile.targets.c.cycle_writer import CycleSource, Key
from snncompile.targets.c.products import TILE
from snncompile.targets.cycle_call import (
    CycleBackwardCall,
    CycleBackwardResult,
    CycleForwardCall,
    CycleForwardResult,
)
from snncompile.targets.cycle_lines import backward_result, forward_lines, gradient_lines, nothing_ran
from snncompile.targets.cycle_plan import Conv, CyclePlan, Product
from snncompile.targets.cycle_weights import Synapses, Weights
from snncompile.targets.scan import Late, late_gradient

#: Values that a thread must make to be worth waking.
_WORTH = 4096


@dataclass(frozen=True)
class _Kernel:
    source: CycleSource
    run: Callable[..., Any]


class Cycles(Caller):
    """Runs cycles with generated C."""

    offsets = True

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        super().__init__(threads, empty)
        self._kernels: weakref.WeakKeyDictionary[CyclePlan, dict[Hashable, _Kernel]] = weakref.WeakKeyDictionary()

    def forward(self, plan: CyclePlan, call: CycleForwardCall) -> CycleForwardResult:
        """Run from the first step to the last."""
        steps, batch = call.shape
        live = plan.live((*call.store, *call.sums), call.keep)
        lines = forward_lines(plan, call, live, self._make)
        sums = tuple(zeros(batch, plan.lines[read.line].size) for read in call.sums)
        if steps * batch:
            scalar = tuple(tuple([not c.dim() for c in call.coefs[n.name]]) for n in plan.neurons)
            kernel = self._kernel(plan, CycleForward(scalar, live, call.sums), print_cycle_forward)
            given = Given(plan, call.inputs, call.late)
            given.lines("line", lines)
            given.coefs("coefficient", {n: plan.scans[n].coefs for n in plan.scans}, call.coefs)
            given.weights(call.weights, turned=True)
            given.random(call.random)
            given.masks(call.masks)
            for i, total in enumerate(sums):
                given.take(("sum", i), total)
            if ("places",) in kernel.source.given:
                room = 1 + max(plan.lines[p.read.line].size for p in plan.products if isinstance(p, Product))
                given.take(("places",), scratch(batch * room, dtype=torch.int32))
                given.take(("factors",), scratch(batch * room))
                given.numbers[("room",)] = room
            self._run(kernel, given, plan, call.shape, forward=True)
        return CycleForwardResult(tuple(lines), sums)

    def backward(self, plan: CyclePlan, call: CycleBackwardCall) -> CycleBackwardResult:
        """Run the gradient from the last step to the first."""
        steps, batch = call.shape
        scalar = tuple(tuple([not c.dim() for c in call.coefs[n.name]]) for n in plan.neurons)
        variant = CycleBackward(
            scalar,
            tuple(read for read, _ in call.grads),
            tuple(i for i in sorted(call.finals) if plan.lines[i].is_state),
            tuple(i for i, need in enumerate(call.need_inputs) if need),
            call.need_accumulators,
        )
        inputs = {i: self._input_gradient(plan, call, i) for i in variant.need_inputs}
        sums = {
            n.name: {a: zeros(batch, plan.size_of(n)) for a in plan.scans[n.name].accumulators}
            for n in plan.neurons
            if n.name in call.need_accumulators
        }
        if not steps * batch:
            return nothing_ran(plan, call, inputs, sums, self._make)
        kernel = self._kernel(plan, variant, print_cycle_backward)
        graded = [i for i in range(len(plan.lines)) if ("grad", i) in kernel.source.given]
        grads = gradient_lines(plan, call, graded, self._make)
        given = Given(plan, call.inputs, call.late)
        given.lines("line", call.lines)
        given.lines("grad", grads)
        given.coefs("reverse coefficient", {n: plan.scans[n].reverse_coefs for n in plan.scans}, call.coefs)
        given.weights(call.weights, turned=False)
        given.random(call.random)
        given.masks(call.masks)
        for i, (_, grad) in enumerate(call.grads):
            given.course(("given", i), grad, ("given time", "given batch", "given neurons"))
        for i, grad in inputs.items():
            given.take(("grad input", i), grad)
        for name, totals in sums.items():
            for a, total in totals.items():
                given.take(("accumulator", name, a), total)
        self._run(kernel, given, plan, call.shape, forward=False)
        return backward_result(plan, call, grads, inputs, sums, self._make)

    def _input_gradient(self, plan: CyclePlan, call: CycleBackwardCall, index: int) -> Tensor:
        """The gradient of a signal from outside, still to be written but for zeros of a late one's."""
        late, shape = call.late[index] if call.late else None, (*call.shape, plan.sizes[index])
        return late_gradient(late, shape, self._make)

    def synapse_gradient(self, synapses: Synapses, grad: Tensor, courses: Sequence[Tensor]) -> Tensor:
        """The gradient ``(synapses,)`` of a sparse product's weights."""
        made = self._make((len(synapses.targets),))
        steps, batch, outputs = grad.shape
        held = [synapses.first, synapses.sources, synapses.starts, synapses.targets, grad.contiguous(), made]
        table = array("q", [c.data_ptr() for c in courses])
        inputs = courses[0].shape[2] if courses else 0
        team = self._team(steps * batch * inputs, max(1, len(synapses.sources)))
        run = function(SYNAPSES_NAME, SYNAPSES_TEXT, SYNAPSES_TYPES)
        run(*(t.data_ptr() for t in held), table.buffer_info()[0], len(courses), steps * batch, inputs, outputs, team)
        return made

    def _kernel(self, plan: CyclePlan, variant: Any, printer: Callable[[CyclePlan, Any], CycleSource]) -> _Kernel:
        made = self._kernels.get(plan)
        if made is None:
            made = self._kernels[plan] = {}
        found = made.get(variant)
        if found is None:
            source = printer(plan, variant)
            found = made[variant] = _Kernel(source, function(source.name, source.text, source.types))
        return found

    def _run(self, kernel: _Kernel, given: Given, plan: CyclePlan, shape: tuple[int, int], forward: bool) -> None:
        steps, batch = shape
        limit = self._threads or torch.get_num_threads()
        together = max(1, min(TILE, -(-batch // limit)))
        values = steps * batch * sum(line.size for line in plan.lines)
        team = self._team(values, -(-batch // together), _WORTH)
        if ("work",) in kernel.source.given:
            size = work_size(plan, forward)
            given.take(("work",), scratch(team * size))
            given.numbers[("work size",)] = size
        given.late_rooms(plan, team)
        table = array("q", [given.numbers[key] for key in kernel.source.given])
        kernel.run(table.buffer_info()[0], steps, batch, together, team)


class Given:
    """What a function's table may hold, by key; it keeps alive what has an address there."""

    def __init__(self, plan: CyclePlan, inputs: Sequence[Tensor], late: Sequence[Late | None] = ()) -> None:
        self.plan = plan
        self.numbers: dict[Key, int] = {}
        self.held: list[Tensor] = []
        for i, x in enumerate(inputs):
            flat = x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()
            self.course(("input", i), flat, ("input step", "input row", "input neuron"))
        for i, one in enumerate(late):
            if one is not None:
                self.late(i, one)

    def late(self, index: int, late: Late) -> None:
        """What makes an input late."""
        self.held.append(late.past)
        self.numbers[("past", index)] = past_end(late)
        if isinstance(late.steps, int):
            self.numbers[("late", index)] = late.steps
            return
        self.take(("late", index), late.steps)
        self.numbers[("reach", index)] = len(late.past)
        self.numbers[("share", index)] = late.share

    def late_rooms(self, plan: CyclePlan, team: int) -> None:
        """Room for rows of late values, and for where these are."""
        size = 2 * late_room(plan)[1]  # of signals, and of their gradients
        if size:
            self.take(("late places",), scratch(size, dtype=torch.int64))
            self.take(("late room",), scratch(team * size))

    def take(self, key: Key, tensor: Tensor) -> None:
        """A tensor's address."""
        check_all(tensor)
        self.held.append(tensor)
        self.numbers[key] = tensor.data_ptr()

    def course(self, key: Key, course: Tensor, strides: tuple[str, str, str]) -> None:
        """A course ``(T, B, N)``, and its strides."""
        self.take(key, course)
        for what, stride, size in zip(strides, course.stride(), course.shape, strict=True):
            self.numbers[(what, *key[1:])] = 1 if size == 1 and what.endswith("neurons") else stride

    def lines(self, what: str, lines: Sequence[Tensor | None]) -> None:
        """Lines, and how many rows they have."""
        for i, line in enumerate(lines):
            if line is not None:
                self.take((what, i), line)
                self.numbers[(f"{what} rows", i)] = len(line)

    def coefs(
        self, what: str, names: Mapping[str, Sequence[str]], coefs: Mapping[str, Sequence[Tensor]]
    ) -> None:
        """Coefficients of every node."""
        for node, values in coefs.items():
            for name, value in zip(names[node], values, strict=True):
                self.take((what, node, name), value)

    def weights(self, weights: Sequence[Weights], turned: bool) -> None:
        """The weights of all products; ``turned``: dense ones with a row for each input, else for each output."""
        for product, w in zip(self.plan.products, weights, strict=True):
            self.product(product, w)
            if isinstance(product, Conv):
                name = "weight" if turned else "weight back"
                self.take((name, product.name, product.part), conv_table(product, w.values.detach(), turned))
                continue
            if w.synapses is None:
                values, name = w.values.detach(), "weight" if turned else "weight back"
                values = values.transpose(1, 2) if turned else values
                self.take((name, product.name, product.part), values.contiguous())

    def product(self, product: Product | Conv, w: Weights) -> None:
        """What a product has besides a dense weight."""
        key = (product.name, product.part)
        lags = [product.read.lag + lag for lag in w.lags]
        self.take(("lags", *key), torch.tensor(lags, dtype=torch.int64, device="cpu"))
        self.numbers[("lag count", *key)] = len(w.lags)
        self.bias(key, w.bias)
        if w.synapses is not None:
            self.take(("weight", *key), w.values.detach().contiguous())
            for what in ("first", "sources", "starts", "targets"):
                self.take((what, *key), getattr(w.synapses, what))

    def bias(self, key: Key, bias: Tensor | None) -> None:
        """A product's bias, or nothing."""
        self.numbers[("bias", *key)] = 0
        if bias is not None:
            self.take(("bias", *key), bias.detach().contiguous())

    def masks(self, masks: Sequence[Tensor]) -> None:
        """What each Dropout multiplies with."""
        for step, mask in zip(self.plan.masks, masks, strict=True):
            self.take(("mask", step.name), mask.contiguous())

    def random(self, random: Tensor | None) -> None:
        """Seed and number of the first step."""
        if random is not None:
            self.take(("random",), random.contiguous())
