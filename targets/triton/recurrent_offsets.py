"""Inputs of a recurrent layer that are read some steps late: a tile lies elsewhere, before step 0 in the input's past.

Equally late ones choose where a step begins by one condition for a whole tile, so they take no more registers than an
input that is not late. Else each neuron has its own beginning, from its number of steps, which is loaded once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from snncompile.targets.triton.kernel import Course, Writer

#: Where a step of a late input begins.
_SEEN = '''@triton.jit
def snn_seen(pointer, stride, past, cells, reach, late, t):
    """Where that step of a course begins that is seen at `t`, `late` steps later.

    Before its step 0 that lies in `past`, which holds the `reach` steps before, `cells` elements each.
    """
    source = t - late
    return tl.where(source >= 0, pointer + source * stride, past + (source + reach) * cells)
'''

#: Tiles are turned since the compiler cannot know that neurons are neighbours in memory where each has an address of
#: its own: it would give neighbouring threads sequences, whose values lie far apart, and spill registers over it.
_LOAD_LATE = '''@triton.jit
def snn_load_late(pointer, stride, past, cells, reach, late, t, offset, active):
    """What is seen at step `t` of a course by neurons that read it `late` steps late, each its own: a row for each."""
    begin = snn_seen(pointer, stride, past, cells, reach, late, t)
    return tl.trans(tl.load(tl.trans(begin + offset), mask=tl.trans(active), other=0.0))
'''

_STORE_LATE = '''@triton.jit
def snn_store_late(pointer, value, active):
    """Store a tile, a row for each neuron, whose neurons go to steps of their own."""
    tl.store(tl.trans(pointer), tl.trans(value), mask=tl.trans(active))
'''


def late_course(w: Writer, name: str, flat: bool, kind: str, dense: bool) -> Course:
    """Add an input that is read late, its neurons one after the other.

    Args:
        w: the kernel.
        name: the input.
        flat: whether its sequences lie one after the other, too.
        kind: how late it is, as in :class:`~snncompile.targets.variant.Layout`.
        dense: whether it is known to be contiguous, and to begin at a multiple of 16 bytes, as its past then does.
    """
    base = w.names.new(name)
    features = "N / share" if kind == "shared" else "N"
    pointer = w.pointer(name, f"input, read late, (T, B, {features})", own=dense)
    step = "cells" if dense else w.number(w.names.new(f"{base}_t"), f"stride of {name} over time")
    row = None if flat or dense else w.number(w.names.new(f"{base}_b"), f"stride of {name} over the batch")
    past = w.pointer(f"{base}_past", f"what came before step 0 of {name}, (L, B, {features})", own=dense)
    reach = w.number(w.names.new(f"{base}_reach"), "L, how late all are" if kind == "one" else "L")
    late = reach if kind == "one" else w.lateness(f"{base}_late", kind)
    if kind != "shared":
        return Course(base, pointer, step, row, None, past, reach, late)
    share = w.number(w.names.new(f"{base}_share"), f"neurons that read one value of {name}")
    return Course(base, pointer, step, row, None, past, reach, late, share, w.names.new(f"{base}_cell"))


def by_neuron(course: Course) -> bool:
    """Whether each neuron reads ``course`` as late as it says itself."""
    return course.late != course.reach


def late_helpers(courses: Collection[Course], shifted: bool = False) -> list[str]:
    """The functions that reading ``courses`` takes; ``shifted``: and storing gradients by neuron."""
    own = any(by_neuron(c) for c in courses)
    seen = [_SEEN] if any(c.late for c in courses) else []
    return [*seen, *([_LOAD_LATE] if own else []), *([_STORE_LATE] if shifted else [])]


def print_steps(w: Writer, depth: int, names: Iterable[str]) -> None:
    """Load how late each neuron reads."""
    for name in names:
        w.line(depth, f"{name} = tl.load({name}_ptr + column, mask=column < N, other=0)[:, None]")


def print_late_offsets(w: Writer, depth: int, course: Course) -> str:
    """Compute the offsets of a late input's elements after the beginning of its step; what they are."""
    column = "column[:, None]"
    if course.share:
        w.line(depth, f"{course.cell} = (column // {course.share})[:, None]")
        column = course.cell
    elif course.row is None:
        return "at"
    width = f"N // {course.share}" if course.share else "N"
    if course.row is None:
        return f"({column} + row[None, :] * ({width}) + {{zero}})"
    return f"({column} + row[None, :] * tl.where({{t}} >= {course.late}, {course.row}.to(tl.int64), {width}))"


def load_late(course: Course, offset: str, t: str, mask: str, origin: str) -> str:
    """The load of what is seen of a late input.

    Args:
        course: the input.
        offset: as :func:`print_late_offsets` gave it.
        t: the step.
        mask: what there is of the tile.
        origin: what ``offset`` counts from, if it is ``at``.
    """
    cells = f"B.to(tl.int64) * (N // {course.share})" if course.share else "cells"
    step = cells if course.step == "cells" else f"{course.step}.to(tl.int64)"
    begin = f"{course.pointer}, {step}, {course.past}, {cells}, {course.reach}, {course.late}, {t}"
    zero = "(B >> 31) * t" if t.startswith("t") else "0"  # keeps addresses out of registers: see AT
    offset = offset.format(t=t, zero=zero)
    if offset == "at" and origin:
        offset = f"{origin} + at"
    if by_neuron(course):
        return f"snn_load_late({begin}, {offset}, {mask})"
    return f"tl.load(snn_seen({begin}) + {offset}, mask={mask}, other=0.0)"
