"""How much of a product's input is not zero, as far as the graph says, and what follows from it.

The hint is the setting ``density`` of a ``Linear``, with delays or without, ``Conv1d`` or ``Conv2d``: the share of its
inputs that are not zero, over all steps and sequences. It changes how a target may compute the product, never what is
computed.
"""

from __future__ import annotations

from math import prod

from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.graph import Graph, Input

#: Up to this density a target with event-driven products uses them for a ``Linear``; measured in ``docs/c-target.md``.
EVENT_DRIVEN_UP_TO = 0.2

#: Likewise for one with a delay for each synapse; measured in ``docs/delays.md``.
LATE_UP_TO = 0.07

#: With fewer outputs, finding the events costs more than the products that they save.
LEAST_OUTPUTS = 32

#: How many times as long as a dense convolution takes for a product it takes for one from events: where kernels go over
#: neighbouring places, and where they do not.
_NEIGHBOURS, _APART = 5.0, 11.0
#: And the products that an output could have had in the time that it takes to bring it to its place.
_PLACED = 13.0
#: The outputs that an event must reach side by side.
_LEAST_REACHED = 16


def density(op: Connection) -> float | None:
    """The density hint of ``op``."""
    return op.attrs.get("density")


def limit(op: Connection) -> float:
    """Up to which density ``op``, a product, is event-driven where a target can: two digits, 0 where it never is."""
    if op.kind == "Linear" or op.kind == "DelayedLinear":
        return EVENT_DRIVEN_UP_TO if op.kind == "Linear" or op.attrs["steps"] != "given" else LATE_UP_TO
    if op.kind not in PRODUCTS:
        return 0.0
    if _reached(op) < _LEAST_REACHED:
        return 0.0
    taps = prod(op.params["weight"].shape[1:])
    cost = _NEIGHBOURS if _neighbours(op) else _APART
    return max(float(f"{(1 - _PLACED / taps) / cost:.2g}"), 0.0)


def _neighbours(op: Connection) -> bool:
    """Whether a convolution's windows move by one place, and the taps of a row lie side by side."""
    return op.attrs["stride"][-1] == 1 and op.attrs["dilation"][-1] == 1


def _reached(op: Connection) -> int:
    """How many outputs of a convolution that lie side by side an input reaches."""
    outputs, *_, width = op.params["weight"].shape
    return outputs // op.attrs["groups"] * (width if _neighbours(op) else 1)


def event_driven(op: Connection) -> bool:
    """Whether ``op`` is computed from its inputs that are not zero, where a target can."""
    known = density(op)
    return known is not None and known <= limit(op) and op.output.size >= LEAST_OUTPUTS


def why(op: Connection) -> str:
    """Why ``op``, a product, is computed from its events, or why not."""
    known = density(op)
    if known is None:
        return "nothing says how many of its inputs are zero (density=, or build --calibrate)"
    most = limit(op)
    if not most:
        each = "an input reaches too few outputs at a time" if _reached(op) < _LEAST_REACHED else "its kernel is small"
        return f"{known:g} of its inputs are not zero, but {each} for that to count"
    if known > most:
        return f"{known:g} of its inputs are not zero, more than {most:g}"
    few = f", but it has only {op.output.size} outputs, of {LEAST_OUTPUTS} at least"
    return f"{known:g} of its inputs are not zero, at most {most:g}{'' if event_driven(op) else few}"


def declared(graph: Graph) -> dict[str, float]:
    """Input -> its density, as far as the connections that read it say."""
    found: dict[str, float] = {}
    for name, _ in graph.of_type(Input):
        readers = [reader for reader, _, _ in graph.consumers(name)]
        while readers:
            op = graph.op(reader := readers.pop(0))
            if isinstance(op, Connection) and density(op) is not None:
                found.setdefault(name, op.attrs["density"])
            elif isinstance(op, Connection) and op.kind in ("Flatten", "Dropout"):
                readers += [more for more, _, _ in graph.consumers(reader)]
    return found
