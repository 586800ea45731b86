"""Pass ``fold-norm``: in evaluation, a BatchNorm becomes part of the product before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.graph import Graph, Note
from snncompile.passes.base import Pass
from snncompile.passes.rewrite import absorb, only_reader


@dataclass(frozen=True)
class FoldNorm(Pass):
    """``BatchNorm(W x + b)`` with fixed statistics is ``W' x + b'``, which takes the name of the BatchNorm. Parameters
    keep their names; the targets derive ``W'`` and ``b'`` from them with autograd.

    Attributes:
        training: in training the statistics are the batch's, and nothing is folded.
        keep: record names that must stay.
    """

    name: ClassVar[str] = "fold-norm"
    training: bool = False
    keep: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = graph.copy()
        notes = []
        for name, op in list(graph.of_type(Connection)):
            if op.kind != "BatchNorm":
                continue
            why_not = self._obstacle(graph, name)
            if why_not:
                notes.append(Note(self.name, name, f"not folded: {why_not}"))
                continue
            (edge,) = graph.inputs_of(name).values()
            absorb(graph, name, _folded(graph.op(edge.source.node), op))
        return graph.noted(notes)

    def _obstacle(self, graph: Graph, name: str) -> str:
        (edge,) = graph.inputs_of(name).values()
        source = edge.source.node
        product = graph.op(source)
        if self.training:
            return "in training its statistics come from the batch"
        if not isinstance(product, Connection) or product.kind not in PRODUCTS:
            return f"{source} before it is no product"
        if product.plastic:
            return f"the weights of {source} learn"
        if "norm_running_var" in product.params:
            return f"{source} holds another BatchNorm already"
        if "scale_factor" in product.params:
            return f"{source} holds a Scale already"
        if edge.delay:
            return "a delay stands before it"
        if only_reader(graph, source) != name:
            return f"{source} is read elsewhere, too"
        if f"{source}.out" in self.keep:
            return f"{source} is recorded"
        return ""


def _folded(product: Connection, norm: Connection) -> Connection:
    params = {**product.params, **{f"norm_{role}": p for role, p in norm.params.items()}}
    return replace(
        product,
        attrs={**product.attrs, "norm_eps": norm.attrs["eps"]},
        params=params,
        output=norm.output,
        members=product.members + norm.members,
    )
