"""Prints the backward function of a scan."""

from __future__ import annotations

from snncompile.targets.c.kernel import Course, Frame, KernelSource, Writer, file_text
from snncompile.targets.c.printer import Function, print_function
from snncompile.targets.c.windows import SpreadCourse, block_text
from snncompile.targets.printing import DRAWN
from snncompile.targets.prune import prune_reverse
from snncompile.targets.scan import Scan
from snncompile.targets.variant import BackwardVariant


def print_backward(scan: Scan, variant: BackwardVariant, frame: Frame | None = None) -> KernelSource:
    """The file with the backward function of ``scan``, in ``frame``."""
    return _Backward(scan, variant, frame).source()


class _Backward:
    def __init__(self, scan: Scan, variant: BackwardVariant, frame: Frame | None) -> None:
        self.scan, self.variant, self.frame = scan, variant, frame
        self.w = Writer(frame.locals if frame else "")
        wanted = [f"grad_{x}" for x in variant.need_inputs]
        wanted += scan.accumulators if variant.need_accumulators else ()
        pruned = prune_reverse(scan, [r for r, _ in variant.grads], variant.finals, wanted)
        self.carried = pruned.carried
        self.name = self.w.name(f"{scan.name}_backward")
        step_name, replay_name = self.w.name(f"{scan.name}_step_grad"), self.w.name(f"{scan.name}_step")
        self.reverse = print_function(step_name, pruned.program, "The gradient of one time step.")
        self.read = [s for s in scan.states if s in self.reverse.args]
        self.replay: Function | None = None
        if variant.replay and self.read:
            self.replay = print_function(replay_name, scan.forward.select(scan.states), "One time step, done again.")

    def source(self) -> KernelSource:
        scan, variant, w, reverse, frame = self.scan, self.variant, self.w, self.reverse, self.frame
        replay_args = self.replay.args if self.replay else ()
        states = list(scan.states) if self.replay else self.read
        inputs = [x for x in scan.inputs if x in reverse.args or x in replay_args]
        coefs = [c for c in scan.reverse_coefs if c in reverse.args]
        forward_coefs = [c for c in scan.coefs if c in replay_args]
        given = {r: unit for r, unit in variant.grads if f"grad_{r}" in reverse.args}
        unit = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
        scalar = dict(zip(scan.reverse_coefs, variant.layout.coefs, strict=True))
        forward_scalar = dict(zip(scan.coefs, variant.forward_coefs, strict=True)) if self.replay else {}

        self.late = variant.layout.late_of(scan.inputs)
        self.courses = {x: w.input_course(x, unit[x], self.late.get(x, "")) for x in inputs}
        self.values = {c: w.coefficient(c, scalar[c], "coefficient") for c in coefs}
        self.replay_values = {
            c: w.coefficient(f"{c}_again", forward_scalar[c], "forward coefficient") for c in forward_coefs
        }
        every = "steps 0, K, 2 K, ..." if self.replay else "every step"
        self.saved = {s: w.cells(f"{s}_saved", f"state before {every}") for s in states}
        self.grads = {r: self._given(r, flag) for r, flag in given.items()}
        ends = {
            s: w.cells(f"grad_{s}_final", "gradient of the last state, (B, N)")
            for s in self.carried
            if s in variant.finals
        }
        self.shares: dict[str, str] = {}
        self.found = {x: self._found(x) for x in variant.need_inputs}
        each = [x for x in variant.need_inputs if self.late.get(x) in ("each", "shared")]
        self.shifts = {x: (w.number(w.name(f"{x}_reach"), "L"), w.steps(f"{x}_shift")) for x in each}
        starts = {s: w.cells(f"grad_{s}_start", "gradient of the first state, (B, N)", True) for s in self.carried}
        accumulators = scan.accumulators if variant.need_accumulators else ()
        sums = {a: w.cells(f"{a}_sum", "sum over time, (B, N)", True) for a in accumulators}
        w.number("T", "time steps")
        if self.replay:
            w.number("K", "steps between saved states")
        draws = DRAWN in (*reverse.args, *replay_args)
        if draws:
            w.random()

        for course in self.courses.values():
            for line in course.prepare():
                w.line(1, line)
        self.places = {x: w.name(f"{x}_place") for x in self.shifts}
        for x, (reach, shift) in self.shifts.items():
            w.line(1, f"int32_t {self.places[x]}[LANES]; /* where the gradient of a step goes, from its row on */")
            w.line(1, "for (int j = 0; j < m; j++)")
            step = f"(int32_t){self.found[x].step}"
            j = f"j / (int32_t){self.shares[x]}" if x in self.shares else "j"
            w.line(2, f"{self.places[x]}[j] = ((int32_t){reach} - {shift}[j]) * {step} + {j};")
        self.carry = {s: w.name(f"grad_{s}_now") for s in self.carried}
        self.totals = {a: w.name(f"{a}_total") for a in sums}
        arrays = {**{self.carry[s]: f"{ends[s]}[j]" if s in ends else "0.0f" for s in self.carried}}
        arrays.update(dict.fromkeys(self.totals.values(), "0.0f"))
        self._fill(1, arrays, declare=True)
        if self.replay:
            self._chunks(self.replay)
        else:
            self._walk(1, {s: f"{pointer} + t * cells" for s, pointer in self.saved.items()}, "0", "T")
        final = [(pointer, self.carry[s]) for s, pointer in starts.items()]
        final += [(pointer, self.totals[a]) for a, pointer in sums.items()]
        if final:
            w.line(1, "for (int j = 0; j < m; j++) {")
            for pointer, array in final:
                w.line(2, f"{pointer}[j] = {array}[j];")
            w.line(1, "}")
        scratch = len(self.read) if self.replay else 0
        functions = [self.replay, reverse] if self.replay else [reverse]
        helpers = block_text(variant.windows) if variant.windows else ""
        first, found = (next(iter(c.values()), None) for c in (self.courses, self.found))
        around = None if frame is None else (frame, first, found)
        text = file_text(scan, "backward over a whole sequence", w, self.name, functions, scratch, helpers, around)
        return KernelSource(
            self.name,
            text,
            (frame.types if frame else "") + "".join(a.type for a in w.arguments) + ("p" if scratch else "") + "qqqi",
            inputs=tuple(scan.inputs.index(x) for x in inputs),
            coefs=tuple(scan.reverse_coefs.index(c) for c in coefs),
            forward_coefs=tuple(scan.coefs.index(c) for c in forward_coefs),
            states=tuple(scan.states.index(s) for s in states),
            by_chunk=self.replay is not None,
            grads=tuple(given),
            carried=self.carried,
            scratch=scratch,
            random=draws,
        )

    def _given(self, r: str, unit: bool) -> Course:
        """The gradient of result ``r``."""
        windows = self.variant.windows
        if windows is None or windows.result != r:
            return self.w.course(f"grad_{r}", unit, "gradient of the result")
        course = self.w.course(f"grad_{r}", True, "gradient of the pooled result", share="POOL_AREA")
        return SpreadCourse(course.pointer, course.step, course.column)

    def _found(self, x: str) -> Course:
        """Where the gradient of input ``x`` goes: in the memory order of the input, unless that is read late."""
        if self.late.get(x) and x not in self.variant.room and self.late[x] != "shared":
            return Course(self.w.cells(f"grad_{x}", "gradient of the input, (T, B, N)", True), "cells", "")
        if self.late.get(x) == "shared":
            name = self.w.name(f"grad_{x}_share")
            self.shares[x] = self.w.number(name, "neurons that read one value")
        return self.w.course(f"grad_{x}", True, "gradient of the input", write=True, share=self.shares.get(x, ""))

    def _put(self, x: str) -> str:
        """How the gradient of input ``x`` goes there."""
        added = self.variant.add and x in self.variant.room
        return "+=" if added or self.late.get(x) == "shared" else "="

    def _fill(self, depth: int, arrays: dict[str, str], declare: bool) -> None:
        """Give local arrays their first values."""
        w = self.w
        for array in arrays if declare else ():
            w.line(depth, f"float {array}[LANES];")
        if arrays:
            w.line(depth, "for (int j = 0; j < m; j++) {")
            for array, value in arrays.items():
                w.line(depth + 1, f"{array}[j] = {value};")
            w.line(depth, "}")

    def _chunks(self, replay: Function) -> None:
        """The loop over chunks of K steps, last first: replay one from its saved state, then walk back through it."""
        w = self.w
        local = {s: w.name(s) for s in self.scan.states}
        kept = {s: w.name(f"{s}_kept") for s in self.read}
        for array in local.values():
            w.line(1, f"float {array}[LANES];")
        for i, array in enumerate(kept.values()):
            w.line(1, f"float *{array} = scratch + {i} * K * m; /* state before each step of a chunk */")
        w.line(1, "for (int64_t chunk = (T + K - 1) / K - 1; chunk >= 0; chunk--) {")
        w.line(2, "const int64_t begin = chunk * K, end = begin + K < T ? begin + K : T;")
        self._fill(2, {local[s]: f"{pointer}[chunk * cells + j]" for s, pointer in self.saved.items()}, False)
        w.line(2, "/* forward again, keeping the state before every step */")
        w.line(2, "for (int64_t t = begin; t < end; t++) {")
        w.moment(3, [replay])
        steps = {x: c for x, c in self.courses.items() if x in replay.args}
        if any(not c.column for c in steps.values()):
            # the chunk before this one is what is needed next
            w.line(3, "if (t >= K) {")
            for course in self.courses.values():
                w.fetch(4, course, "t - K")
            w.line(3, "}")
        now = self._now(3, steps)
        rows = {s: w.name(f"{s}_row") for s in self.read}
        for s, row in rows.items():
            w.line(3, f"float *{row} = {kept[s]} + (t - begin) * m;")
        w.lanes(3)
        for s, row in rows.items():
            w.line(4, f"{row}[j] = {local[s]}[j];")
        values = {**self.replay_values, **{s: f"{array}[j]" for s, array in local.items()}}
        values.update({x: f"{now[x]}[{course.at('j')}]" for x, course in steps.items()})
        made = {s: w.name(f"{s}_new") for s in replay.results}
        w.call(4, replay, values, made)
        for s, array in local.items():
            w.line(4, f"{array}[j] = {made[s]};")
        w.line(3, "}")
        w.line(2, "}")
        w.line(2, "/* and backward */")
        self._walk(2, {s: f"{array} + (t - begin) * m" for s, array in kept.items()}, "begin", "end")
        w.line(1, "}")

    def _walk(self, depth: int, states: dict[str, str], begin: str, end: str) -> None:
        """The loop backward through time, from the step before ``end`` to ``begin``."""
        w, reverse = self.w, self.reverse
        steps = {x: c for x, c in self.courses.items() if x in reverse.args}
        courses = {**steps, **{f"grad_{r}": c for r, c in self.grads.items()}}
        w.line(depth, f"for (int64_t t = {end} - 1; t >= {begin}; t--) {{")
        w.moment(depth + 1, [reverse])
        if self.replay and any(not c.column for c in self.grads.values()):
            w.line(depth + 1, "if (t >= AHEAD) {")
            for course in self.grads.values():
                w.fetch(depth + 2, course, "t - AHEAD")
            w.line(depth + 1, "}")
        now = self._now(depth + 1, courses)
        for s in self.read:
            now[s] = w.name(f"{s}_before")
            w.line(depth + 1, f"const float *{now[s]} = {states[s]};")
        rows = {x: w.name(f"grad_{x}_row") for x in self.found if x not in self.shifts}
        for x, row in rows.items():
            w.line(depth + 1, f"float *{row} = {self.found[x].pointer} + t * {self.found[x].step};")
        apart = {x: w.name(f"grad_{x}_here") for x in self.shifts}
        for array in apart.values():
            w.line(depth + 1, f"float {array}[LANES];")
        w.lanes(depth + 1)
        values = {**self.values, **{s: f"{now[s]}[j]" for s in self.read}}
        values.update({v: f"{now[v]}[{course.at('j')}]" for v, course in courses.items()})
        for s, carry in self.carry.items():
            given = values.get(f"grad_{s}")
            values[f"grad_{s}"] = f"{carry}[j] + {given}" if given else f"{carry}[j]"
        made = {r: w.name(f"{r}_new") for r in reverse.results}
        if made:
            w.call(depth + 2, reverse, values, made)
        for s, carry in self.carry.items():
            w.line(depth + 2, f"{carry}[j] = {made[f'grad_{s}']};")
        for x, row in rows.items():
            w.line(depth + 2, f"{row}[j] {self._put(x)} {made[f'grad_{x}']};")
        for x, array in apart.items():
            w.line(depth + 2, f"{array}[j] = {made[f'grad_{x}']};")
        for a, total in self.totals.items():
            w.line(depth + 2, f"{total}[j] = {total}[j] + {made[a]};")
        w.line(depth + 1, "}")
        for x, array in apart.items():
            row = w.name(f"grad_{x}_row")
            w.line(depth + 1, f"float *{row} = {self.found[x].pointer} + t * {self.found[x].step};")
            w.line(depth + 1, "for (int j = 0; j < m; j++) {")
            w.line(depth + 2, f"{row}[{self.places[x]}[j]] {self._put(x)} {array}[j];")
            w.line(depth + 2, "SNN_SINGLY;")
            w.line(depth + 1, "}")
        w.line(depth, "}")

    def _now(self, depth: int, courses: dict[str, Course]) -> dict[str, str]:
        """Declare pointers to the current step of courses; their names."""
        now = {v: self.w.name(f"{v}_now") for v in courses}
        for v, course in courses.items():
            for line in course.row(now[v]):
                self.w.line(depth, line)
        return now
