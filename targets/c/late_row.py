"""C source of rows that are late: what neurons see of a course that each reads some steps late, and its gradient.

Where all are late by one number of steps, what they see is a row as it stands: only its address is another. Where each
is late by steps of its own, its values are gathered into a row, in a loop of its own, and the gradient is scattered.
"""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.targets.c.printer import call_lines

#: Functions of :data:`LATE_ROWS`; generated C may give their names to nothing else.
LATE_NAMES = "snn_late_places snn_late_row snn_late_back"

#: What :class:`LateRow` and :class:`LateGradient` call.
LATE_ROWS = """/* How far from the row of a step lies what each of m neurons reads or writes that is late by its own
 * steps, each of `step` values, and `reach` steps later; `share` neurons have one value. The longest of these steps. */
SNN_INLINE int64_t snn_late_places(
    const int32_t *restrict late, int64_t reach, int64_t step, int64_t share, int64_t m, int64_t *restrict places)
{
    int64_t most = 0;
    for (int64_t j = 0; j < m; j++) {
        places[j] = j / share + (reach - late[j]) * step;
        most = late[j] > most ? late[j] : most;
    }
    return most;
}

/* What m neurons see of a sequence at step t: of x, and before its first step of the past, which ends at `past`. */
SNN_INLINE void snn_late_row(
    const float *restrict x, int64_t x_t, const float *restrict past, int64_t past_t, const int32_t *restrict late,
    const int64_t *restrict places, int64_t most, int64_t t, int64_t m, float *restrict seen)
{
    const float *restrict now = x + t * x_t, *restrict old = past + t * past_t;
    if (t >= most) {
        for (int64_t j = 0; j < m; j++) {
            seen[j] = now[places[j]];
            SNN_SINGLY;
        }
        return;
    }
    for (int64_t j = 0; j < m; j++) {
        const float *from = late[j] > t ? old + late[j] * (x_t - past_t) : now;
        seen[j] = from[places[j]];
        SNN_SINGLY;
    }
}

/* The gradient of what m neurons see at a step, to the rows that they saw: `to` is that of the step. */
SNN_INLINE void snn_late_back(
    const float *restrict grad, const int64_t *restrict places, int64_t m, float *restrict to)
{
    for (int64_t j = 0; j < m; j++) {
        to[places[j]] = grad[j];
        SNN_SINGLY;
    }
}
"""


def late_address(course: str, step: str, past: str, past_step: str, late: str, t: str = "t") -> str:
    """The address of the row that is seen at step ``t`` where all of it is ``late`` steps late; the operands are as of
    :class:`LateRow`."""
    return f"{t} < {late} ? {past} + ({t} - {late}) * {past_step} : {course} + ({t} - {late}) * {step}"


@dataclass(frozen=True)
class LateRow:
    """Expressions of a course that each neuron reads some steps late, in C; numbers are 64-bit, as where not said.

    Attributes:
        course: the sequence's first neuron at step 0.
        step: its stride over time.
        past: where what came before step 0 ends: the sequence's first neuron, L rows behind that of the oldest.
        past_step: its stride over time.
        late: how many steps, 32-bit, for each neuron.
        places: room for a number for each neuron. No sequence's own.
        most: name for the longest of these steps.
        share: neurons, one after the other, that read one value.

    A part of the neurons is gathered with ``late`` and ``places`` of that part; the rest stays.
    """

    course: str
    step: str
    past: str
    past_step: str
    late: str
    places: str
    most: str
    share: str = "1"

    def prepare(self, depth: int, size: str) -> list[str]:
        """What comes once, before the loops over sequences and time: it fills ``places`` and makes ``most``."""
        items = [self.late, "0", self.step, self.share, size, self.places]
        return call_lines(f"const int64_t {self.most} = snn_late_places", items, depth, ";")

    def gather(self, depth: int, size: str, seen: str, t: str = "t") -> list[str]:
        """Fill the row ``seen`` with what ``size`` neurons see at step ``t``."""
        items = [self.course, self.step, self.past, self.past_step, self.late, self.places, self.most]
        return call_lines("snn_late_row", [*items, t, size, seen], depth, ";")


@dataclass(frozen=True)
class LateGradient:
    """Expressions of the gradient of a course that each neuron reads some steps late: ``(L + T, B, N)``.

    Rows that nobody read are left out: those before L and from T on are to be zero before
    (:func:`~snncompile.targets.scan.late_gradient`).

    Attributes:
        step: its stride over time.
        late: how many steps, for each neuron.
        reach: L.
        places: room for a number for each neuron.
    """

    step: str
    late: str
    reach: str
    places: str

    def prepare(self, depth: int, size: str) -> list[str]:
        """What comes once, before the loops over sequences and time."""
        items = [self.late, self.reach, self.step, "1", size, self.places]
        return call_lines("snn_late_places", items, depth, ";")

    def scatter(self, depth: int, size: str, grad: str, to: str) -> list[str]:
        """Put the row ``grad``, of what was seen at a step, to where it was read; ``to`` is the row of that step."""
        return call_lines("snn_late_back", [grad, self.places, size, to], depth, ";")
