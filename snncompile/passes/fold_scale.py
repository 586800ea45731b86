"""Pass ``fold-scale``: a Scale becomes part of the product before it, where no scan would take it in for nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Note, Ref
from snncompile.ir.params import channel_shape
from snncompile.passes.base import Pass
from snncompile.passes.rewrite import absorb, only_reader, redirect


@dataclass(frozen=True)
class FoldScale(Pass):
    """``factor * (W x + b)`` is ``(factor W) x + factor b``, which takes the name of the Scale. A Scale before a
    synapse or neuron is left to the fusion of chains, which costs nothing and rounds as written.

    Attributes:
        keep: record names that must stay.
    """

    name: ClassVar[str] = "fold-scale"
    keep: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = graph.copy()
        notes = []
        for name, op in list(graph.of_type(Elementwise)):
            if op.kind != "Scale":
                continue
            why_not = self._obstacle(graph, name, op)
            if why_not:
                notes.append(Note(self.name, name, f"not folded: {why_not}"))
                continue
            (edge,) = graph.inputs_of(name).values()
            product = graph.op(edge.source.node)
            folded = replace(
                product,
                params={**product.params, "scale_factor": op.params["factor"]},
                members=product.members + op.members,
            )
            absorb(graph, name, folded)
            graph = redirect(graph, {Ref(name, op.outputs[0].local): Ref(name)})
        return graph.noted(notes)

    def _obstacle(self, graph: Graph, name: str, op: Elementwise) -> str:
        (edge,) = graph.inputs_of(name).values()
        source = edge.source.node
        product = graph.op(source)
        readers = [graph.op(reader) for reader, _, _ in graph.consumers(name)]
        if any(isinstance(reader, Elementwise) for reader in readers):
            return "the scan after it takes it in for nothing"
        if not isinstance(product, Connection) or product.kind not in PRODUCTS:
            return f"{source} before it is no product"
        if product.plastic:
            return f"the weights of {source} learn"
        if edge.delay or any(e.delay for _, _, e in graph.consumers(name)):
            return "a delay stands at it"
        if "scale_factor" in product.params:
            return f"{source} holds another Scale already"
        if op.params["factor"].shape not in ((), channel_shape(op.shape)):
            return "its factor differs within a channel"
        if only_reader(graph, source) != name:
            return f"{source} is read elsewhere, too"
        if {f"{source}.out", *op.recordable} & self.keep:
            return "its signal is recorded"
        return ""
