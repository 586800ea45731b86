"""The computational graph of a module, in the manner of ``rockpool.graph``: modules joined by one node per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from snncompile.interop.rockpool.attributes import signals_of
from snncompile.interop.rockpool.trees import Tree
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Input, Ref
from snncompile.ir.plasticity import Plasticity

if TYPE_CHECKING:
    from snncompile.interop.rockpool.module import Module


@dataclass(eq=False)
class GraphNode:
    """One channel between modules.

    Attributes:
        source_modules: what sends on it.
        sink_modules: what reads it.
    """

    source_modules: list[GraphModule] = field(default_factory=list)
    sink_modules: list[GraphModule] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"GraphNode with {len(self.source_modules)} source modules and {len(self.sink_modules)} sink modules"


@dataclass(eq=False, repr=False)
class GraphModule:
    """One node of the network.

    Attributes:
        input_nodes: one per input channel, port after port.
        output_nodes: one per output channel; those of the default output first.
        name: name of the node.
        computational_module: its module.
        kind: its class, e.g. ``"LIF"``.
        parameters: its parameters and settings, by name.
    """

    input_nodes: list[GraphNode]
    output_nodes: list[GraphNode]
    name: str
    computational_module: Module
    kind: str
    parameters: Tree

    def __repr__(self) -> str:
        return f'{self.kind} "{self.name}" {_widths(self)}'


@dataclass(eq=False, repr=False)
class GraphHolder:
    """A whole graph.

    Attributes:
        input_nodes: one per input channel, input after input.
        output_nodes: one per output channel, output after output.
        name: the network's name.
        computational_module: the module it came from.
        modules: the nodes of the network by name, in order.
    """

    input_nodes: list[GraphNode]
    output_nodes: list[GraphNode]
    name: str
    computational_module: Module
    modules: dict[str, GraphModule]

    def to_rockpool(self) -> Any:
        """This graph as one of the package ``rockpool``, whose tools for devices read it.

        Raises:
            UnsupportedError: where rockpool is not installed.
            InterchangeError: for nodes and settings that Rockpool's graphs have no word for, by name.
        """
        from snncompile.interop.rockpool.to_rockpool import to_rockpool

        return to_rockpool(self)

    def __repr__(self) -> str:
        return f'GraphHolder "{self.name}" {_widths(self)}'


def as_graph(module: Module) -> GraphHolder:
    """The graph of a module. A feedback joins the channels like any edge, as in Rockpool's recurrent modules."""
    graph = module.graph
    nodes = {ref: [GraphNode() for _ in range(graph.type_of(ref).size)] for ref in _ports(graph)}
    found: dict[str, GraphModule] = {}
    for name in graph.names:
        if isinstance(graph.op(name), Input):
            continue
        inside = module.modules().get(name, module)
        reads = [node for edge in signals_of(graph, name).values() for node in nodes[edge.source]]
        sends = [node for ref, channels in nodes.items() if ref.node == name for node in channels]
        values = Tree({**_own(inside.parameters()), **_own(inside.simulation_parameters())})
        found[name] = GraphModule(reads, sends, name, inside, inside.class_name, values)
        for node in dict.fromkeys(reads):
            node.sink_modules.append(found[name])
        for node in sends:
            node.source_modules.append(found[name])
    inputs = [node for name in graph.input_types() for node in nodes[Ref(name)]]
    outputs = [node for _, ref in graph.outputs for node in nodes[ref]]
    return GraphHolder(inputs, outputs, graph.name, module, found)


def _ports(graph: Graph) -> Sequence[Ref]:
    """Every port that sends something: the default one of each node, and others that are read."""
    found: dict[Ref, Any] = {}
    for name in graph.names:
        op = graph.op(name)
        if not isinstance(op, Plasticity):  # which sends nothing: it changes weights
            found[Ref(name, op.outputs[0].local if isinstance(op, Elementwise) else "out")] = None
    read = [edge.source for name in graph.names for edge in signals_of(graph, name).values()]
    found.update(dict.fromkeys([*read, *(ref for _, ref in graph.outputs)]))
    order = {name: i for i, name in enumerate(graph.names)}
    return sorted(found, key=lambda ref: order[ref.node])


def _widths(found: GraphModule | GraphHolder) -> str:
    return f"with {len(found.input_nodes)} input nodes -> {len(found.output_nodes)} output nodes"


def _own(tree: Tree) -> Tree:
    return Tree({name: value for name, value in tree.items() if not isinstance(value, Tree)})
