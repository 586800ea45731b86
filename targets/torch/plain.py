"""The plainest way to run a scan: every operation of the step's program, one time step after the other.

The torch target computes what needs no carried value for many steps at once; this one does not, and is what
``snncompile check`` and the differential tests hold every target against.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from snncompile.ir.interp import Interpreter
from snncompile.targets.drawn import drawn_backward, drawn_forward, without_draws
from snncompile.targets.scan import BackwardCall, BackwardResult, ForwardCall, ForwardResult, Scan


class PlainTarget:
    """Runs scans by interpretation."""

    name = "plain"

    def __init__(self) -> None:
        self._programs: weakref.WeakKeyDictionary[Scan, tuple[Interpreter, Interpreter]]
        self._programs = weakref.WeakKeyDictionary()

    def _interpreters(self, scan: Scan) -> tuple[Interpreter, Interpreter]:
        if scan not in self._programs:
            self._programs[scan] = Interpreter(scan.forward), Interpreter(scan.reverse)
        return self._programs[scan]

    def forward(self, scan: Scan, call: ForwardCall) -> ForwardResult:
        """Run ``scan`` from the first step to the last."""
        scan, call = drawn_forward(scan, call)
        step, _ = self._interpreters(scan)
        steps, batch, size = call.shape
        states = list(call.states)
        stored: dict[str, list[Tensor]] = {name: [] for name in call.store}
        sums = {name: torch.zeros(batch, size, dtype=torch.float32, device=_device(call)) for name in call.sums}
        saved: list[tuple[Tensor, ...]] = []
        courses = [x.unbind(0) for x in call.inputs]
        for t in range(steps):
            if call.checkpoint and t % call.checkpoint == 0:
                saved.append(tuple(states))
            results = _step(scan, step, call.coefs, states, [x[t] for x in courses], (batch, size))
            states = [results[name] for name in scan.states]
            for name, course in stored.items():
                course.append(results[name])
            for name, total in sums.items():
                sums[name] = total + results[name]
        return ForwardResult(
            {name: _stack(course, call) for name, course in stored.items()},
            sums,
            tuple(states),
            tuple(_stack([s[i] for s in saved], call) for i in range(len(states))) if call.checkpoint else (),
        )

    def backward(self, scan: Scan, call: BackwardCall) -> BackwardResult:
        """Run the gradient of ``scan`` from the last step to the first."""
        scan, call = drawn_backward(drawing := scan, call)
        step, reverse = self._interpreters(scan)
        steps, batch, size = call.shape
        zero = torch.zeros(batch, size, dtype=torch.float32, device=_device(call))
        carry = {name: zero if g is None else g for name, g in zip(scan.states, call.grad_finals, strict=True)}
        inputs: list[list[Tensor]] = [[] for _ in scan.inputs]
        totals = dict.fromkeys(scan.accumulators, zero)
        for start in reversed(range(0, steps, call.checkpoint)):
            before = self._replay(scan, step, call, start)
            for t in reversed(range(start, min(start + call.checkpoint, steps))):
                values = dict(zip(scan.states, before[t - start], strict=True))
                values.update(zip(scan.inputs, (x[t] for x in call.inputs), strict=True))
                values.update(zip(scan.reverse_coefs, call.coefs, strict=True))
                for name in scan.results:
                    grad = carry.get(name, zero)
                    values[f"grad_{name}"] = grad + call.grads[name][t] if name in call.grads else grad
                grads = reverse.named(values, zero.device)
                carry = {name: grads[f"grad_{name}"].expand(batch, size) for name in scan.states}
                for course, name in zip(inputs, scan.inputs, strict=True):
                    course.append(grads[f"grad_{name}"].expand(batch, size))
                for name in totals:
                    totals[name] = totals[name] + grads[name]
        courses = [
            _stack(course[::-1], call) if need else None for course, need in zip(inputs, call.need_inputs, strict=True)
        ]
        result = BackwardResult(tuple(courses), tuple(carry.values()), totals if call.need_accumulators else {})
        return without_draws(drawing, result)

    @staticmethod
    def _replay(scan: Scan, step: Interpreter, call: BackwardCall, start: int) -> list[list[Tensor]]:
        """The states before each step of the chunk that starts at ``start``."""
        states = [s[start // call.checkpoint] for s in call.saved]
        before = [states]
        for t in range(start, min(start + call.checkpoint, call.shape[0]) - 1):
            results = _step(scan, step, call.forward_coefs, states, [x[t] for x in call.inputs], call.shape[1:])
            states = [results[name] for name in scan.states]
            before.append(states)
        return before


def _step(
    scan: Scan,
    step: Interpreter,
    coefs: tuple[Tensor, ...],
    states: list[Tensor],
    inputs: list[Tensor],
    shape: tuple[int, int],
) -> dict[str, Tensor]:
    values = dict(zip(scan.states, states, strict=True))
    values.update(zip(scan.inputs, inputs, strict=True))
    values.update(zip(scan.coefs, coefs, strict=True))
    device = (inputs or states)[0].device
    return {name: value.expand(shape) for name, value in step.named(values, device).items()}


def _device(call: ForwardCall | BackwardCall) -> torch.device:
    held = (*call.inputs, *(call.states if isinstance(call, ForwardCall) else call.saved))
    return held[0].device


def _stack(course: list[Tensor], call: ForwardCall | BackwardCall) -> Tensor:
    if course:
        return torch.stack(course)
    return torch.zeros(0, *call.shape[1:], dtype=torch.float32, device=_device(call))
