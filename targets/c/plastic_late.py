"""What the neurons of a plastic layer read some steps late: how it is printed, and handed to the function.

Where all neurons are late by one number of steps, their row is another one of the course. Where each is late by steps
of its own, a block gathers its outputs' values into a row of its own before they take their step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from snncompile.targets.c.kernel import Argument, Course, Writer
from snncompile.targets.c.late_row import LateRow


@dataclass(frozen=True)
class Gathered(Course):
    """An input that neurons read late by steps of their own; ``pointer`` is what they see at the present step.

    Attributes:
        late: where that is found.
        past_b: stride of the past over the batch.
        row_b: stride of the course over the batch.
        rows: room for a row for each block.
        begin: the first neuron that a block gathers: the first that shares a value with the block's own first.
        count: how many it gathers: also the last of those that share one.
    """

    late: LateRow
    past_b: str
    row_b: str
    rows: str
    begin: str
    count: str

    def row(self, now: str) -> list[str]:
        """See :class:`~snncompile.targets.c.kernel.Course`."""
        return [f"const float *restrict {now} = {self.pointer};"]

    def whole(self, depth: int) -> list[str]:
        """What comes once, before the blocks."""
        return self.late.prepare(depth, "N")

    def block(self, depth: int) -> list[str]:
        """What comes once in each block."""
        share, pad = self.late.share, "    " * depth
        if share == "1":
            return []
        return [
            f"{pad}const int64_t {self.begin} = first - first % {share}; /* those that share a value together */",
            f"{pad}const int64_t {self.count} = (first + m + {share} - 1) / {share} * {share} - {self.begin};",
        ]

    def each_step(self, depth: int) -> list[str]:
        """What comes at each step of sequence ``b``."""
        late, begin = self.late, self.begin
        own = replace(
            late,
            course=f"{late.course} + b * {self.row_b}",
            past=f"{late.past} + b * {self.past_b}",
            late=f"{late.late} + {begin}",
            places=f"{late.places} + {begin}",
        )
        return own.gather(depth, self.count, f"{self.rows} + block * N + {begin}")


def take_late(w: Writer, wanted: str, kind: str) -> Course:
    """Add an input of the neurons that is late; ``kind`` as in :class:`~snncompile.targets.variant.Layout`."""
    if kind == "one":
        return w.input_course(wanted, True, kind)
    wanted, share = f"late_{wanted}", "1"  # the model's name is none of the file's
    if kind == "shared":
        share = w.whole(f"{wanted}_share", "neurons that read one value", number=True)
    size = "N" if share == "1" else f"N / {share}"
    course = w.whole(wanted, f"input of the neurons, read late, (T, B, {size})")
    time, row = (w.whole(f"{course}_{axis}", f"stride of {course}", number=True) for axis in "tb")
    past = w.whole(f"{wanted}_past", f"where what came before {course} ends, (L, B, {size})")
    steps = w.whole(f"{wanted}_steps", "steps late, (N,)", "const int32_t")
    places = w.whole(f"{wanted}_places", "scratch, (N,)", "int64_t")
    rows, now = w.name(f"{wanted}_rows"), w.name(f"{wanted}_seen")
    declared, part = f"float *{rows}", f"const float *restrict {now}"
    about = f"scratch: what neurons see of {course}, (blocks, N)"
    w.arguments.append(Argument(declared, f"{rows} + block * N + first", part, "p", about))
    past_t, past_b = ("cells", "N") if share == "1" else (f"cells / {share}", f"(N / {share})")
    late = LateRow(course, time, past, past_t, steps, places, w.name(f"{wanted}_most"), share)
    own = ("first", "m") if share == "1" else (w.name(f"{wanted}_first"), w.name(f"{wanted}_count"))
    return Gathered(now, time, "", late, past_b, row, rows, *own)
