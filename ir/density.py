"""How much of a dense connection's input is not zero, as far as the graph says, and what follows from it.

The hint is the setting ``density`` of a ``Linear``: the share of its inputs that are not zero, over all steps and
sequences. It changes how a target may compute the product, never what is computed.
"""

from __future__ import annotations

from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.graph import Graph, Input

#: Up to this density a target with event-driven products uses them; measured in ``docs/c-target.md``.
EVENT_DRIVEN_UP_TO = 0.15

#: With fewer outputs, finding the events costs more than the products that they save.
LEAST_OUTPUTS = 32


def density(op: Connection) -> float | None:
    """The density hint of ``op``."""
    return op.attrs.get("density")


def event_driven(op: Connection) -> bool:
    """Whether ``op`` is computed from its inputs that are not zero, where a target can."""
    known = density(op)
    return known is not None and known <= EVENT_DRIVEN_UP_TO and op.output.size >= LEAST_OUTPUTS


def why(op: Connection) -> str:
    """Why ``op``, a product, is computed from its events, or why not."""
    known = density(op)
    if known is not None:
        few = f", but it has only {op.output.size} outputs, of {LEAST_OUTPUTS} at least"
        limit = f", {'at most' if known <= EVENT_DRIVEN_UP_TO else 'more than'} {EVENT_DRIVEN_UP_TO:g}"
        more = few if known <= EVENT_DRIVEN_UP_TO and not event_driven(op) else ""
        return f"{known:g} of its inputs are not zero{limit}{more}"
    if op.kind != "Linear" and op.kind in PRODUCTS:
        return "convolutions are always dense"
    return "nothing says how many of its inputs are zero (density=, or build --calibrate)"


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
