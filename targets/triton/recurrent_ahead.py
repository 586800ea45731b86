"""Loads what the steps of a recurrent layer read before the step that needs it: a step never waits for memory."""

from __future__ import annotations

from snncompile.targets.triton.kernel import Course, Writer
from snncompile.targets.triton.recurrent_kernel import load_of, print_offsets
from snncompile.targets.triton.recurrent_offsets import by_neuron

#: Up to so many courses are loaded two steps ahead. More are loaded just before the product that the next step waits
#: for: then no register holds a value of this step and one of the next at the same time.
_FEW = 3


def _few(courses: dict[str, Course]) -> bool:
    """Whether ``courses`` are so few, and their addresses so simple, that values of three steps fit into registers."""
    return len(courses) <= _FEW and not any(by_neuron(c) for c in courses.values())


class Ahead:
    """Courses of which a step is loaded before the step that needs it.

    Args:
        w: the kernel.
        courses: what is loaded.
        forward: whether it walks from the first step to the last.
        early: whether loads are two steps ahead; if not given, where there are few.
        origin: as for :func:`~snncompile.targets.triton.recurrent_kernel.load_of`.
    """

    def __init__(
        self, w: Writer, courses: dict[str, Course], forward: bool, early: bool | None = None, origin: str = ""
    ) -> None:
        self.w, self.courses, self.origin = w, courses, origin
        self.early = _few(courses) if early is None else early
        self.first, self.sign = ("0", "+") if forward else ("T - 1", "-")
        self.offsets = print_offsets(w, 1, courses)
        names = ("", "_next", "_later") if self.early else ("",)
        self.names = {x: [w.names.new(f"{x}{suffix}") for suffix in names] for x in courses}
        for k in range(2 if self.early else 1):
            for x, (*_, last) in self.names.items():
                name = self.names[x][k + 1] if self.early else last
                w.line(1, f"{name} = {self._load(x, f'{self.first} {self.sign} {k}' if k else self.first)}")

    def _load(self, x: str, t: str) -> str:
        there = f"{t} < T" if self.sign == "+" else f"{t} >= 0"
        return load_of(self.courses[x], self.offsets[x], t, f"active & ({there})", self.origin)

    def print_start(self) -> dict[str, str]:
        """Begin a step; the name of each value in it."""
        if self.early:
            for x, (now, following, last) in self.names.items():
                self.w.line(2, f"{now} = {following}")
                self.w.line(2, f"{following} = {last}")
                self.w.line(2, f"{last} = {self._load(x, f't {self.sign} 2')}")
        return {x: now for x, (now, *_) in self.names.items()}

    def print_end(self) -> None:
        """What comes once the step has used its values, before the next product."""
        if not self.early:
            for x, (now,) in self.names.items():
                self.w.line(2, f"{now} = {self._load(x, f't {self.sign} 1')}")
