"""Prints the backward kernel of a scan."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.targets.printing import DRAWN
from snncompile.targets.prune import Pruned, prune_reverse
from snncompile.targets.scan import Scan
from snncompile.targets.triton.forward import ahead_helpers
from snncompile.targets.triton.kernel import (
    LOAD_BEHIND,
    LOAD_BEHIND_LATE,
    Course,
    KernelSource,
    Writer,
    assign,
    block_of,
    module_text,
)
from snncompile.targets.triton.printer import Function, print_function
from snncompile.targets.variant import BackwardVariant


def prune(scan: Scan, variant: BackwardVariant) -> Pruned:
    """The part of the reverse program that ``variant`` runs."""
    wanted = [f"grad_{x}" for x in variant.need_inputs]
    wanted += scan.accumulators if variant.need_accumulators else ()
    return prune_reverse(scan, [r for r, _ in variant.grads], variant.finals, wanted)


def print_backward(scan: Scan, variant: BackwardVariant) -> KernelSource:
    """The module of the backward kernel of ``scan``."""
    return _Backward(scan, variant).source()


@dataclass(frozen=True)
class _Steps:
    """A course as the loop reads it: its arguments, its offsets, the name of a step's value."""

    course: Course
    at: str


class _Backward:
    def __init__(self, scan: Scan, variant: BackwardVariant) -> None:
        self.scan, self.variant, self.w = scan, variant, Writer()
        w, pruned = self.w, prune(scan, variant)
        self.name = w.names.new(f"{scan.name}_backward")
        step_name, replay_name = w.names.new(f"{scan.name}_step_grad"), w.names.new(f"{scan.name}_step")
        self.carried = pruned.carried
        self.scalar = dict(zip(scan.reverse_coefs, variant.layout.coefs, strict=True))
        self.reverse = print_function(
            step_name, pruned.program, "The gradient of one time step.", [c for c, one in self.scalar.items() if one]
        )
        self.replay: Function | None = None
        self.forward_scalar: dict[str, bool] = {}
        if variant.replay and any(s in self.reverse.args for s in scan.states):
            self.forward_scalar = dict(zip(scan.coefs, variant.forward_coefs, strict=True))
            self.replay = print_function(
                replay_name,
                scan.forward.select(scan.states),
                "One time step, done again.",
                [c for c, one in self.forward_scalar.items() if one],
            )

    def source(self) -> KernelSource:
        scan, variant, w, reverse = self.scan, self.variant, self.w, self.reverse
        replay_args = self.replay.args if self.replay else ()
        self.read_states = [s for s in scan.states if s in reverse.args]
        saved_states = list(scan.states) if self.replay else self.read_states
        inputs = [x for x in scan.inputs if x in reverse.args or x in replay_args]
        coefs = [c for c in scan.reverse_coefs if c in reverse.args]
        shared = {c for c in coefs if c in replay_args and self._shared(c)}
        forward_coefs = [c for c in scan.coefs if c in replay_args and c not in shared]
        given = {r: flat for r, flat in variant.grads if f"grad_{r}" in reverse.args}
        wanted = [x for x in variant.need_inputs if f"grad_{x}" in (*reverse.results, *reverse.constants)]
        sums = [a for a in scan.accumulators if a in (*reverse.results, *reverse.constants)]
        layout = dict(zip(scan.inputs, variant.layout.inputs, strict=True))

        late = self.late = variant.layout.late_of(scan.inputs)
        courses = {x: w.input_course(x, layout[x], late.get(x, "")) for x in inputs}
        coef_ptrs = {c: w.pointer(c, _coef(self.scalar[c])) for c in coefs}
        forward_ptrs = {c: w.pointer(f"{c}_again", f"forward {_coef(self.forward_scalar[c])}") for c in forward_coefs}
        every = "steps 0, K, 2 K, ..." if self.replay else "every step"
        saved = {s: w.pointer(f"{s}_saved", f"state before {every}") for s in saved_states}
        scratch_states = self.read_states if self.replay else ()
        self.scratch = {s: w.pointer(f"{s}_scratch", "state before every step, for K steps") for s in scratch_states}
        grads = {r: w.course(f"grad_{r}", flat, "gradient of the result") for r, flat in given.items()}
        final_ptrs = {
            s: w.pointer(f"grad_{s}_final", "gradient of the last state, (B, N)")
            for s in self.carried
            if s in variant.finals
        }
        self.input_ptrs = {x: w.pointer(f"grad_{x}", "gradient of the input, (T, B, N)") for x in wanted}
        each = [x for x in wanted if late.get(x) in ("each", "shared")]
        self.shifts = {x: (w.number(w.names.new(f"{x}_length"), "L"), w.lateness(f"{x}_shift", "each")) for x in each}
        start_ptrs = {
            s: w.pointer(f"grad_{s}_start", "gradient of the first state, (B, N)") for s in self.carried
        }
        sum_ptrs = {a: w.pointer(f"{a}_sum", "sum over time, (B, N)") for a in sums}
        w.number("T", "time steps")
        if self.replay:
            w.number("K", "steps between saved states")
        flat_inputs = all(layout[x] for x in inputs) and all(given.values())
        flat_coefs = all(self.scalar[c] for c in coefs) and all(self.forward_scalar[c] for c in forward_coefs)
        own_steps = {"each", "shared"} & {late.get(x) for x in (*inputs, *wanted)}
        by_neuron = not (flat_inputs and flat_coefs) or bool(own_steps)
        if by_neuron:
            w.number("N", "neurons")
        w.number("count", "batch * neurons")
        draws = DRAWN in (*reverse.args, *replay_args)
        if draws:
            w.random()

        w.elements(by_neuron)
        if draws:
            w.seed()
        self.inputs = {x: _Steps(c, w.strides(c)) for x, c in courses.items()}
        self.grads = {r: _Steps(c, w.strides(c)) for r, c in grads.items()}
        for steps in [*(c.late for c in courses.values()), *(shift for _, shift in self.shifts.values())]:
            w.load_steps(steps)
        self.local = {v: w.names.new(v) for v in (*scan.states, *coefs)}
        self.forward_local = {c: w.names.new(f"{c}_again") for c in forward_coefs}
        self.forward_local.update({c: self.local[c] for c in shared})
        for c, pointer in coef_ptrs.items():
            w.coefficient(self.local[c], pointer, self.scalar[c])
        for c, pointer in forward_ptrs.items():
            w.coefficient(self.forward_local[c], pointer, self.forward_scalar[c])
        self.carry = {s: w.names.new(f"grad_{s}") for s in self.carried}
        for s, carry in self.carry.items():
            load = f"tl.load({final_ptrs[s]} + at, mask=active, other=0.0)" if s in final_ptrs else block_of(0.0)
            w.line(1, f"{carry} = {load}")
        self.totals = {a: w.names.new(f"{a}_total") for a in sums}
        for total in self.totals.values():
            w.line(1, f"{total} = {block_of(0.0)}")
        if self.replay:
            self._chunks(self.replay, saved)
        else:
            state_steps = {s: _Steps(Course(s, p, "cells", None, None), "at") for s, p in saved.items()}
            self._walk(1, state_steps, "T - 1", "0", "T", "0")
        for s, pointer in start_ptrs.items():
            w.line(1, f"tl.store({pointer} + at, {self.carry[s]}, mask=active)")
        for a, pointer in sum_ptrs.items():
            w.line(1, f"tl.store({pointer} + at, {self.totals[a]}, mask=active)")

        functions = [reverse] if self.replay is None else [self.replay, reverse]
        helpers = ahead_helpers(courses[x] for x in inputs if x in replay_args)
        behind = [bool(courses[x].late) for x in inputs if x in reverse.args]
        helpers += [LOAD_BEHIND] if self.grads or self.read_states or False in behind else []
        helpers += [LOAD_BEHIND_LATE] if True in behind else []
        what = "backward over a whole sequence, in one launch"
        return KernelSource(
            self.name,
            module_text(scan, what, w, self.name, functions, helpers),
            tuple(w.params),
            inputs=tuple(scan.inputs.index(x) for x in inputs),
            coefs=tuple(scan.reverse_coefs.index(c) for c in coefs),
            forward_coefs=tuple(scan.coefs.index(c) for c in forward_coefs),
            states=tuple(scan.states.index(s) for s in saved_states),
            grads=tuple(given),
            carried=self.carried,
            scratch=tuple(scratch_states),
            by_chunk=self.replay is not None,
            by_neuron=by_neuron,
            streams=len(self.read_states) + len(self.grads) + len(self.inputs),
            work=sum(function.size for function in functions),
            random=draws,
        )

    def _shared(self, coef: str) -> bool:
        """Whether the forward and the reverse coefficient of this name are the same."""
        scan = self.scan
        if self.scalar[coef] != self.forward_scalar.get(coef):
            return False
        return coef in scan.params or scan.derived.select([coef]) == scan.reverse_derived.select([coef])

    def _chunks(self, replay: Function, saved: dict[str, str]) -> None:
        """The loop over chunks of K steps, last first: replay one from its saved state, then walk back through it."""
        w = self.w
        w.line(1, "chunks = (T + K - 1) // K")
        w.line(1, "for done in range(0, chunks):")
        w.line(2, "chunk = chunks - 1 - done")
        w.line(2, "begin = chunk * K")
        w.line(2, "end = tl.minimum(begin + K, T)")
        for s, pointer in saved.items():
            w.line(2, f"{self.local[s]} = tl.load({pointer} + chunk * cells + at, mask=active, other=0.0)")
        w.line(2, "# forward again, keeping the state before every step")
        steps = {x: self.inputs[x] for x in self.inputs if x in replay.args}
        now = self._prefetch(2, steps, "snn_load_ahead", "begin", "end", "start + AHEAD", "start in range(begin, end")
        w.line(3, "for u in tl.static_range(AHEAD):")
        w.line(4, "t = start + u")
        w.line(4, "if t < end:")
        for s, pointer in self.scratch.items():
            w.line(5, f"tl.store({pointer} + (t - begin) * cells + at, {self.local[s]}, mask=active)")
        values = {**self.local, **self.forward_local, **{x: f"{n}[u]" for x, n in now.items()}}
        assign(w, 5, replay, values, {s: self.local[s] for s in self.scan.states})
        w.line(2, "tl.debug_barrier()  # what follows reads the states just stored")
        w.line(2, "# and backward")
        state_steps = {
            s: _Steps(Course(s, f"{p} - begin * cells", "cells", None, None), "at") for s, p in self.scratch.items()
        }
        self._walk(2, state_steps, "end - 1", "begin", "end - begin", "begin")
        w.line(2, "tl.debug_barrier()  # the next chunk overwrites them")

    def _walk(self, depth: int, states: dict[str, _Steps], last: str, begin: str, length: str, stop: str) -> None:
        """The loop backward through time from step ``last`` to step ``begin``."""
        w, reverse = self.w, self.reverse
        steps = {s: states[s] for s in self.read_states}
        steps.update({x: self.inputs[x] for x in self.inputs if x in reverse.args})
        steps.update({f"grad_{r}": course for r, course in self.grads.items()})
        now = self._prefetch(
            depth, steps, "snn_load_behind", last, stop, f"{last} - start - AHEAD", f"start in range(0, {length}"
        )
        w.line(depth + 1, "for u in tl.static_range(AHEAD):")
        w.line(depth + 2, f"t = {last} - start - u")
        w.line(depth + 2, f"if t >= {begin}:")
        values = {**self.local, **{v: f"{n}[u]" for v, n in now.items()}}
        for s, carry in self.carry.items():
            grad = f"grad_{s}"
            values[grad] = f"{carry} + {values[grad]}" if grad in now else carry
        targets = {f"grad_{s}": carry for s, carry in self.carry.items()}
        targets.update({f"grad_{x}": w.names.new(f"grad_{x}") for x in self.input_ptrs})
        targets.update({a: w.names.new(a) for a in self.totals})
        assign(w, depth + 3, reverse, values, targets)
        for x, pointer in self.input_ptrs.items():
            reach, shift = self.shifts.get(x, ("", ""))
            row = f"(t + {reach} - {shift})" if shift else "t"
            where, value = f"{pointer} + {row} * cells + at", targets[f"grad_{x}"]
            if self.variant.add and x in self.variant.room and self.late.get(x) != "shared":
                w.line(depth + 3, f"{value} = tl.load({where}, mask=active, other=0.0) + {value}")
            w.line(depth + 3, f"tl.store({where}, {value}, mask=active)")
        for a, total in self.totals.items():
            w.line(depth + 3, f"{total} = {total} + {targets[a]}")

    def _prefetch(
        self, depth: int, steps: dict[str, _Steps], load: str, first: str, bound: str, following: str, loop: str
    ) -> dict[str, str]:
        """Open a loop whose courses are loaded AHEAD steps before their use; names of the tuples in use."""
        w = self.w
        ahead = {v: w.names.new(f"{v}_ahead") for v in steps}
        now = {v: w.names.new(f"{v}_now") for v in steps}

        def fetch(depth: int, v: str, start: str) -> None:
            function, arguments = steps[v].course.load(load, steps[v].at, start, bound)
            w.call(depth, f"{ahead[v]} = {function}", arguments)

        for v in steps:
            fetch(depth, v, first)
        w.line(depth, f"for {loop}, AHEAD):")
        for v in steps:
            w.line(depth + 1, f"{now[v]} = {ahead[v]}")
            fetch(depth + 1, v, following)
        return now


def _coef(scalar: bool) -> str:
    return "coefficient, one number" if scalar else "coefficient, (N,)"
