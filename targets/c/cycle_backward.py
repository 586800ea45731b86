"""Prints the function that runs the gradient of a cycle: from the last step to the first, each step's parts backward.

The gradient of a line is a line, too: what reads a value some steps later adds to its gradient, which is complete when
the step that made the value comes up.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from snncompile.targets.c.cycle_forward import lag_names, synapse_names
from snncompile.targets.c.cycle_images import conv_backward, helpers, mask_backward, pool_backward
from snncompile.targets.c.cycle_source import DENSE_ROWS, GIVEN, LINES, SPARSE_BACK
from snncompile.targets.c.cycle_writer import CycleSource, CycleWriter, RowFunction
from snncompile.targets.c.printer import print_function
from snncompile.targets.c.products import DENSE
from snncompile.targets.cycle_plan import Conv, Copy, CyclePlan, Mask, Neurons, Pool, Product, Read
from snncompile.targets.prune import Pruned, prune_reverse


class CycleBackward(NamedTuple):
    """A backward function of a cycle.

    Attributes:
        scalar: per elementwise node and reverse coefficient, whether that is one number for all neurons.
        grads: courses that have a gradient.
        finals: lines of states whose final value has a gradient.
        need_inputs: inputs whose gradient is wanted.
        need_accumulators: elementwise nodes whose accumulators are wanted.
    """

    scalar: tuple[tuple[bool, ...], ...]
    grads: tuple[Read, ...]
    finals: tuple[int, ...]
    need_inputs: tuple[int, ...]
    need_accumulators: tuple[str, ...]


def print_cycle_backward(plan: CyclePlan, variant: CycleBackward) -> CycleSource:
    """The file with the backward function of a cycle."""
    w = CycleWriter(plan, f"{plan.name}_backward", writes_lines=False)
    scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
    graded = {read.line for read in (*plan.reads, *variant.grads)}
    pruned = {n.name: _pruned(plan, n, variant, graded) for n in plan.neurons}
    for line in sorted(graded):
        it = plan.lines[line]
        if not it.is_state:
            w.each_sequence(3, "snn_fill", [w.row("grad", line, it.depth), "0.0f", str(it.size)])
    for i, read in enumerate(variant.grads):
        _given(w, i, read)
    for step in reversed(plan.steps):
        if isinstance(step, Neurons):
            _neurons(w, step, scalar[step.name], pruned[step.name], variant)
        elif step.line not in graded:
            continue
        elif isinstance(step, Copy):
            size = plan.lines[step.line].size
            w.each_sequence(3, "snn_add", [w.row("grad", *step.read), w.row("grad", step.line), str(size)])
        elif isinstance(step, Conv):
            conv_backward(w, step)
        elif isinstance(step, Pool):
            pool_backward(w, step)
        elif isinstance(step, Mask):
            mask_backward(w, step)
        elif step.sparse:
            _sparse(w, step)
        else:
            _dense(w, step)
    w.random(w.functions)
    about = """A thread takes some sequences back through all steps. What reads a value adds to the row of its
 * gradient; the step that made the value takes it from there."""
    loop = "for (int64_t t = T - 1; t >= 0; t--) {"
    called = [LINES, DENSE, DENSE_ROWS, SPARSE_BACK, GIVEN, *helpers(plan, forward=False)]
    return w.file(
        "backward over a whole sequence", about, called, "({depth} + T - 1)", loop, reverse=True
    )


def _pruned(plan: CyclePlan, node: Neurons, variant: CycleBackward, graded: Collection[int]) -> Pruned:
    scan = plan.scans[node.name]
    lines = dict(zip(scan.results, (*node.states, *node.results), strict=True))
    sources = dict(zip(scan.inputs, node.inputs, strict=True))
    wanted = [f"grad_{x}" for x, s in sources.items() if isinstance(s, Read) or s in variant.need_inputs]
    wanted += scan.accumulators if node.name in variant.need_accumulators else ()
    given = [r for r, line in lines.items() if line in graded]
    return prune_reverse(scan, given, [s for s in scan.states if lines[s] in variant.finals], wanted)


def _given(w: CycleWriter, index: int, read: Read) -> None:
    """Add what comes from outside."""
    stem = w.stems[read.line]
    name = w.pointer(("given", index), f"given_{stem}", f"gradient of {w.plan.lines[read.line].key}, (T, B, N)")
    step, row, column = (
        w.number((f"given {what}", index), f"{name}_{what[0]}", f"stride of {name} over {what}")
        for what in ("time", "batch", "neurons")
    )
    items = [w.row("grad", *read), f"{name} + t * {step} + b * {row}", column, str(w.plan.lines[read.line].size)]
    w.each_sequence(3, "snn_add_course", items)


def _neurons(
    w: CycleWriter, node: Neurons, scalar: tuple[bool, ...], pruned: Pruned, variant: CycleBackward
) -> None:
    plan, scan = w.plan, w.plan.scans[node.name]
    step = print_function(w.new(f"{node.name}_grad"), pruned.program, f"The gradient of one time step of {node.name}.")
    if not step.results:
        return
    w.functions.append(step)
    lines = dict(zip(scan.results, (*node.states, *node.results), strict=True))
    size = plan.size_of(node)
    f = RowFunction(w.new(f"{node.name}_back"))
    values = {}
    sources = dict(zip(scan.inputs, node.inputs, strict=True))
    for x, source in sources.items():
        if x in step.args:
            row = w.row("line", *source) if isinstance(source, Read) else w.outside(source, f)
            values[x] = f"{f.pointer(f'{x}_now', row)}[j]"
    for s in scan.states:
        if s in step.args:
            values[s] = f"{f.pointer(f'{s}_before', w.row('line', lines[s], 1))}[j]"
    for c, one in zip(scan.reverse_coefs, scalar, strict=True):
        if c in step.args:
            values[c] = w.coefficient(f, node.name, c, one, "reverse coefficient")
    for r, line in lines.items():
        if f"grad_{r}" in step.args:
            values[f"grad_{r}"] = f"{f.pointer(f'grad_{r}_given', w.row('grad', line))}[j]"
    f.drawing(step, size)
    made = {r: f.names.new(f"{r}_new") for r in step.results}
    f.call(step, values, made)
    for s in pruned.carried:
        f.line(2, f"{f.pointer(f'grad_{s}_before', w.row('grad', lines[s], 1), write=True)}[j] = {made[f'grad_{s}']};")
    _hand_on(w, f, sources, made, variant)
    for a in scan.accumulators if node.name in variant.need_accumulators else ():
        about = f"{a} of {node.name} over time, (B, N), read and written"
        total = w.pointer(("accumulator", node.name, a), f"{node.name}_{a}_sum", about, "float")
        inner = f.pointer(f"{a}_sum", f"{total} + b * {size}", write=True)
        f.line(2, f"{inner}[j] = {inner}[j] + {made[a]};")
    w.rows.append(f.text(f"The gradient of one step of one sequence of {node.name}."))
    w.each_row(f, size)


def _hand_on(
    w: CycleWriter, f: RowFunction, sources: dict[str, Read | int], made: dict[str, str], variant: CycleBackward
) -> None:
    """Add the gradients of inputs to those of their lines; write those of inputs from outside."""
    inside: dict[Read, list[str]] = {}
    for x, source in sources.items():
        if isinstance(source, Read):
            inside.setdefault(source, []).append(x)
        elif source in variant.need_inputs:
            late, size = w.plan.offset(source), w.plan.sizes[source]
            about = f"gradient of {w.plan.outside[source].source}, ({'L + T' if late else 'T'}, B, N)"
            pointer = w.pointer(("grad input", source), f"grad_{x}_{source}", about, "float")
            row = f"{pointer} + (t * B + b) * {size}"
            row = w.late.scattered(source, f, row) if late in ("each", "shared") else row
            inner = f.pointer(f"grad_{x}", row, write=True)
            f.line(2, f"{inner}[j] = {made[f'grad_{x}']};")
    for read, ports in inside.items():
        to = f.pointer(f"grad_{ports[0]}_to", w.row("grad", *read), write=True)
        f.line(2, f"{to}[j] = {to}[j] + {' + '.join(made[f'grad_{x}'] for x in ports)};")


def _dense(w: CycleWriter, product: Product) -> None:
    ins, outs = w.plan.lines[product.read.line].size, w.plan.lines[product.line].size
    lags, count = lag_names(w, product)
    about = f"weight of {product.name}, (lags, out, in)"
    weight = w.pointer(("weight back", product.name, product.part), f"{product.name}_weight", about)
    w.line(3, f"for (int64_t l = 0; l < {count}; l++)")
    to = w.row("grad", product.read.line, f"{lags}[l]", "begin")
    given = w.row("grad", product.line, 0, "begin")
    w.call(4, "snn_dense_rows", [given, f"{weight} + l * {ins * outs}", str(outs), str(ins), "end - begin", to])


def _sparse(w: CycleWriter, product: Product) -> None:
    lags, count = lag_names(w, product)
    w.line(3, f"for (int64_t l = 0; l < {count}; l++)")
    to = w.row("grad", product.read.line, f"{lags}[l]")
    w.each_sequence(4, "snn_sparse_back", [*synapse_names(w, product), w.row("grad", product.line), to])
