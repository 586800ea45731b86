"""How kernels of a plastic layer see courses that they read some steps late, and what they are given to do so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from snncompile.targets.scan import Late, Scan, Seen, one_number
from snncompile.targets.triton.plastic_plan import Making

#: Operations of reading one value late.
_WORK = 12


class SeenVariant(NamedTuple):
    """How a kernel sees a course.

    Attributes:
        kinds: how late each value is that it reads: ``""`` not at all, ``"one"`` number of steps for all features,
            ``"each"`` its own, or ``"shared"``, several of one of the course.
        scan: what is computed of them; None where there is one, and nothing is.
        coefs: per coefficient of ``scan``, whether it is one number.
    """

    kinds: tuple[str, ...]
    scan: Scan | None = None
    coefs: tuple[bool, ...] = ()

    @property
    def by_row(self) -> bool:
        """Whether what is seen lies in memory as it is."""
        return self.scan is None and self.kinds[0] == "one"

    @property
    def making(self) -> Making:
        """What it costs to make what is seen."""
        each, shared = (self.kinds.count(kind) for kind in ("each", "shared"))
        ops = 0 if self.scan is None else len(self.scan.forward.ops)
        registers = each + 2 * shared if self.scan is not None else shared
        return Making(registers, _WORK * (each + shared) + ops)


def making_of(seen: Iterable[SeenVariant | None]) -> Making:
    """What it costs to make several."""
    each = [one.making for one in seen if one is not None]
    return Making(sum(one.registers for one in each), sum(one.work for one in each))


class Shows(NamedTuple):
    """What a delay shows, for a kernel that is printed without a call.

    Attributes:
        scan: as in :class:`~snncompile.targets.scan.Seen`.
        kinds: as in :class:`SeenVariant`.
        per_neuron: its parameters that have one value for each feature.
    """

    scan: Scan
    kinds: tuple[str, ...]
    per_neuron: Collection[str] = ()

    def variant(self) -> SeenVariant:
        """How a kernel sees it."""
        one = one_number(self.scan, self.per_neuron)
        return _seen(self.scan, self.kinds, tuple(c in one for c in self.scan.coefs))


def kinds_of(late: Sequence[Late | None]) -> tuple[str, ...]:
    """How late each is; empty where none is."""
    return tuple("" if one is None else one.kind for one in late) if any(late) else ()


def seen_variant(seen: Seen) -> SeenVariant:
    """How a kernel sees what ``seen`` says."""
    kinds = tuple("" if one is None else one.kind for one in seen.late)
    return _seen(seen.scan, kinds, tuple(c.dim() == 0 for c in seen.coefs))


def _seen(scan: Scan, kinds: tuple[str, ...], coefs: tuple[bool, ...]) -> SeenVariant:
    plain = len(kinds) == 1 and not scan.forward.ops and scan.forward.outputs[0][1] in scan.inputs
    return SeenVariant(kinds) if plain else SeenVariant(kinds, scan, coefs)


def late_arguments(slot: str, late: Sequence[Late | None]) -> dict[str, Any]:
    """Slot -> what the kernel is given to read the course in ``slot`` late."""
    given: dict[str, Any] = {}
    for i, one in enumerate(late):
        if one is not None:
            given |= {f"{slot}.past.{i}": one.past, f"{slot}.reach.{i}": len(one.past), f"{slot}.late.{i}": one.steps}
            given[f"{slot}.share"] = one.share
    return given


def seen_arguments(slot: str, seen: Seen) -> dict[str, Any]:
    """Likewise for what is computed of it."""
    coefs = zip(seen.scan.coefs, seen.coefs, strict=True)
    return late_arguments(slot, seen.late) | {f"{slot}.coef.{c}": value for c, value in coefs}
