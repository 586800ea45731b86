"""Regions: which nodes run together, derived from the cycles of the graph."""

from __future__ import annotations

from collections.abc import Collection

import networkx as nx

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Input, Region
from snncompile.ir.interpolated import WORDS, roles, taps
from snncompile.ir.plasticity import Plasticity


def choose_regions(graph: Graph) -> tuple[Region, ...]:
    """The schedule: cycles, and what learns, step by step, all else over all steps at once, in dependency order."""
    position = {name: i for i, name in enumerate(graph.order())}
    components = nx.condensation(graph.coupled())
    members = components.nodes(data="members")
    first = {c: min(position[n] for n in names) for c, names in members}
    regions = []
    for component in nx.lexicographical_topological_sort(components, key=first.__getitem__):
        names = sorted(components.nodes[component]["members"], key=position.__getitem__)
        if len(names) > 1 or graph.nx.has_edge(names[0], names[0]):
            regions.append(_cycle(graph, names))
        elif not isinstance(graph.op(names[0]), Input):
            regions.append(_single(graph, names[0]))
    return tuple(regions)


def lateness(graph: Graph, names: Collection[str]) -> dict[str, int]:
    """What makes the cycle through ``names`` late, feedbacks and delays, and by how many steps each."""
    inner = [e for n in names for e in graph.inputs_of(n).values() if e.source.node in names]
    late = {e.feedback: e.delay for e in inner if e.delay}
    return late | {n: graph.op(n).late for n in names if any(graph.waits(m, n) for m in names)}


def _cycle(graph: Graph, names: list[str]) -> Region:
    late = lateness(graph, names)
    learned = sorted(op.weight.name for op in map(graph.op, names) if isinstance(op, Plasticity))
    if learned:
        others = sorted(name for name in late if name not in learned)
        around = f", a cycle through {', '.join(others)}" if others else ""
        return Region("plastic", tuple(names), f"{', '.join(learned)} learns at every step{around}")
    least = min(late.values())
    needs = f"step t needs step t-{least}" + (f", so {least} steps can run at a time" if least > 1 else "")
    return Region("recurrent", tuple(names), f"a cycle through {', '.join(sorted(late))}: {needs}")


def _length(op: Connection) -> str:
    steps, limit = op.attrs["steps"], f"up to {op.attrs['limit']:g} steps"
    if steps == "given":
        return f"a delay of each neuron's own, {limit}" if op.params["steps"].shape else f"a trained delay, {limit}"
    return f"a delay of {steps:g} step{'' if steps == 1 else 's'}"


def _loads(op: Connection, readers: str) -> str:
    """How those that read a delay read its signal in its place."""
    offsets = "two offsets" if len(taps(op)) > 1 else "an offset"
    computed = [WORDS[kind]] if (kind := op.rule.interpolation) in WORDS and "gain" in roles(op) else []
    if "valid" in roles(op):
        computed.append(f"{op.rule.overbound:g} for what lies too far back")
    return f"{offsets} in the loads of {readers}, no buffer{''.join(f', {what}' for what in computed)}" + (
        " in the kernel" if computed else ""
    )


def late_readers(graph: Graph, name: str) -> list[str]:
    """The nodes that read ``name``, or another view of it."""
    found: dict[str, None] = {}
    for reader, _, _ in graph.consumers(name):
        if getattr(graph.op(reader), "kind", "") == "Flatten":
            found.update(dict.fromkeys(late_readers(graph, reader)))
        else:
            found[reader] = None
    return list(found)


def panel_readers(graph: Graph, name: str) -> list[str]:
    """Those of its readers, or of another view of it, that read a late signal a panel at a time."""
    return [n for n in late_readers(graph, name) if takes_panels(graph.op(n))]


def takes_panels(op: object) -> bool:
    """Whether ``op`` is a product that neither learns nor has a delay for each synapse, or a pooling."""
    return isinstance(op, Connection) and op.kind != "Delay" and not (op.plastic or op.by_synapse)


def _single(graph: Graph, name: str) -> Region:
    op = graph.op(name)
    if isinstance(op, Connection) and op.attrs.get("offset"):
        readers = late_readers(graph, name)
        panels = panel_readers(graph, name) and op.same_for_all is None
        how = ", a panel of it at a time" if panels else ""
        return Region("product", (name,), f"{_length(op)}: {_loads(op, ', '.join(readers))}{how}")
    if isinstance(op, Connection) and op.depth and op.same_for_all is not None and op.kind == "DelayedLinear":
        return Region("product", (name,), f"{_length(op)}: {_loads(op, 'its product')}")
    if isinstance(op, Connection) and op.depth:
        return Region("product", (name,), f"a delay: one call reads all steps from the signal and {op.depth} before it")
    if isinstance(op, Connection):
        return Region("product", (name,), "no state: one call covers all steps")
    assert isinstance(op, Elementwise)
    if op.stateless:
        return Region("scan", (name,), "no state, elementwise: one kernel over all steps")
    return Region("scan", (name,), f"state {', '.join(s.name for s in op.states)} stays on chip from step to step")
