"""Signals from outside that a cycle reads some steps late: nothing is made of them, their loads go elsewhere.

All neurons equally late is another row, chosen once for a step. Where each neuron has its own number of steps, a tile
of these is loaded, and each of its values comes from where that says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from snncompile.targets.cycle_plan import CyclePlan, Read
from snncompile.targets.triton.cycle_writer import CycleWriter

SEEN = '''@triton.jit
def snn_seen(x, stride, row, past, reach, late, t, b, n, B, size, active):
    """A tile of x, whose strides are `stride` and `row`, each neuron `late` steps ago.

    What lies before step 0 is in `past`, the `reach` steps before, (B, size).
    """
    source = t - late
    new = source >= 0
    at = source * stride.to(tl.int64) + b * row.to(tl.int64)
    before = ((source + reach).to(tl.int64) * B + b) * size
    return tl.load(tl.where(new, x, past) + tl.where(new, at, before) + n, mask=active, other=0.0)
'''


@dataclass(frozen=True)
class LateInput:
    """Names of the arguments of a signal that each neuron reads late by its own number of steps.

    Attributes:
        index: which one it is of the plan's.
        pointer: the signal, ``(T, B, size / share)``.
        step: its stride over time.
        row: its stride over the batch.
        past: the values before its first step, ``(L, B, size / share)``.
        reach: L.
        share: so many neurons read one value, or "" where each has its own.
    """

    index: int
    pointer: str
    step: str
    row: str
    past: str
    reach: str
    share: str

    def load(self, w: CycleWriter, value: str, late: str) -> None:
        """Load a tile, each neuron so many steps late."""
        size = w.plan.sizes[self.index]
        n, width = (f"n // {self.share}", f"{size} // {self.share}") if self.share else ("n", str(size))
        given = [self.pointer, f"{self.step} + nil", f"{self.row} + nil", self.past, self.reach, late]
        w.needed[SEEN] = None
        w.call(3, f"{value} = snn_seen", [*given, "t", "b", n, "B", width, "active"])


def late_input(w: CycleWriter, index: int) -> LateInput:
    """The arguments of a signal that each neuron reads late by its own number of steps."""
    name, (pointer, step, row), share = w.outside_name(index), w.outside_course(index), ""
    about = f"what came before step 0 of {pointer}, (L, B, neurons)"
    past = w.address(("past", index), f"{name}_past", about)
    reach = w.integer(("reach", index), f"{name}_reach", f"L of {past}")
    if w.plan.offset(index) == "shared":
        share = w.integer(("share", index), f"{name}_share", f"neurons that read one value of {pointer}")
    return LateInput(index, pointer, step, row, past, reach, share)


def is_own(plan: CyclePlan, source: Read | int) -> bool:
    """Whether each neuron reads this late by its own number of steps."""
    return not isinstance(source, Read) and plan.offset(source) in ("each", "shared")


def load_steps(w: CycleWriter, sources: Iterable[Read | int]) -> dict[int, str]:
    """Load by how many steps the neurons of a tile read each of these late that has a number for each; their names."""
    found: dict[int, str] = {}
    for source in sources:
        if not isinstance(source, Read) and is_own(w.plan, source) and source not in found:
            name = f"{w.outside_name(source)}_late"
            pointer = w.address(("late", source), name, "steps late, (N,)", "*i32")
            found[source] = w.names.new(name)
            w.line(3, f"{found[source]} = tl.load({pointer} + n, mask=there, other=0)")
    return found


def gradient_row(w: CycleWriter, index: int, late: Mapping[int, str]) -> str:
    """The offsets of a tile in the gradient of such a signal: that of its past and of it, ``(L + T, B, N)``."""
    reach = w.integer(("reach", index), f"{w.outside_name(index)}_reach", "steps before step 0 that it has")
    return f"(((t + {reach} - {late[index]}).to(tl.int64) * B + b) * {w.plan.sizes[index]} + n)"
