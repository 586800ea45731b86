"""Prints the function that runs a cycle forward: a loop over time around everything that a step does."""

from __future__ import annotations

from typing import NamedTuple

from snncompile.targets.c.cycle_images import conv_forward, helpers, mask_forward, pool_forward
from snncompile.targets.c.cycle_source import DENSE_ROWS, EVENT_ROW, LINES, SPARSE
from snncompile.targets.c.cycle_writer import CycleSource, CycleWriter, RowFunction
from snncompile.targets.c.printer import print_function
from snncompile.targets.c.products import DENSE_ALONE, EVENTS
from snncompile.targets.cycle_plan import Conv, Copy, CyclePlan, Mask, Neurons, Pool, Product, Read


class CycleForward(NamedTuple):
    """A forward function of a cycle.

    Attributes:
        scalar: per elementwise node and coefficient, whether that is one number for all neurons.
        live: the lines that anybody reads.
        sums: what is summed over time.
    """

    scalar: tuple[tuple[bool, ...], ...]
    live: tuple[int, ...]
    sums: tuple[Read, ...] = ()


def print_cycle_forward(plan: CyclePlan, variant: CycleForward) -> CycleSource:
    """The file with the forward function of a cycle."""
    w = CycleWriter(plan, f"{plan.name}_forward", writes_lines=True)
    scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
    for step in plan.steps:
        if isinstance(step, Neurons):
            print_neurons(w, step, scalar[step.name], variant.live)
        elif isinstance(step, Copy):
            size = plan.lines[step.line].size
            w.each_sequence(3, "snn_copy", [w.row("line", step.line), w.row("line", *step.read), str(size)])
        elif isinstance(step, Conv):
            conv_forward(w, step)
        elif isinstance(step, Pool):
            pool_forward(w, step)
        elif isinstance(step, Mask):
            mask_forward(w, step)
        elif step.sparse:
            print_sparse(w, step)
        else:
            _dense(w, step)
    for i, read in enumerate(variant.sums):
        size = plan.lines[read.line].size
        total = w.pointer(("sum", i), f"{w.stems[read.line]}_sum", "sum over time, (B, N), read and written", "float")
        w.each_sequence(3, "snn_add", [f"{total} + b * {size}", w.row("line", *read), str(size)])
    w.random(w.functions)
    about = """A thread takes some sequences through all steps. Dense products of spikes add up the rows of the weight
 * whose input is not zero, sparse ones the synapses, in the order of lags and inputs."""
    loop = "for (int64_t t = 0; t < T; t++) {"
    called = [LINES, EVENTS, EVENT_ROW, DENSE_ALONE, DENSE_ROWS, SPARSE, *helpers(plan, forward=True)]
    return w.file("forward over a whole sequence", about, called, "{depth}", loop, reverse=False)


def print_neurons(w: CycleWriter, node: Neurons, scalar: tuple[bool, ...], live: tuple[int, ...]) -> None:
    """A step of an elementwise node."""
    plan, scan = w.plan, w.plan.scans[node.name]
    made_here = scan.results[len(scan.states) :]
    results = {r: line for r, line in zip(made_here, node.results, strict=True) if line in live}
    about = f"One time step of {node.name}."
    step = print_function(w.new(f"{node.name}_step"), scan.forward.select({*scan.states, *results}), about)
    w.functions.append(step)
    size = plan.size_of(node)
    f = RowFunction(w.new(f"{node.name}_row"))
    values = {}
    for x, source in zip(scan.inputs, node.inputs, strict=True):
        if x in step.args:
            row = w.row("line", *source) if isinstance(source, Read) else w.outside(source, f)
            values[x] = f"{f.pointer(f'{x}_now', row)}[j]"
    for c, one in zip(scan.coefs, scalar, strict=True):
        if c in step.args:
            values[c] = w.coefficient(f, node.name, c, one, "coefficient")
    ends = {}
    for s, line in zip(scan.states, node.states, strict=True):
        if s in step.args:
            values[s] = f"{f.pointer(f'{s}_before', w.row('line', line, 1))}[j]"
        ends[s] = f.pointer(f"{s}_after", w.row("line", line), write=True)
    for r, line in results.items():
        ends[r] = f.pointer(f"{r}_to", w.row("line", line), write=True)
    f.drawing(step, size)
    made = {r: f.names.new(f"{r}_new") for r in step.results}
    f.call(step, values, made)
    for r, pointer in ends.items():
        f.line(2, f"{pointer}[j] = {made[r]};")
    w.rows.append(f.text(f"One step of one sequence of {node.name}."))
    w.each_row(f, size)


def lag_names(w: CycleWriter, product: Product) -> tuple[str, str]:
    """Names of a product's lags and of how many there are; they count from the present."""
    key, name = (product.name, product.part), product.name
    lags = w.pointer(("lags", *key), f"{name}_lags", f"how many steps ago {name} reads, (lags,)", "const int64_t")
    return lags, w.number(("lag count", *key), f"{name}_lag_count", f"lags of {name}")


def _bias(w: CycleWriter, product: Product) -> str:
    about = f"bias of {product.name}, or nothing"
    return w.pointer(("bias", product.name, product.part), f"{product.name}_bias", about)


def _dense(w: CycleWriter, product: Product) -> None:
    ins, outs = w.plan.lines[product.read.line].size, w.plan.lines[product.line].size
    lags, count = lag_names(w, product)
    about = f"weight of {product.name}, (lags, in, out)"
    weight = w.pointer(("weight", product.name, product.part), f"{product.name}_weight", about)
    w.each_sequence(3, "snn_begin", [w.row("line", product.line), _bias(w, product), str(outs)])
    w.line(3, f"for (int64_t l = 0; l < {count}; l++)")
    sizes = [f"{weight} + l * {ins * outs}", str(ins), str(outs)]
    if product.events:
        places = w.pointer(("places",), "places", "scratch: where the inputs stand that are not zero", "int32_t")
        factors = w.pointer(("factors",), "factors", "scratch: those inputs", "float")
        room = w.number(("room",), "room", "most inputs of a product, and one")
        x = w.row("line", product.read.line, f"{lags}[l]")
        scratch = [f"{factors} + b * {room}", f"{places} + b * {room}"]
        w.each_sequence(4, "snn_event_row", [x, *sizes, *scratch, w.row("line", product.line)])
    else:
        x = w.row("line", product.read.line, f"{lags}[l]", "begin")
        w.call(4, "snn_dense_rows", [x, *sizes, "end - begin", w.row("line", product.line, 0, "begin")])


def print_sparse(w: CycleWriter, product: Product) -> None:
    """A sparse product."""
    size = w.plan.lines[product.line].size
    lags, count = lag_names(w, product)
    bias = _bias(w, product)
    groups = synapse_names(w, product)
    w.each_sequence(3, "snn_fill", [w.row("line", product.line), "0.0f", str(size)])
    w.line(3, f"for (int64_t l = 0; l < {count}; l++)")
    row = w.row("line", product.read.line, f"{lags}[l]")
    w.each_sequence(4, "snn_sparse_add", [*groups, row, w.row("line", product.line)])
    w.line(3, f"if ({bias})")
    w.each_sequence(4, "snn_add", [w.row("line", product.line), bias, str(size)])


def synapse_names(w: CycleWriter, product: Product) -> list[str]:
    """What says where the synapses of lag ``l`` are, and their weights."""
    key, name = (product.name, product.part), product.name
    first = w.pointer(("first", *key), f"{name}_first", f"the first group of each lag of {name}", "const int64_t")
    sources = w.pointer(("sources", *key), f"{name}_sources", f"the source of each group of {name}", "const int32_t")
    starts = w.pointer(("starts", *key), f"{name}_starts", f"first synapse of each group of {name}", "const int64_t")
    targets = w.pointer(("targets", *key), f"{name}_targets", f"where the synapses of {name} lead", "const int32_t")
    weight = w.pointer(("weight", *key), f"{name}_weight", f"weights of {name}, (synapses,)")
    return [f"{first}[l]", f"{first}[l + 1]", sources, starts, targets, weight]
