"""The reference scan: the step's program, one time step after the other."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from torch import Tensor

from snncompile.targets.drawn import drawn_backward, drawn_forward, without_draws
from snncompile.targets.prune import prune_reverse
from snncompile.targets.scan import BackwardCall, BackwardResult, ForwardCall, ForwardResult, Scan
from snncompile.targets.torch.steps import Steps

#: Values of one signal held at once, where a scan may be run in pieces: few enough for the cache, and for torch to
#: compute them on one thread.
_PIECE = 2**15 - 1


class LoopTarget:
    """Runs scans as a Python loop over time. Every other target is compared with this one."""

    name = "torch"

    def __init__(self) -> None:
        self._steps: weakref.WeakKeyDictionary[Scan, dict[Hashable, Steps]] = weakref.WeakKeyDictionary()

    def _made(self, scan: Scan, key: Hashable, make: Callable[[], Steps]) -> Steps:
        known = self._steps.setdefault(scan, {})
        if key not in known:
            known[key] = make()
        return known[key]

    def _forward_steps(self, scan: Scan, wanted: tuple[str, ...], keep: bool) -> Steps:
        states = {name: name for name in scan.states}
        kept = scan.states if keep else ()
        key = ("forward", wanted, keep)
        return self._made(scan, key, lambda: Steps(scan.forward, states, scan.inputs, wanted, kept))

    def forward(self, scan: Scan, call: ForwardCall) -> ForwardResult:
        """Run ``scan`` from the first step to the last."""
        scan, call = drawn_forward(scan, call)
        steps, batch, size = call.shape
        device = _device(call)
        wanted = tuple(dict.fromkeys((*call.store, *call.sums)))
        run = self._forward_steps(scan, wanted, call.checkpoint == 1)
        piece = call.checkpoint if call.checkpoint > 1 else _piece(call.shape) if call.sums else steps
        fixed = dict(zip(scan.coefs, call.coefs, strict=True))
        carry = list(call.states)
        courses: dict[str, list[Tensor]] = {name: [] for name in call.store}
        saved: list[list[Tensor]] = [[] for _ in scan.states]
        sums = {name: torch.zeros(batch, size, dtype=torch.float32, device=device) for name in call.sums}
        for start in range(0, steps, max(piece, 1)):
            if call.checkpoint > 1:
                for held, state in zip(saved, carry, strict=True):
                    held.append(state.unsqueeze(0))
            inputs = {n: x[start : start + piece] for n, x in zip(scan.inputs, call.inputs, strict=True)}
            shape = (min(piece, steps - start), batch, size)
            found, carry = run({**inputs, **fixed}, carry, shape, device)
            for name, course in courses.items():
                course.append(found[name])
            for name in sums:
                _accumulate(sums[name], found[name].unbind(0))
            if call.checkpoint == 1:
                for held, name in zip(saved, scan.states, strict=True):
                    held.append(found[f"before:{name}"])
        return ForwardResult(
            {name: _cat(course, call) for name, course in courses.items()},
            sums,
            tuple(carry),
            tuple(_cat(held, call) for held in saved) if call.checkpoint else (),
        )

    def backward(self, scan: Scan, call: BackwardCall) -> BackwardResult:
        """Run the gradient of ``scan`` from the last step to the first."""
        scan, call = drawn_backward(drawing := scan, call)
        steps, batch, size = call.shape
        device = _device(call)
        zero = torch.zeros(batch, size, dtype=torch.float32, device=device)
        finals = {s: g for s, g in zip(scan.states, call.grad_finals, strict=True) if g is not None}
        wanted = tuple(f"grad_{n}" for n, need in zip(scan.inputs, call.need_inputs, strict=True) if need)
        sums = scan.accumulators if call.need_accumulators else ()
        given = tuple(sorted(call.grads))
        run = self._made(
            scan,
            ("backward", given, tuple(finals), wanted, sums),
            lambda: _reverse_steps(scan, given, finals, (*wanted, *sums)),
        )
        carried = [name.removeprefix("grad_") for name in run.carried]
        carry = [finals.get(name, zero) for name in carried]
        fixed = dict(zip(scan.reverse_coefs, call.coefs, strict=True))
        courses = {name: torch.empty(call.shape, dtype=torch.float32, device=device) for name in wanted}
        totals = {name: torch.zeros_like(zero) for name in sums}
        piece = call.checkpoint if call.checkpoint > 1 else _piece(call.shape)
        for start in reversed(range(0, steps, piece)):
            end = min(start + piece, steps)
            values = {**fixed, **self._before(scan, call, start, end)}
            for name, grad in call.grads.items():
                label = f"given:grad_{name}" if name in scan.states else f"grad_{name}"
                values[label] = grad[start:end]
            into = {name: course[start:end] for name, course in courses.items()}
            found, carry = run(values, carry, (end - start, batch, size), device, True, into)
            for name in totals:
                _accumulate(totals[name], found[name].unbind(0)[::-1])
        states = dict(zip(carried, carry, strict=True))
        result = BackwardResult(
            tuple(courses.get(f"grad_{name}") for name in scan.inputs),
            tuple(states.get(name, zero) for name in scan.states),
            totals,
        )
        return without_draws(drawing, result)

    def _before(self, scan: Scan, call: BackwardCall, start: int, end: int) -> dict[str, Tensor]:
        """Inputs of the steps from ``start`` to ``end``, and states before them, computed again where not saved."""
        inputs = {n: x[start:end] for n, x in zip(scan.inputs, call.inputs, strict=True)}
        if call.checkpoint == 1:
            return {**inputs, **{n: s[start:end] for n, s in zip(scan.states, call.saved, strict=True)}}
        run = self._forward_steps(scan, (), True)
        states = [s[start // call.checkpoint] for s in call.saved]
        fixed = dict(zip(scan.coefs, call.forward_coefs, strict=True))
        found, _ = run({**inputs, **fixed}, states, (end - start, *call.shape[1:]), _device(call))
        return {**inputs, **{name: found[f"before:{name}"] for name in scan.states}}


def _reverse_steps(scan: Scan, given: Iterable[str], finals: Iterable[str], wanted: tuple[str, ...]) -> Steps:
    given = set(given)
    pruned = prune_reverse(scan, given, set(finals), wanted)
    carried = [f"grad_{s}" for s in pruned.carried]
    timed = [*scan.states, *scan.inputs, *(f"grad_{r}" for r in scan.results if r in given and r not in scan.states)]
    added = [f"grad_{s}" for s in pruned.carried if s in given]
    return Steps(pruned.program, {c: c for c in carried}, timed, wanted, (), added)


def _accumulate(total: Tensor, rows: Sequence[Tensor]) -> None:
    """Add up in place, one after the other: the same sum on every target, and for every length of the pieces."""
    for row in rows:
        total.add_(row)


def _piece(shape: tuple[int, int, int]) -> int:
    """Steps to run at a time."""
    return max(1, _PIECE // max(1, shape[1] * shape[2]))


def _device(call: ForwardCall | BackwardCall) -> torch.device:
    held = (*call.inputs, *(call.states if isinstance(call, ForwardCall) else call.saved))
    return held[0].device


def _cat(courses: list[Tensor], call: ForwardCall | BackwardCall) -> Tensor:
    if not courses:
        return torch.zeros(0, *call.shape[1:], dtype=torch.float32, device=_device(call))
    return courses[0] if len(courses) == 1 else torch.cat(courses)
