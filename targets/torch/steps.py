"""A step's program made into a loop over time: straight-line Python for each step, whole tensors for the rest.

Only what depends on a carried value (a state, or in reverse its gradient) has to be computed step after step. The rest
is computed for all steps at once, before the loop or after it. The operations and their order within a step stay those
of the program, so that every value has the same bits as if the program ran step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.interp import constant
from snncompile.ir.ops import OPS
from snncompile.ir.program import Arg, Op, Program

_CLOCK = "clock:"  # a row that is there even if no other is


class Straight:
    """Operations as one Python function of positional arguments, called once or once for each step.

    The source is made of numbered variables only: no name of a program gets into it.

    Args:
        ops: what is computed.
        inputs: names of values that come from outside.
        outputs: names of values, or constants, that are returned.
        rows: those of the inputs that have one value for each step; there is a loop over them where ``carried`` is
            given.
        carried: input name -> value that takes its place in the next step.
        added: carried input -> row that is added to it before each step.
    """

    def __init__(
        self,
        ops: Sequence[Op],
        inputs: Sequence[str],
        outputs: Sequence[Arg],
        rows: Sequence[str] = (),
        carried: Mapping[str, Arg] | None = None,
        added: Mapping[str, str] | None = None,
    ) -> None:
        self.inputs = tuple(inputs)
        self._constants: list[float | bool] = []
        self._scope: dict[str, Any] = {}
        self._names = {name: f"x{i}" for i, name in enumerate(inputs)}
        lines = self._loop(ops, rows, outputs, carried, added or {}) if carried else self._body(ops)
        results = [f"r{i}" for i in range(len(outputs))] if carried else [self._word(a) for a in outputs]
        results += [self._names[name] for name in carried or ()]
        known = ", ".join([*(f"x{i}" for i in range(len(inputs))), *(f"c{i}" for i in range(len(self._constants)))])
        source = "\n    ".join([f"def run({known}):", *lines, f"return [{', '.join(results)}]"])
        exec(compile(source, "<steps>", "exec"), self._scope)
        self._run: Callable[..., list[Any]] = self._scope["run"]

    def __call__(self, values: Mapping[str, Any], device: torch.device) -> list[Any]:
        """Outputs, or lists of them with one entry for each step, then the carried values after the last step."""
        constants = [constant(c, device) for c in self._constants]
        return self._run(*[values[name] for name in self.inputs], *constants)

    def _word(self, arg: Arg) -> str:
        if isinstance(arg, str):
            return self._names[arg]
        self._constants.append(arg)
        return f"c{len(self._constants) - 1}"

    def _body(self, ops: Sequence[Op]) -> list[str]:
        lines = []
        for op in ops:
            self._scope[f"{op.op}_"] = OPS[op.op].step
            args = ", ".join(self._word(a) for a in op.args)
            self._names[op.name] = f"v{len(self._names)}"
            lines.append(f"{self._names[op.name]} = {op.op}_({args})")
        return lines

    def _loop(
        self,
        ops: Sequence[Op],
        rows: Sequence[str],
        outputs: Sequence[Arg],
        carried: Mapping[str, Arg],
        added: Mapping[str, str],
    ) -> list[str]:
        self._scope["add_"] = torch.add
        courses = [self._names[name] for name in rows]
        for i, name in enumerate(rows):
            self._names[name] = f"t{i}"
        inside = []
        for name, row in added.items():
            held = self._names[name]
            self._names[name] = f"a{held}"
            inside.append(f"a{held} = add_({held}, {self._names[row]})")
        inside += self._body(ops)
        inside += [f"r{i}.append({self._word(a)})" for i, a in enumerate(outputs)]
        new = ", ".join(self._word(value) for value in carried.values())
        for name in added:
            self._names[name] = self._names[name].removeprefix("a")
        inside.append(f"{', '.join(self._names[name] for name in carried)} = {new}")
        head = f"for {', '.join(f't{i}' for i in range(len(rows)))}, in zip({', '.join(courses)}):"
        return [*(f"r{i} = []" for i in range(len(outputs))), head, *(f"    {line}" for line in inside)]


@dataclass(frozen=True)
class Phases:
    """A program's operations by when they run, and what passes from one phase to the next."""

    before: tuple[Op, ...]
    inside: tuple[Op, ...]
    after: tuple[Op, ...]


def split(program: Program, carried: Mapping[str, Arg]) -> Phases:
    """Operations that need no carried value; those that make one from one; and the rest."""
    sequential = set(carried)
    for op in program.ops:
        if any(a in sequential for a in op.args if isinstance(a, str)):
            sequential.add(op.name)
    needed: set[Arg] = set(carried.values())
    for op in reversed(program.ops):
        if op.name in needed:
            needed.update(op.args)
    ops = program.ops
    return Phases(
        tuple(op for op in ops if op.name not in sequential),
        tuple(op for op in ops if op.name in sequential and op.name in needed),
        tuple(op for op in ops if op.name in sequential and op.name not in needed),
    )


class Steps:
    """A step's program over many steps.

    Args:
        program: the step.
        carried: input -> output that takes its place in the next step.
        timed: inputs that have a value at each step; the others are fixed.
        wanted: outputs whose courses are returned.
        kept: carried inputs whose courses, the values before each step, are returned as ``"before:<input>"``.
        added: carried inputs to which a course ``"given:<input>"`` is added before each step.
    """

    def __init__(
        self,
        program: Program,
        carried: Mapping[str, str],
        timed: Collection[str],
        wanted: Sequence[str] = (),
        kept: Sequence[str] = (),
        added: Collection[str] = (),
    ) -> None:
        outputs = dict(program.outputs)
        follows = {name: outputs[output] for name, output in carried.items()}
        phases = split(program, follows)
        inside = {op.name for op in phases.inside}
        self.wanted: dict[str, Arg] = {**{n: outputs[n] for n in wanted}, **{f"before:{n}": n for n in kept}}
        self.carried = tuple(carried)
        self.fixed = frozenset(n for n in program.inputs if n not in carried and n not in timed)
        # values that are not this run's own to give away
        self.borrowed = {n for n, a in self.wanted.items() if not isinstance(a, str) or a in self.fixed or a in timed}
        self._not_made = [i for i, a in enumerate(follows.values()) if a not in inside]
        # a carried value that is the same for all: as wide as the others
        self._wide = {f"wide:{n}": a for n, a in follows.items() if not isinstance(a, str) or a in self.fixed}
        follows = {n: f"wide:{n}" if f"wide:{n}" in self._wide else a for n, a in follows.items()}
        given = {name: f"given:{name}" for name in added}
        in_loop = _read(phases.inside) | {a for a in follows.values() if isinstance(a, str)}
        in_end = _read(phases.after) | {a for a in self.wanted.values() if isinstance(a, str)}
        self._early = [op.name for op in phases.before if op.name in in_loop | in_end]
        self._rows = [n for n in (*timed, *self._early) if n in in_loop] + list(given.values())
        self._stacked = [n for n in (*carried, *(op.name for op in phases.inside)) if n in in_end]
        self._loop_fixed = [n for n in program.inputs if n in self.fixed and n in in_loop]
        self._before = Straight(phases.before, _inputs(phases.before), self._early)
        rows = [*self._rows, _CLOCK]
        names = [*rows, *carried, *self._loop_fixed, *self._wide]
        self._inside = Straight(phases.inside, names, self._stacked, rows, follows, given) if carried else None
        ends = list(self.wanted.values())
        self._after = Straight(phases.after, _inputs(phases.after, ends), ends)

    def __call__(
        self,
        values: Mapping[str, Tensor],
        carry: Sequence[Tensor],
        shape: tuple[int, int, int],
        device: torch.device,
        backwards: bool = False,
        into: Mapping[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Courses ``(T, B, N)`` of what is wanted, and the carried values ``(B, N)`` after the last step.

        Args:
            values: courses ``(T, B, N)`` of the timed inputs and of the given additions; fixed values ``()`` or
                ``(N,)``.
            carry: carried values ``(B, N)`` before the first step.
            shape: T, B, N.
            device: where.
            backwards: from the last step to the first.
            into: contiguous tensors ``(T, B, N)`` that courses are written to, by name.
        """
        into = into or {}
        direct = {self.wanted[n]: target for n, target in into.items() if n not in self.borrowed}
        env: dict[str, Any] = dict(values)
        env.update(zip(self._early, self._before(env, device), strict=True))
        if self._inside is not None:
            loop = {n: _by_step(env[n], shape, backwards) for n in self._rows}
            loop.update({n: env[n] for n in self._loop_fixed})
            loop.update({n: _tensor(a, env, device).expand(shape[1:]) for n, a in self._wide.items()})
            loop.update(zip(self.carried, carry, strict=True))
            loop[_CLOCK] = range(shape[0])
            results = self._inside(loop, device)
            for name, course in zip(self._stacked, results, strict=False):
                env[name] = torch.stack(course[::-1] if backwards else course, out=direct.get(name))
            carry = results[len(self._stacked) :]
            carry = [v.clone() if i in self._not_made else v for i, v in enumerate(carry)]
        courses = zip(self.wanted, self._after(env, device), strict=True)
        return {n: self._own(n, course, shape, into.get(n)) for n, course in courses}, list(carry)

    def _own(self, name: str, course: Tensor, shape: tuple[int, int, int], target: Tensor | None) -> Tensor:
        """``course`` in full, and no view of what somebody else holds."""
        if target is not None:
            return target if target is course else target.copy_(course)
        if name in self.borrowed or tuple(course.shape) != shape:
            return course.expand(shape).clone(memory_format=torch.contiguous_format)
        return course


def _tensor(arg: Arg, env: Mapping[str, Tensor], device: torch.device) -> Tensor:
    return env[arg] if isinstance(arg, str) else constant(arg, device)


def _by_step(course: Tensor, shape: tuple[int, int, int], backwards: bool) -> Sequence[Tensor]:
    rows = course.expand(shape).unbind(0)
    return rows[::-1] if backwards else rows


def _read(ops: Collection[Op]) -> set[str]:
    return {a for op in ops for a in op.args if isinstance(a, str)}


def _inputs(ops: Sequence[Op], outputs: Sequence[Arg] = ()) -> list[str]:
    made = {op.name for op in ops}
    read = [a for op in ops for a in op.args] + list(outputs)
    return list(dict.fromkeys(a for a in read if isinstance(a, str) and a not in made))
