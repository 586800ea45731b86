"""Prints the kernel that runs the gradient of a cycle: from the last step to the first, each step's parts backward.

The gradient of a line is a line, too: what reads a value some steps later adds to its gradient, which is complete when
the step that made the value comes up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from snncompile.targets.cycle_plan import Copy, CyclePlan, Neurons, Product, Read
from snncompile.targets.prune import Pruned, prune_reverse
from snncompile.targets.triton.cycle_forward import ABOUT, steps_of, writer_of
from snncompile.targets.triton.cycle_images import image_helpers, print_image_step_back
from snncompile.targets.triton.cycle_neurons import print_neurons_back
from snncompile.targets.triton.cycle_products import DENSE, GATHER, print_product_back
from snncompile.targets.triton.cycle_shared import SharedWriter
from snncompile.targets.triton.cycle_writer import CycleKernel, CycleWriter


class CycleBackward(NamedTuple):
    """A backward kernel of a cycle.

    Attributes:
        scalar: per elementwise node and reverse coefficient, whether that is one number for all neurons.
        grads: courses that have a gradient.
        finals: lines of states whose final value has a gradient.
        need_inputs: inputs whose gradient is wanted.
        need_accumulators: elementwise nodes whose accumulators are wanted.
        late: steps of a block where several programs share the cycle, or 0.
    """

    scalar: tuple[tuple[bool, ...], ...]
    grads: tuple[Read, ...]
    finals: tuple[int, ...]
    need_inputs: tuple[int, ...]
    need_accumulators: tuple[str, ...]
    late: int = 0


def print_cycle_backward(plan: CyclePlan, variant: CycleBackward) -> CycleKernel:
    """The module with the backward kernel of a cycle."""
    w = writer_of(plan, f"{plan.name}_backward", variant.late, reverse=True)
    scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
    graded = {read.line for read in (*plan.reads, *variant.grads)}
    pruned = {node.name: pruned_of(plan, node, variant, graded) for node in plan.neurons}
    if isinstance(w, SharedWriter) and w.blocks:
        w.several()
        _begin_block(w, graded | _carried(plan, pruned), variant.grads)
    else:
        _begin(w, sorted(graded), variant.grads)
    for step in reversed(steps_of(plan, variant.late)):
        w.begin_part(step)
        if isinstance(step, Neurons):
            accumulate = step.name in variant.need_accumulators
            print_neurons_back(w, step, scalar[step.name], pruned[step.name], variant.need_inputs, accumulate)
        elif step.line not in graded:
            continue
        elif isinstance(step, Copy):
            _copy(w, step)
        elif isinstance(step, Product):
            print_product_back(w, step)
        else:
            print_image_step_back(w, step)
    helpers = [DENSE, GATHER, *image_helpers(plan)]
    return w.kernel("backward over a whole sequence, in one launch", ABOUT, helpers, reverse=True)


def pruned_of(plan: CyclePlan, node: Neurons, variant: CycleBackward, graded: Collection[int]) -> Pruned:
    """The part of a node's reverse program that ``variant`` runs."""
    scan = plan.scans[node.name]
    lines = dict(zip(scan.results, (*node.states, *node.results), strict=True))
    sources = dict(zip(scan.inputs, node.inputs, strict=True))
    wanted = [f"grad_{x}" for x, s in sources.items() if isinstance(s, Read) or s in variant.need_inputs]
    wanted += scan.accumulators if node.name in variant.need_accumulators else ()
    given = [r for r, line in lines.items() if line in graded]
    return prune_reverse(scan, given, [s for s in scan.states if lines[s] in variant.finals], wanted)


def _carried(plan: CyclePlan, pruned: Mapping[str, Pruned]) -> set[int]:
    """The states to which gradients of their later values go."""
    found: set[int] = set()
    for node in plan.neurons:
        lines = dict(zip(plan.scans[node.name].states, node.states, strict=True))
        found |= {lines[s] for s in pruned[node.name].carried}
    return found


def _begin_block(w: CycleWriter, begun: Collection[int], grads: Sequence[Read]) -> None:
    """Begin, for a block of steps, the gradients of the oldest values that they read; add what comes from outside.

    To states, too, as their later values add to them only afterwards. Two steps may add to the same value, not at once.
    """
    lines = w.plan.lines
    about = "what begins: the gradients of the oldest values"
    w.begin_step(about, [], [("grad", line) for line in sorted(begun)])
    for size, group in _by_size(w, sorted(begun)).items():
        rows = {line: w.row("grad", Read(line, lines[line].depth)) for line in group}
        w.tiles(size)
        for line in group:
            w.store(3, rows[line], "0.0")
    if grads:
        w.begin_step("what comes from outside", [], [("grad", line) for line in sorted({r.line for r in grads})])
    for i, read in enumerate(grads):
        to, place = w.row("grad", read), _given(w, i, read)
        w.tiles(lines[read.line].size)
        w.add(3, to, _sum(w, [place]))
        w.settle()


def _begin(w: CycleWriter, graded: Sequence[int], grads: Sequence[Read]) -> None:
    """Begin the gradients of the oldest values that this step reads, and add what comes from outside.

    Of a line that nobody looks back at, that is what comes from outside; of others, a value that nobody gave anything.
    """
    lines = w.plan.lines
    given: dict[Read, list[int]] = {}
    for i, read in enumerate(grads):
        given.setdefault(read, []).append(i)
    begun = [line for line in graded if not lines[line].is_state]
    w.begin_step("what begins: the gradients of the oldest values", [], [("grad", line) for line in begun])
    for size, group in _by_size(w, begun).items():
        rows = {line: w.row("grad", Read(line, lines[line].depth)) for line in group}
        ready = {line: given.pop(Read(line), []) if not lines[line].depth else [] for line in group}
        places = {i: _given(w, i, Read(line)) for line, found in ready.items() for i in found}
        w.tiles(size)
        for line in group:
            w.store(3, rows[line], _sum(w, [places[i] for i in ready[line]]))
    if not given:
        return
    w.begin_step("what comes from outside", [], [("grad", read.line) for read in given])
    for size, group in _by_size(w, [read.line for read in given]).items():
        here = {read: found for read, found in given.items() if read.line in group}
        to = {read: w.row("grad", read) for read in here}
        places = {i: _given(w, i, read) for read, found in here.items() for i in found}
        w.tiles(size)
        for read, found in here.items():
            w.add(3, to[read], _sum(w, [places[i] for i in found]))


def _by_size(w: CycleWriter, lines: Iterable[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for line in lines:
        found.setdefault(w.plan.lines[line].size, []).append(line)
    return found


def _given(w: CycleWriter, index: int, read: Read) -> tuple[str, str]:
    """Where what comes from outside stands at this step, and the offsets of a tile there."""
    it, name = w.plan.lines[read.line], f"given_{w.stem(read.line)}"
    pointer = w.address(("given", index), name, f"gradient of {it.key}, (T, B, N)")
    step, row, column = (
        w.integer((f"given {what}", index), f"{name}_{what[0]}", f"stride of {pointer} over {what}")
        for what in ("time", "batch", "neurons")
    )
    now = w.names.new(f"{name}_now")
    w.line(2, f"{now} = {pointer} + t * ({step} + nil).to(tl.int64)")
    return now, f"(b * ({row} + nil).to(tl.int64) + n * ({column} + nil).to(tl.int64))"


def _sum(w: CycleWriter, places: Sequence[tuple[str, str]]) -> str:
    """Load what comes from outside; the sum of it."""
    names = [w.names.new("value") for _ in places]
    for name, (pointer, offset) in zip(names, places, strict=True):
        w.load(3, name, pointer, offset)
    return " + ".join(names) or "0.0"


def _copy(w: CycleWriter, step: Copy) -> None:
    """Hand back what a line got that holds another one's values."""
    about = f"{w.plan.lines[step.line].key}: the gradient of what it holds"
    w.begin_step(about, [("grad", step.line)], [("grad", step.read.line)])
    to, given = w.row("grad", step.read), w.row("grad", Read(step.line))
    w.tiles(w.plan.lines[step.line].size)
    w.load(3, "value", given)
    w.add(3, to, "value")
