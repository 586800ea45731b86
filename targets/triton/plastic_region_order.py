"""In which order the parts of a step of a region that learns are done, so that programs seldom wait for each other.

Tiles of a part are dealt out to programs one after the other. So a part whose tiles are those of another, and which
reads of its values only those at the same place, waits for nobody: its program made them itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from snncompile.targets.cycle_plan import Copy, Mask, Neurons, Product, Read, Step
from snncompile.targets.plastic_plan import Learn, PlasticPlan, PlasticProduct


class Part(NamedTuple):
    """What is done for all neurons of a step, but for the change of weights.

    Attributes:
        step: the step of the plan, or what is summed over time.
        side: of a rule, which side of it.
        reads: the lines of which it reads the present values.
        writes: the lines that it makes.
        tiles: parts of which this is equal have the same tiles.
        own: whether it reads only what its own tiles hold.
    """

    step: Step | PlasticProduct | Learn | Read
    side: str
    reads: frozenset[int]
    writes: frozenset[int]
    tiles: Hashable
    own: bool


def phases_of(plan: PlasticPlan, sums: Sequence[Read] = ()) -> tuple[tuple[Part, ...], ...]:
    """The parts of a step: those of a phase need nothing that other programs make in it.

    Args:
        plan: the region.
        sums: what is summed over time.
    """
    left = [part for step in plan.order for part in _parts(plan, step)]
    left += [Part(read, "", _now(read), frozenset(), plan.lines[read.line].size, True) for read in sums]
    maker = {line: part for part in left for line in part.writes}
    before: dict[Part, list[Part]] = {}
    for i, part in enumerate(left):
        makers = [maker[line] for line in part.reads if line in maker]
        before[part] = [m for m in makers if m in left[:i]]
    phases: list[tuple[Part, ...]] = []
    done: set[Part] = set()
    while left:
        phase: list[Part] = []
        for part in [*left, *left]:  # twice: what a part waits for may come after it
            if part not in phase and all(m in done or (m in phase and _alike(m, part)) for m in before[part]):
                phase.append(part)
        left = [part for part in left if part not in phase]
        done |= set(phase)
        phases.append(tuple(phase))
    return tuple(phases)


def _alike(made: Part, part: Part) -> bool:
    """Whether each program makes what it reads itself."""
    return part.own and made.tiles == part.tiles


def _parts(plan: PlasticPlan, step: Step | PlasticProduct | Learn) -> list[Part]:
    if isinstance(step, Learn):
        sides = (("pre", step.pre, step.pre_traces), ("post", step.post, step.post_traces))
        return [Part(step, side, _now(x), frozenset(t), plan.size_read(x), True) for side, x, t in sides]
    if isinstance(step, Neurons):
        reads = frozenset().union(*(_now(x) for x in step.inputs))
        return [Part(step, "", reads, frozenset(step.states + step.results), plan.size_of(step), True)]
    width, own = plan.lines[step.line].size, isinstance(step, Copy | Mask)
    lags_of_its_own = isinstance(step, Product) and step.part != "weight"
    reads = frozenset({step.read.line}) if lags_of_its_own else _now(step.read)  # type: ignore[union-attr]
    tiles: Hashable = ("dense", width) if _dense(step) else width
    return [Part(step, "", reads, frozenset({step.line}), tiles, own)]


def _dense(step: Step | PlasticProduct) -> bool:
    if isinstance(step, PlasticProduct):
        return step.sliding is None
    return isinstance(step, Product) and not step.sparse


def _now(read: Read | int) -> frozenset[int]:
    """The line of which this reads the present value, if it does."""
    return frozenset({read.line}) if isinstance(read, Read) and not read.lag else frozenset()
