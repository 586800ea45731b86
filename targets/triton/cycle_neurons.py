"""Prints one step of an elementwise node inside a larger kernel: forward, and its gradient."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from snncompile.targets.cycle_plan import Neurons, Read
from snncompile.targets.prune import Pruned
from snncompile.targets.triton.cycle_late import LateInput, gradient_row, is_own, late_input, load_steps
from snncompile.targets.triton.cycle_writer import CycleWriter
from snncompile.targets.triton.printer import print_function

#: Where the values of a step stand, and the offsets of a tile there; or what to load where each neuron is late.
Place = tuple[str, str] | LateInput


def print_neurons(w: CycleWriter, node: Neurons, scalar: tuple[bool, ...], live: Collection[int]) -> None:
    """One step of ``node``, whose states and results go to the lines that are ``live``.

    Args:
        w: the kernel.
        node: the node.
        scalar: per coefficient, whether that is one number for all neurons.
        live: the lines that anybody reads.
    """
    scan, size = w.plan.scans[node.name], w.plan.size_of(node)
    lines = dict(zip(scan.results, (*node.states, *node.results), strict=True))
    kept = {r: line for r, line in lines.items() if r in scan.states or line in live}
    one = dict(zip(scan.coefs, scalar, strict=True))
    step = print_function(
        w.names.new(f"{node.name}_step"),
        scan.forward.select(set(kept)),
        f"One time step of {node.name}.",
        [c for c in scan.coefs if one[c]],
    )
    w.functions.append(step)
    sources = {x: s for x, s in zip(scan.inputs, node.inputs, strict=True) if x in step.args}
    inside = [("line", s.line) for s in sources.values() if isinstance(s, Read)]
    w.begin_step(f"{node.name}: the neurons", inside, [("line", line) for line in kept.values()])
    rows = {x: _place(w, s) for x, s in sources.items()}
    before = {s: w.row("line", Read(lines[s], 1)) for s in scan.states if s in step.args}
    after = {r: w.row("line", Read(line)) for r, line in kept.items()}
    w.tiles(size)
    steps = load_steps(w, sources.values())
    values = _load_all(w, {**rows, **{s: (p, "at") for s, p in before.items()}}, steps)
    values |= _coefficients(w, node.name, "coefficient", one, step.args)
    made = w.call_step(3, step, values, size)
    for r, pointer in after.items():
        w.store(3, pointer, made[r])


def print_neurons_back(
    w: CycleWriter,
    node: Neurons,
    scalar: tuple[bool, ...],
    pruned: Pruned,
    need_inputs: Collection[int],
    accumulate: bool,
) -> None:
    """The gradient of one step of ``node``: what its results got, handed on to its states and inputs.

    Args:
        w: the kernel.
        node: the node.
        scalar: per reverse coefficient, whether that is one number for all neurons.
        pruned: what is left of its reverse program.
        need_inputs: inputs from outside whose gradient is wanted.
        accumulate: whether the sums for its parameters' gradients are wanted.
    """
    if not pruned.program.outputs:
        return
    scan, size = w.plan.scans[node.name], w.plan.size_of(node)
    lines = dict(zip(scan.results, (*node.states, *node.results), strict=True))
    one = dict(zip(scan.reverse_coefs, scalar, strict=True))
    step = print_function(
        w.names.new(f"{node.name}_grad"),
        pruned.program,
        f"The gradient of one time step of {node.name}.",
        [c for c in scan.reverse_coefs if one[c]],
    )
    w.functions.append(step)
    sources = dict(zip(scan.inputs, node.inputs, strict=True))
    given = {f"grad_{r}": Read(line) for r, line in lines.items() if f"grad_{r}" in step.args}
    carried = {f"grad_{s}": Read(lines[s], 1) for s in pruned.carried}
    to: dict[Read, list[str]] = {}
    for x, source in sources.items():
        if isinstance(source, Read):
            to.setdefault(source, []).append(f"grad_{x}")
    changed = [("grad", read.line) for read in (*carried.values(), *to)]
    w.begin_step(f"{node.name}: the gradient of the neurons", [("grad", r.line) for r in given.values()], changed)
    read: dict[str, Place] = {x: _place(w, s) for x, s in sources.items() if x in step.args}
    read |= {s: (w.row("line", Read(lines[s], 1)), "at") for s in scan.states if s in step.args}
    read |= {g: (w.row("grad", at), "at") for g, at in given.items()}
    carry = {g: w.row("grad", at) for g, at in carried.items()}
    added = {at: w.row("grad", at) for at in to}
    outside = {x: s for x, s in sources.items() if not isinstance(s, Read) and s in need_inputs}
    leaving = {f"grad_{x}": _gradient_out(w, x, s) for x, s in outside.items()}
    sums = {a: _accumulator(w, node.name, a) for a in (scan.accumulators if accumulate else ())}
    w.tiles(size)
    late = load_steps(w, (s for x, s in sources.items() if x in read or x in outside))
    values = _load_all(w, read, late)
    values |= _coefficients(w, node.name, "reverse coefficient", one, step.args)
    made = w.call_step(3, step, values, size)
    for g, pointer in carry.items():
        w.carry(3, pointer, made[g])
    for (g, pointer), source in zip(leaving.items(), outside.values(), strict=True):
        w.store(3, pointer, made[g], gradient_row(w, source, late) if source in late else "at")
    for at, gradients in to.items():
        w.add(3, added[at], " + ".join(made[g] for g in gradients))
    for a, pointer in sums.items():
        w.add(3, pointer, made[a])


def _place(w: CycleWriter, source: Read | int) -> Place:
    """Where an input's values stand at this step."""
    if isinstance(source, Read):
        return w.row("line", source), "at"
    if is_own(w.plan, source):
        return late_input(w, source)
    now, stride = w.outside(source)
    return now, f"(b * ({stride} + nil).to(tl.int64) + n)"


def _load_all(w: CycleWriter, places: Mapping[str, Place], late: Mapping[int, str]) -> dict[str, str]:
    """Load a tile of each; their names. ``late``: those of by how many steps the neurons of this tile are late."""
    values = {x: w.names.new(x) for x in places}
    for x, place in places.items():
        if isinstance(place, LateInput):
            place.load(w, values[x], late[place.index])
        else:
            w.load(3, values[x], *place)
    return values


def _coefficients(
    w: CycleWriter, node: str, what: str, one: Mapping[str, bool], wanted: Collection[str]
) -> dict[str, str]:
    """Load the coefficients that are wanted; their names."""
    values = {c: w.names.new(c) for c in one if c in wanted}
    for c, local in values.items():
        about = f"{what} of {node}, {'one number' if one[c] else '(N,)'}"
        w.coefficient(local, w.address((what, node, c), f"{node}_{c}", about), one[c])
    return values


def _gradient_out(w: CycleWriter, port: str, source: int) -> str:
    """Where the gradient of an input from outside goes at this step."""
    about = f"gradient of {w.plan.outside[source].source}, ({'L + ' if is_own(w.plan, source) else ''}T, B, N)"
    pointer = w.address(("grad input", source), f"grad_{port}_{source}", about)
    if is_own(w.plan, source):
        return pointer
    name = w.names.new(f"grad_{port}_now")
    w.line(2, f"{name} = {pointer} + t * ((B + nil).to(tl.int64) * {w.plan.sizes[source]})")
    return name


def _accumulator(w: CycleWriter, node: str, a: str) -> str:
    about = f"{a} of {node} over time, (B, N), read and written"
    return w.address(("accumulator", node, a), f"{node}_{a}_sum", about)
