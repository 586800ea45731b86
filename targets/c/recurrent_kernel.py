"""Prints the functions of a whole recurrent layer: the loop over time, with the product inside."""

from __future__ import annotations

from typing import NamedTuple

from snncompile.targets.c.kernel import PREAMBLE, KernelSource, Writer, listed
from snncompile.targets.c.printer import Function, call_lines, print_called, print_function, safe
from snncompile.targets.c.products import DENSE, EVENTS
from snncompile.targets.c.recurrent_late import LateRows
from snncompile.targets.prune import prune_reverse
from snncompile.targets.scan import Scan
from snncompile.targets.variant import Layout

_SIZES = ["int64_t B", "int64_t N"]


class LayerForward(NamedTuple):
    """A forward function of a recurrent layer.

    Attributes:
        port: the input that is the product.
        source: the result that the product reads, one step later.
        layout: of inputs (the port's entry is ignored) and coefficients.
        bias: whether the product has a bias.
        store: results whose course is stored, besides the source.
        train: whether states and products are saved.
    """

    port: str
    source: str
    layout: Layout
    bias: bool
    store: tuple[str, ...]
    train: bool


class LayerBackward(NamedTuple):
    """A backward function of a recurrent layer.

    Attributes:
        port: the input that is the product.
        source: the result that the product reads, one step later.
        layout: of inputs (the port's entry is ignored) and reverse coefficients.
        grads: results whose course has a gradient, each with whether neurons lie one after the other.
        finals: states whose final value has a gradient.
        need_inputs: inputs whose gradient is wanted, besides the port.
        need_accumulators: whether the accumulators are wanted.
    """

    port: str
    source: str
    layout: Layout
    grads: tuple[tuple[str, bool], ...]
    finals: tuple[str, ...]
    need_inputs: tuple[str, ...]
    need_accumulators: bool


def print_layer_forward(scan: Scan, variant: LayerForward) -> KernelSource:
    """The file with the forward function of a recurrent layer."""
    w = Writer()
    name, row = w.name(f"{scan.name}_recurrent"), w.name(f"{scan.name}_row")
    scalar = dict(zip(scan.coefs, variant.layout.coefs, strict=True))
    unit = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
    stored = tuple(r for r in scan.results if r in variant.store or r == variant.source)
    step = print_function(w.name(f"{scan.name}_step"), scan.forward.select({*scan.states, *stored}), "One time step.")
    inputs = [x for x in scan.inputs if x in step.args and x != variant.port]
    coefs = [c for c in scan.coefs if c in step.args]

    weight = w.whole("weight", "weight (N, N): a row for each input")
    bias = w.whole("bias_of_product", "bias of the product, (N,)") if variant.bias else None
    start = w.whole(f"{variant.source}_start", f"{variant.source} before the first step, (B, N)")
    late = LateRows(w, variant.layout.late_of(scan.inputs))
    courses = {x: late.course(x, unit[x]) for x in inputs}
    values = {c: w.coefficient(c, scalar[c], "coefficient") for c in coefs}
    states = {s: w.cells(f"{s}_running", "state, (B, N), read and written", True) for s in scan.states}
    stores = {r: w.cells(r, "result, (T, B, N)", True) for r in stored}
    saved = {s: w.cells(f"{s}_saved", "state before every step, (T, B, N)", True) for s in scan.states if variant.train}
    rows = "(T, B, N)" if variant.train else "of one step, (B, N)"
    product = w.whole("product", f"the product, {rows}", "float")
    places = w.whole("places", "scratch: where the inputs stand that are not zero, (B, N + 1)", "int32_t")
    factors = w.whole("factors", "scratch: those inputs, (B, N + 1)", "float")
    steps = w.whole("T", "time steps", number=True)

    now = {x: w.name(f"{x}_now") for x in courses}
    for x, course in courses.items():
        w.line(1, f"const float *restrict {now[x]} = {course.address};")
    pointers = {**{r: p for r, p in stores.items()}, **{f"saved {s}": p for s, p in saved.items()}}
    at_step = {key: w.name(f"{pointer}_row") for key, pointer in pointers.items()}
    for key, pointer in pointers.items():
        w.line(1, f"float *restrict {at_step[key]} = {pointer} + t * cells;")
    w.lanes(1)
    for s in saved:
        w.line(2, f"{at_step[f'saved {s}']}[j] = {states[s]}[j];")
    values.update({s: f"{pointer}[j]" for s, pointer in states.items()})
    values.update({x: f"{now[x]}[{course.at('j')}]" for x, course in courses.items()})
    values[variant.port] = "current[j]"
    made = _call(w, step, values)
    for s, pointer in states.items():
        w.line(2, f"{pointer}[j] = {made[s]};")
    for r in stores:
        w.line(2, f"{at_step[r]}[j] = {made[r]};")
    w.line(1, "}")

    current = f"{product} + {'t * cells + at' if variant.train else 'at'}"
    loop = [
        *late.prepare(1),
        "#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)",
        "    for (int64_t b = 0; b < B; b++) {",
        "        const int64_t at = b * N;",
        f"        for (int64_t t = 0; t < {steps}; t++) {{",
        f"            const float *before = t ? {stores[variant.source]} + (t - 1) * cells + at : {start} + at;",
        f"            int32_t *listed = {places} + b * (N + 1);",
        f"            float *found = {factors} + b * (N + 1);",
        "            const int64_t count = snn_active(before, N, found, listed);",
        f"            float *current = {current};",
        "            for (int64_t j = 0; j < N; j++)",
        f"                current[j] = {f'{bias}[j]' if bias else '0.0f'};",
        f"            snn_add_rows(found, listed, count, {weight}, N, current);",
        *late.gather(3),
        *_row_call(w, row, ["current"], 3),
        "        }",
        "    }",
    ]
    about = """A thread takes a sequence through all steps. The product adds up the rows of the weight whose input is
 * not zero, in the order of the inputs, and then the neurons' step follows."""
    what = "forward over a whole sequence, the product included"
    helpers = [EVENTS, late.helpers]
    text = _file(scan, what, about, w, name, step, helpers, (row, ["const float *restrict current"]), loop)
    return KernelSource(
        name,
        text,
        _types(w),
        inputs=tuple(scan.inputs.index(x) for x in inputs),
        coefs=tuple(scan.coefs.index(c) for c in coefs),
        states=tuple(range(len(scan.states))),
        by_chunk=False,
    )


def print_layer_backward(scan: Scan, variant: LayerBackward) -> KernelSource:
    """The file with the backward function of a recurrent layer."""
    w = Writer()
    name, row = w.name(f"{scan.name}_recurrent_backward"), w.name(f"{scan.name}_row")
    scalar = dict(zip(scan.reverse_coefs, variant.layout.coefs, strict=True))
    unit = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
    accumulators = scan.accumulators if variant.need_accumulators else ()
    given = dict(variant.grads)
    wanted = [*(f"grad_{x}" for x in (*variant.need_inputs, variant.port)), *accumulators]
    pruned = prune_reverse(scan, {*given, variant.source}, variant.finals, wanted)
    step = print_function(w.name(f"{scan.name}_step_grad"), pruned.program, "The gradient of one time step.")
    inputs = [x for x in scan.inputs if x in step.args and x != variant.port]
    coefs = [c for c in scan.reverse_coefs if c in step.args]
    read = [s for s in scan.states if s in step.args]
    grads = [r for r in given if f"grad_{r}" in step.args]

    weight = w.whole("weight", "weight (N, N): a row for each output")
    later = w.cells("grad_start", "gradient of the value before the first step, (B, N); 0 before", True)
    late = LateRows(w, variant.layout.late_of(scan.inputs))
    courses = {x: late.course(x, unit[x]) for x in inputs}
    product = w.cells("product", "the product, (T, B, N)")
    values = {c: w.coefficient(c, scalar[c], "reverse coefficient") for c in coefs}
    saved = {s: w.cells(f"{s}_saved", "state before every step, (T, B, N)") for s in read}
    grad_courses = {f"grad_{r}": w.course(f"grad_{r}", given[r], "gradient of the result") for r in grads}
    about = "gradient of the state, (B, N), read and written"
    carry = {s: w.cells(f"grad_{s}_running", about, True) for s in pruned.carried}
    grad_product = w.cells("grad_product", "gradient of the product, (T, B, N)", True)
    found = {x: late.gradient(x) for x in variant.need_inputs}
    sums = {a: w.cells(f"{a}_running", "sum over time, (B, N), read and written", True) for a in accumulators}
    steps = w.whole("T", "time steps", number=True)
    tile = w.whole("together", "sequences that a thread takes back at once, at most TILE", number=True)

    reads = {**courses, **grad_courses}
    now = {x: w.name(f"{x}_now") for x in reads}
    for x, course in reads.items():
        w.line(1, f"const float *restrict {now[x]} = {course.address};")
    rows = {key: w.name(f"{pointer}_row") for key, pointer in (("product", product), *saved.items())}
    for key, pointer in (("product", product), *saved.items()):
        w.line(1, f"const float *restrict {rows[key]} = {pointer} + t * cells;")
    targets = {variant.port: (grad_product, "cells"), **found}
    ends = {x: w.name(f"{pointer}_row") for x, (pointer, _) in targets.items()}
    for x, (pointer, stride) in targets.items():
        w.line(1, f"float *restrict {ends[x]} = {pointer}{f' + t * {stride}' if stride else ''};")
    w.lanes(1)
    values.update({x: f"{now[x]}[{course.at('j')}]" for x, course in reads.items()})
    values.update({s: f"{rows[s]}[j]" for s in saved})
    values[variant.port] = f"{rows['product']}[j]"
    for s, pointer in carry.items():
        grad = values.get(f"grad_{s}")
        values[f"grad_{s}"] = f"{pointer}[j] + {grad}" if grad else f"{pointer}[j]"
    grad = values.get(f"grad_{variant.source}")
    values[f"grad_{variant.source}"] = f"{grad} + {later}[j]" if grad else f"{later}[j]"
    made = _call(w, step, values)
    for s, pointer in carry.items():
        w.line(2, f"{pointer}[j] = {made[f'grad_{s}']};")
    for x in targets:
        w.line(2, f"{ends[x]}[j] = {made[f'grad_{x}']};")
    for a, pointer in sums.items():
        w.line(2, f"{pointer}[j] = {pointer}[j] + {made[a]};")
    w.line(1, "}")

    loop = [
        *late.prepare(1),
        f"    const int64_t tiles = (B + {tile} - 1) / {tile};",
        "#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)",
        "    for (int64_t tile = 0; tile < tiles; tile++) {",
        f"        const int64_t begin = tile * {tile}, end = begin + {tile} < B ? begin + {tile} : B;",
        f"        for (int64_t t = {steps} - 1; t >= 0; t--) {{",
        f"            const float *given = {grad_product} + t * cells + begin * N;",
        "            for (int64_t b = begin; b < end; b++) {",
        "                const int64_t at = b * N;",
        *late.gather(4),
        *_row_call(w, row, [], 4),
        *late.scatter(4),
        "            }",
        "            for (int64_t i = begin * N; i < end * N; i++)",
        f"                {later}[i] = 0.0f;",
        "            if (end - begin == TILE)",
        f"                snn_dense_tile(given, {weight}, N, N, {later} + begin * N);",
        "            else",
        "                for (int64_t b = begin; b < end; b++)",
        f"                    snn_dense_row(given + (b - begin) * N, {weight}, N, N, {later} + b * N);",
        "        }",
        "    }",
    ]
    what = "backward over a whole sequence, the product included"
    about = """A thread takes some sequences back through all steps: the gradient of the neurons' step, then its
 * product with the weight, which is what comes to the step before."""
    text = _file(scan, what, about, w, name, step, [DENSE, late.helpers], (row, []), loop)
    return KernelSource(
        name,
        text,
        _types(w),
        inputs=tuple(scan.inputs.index(x) for x in inputs),
        coefs=tuple(scan.reverse_coefs.index(c) for c in coefs),
        states=tuple(scan.states.index(s) for s in read),
        by_chunk=False,
        grads=tuple(grads),
        carried=pruned.carried,
    )


def _call(w: Writer, step: Function, values: dict[str, str]) -> dict[str, str]:
    made = {r: w.name(f"{r}_new") for r in step.results}
    if made:
        w.call(2, step, values, made)
    return made


def _row_call(w: Writer, row: str, more: list[str], depth: int) -> list[str]:
    passed = [a.part for a in w.arguments if a.part]
    return call_lines(row, [*passed, *more, "cells", "t", "(int)N"], depth, ";")


def _types(w: Writer) -> str:
    return "".join(a.type for a in w.arguments) + "qqi"


def _file(
    scan: Scan,
    what: str,
    about: str,
    w: Writer,
    name: str,
    step: Function,
    helpers: list[str],
    row: tuple[str, list[str]],
    loop: list[str],
) -> str:
    header = f"""/* {safe(scan.name)}: {what}. Generated by snncompile.
 *
 * Nodes: {safe(", ".join(scan.members)) or "one node"}.
 * {about}
 * Courses are float32 (T, B, N); those written are contiguous.
 *
{listed(w)}
 */
"""
    row_name, more = row
    inner = [a.part_declaration for a in w.arguments if a.part]
    lines = [
        "/* One step of one sequence: m neurons. */",
        *call_lines(f"static void {row_name}", [*inner, *more, "int64_t cells", "int64_t t", "int m"]),
        "{",
        *w.lines,
        "}",
        "",
        *call_lines(f"void {name}", [*(a.declaration for a in w.arguments), *_SIZES, "int threads"]),
        "{",
        "    const int64_t cells = B * N, first = 0;",
        "    (void)threads;",
        "    (void)first;",
        *loop,
        "}",
    ]
    parts = [header, PREAMBLE, *helpers, print_called([step]), step.text, "\n".join(lines) + "\n"]
    return "\n".join(p for p in parts if p)
