"""Signals from outside that a cycle, or a region that learns, reads some steps late: what is printed for them.

Where all of a signal is as late, its row has another address and nothing else is done. Where neurons are late by steps
of their own, a thread gathers a row of one sequence just before the neurons read it, and scatters its gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snncompile.targets.c.late_row import LATE_ROWS, LateGradient, LateRow, late_address
from snncompile.targets.cycle_plan import CyclePlan

if TYPE_CHECKING:
    from snncompile.targets.c.cycle_writer import CycleWriter, RowFunction

#: Values of a row are padded to a multiple of so many.
_PAD = 16


def late_room(plan: CyclePlan) -> tuple[dict[int, int], int]:
    """Where the row of each signal stands that is gathered, and how many values all of them take."""
    places, end = {}, 0
    for i, size in enumerate(plan.sizes):
        if plan.offset(i) in ("each", "shared"):
            places[i] = end
            end += -(-size // _PAD) * _PAD
    return places, end


def _name(w: CycleWriter, index: int) -> str:
    source = w.plan.outside[index].source
    return f"{source.node}_{source.port}"


def _broken(line: str) -> list[str]:
    """A choice of addresses, over several lines where it is long."""
    indent = " " * 12
    if len(indent + line) <= 118:
        return [indent + line]
    choice, others = line.split(" ? ")
    return [indent + choice, *(f"{indent}    {mark} {at}" for mark, at in zip("?:", others.split(" : "), strict=True))]


class LateInputs:
    """The late signals of a function that is being printed.

    Attributes:
        at_start: what the function begins with.
        at_step: what a step begins with.
    """

    def __init__(self, w: CycleWriter) -> None:
        self.w = w
        self.at_start: list[str] = []
        self.at_step: list[str] = []
        self._moved: dict[int, tuple[str, str]] = {}
        self._rows: dict[int, LateRow] = {}
        self._gradients: dict[int, LateGradient] = {}
        self._at, self._room = late_room(w.plan)

    def moved(self, index: int) -> tuple[str, str]:
        """Where the first sequence's values of a signal are all of which is as late, and how far those of the next."""
        if index not in self._moved:
            w, size = self.w, self.w.plan.sizes[index]
            name, step, row = w.outside_names(index)
            late = w.number(("late", index), f"{name}_late", f"steps that {name} is late")
            past = self._past(index, name, str(size))
            now, apart = w.new(f"{name}_now"), w.new(f"{name}_apart")
            self._moved[index] = now, apart
            address = late_address(name, step, past, f"B * {size}", late)
            self.at_step += [
                *_broken(f"const float *{now} = {address};"),
                f"            const int64_t {apart} = t < {late} ? {size} : {row};",
            ]
        return self._moved[index]

    def gathered(self, index: int, f: RowFunction) -> str:
        """The row of a signal whose neurons are late by steps of their own; ``f`` reads it."""
        w, size = self.w, self.w.plan.sizes[index]
        if index not in self._rows:
            name, step, row = w.outside_names(index)
            share, narrow = "1", str(size)
            if w.plan.offset(index) == "shared":
                share = w.number(("share", index), f"{name}_share", f"neurons that read one value of {name}")
                narrow = f"({size} / {share})"
            past = f"{self._past(index, name, narrow)} + b * {narrow}"
            most = w.new(f"{name}_most")
            found = LateRow(
                f"{name} + b * {row}", step, past, f"B * {narrow}", self._steps(index, name),
                self._place(index), most, share,
            )  # fmt: skip
            self._rows[index] = found
            self.at_start += found.prepare(1, str(size))
        seen = self._own(self._at[index])
        f.before += self._rows[index].gather(4, str(size), seen)
        return seen

    def scattered(self, index: int, f: RowFunction, to: str) -> str:
        """Where ``f`` writes the gradient of such a signal, which then goes to where it was read; ``to``: the row of
        the present step."""
        w, size = self.w, self.w.plan.sizes[index]
        if index not in self._gradients:
            name = _name(w, index)
            reach = w.number(("reach", index), f"{name}_reach", f"the most steps that {name} is late, L")
            place = self._place(index, self._room)
            found = LateGradient(f"B * {size}", self._steps(index, name), reach, place)
            self._gradients[index] = found
            self.at_start += found.prepare(1, str(size))
        grad = self._own(self._room + self._at[index])
        f.after += self._gradients[index].scatter(4, str(size), grad, to)
        return grad

    def _past(self, index: int, name: str, size: str) -> str:
        return self.w.pointer(("past", index), f"{name}_past", f"where what came before {name} ends, (L, B, {size})")

    def _steps(self, index: int, name: str) -> str:
        about = f"steps that each neuron reads {name} late, ({self.w.plan.sizes[index]},)"
        return self.w.pointer(("late", index), f"{name}_late", about, "const int32_t")

    def _place(self, index: int, first: int = 0) -> str:
        self.w.given[("late places",)] = "late_places", "int64_t *", "scratch: where late values are, from a row on"
        return f"late_places + {first + self._at[index]}"

    def _own(self, place: int) -> str:
        """A row of the thread's own."""
        self.w.given[("late room",)] = "late_rooms", "float *", "scratch: rows of late values, for each thread"
        return f"late_room + {place}"

    def taken(self, depth: int, thread: str) -> list[str]:
        """What a thread, whose number is ``thread`` where there are several, takes of the room."""
        if ("late room",) not in self.w.given:
            return []
        at = f" + {thread} * {2 * self._room}" if thread else ""
        return [f"{'    ' * depth}float *late_room = late_rooms{at};"]

    @property
    def helpers(self) -> str:
        """The functions that are called."""
        return LATE_ROWS if self.at_start else ""
