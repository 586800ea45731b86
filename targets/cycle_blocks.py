"""A cycle some steps at a time: each part of it for all of these steps, before the next part.

A cycle that is late by some steps has, for as many, all that comes back to it; within such a block each part needs what
parts before it made, and neurons their own steps one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import networkx as nx

from snncompile.targets.cycle_plan import CyclePlan, Neurons, Pool, Product, Read, Step


class Blocks(NamedTuple):
    """How a cycle is taken some steps at a time.

    Attributes:
        order: its parts, each after those of which it reads values of the same block.
        late: steps of a block.
    """

    order: tuple[Step, ...]
    late: int


def blocks_of(plan: CyclePlan) -> Blocks:
    """The longest blocks of ``plan``.

    What is read from at least as many steps ago as a block has was made in an earlier one. So a block may have as many
    steps as leave parts that can be put in order, by what they read of later steps.
    """
    maker = {line: i for i, step in enumerate(plan.steps) for line in made_by(step)}
    edges: dict[int, list[tuple[int, int]]] = {}
    for i, step in enumerate(plan.steps):
        for read in reads_of(step):
            made = maker[read.line]
            edges.setdefault(_lag(plan, step, read, made < i), []).append((made, i))
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(plan.steps)))
    order, late = list(graph), 1
    for late in sorted(edges):
        graph.add_edges_from(edges[late])
        if not nx.is_directed_acyclic_graph(graph):
            break
        order = list(nx.lexicographical_topological_sort(graph))
    return Blocks(tuple(plan.steps[i] for i in order), max(late, 1))


def blocks_back(plan: CyclePlan, late: int) -> int:
    """Steps of a block of the gradient.

    It is one where synapses have lags of their own, so that several steps add to the same value, and where what the
    largest value of a window was taken from is noted for one step.
    """
    own = any(isinstance(s, Product) and s.part != "weight" for s in plan.steps)
    return 1 if own or any(isinstance(s, Pool) and s.most for s in plan.steps) else late


def made_by(step: Step) -> tuple[int, ...]:
    """The lines that a step makes."""
    return (*step.states, *step.results) if isinstance(step, Neurons) else (step.line,)


def reads_of(step: Step) -> Iterator[Read]:
    """What a step reads, but for neurons their own states."""
    if isinstance(step, Neurons):
        yield from (x for x in step.inputs if isinstance(x, Read))
    else:
        yield step.read


def _lag(plan: CyclePlan, step: Step, read: Read, before: bool) -> int:
    """The least number of steps by which ``read`` is late; ``before``: whether its line is made before in a step.

    Synapses with lags of their own may have any if so, and are as late as the cycle at least if not.
    """
    own = isinstance(step, Product) and step.part != "weight" and not before
    return read.lag + (max(plan.late, 1) if own else 0)
