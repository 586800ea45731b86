"""Records: which signals and states a run keeps, asked for by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snncompile.ir.errors import InputError

REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class RecordRequest:
    """What to keep.

    Attributes:
        asked: pairs of the name as asked (``"lif.spikes:sum"``) and the signal it means.
    """

    asked: tuple[tuple[str, str], ...] = ()

    @property
    def courses(self) -> tuple[str, ...]:
        """Signals wanted at every step."""
        return tuple(dict.fromkeys(signal for asked, signal in self.asked if asked == signal))

    @property
    def sums(self) -> tuple[str, ...]:
        """Signals of which a reduction over time is wanted."""
        return tuple(dict.fromkeys(signal for asked, signal in self.asked if asked != signal))


def read_request(record: bool | str | Sequence[str] | None, known: Iterable[str]) -> RecordRequest:
    """A request from what a user writes.

    Args:
        record: names such as ``"lif.v"``, or ``"lif.spikes:sum"`` (``:mean``) for a reduction over time that costs no
            memory; True for everything; None or False for nothing.
        known: record names there are.

    Raises:
        InputError: for a name that is not there, with the nearest one.
    """
    names = list(known)
    if record is None or record is False:
        return RecordRequest()
    if record is True:
        return RecordRequest(tuple((n, n) for n in names))
    asked = [record] if isinstance(record, str) else list(record) if isinstance(record, Iterable) else [record]
    for name in asked:
        if not isinstance(name, str):
            raise InputError(f"record takes names such as 'lif.v', a list of them, or True for all, not {name!r}")
    return RecordRequest(tuple((name, _signal(name, names)) for name in asked))


def _signal(name: str, names: list[str]) -> str:
    signal, _, reduction = name.partition(":")
    if ":" in name and reduction not in REDUCTIONS:
        raise InputError(f"record {name!r}: unknown reduction {reduction!r}; use :{' or :'.join(REDUCTIONS)}")
    if signal not in names:
        near = difflib.get_close_matches(signal, names, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"there is nothing to record under {signal!r}.{hint} Names: {', '.join(names)}")
    return signal
