"""Prints the forward function of a scan."""

from __future__ import annotations

from snncompile.targets.c.kernel import Frame, KernelSource, Writer, file_text
from snncompile.targets.c.printer import print_function
from snncompile.targets.c.windows import block_text
from snncompile.targets.printing import DRAWN
from snncompile.targets.scan import Scan
from snncompile.targets.variant import ForwardVariant


def print_forward(scan: Scan, variant: ForwardVariant, frame: Frame | None = None) -> KernelSource:
    """The file with the forward function of ``scan``, in ``frame``."""
    w = Writer(frame.locals if frame else "")
    name, step_name = w.name(f"{scan.name}_forward"), w.name(f"{scan.name}_step")
    unit = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
    scalar = dict(zip(scan.coefs, variant.layout.coefs, strict=True))
    results = {*scan.states, *variant.store, *variant.sums}
    step = print_function(step_name, scan.forward.select(results), "One time step.")
    late = variant.layout.late_of(scan.inputs)
    courses = {x: w.input_course(x, unit[x], late.get(x, "")) for x in scan.inputs if x in step.args}
    values = {c: w.coefficient(c, scalar[c], "coefficient") for c in scan.coefs if c in step.args}
    starts = {s: w.cells(f"{s}_start", "state before the first step, (B, N)") for s in scan.states}
    windows, pooled = variant.windows, variant.windows.result if variant.windows else None
    apart = {r: ("result, pooled, (T, B, N / POOL_AREA)", True, "POOL_AREA") for r in variant.store if r == pooled}
    stored = {r: w.cells(f"{r}_course", *apart.get(r, ("result, (T, B, N)", True))) for r in variant.store}
    sums = {r: w.cells(f"{r}_sum", "sum of the result over time, (B, N)", True) for r in variant.sums}
    finals = {s: w.cells(f"{s}_final", "state after the last step, (B, N)", True) for s in scan.states}
    every = "every step" if variant.save == "all" else "steps 0, K, 2 K, ..."
    saved = {s: w.cells(f"{s}_saved", f"state before {every}", True) for s in scan.states if variant.save != "none"}
    w.number("T", "time steps")
    by_chunk = variant.save == "some"
    if by_chunk:
        w.number("K", "steps between saved states")
    draws = DRAWN in step.args
    if draws:
        w.random()

    for course in courses.values():
        for line in course.prepare():
            w.line(1, line)
    local = {s: w.name(s) for s in scan.states}
    totals = {r: w.name(f"{r}_total") for r in sums}
    for array in (*local.values(), *totals.values()):
        w.line(1, f"float {array}[LANES];")
    if local or totals:
        w.line(1, "for (int j = 0; j < m; j++) {")
        for s, pointer in starts.items():
            w.line(2, f"{local[s]}[j] = {pointer}[j];")
        for total in totals.values():
            w.line(2, f"{total}[j] = 0.0f;")
        w.line(1, "}")
    if by_chunk:
        w.line(1, "int64_t since = 0, saves = 0; /* steps since states were saved, and how often they were */")
    w.line(1, "for (int64_t t = 0; t < T; t++) {")
    w.moment(2, [step])
    if by_chunk:
        w.line(2, "if (since == 0) {")
        w.line(3, "for (int j = 0; j < m; j++) {")
        for s, pointer in saved.items():
            w.line(4, f"{pointer}[saves * cells + j] = {local[s]}[j];")
        w.line(3, "}")
        w.line(3, "saves++;")
        w.line(2, "}")
        w.line(2, "since = since + 1 == K ? 0 : since + 1;")
    now = {x: w.name(f"{x}_now") for x in courses}
    for x, course in courses.items():
        for line in course.row(now[x]):
            w.line(2, line)
    rows = {r: w.name(f"{r}_row") for r in stored}
    for r, pointer in stored.items():
        w.line(2, f"float *{rows[r]} = {pointer} + t * {'(cells / POOL_AREA)' if r in apart else 'cells'};")
    whole = {r: w.name(f"{r}_now") for r in apart}
    for array in whole.values():
        w.line(2, f"float {array}[LANES];")
    save_rows = {s: w.name(f"{s}_saved_row") for s in saved} if variant.save == "all" else {}
    for s, row in save_rows.items():
        w.line(2, f"float *{row} = {saved[s]} + t * cells;")
    w.lanes(2)
    for s, row in save_rows.items():
        w.line(3, f"{row}[j] = {local[s]}[j];")
    values.update({s: f"{array}[j]" for s, array in local.items()})
    values.update({x: f"{now[x]}[{course.at('j')}]" for x, course in courses.items()})
    made = {r: w.name(f"{r}_new") for r in step.results}
    if made:
        w.call(3, step, values, made)
    for s, array in local.items():
        w.line(3, f"{array}[j] = {made[s]};")
    for r, row in rows.items():
        w.line(3, f"{whole.get(r, row)}[j] = {made[r]};")
    for r, total in totals.items():
        w.line(3, f"{total}[j] = {total}[j] + {made[r]};")
    w.line(2, "}")
    for r, array in whole.items():
        w.line(2, f"snn_pool_block({array}, m, {rows[r]});")
    w.line(1, "}")
    if finals or sums:
        w.line(1, "for (int j = 0; j < m; j++) {")
        for s, pointer in finals.items():
            w.line(2, f"{pointer}[j] = {local[s]}[j];")
        for r, pointer in sums.items():
            w.line(2, f"{pointer}[j] = {totals[r]}[j];")
        w.line(1, "}")
    helpers = block_text(windows) if windows else ""
    around = None if frame is None else (frame, next(iter(courses.values()), None), None)
    return KernelSource(
        name,
        file_text(scan, "forward over a whole sequence", w, name, [step], helpers=helpers, frame=around),
        (frame.types if frame else "") + "".join(a.type for a in w.arguments) + "qqqi",
        inputs=tuple(i for i, x in enumerate(scan.inputs) if x in step.args),
        coefs=tuple(i for i, c in enumerate(scan.coefs) if c in step.args),
        states=tuple(range(len(scan.states))),
        by_chunk=by_chunk,
        random=draws,
    )
