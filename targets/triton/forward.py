"""Prints the forward kernel of a scan."""

from __future__ import annotations

from collections.abc import Iterable

from snncompile.targets.printing import DRAWN
from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import (
    LOAD_AHEAD,
    LOAD_AHEAD_LATE,
    Course,
    KernelSource,
    Writer,
    assign,
    block_of,
    module_text,
)
from snncompile.targets.triton.printer import Function, print_function
from snncompile.targets.variant import ForwardVariant


def print_forward(scan: Scan, variant: ForwardVariant) -> KernelSource:
    """The module of the forward kernel of ``scan``."""
    w = Writer()
    name, step_name = w.names.new(f"{scan.name}_forward"), w.names.new(f"{scan.name}_step")
    layout = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
    scalar = dict(zip(scan.coefs, variant.layout.coefs, strict=True))
    results = {*scan.states, *variant.store, *variant.sums}
    step = print_function(
        step_name, scan.forward.select(results), "One time step.", [c for c, is_one in scalar.items() if is_one]
    )
    inputs = tuple(i for i, x in enumerate(scan.inputs) if x in step.args)
    coefs = tuple(i for i, c in enumerate(scan.coefs) if c in step.args)

    late = variant.layout.late_of(scan.inputs)
    names = [scan.inputs[i] for i in inputs]
    courses = {x: w.input_course(x, layout[x], late.get(x, "")) for x in names}
    coef_ptrs = {scan.coefs[i]: w.pointer(scan.coefs[i], _coef(scalar[scan.coefs[i]])) for i in coefs}
    start_ptrs = {s: w.pointer(f"{s}_start", "state before the first step, (B, N)") for s in scan.states}
    store_ptrs = {r: w.pointer(r, "result, (T, B, N)") for r in variant.store}
    sum_ptrs = {r: w.pointer(f"{r}_sum", "sum of the result over time, (B, N)") for r in variant.sums}
    final_ptrs = {s: w.pointer(f"{s}_final", "state after the last step, (B, N)") for s in scan.states}
    saved = scan.states if variant.save != "none" else ()
    every = "every step" if variant.save == "all" else "steps 0, K, 2 K, ..."
    saved_ptrs = {s: w.pointer(f"{s}_saved", f"state before {every}") for s in saved}
    w.number("T", "time steps")
    by_chunk = variant.save == "some"
    if by_chunk:
        w.number("K", "steps between saved states")
    need_n = not all(layout[x] for x in courses) or not all(scalar[c] for c in coef_ptrs)
    need_n = need_n or any(late.get(x) in ("each", "shared") for x in courses)
    if need_n:
        w.number("N", "neurons")
    w.number("count", "batch * neurons")
    draws = DRAWN in step.args
    if draws:
        w.random()

    w.elements(need_n)
    if draws:
        w.seed()
    at = {x: w.strides(course) for x, course in courses.items()}
    for course in courses.values():
        w.load_steps(course.late)
    local = {v: w.names.new(v) for v in (*scan.states, *coef_ptrs)}
    made = {r: local[r] if r in scan.states else w.names.new(r) for r in scan.results if r in results}
    for c, pointer in coef_ptrs.items():
        w.coefficient(local[c], pointer, scalar[c])
    for s, pointer in start_ptrs.items():
        w.line(1, f"{local[s]} = tl.load({pointer} + at, mask=active, other=0.0)")
    totals = {r: w.names.new(f"{r}_total") for r in variant.sums}
    for total in totals.values():
        w.line(1, f"{total} = {block_of(0.0)}")
    if variant.save == "some":
        w.line(1, "since = 0  # steps since states were saved")
        w.line(1, "saves = 0")
    _loop(w, variant, step, courses, at, local, made, store_ptrs, saved_ptrs, totals)
    for s, pointer in final_ptrs.items():
        w.line(1, f"tl.store({pointer} + at, {local[s]}, mask=active)")
    for r, pointer in sum_ptrs.items():
        w.line(1, f"tl.store({pointer} + at, {totals[r]}, mask=active)")

    what = "forward over a whole sequence, in one launch"
    text = module_text(scan, what, w, name, [step], ahead_helpers(courses.values()))
    return KernelSource(
        name,
        text,
        tuple(w.params),
        inputs=inputs,
        coefs=coefs,
        states=tuple(range(len(scan.states))),
        by_chunk=by_chunk,
        by_neuron=need_n,
        streams=len(courses),
        work=step.size,
        random=draws,
    )


def ahead_helpers(courses: Iterable[Course]) -> list[str]:
    """The functions that load ``courses`` ahead of time."""
    late = [bool(course.late) for course in courses]
    return [*([LOAD_AHEAD] if False in late else []), *([LOAD_AHEAD_LATE] if True in late else [])]


def _coef(scalar: bool) -> str:
    return "coefficient, one number" if scalar else "coefficient, (N,)"


def _loop(
    w: Writer,
    variant: ForwardVariant,
    step: Function,
    courses: dict[str, Course],
    at: dict[str, str],
    local: dict[str, str],
    made: dict[str, str],
    store_ptrs: dict[str, str],
    saved_ptrs: dict[str, str],
    totals: dict[str, str],
) -> None:
    ahead = {x: w.names.new(f"{course.base}_ahead") for x, course in courses.items()}
    now = {x: w.names.new(f"{course.base}_now") for x, course in courses.items()}

    def load(depth: int, x: str, first: str) -> None:
        function, arguments = courses[x].load("snn_load_ahead", at[x], first, "T")
        w.call(depth, f"{ahead[x]} = {function}", arguments)

    for x in courses:
        load(1, x, "0")
    w.line(1, "for start in range(0, T, AHEAD):")
    for x in courses:
        w.line(2, f"{now[x]} = {ahead[x]}")
        load(2, x, "start + AHEAD")
    w.line(2, "for u in tl.static_range(AHEAD):")
    w.line(3, "t = start + u")
    w.line(3, "if t < T:")
    if variant.save == "all":
        for s, pointer in saved_ptrs.items():
            w.line(4, f"tl.store({pointer} + t * cells + at, {local[s]}, mask=active)")
    elif variant.save == "some":
        w.line(4, "if since == 0:")
        for s, pointer in saved_ptrs.items():
            w.line(5, f"tl.store({pointer} + saves * cells + at, {local[s]}, mask=active)")
        w.line(5, "saves += 1")
        w.line(4, "since = tl.where(since + 1 == K, 0, since + 1)")
    values = {**local, **{x: f"{now[x]}[u]" for x in courses}}
    assign(w, 4, step, values, made)
    for r, pointer in store_ptrs.items():
        w.line(4, f"tl.store({pointer} + t * cells + at, {made[r]}, mask=active)")
    for r, total in totals.items():
        w.line(4, f"{total} = {total} + {made[r]}")
