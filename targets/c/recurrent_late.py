"""What the functions of a recurrent layer read and write some steps late.

Rows that are late by one number of steps are read where they lie. Where each neuron is late by steps of its own, the
loop around the function of a step gathers what it sees, and scatters its gradient (``late_row.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from snncompile.targets.c.calling import scratch
from snncompile.targets.c.kernel import Argument, Course, Writer
from snncompile.targets.c.late_row import LATE_ROWS, LateGradient, LateRow
from snncompile.targets.scan import Late


@dataclass(frozen=True)
class SeenRow(Course):
    """What is gathered at every step: there is one row of it for each sequence."""

    @property
    def address(self) -> str:
        """See :class:`Course`."""
        return self.pointer


@dataclass
class LateRows:
    """The late inputs of a function that is being printed, and the gradients of such.

    Attributes:
        w: the function of one step of one sequence, and the arguments of that around it.
        kinds: input -> how late it is, as in :class:`~snncompile.targets.variant.Layout`.
        rows: inputs that are gathered, each with where they are and where they go.
        gradients: gradients that are scattered, each with where they come from and the gradient of step 0.
    """

    w: Writer
    kinds: dict[str, str]
    rows: list[tuple[LateRow, str]] = field(default_factory=list)
    gradients: list[tuple[LateGradient, str, str]] = field(default_factory=list)

    def course(self, x: str, unit: bool) -> Course:
        """Add input ``x``, :func:`~snncompile.targets.c.courses.add_late` in a call."""
        w, kind = self.w, self.kinds.get(x, "")
        if kind in ("", "one"):
            return w.input_course(x, unit, kind)
        share = self._whole("int64_t", f"{x}_share", "neurons that read one value") if kind == "shared" else ""
        name = self._whole("const float *", x, "input, read late, (T, B, N)")
        step = self._whole("int64_t", f"{name}_t", f"stride of {name} over time")
        batch = self._whole("int64_t", f"{name}_b", f"stride of {name} over the batch")
        past = self._whole("const float *", f"{x}_past", f"where what came before {x} ends, (L, B, N)")
        late = self._whole("const int32_t *", f"{x}_late", "steps late, (N,)")
        places = self._whole("int64_t *", f"{x}_places", f"scratch: where neurons find their {x}, (N,)")
        seen = w.cells(f"{x}_seen", f"scratch: the {x} of a step, (B, N)", True)
        first, cells = (f"at / {share}", f"cells / {share}") if share else ("at", "cells")
        most = w.name(f"{x}_most")
        row = LateRow(f"{name} + b * {batch}", step, f"{past} + {first}", cells, late, places, most, share or "1")
        self.rows.append((row, f"{seen} + at"))
        return SeenRow(seen, "", "")

    def gradient(self, x: str) -> tuple[str, str]:
        """Add the gradient of input ``x``, :func:`add_late_gradient` in a call: where the function of a step puts it,
        and the stride over time there."""
        w, about = self.w, "gradient of the input, "
        if self.kinds.get(x, "") in ("", "one"):
            return w.cells(f"grad_{x}", f"{about}(T, B, N)", True), "cells"
        whole = self._whole("float *", f"grad_{x}", f"{about}(L + T, B, N)")
        reach = self._whole("int64_t", f"{x}_reach", "L")
        late = self._whole("const int32_t *", f"{x}_shift", "steps late, (N,)")
        places = self._whole("int64_t *", f"grad_{x}_places", f"scratch: where the gradient of {x} goes, (N,)")
        here = w.cells(f"grad_{x}_here", "scratch: that of a step, (B, N)", True)
        self.gradients.append((LateGradient("cells", late, reach, places), f"{here} + at", f"{whole} + t * cells + at"))
        return here, ""

    def prepare(self, depth: int) -> list[str]:
        """What comes before the loops."""
        rows = [line for row, _ in self.rows for line in row.prepare(depth, "N")]
        return rows + [line for grad, _, _ in self.gradients for line in grad.prepare(depth, "N")]

    def gather(self, depth: int) -> list[str]:
        """What comes before a step of a sequence."""
        return [line for row, seen in self.rows for line in row.gather(depth, "N", seen)]

    def scatter(self, depth: int) -> list[str]:
        """What comes after a step of a sequence."""
        return [line for grad, here, to in self.gradients for line in grad.scatter(depth, "N", here, to)]

    @property
    def helpers(self) -> str:
        """The functions that are called."""
        return LATE_ROWS if self.rows or self.gradients else ""

    def _whole(self, kind: str, wanted: str, about: str) -> str:
        """An argument that only the function around the steps gets."""
        name, number = self.w.name(wanted), kind == "int64_t"
        declaration = f"{kind} {name}" if number else f"{kind}{name}"
        self.w.arguments.append(Argument(declaration, "", "", "q" if number else "p", about))
        return name


def add_late_gradient(args: list[int], grad: Tensor, late: Late, shape: tuple[int, int, int]) -> list[Tensor]:
    """Append the gradient of a late input, as :meth:`LateRows.gradient` takes it; what must live until it has run."""
    args.append(grad.data_ptr())
    if isinstance(late.steps, int):
        return []
    room = [scratch(shape[2], dtype=torch.int64), scratch(*shape[1:])]
    args += [len(late.past), late.steps.data_ptr(), *(t.data_ptr() for t in room)]
    return room
