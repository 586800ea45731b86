"""From our computational graphs to those of the package rockpool, which its tools for devices read."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from snncompile.ir.errors import InterchangeError, UnsupportedError

if TYPE_CHECKING:
    from snncompile.interop.rockpool.graphs import GraphHolder, GraphModule, GraphNode

#: Settings that change nothing in what a graph of Rockpool says.
_SILENT = {"dt", "surrogate", "detach_reset"}


def to_rockpool(holder: GraphHolder) -> Any:
    """``holder`` as a ``rockpool.graph.GraphHolder``.

    Raises:
        UnsupportedError: where rockpool is not installed.
        InterchangeError: for nodes and settings that Rockpool's graphs have no word for, by name.
    """
    return _Writer(holder, _load()).written()


def _load() -> Any:
    try:
        with warnings.catch_warnings():  # of its optional back ends
            warnings.simplefilter("ignore")
            return importlib.import_module("rockpool.graph")
    except ImportError as err:
        raise UnsupportedError(f"this needs the package rockpool (pip install rockpool): {err}") from None


class _Writer:
    """Writes one graph."""

    def __init__(self, holder: GraphHolder, graph: Any) -> None:
        self.holder, self.graph = holder, graph
        self.same: dict[GraphNode, GraphNode] = {}  # channels that are added up are one channel
        self.made: dict[GraphNode, Any] = {}

    def written(self) -> Any:
        """The graph of Rockpool."""
        modules = self.holder.modules.values()
        graph = self.holder.computational_module.graph
        for name in self.holder.modules:
            late = max((edge.delay for edge in graph.inputs_of(name).values()), default=0)
            if late > 1:
                said = f"its feedback is {late} steps late, and in Rockpool's graphs each is one step late"
                raise InterchangeError(said, node=name)
        synapses = {module.name: self._synapse(module) for module in modules if module.kind == "LIF"}
        inside = {synapse.name for synapse in synapses.values()}
        for module in modules:
            if module.kind == "Add":
                self._unite(module)
        for module in modules:
            if module.kind == "Linear":
                self._linear(module)
            elif module.kind == "LIF":
                self._neuron(module, synapses[module.name])
            elif module.kind == "CubaLIF":
                self._neuron(module, module)
            elif module.kind != "Add" and module.name not in inside:
                said = "they have Linear, CubaLIF, sums, and ExpSyn before one LIF"
                raise InterchangeError(f"Rockpool's graphs have no {module.kind}: {said}", node=module.name)
        inputs, outputs = self._nodes(self.holder.input_nodes), self._nodes(self.holder.output_nodes)
        return self.graph.GraphHolder(inputs, outputs, self.holder.name, self.holder.computational_module)

    def _synapse(self, lif: GraphModule) -> GraphModule:
        """The ExpSyn that feeds this neuron and nothing else."""
        sources = {id(s): s for node in lif.input_nodes for s in node.source_modules}
        (source,) = sources.values() if len(sources) == 1 else (None,)
        read = [sink for node in lif.input_nodes for sink in node.sink_modules if sink is not lif]
        seen = set(lif.input_nodes) & set(self.holder.output_nodes)
        if source is None or source.kind != "ExpSyn" or read or seen:
            said = "Rockpool's graphs have LIF only after an ExpSyn that nothing else reads"
            raise InterchangeError(said, node=lif.name)
        return source

    def _unite(self, add: GraphModule) -> None:
        n = len(add.output_nodes)
        if len(set(add.input_nodes)) != len(add.input_nodes):
            raise InterchangeError("it adds a signal to itself, which Rockpool's graphs cannot", node=add.name)
        for i, node in enumerate(add.input_nodes):
            if len(node.sink_modules) != 1 or not node.source_modules or node in self.holder.output_nodes:
                raise InterchangeError(
                    "one of the signals it adds is an input or is read elsewhere, too, and a channel of Rockpool's"
                    " graphs is the sum of all that is sent on it",
                    node=add.name,
                )
            self.same[node] = add.output_nodes[i % n]

    def _nodes(self, nodes: list[GraphNode]) -> list[Any]:
        found = []
        for node in nodes:
            while node in self.same:
                node = self.same[node]
            found.append(self.made.setdefault(node, self.graph.GraphNode()))
        return found

    def _linear(self, linear: GraphModule) -> None:
        values = linear.parameters
        weight = _array(values["weight"])
        weight = weight * _array(values["mask"]) if "mask" in values else weight
        biases = _array(values["bias"]) if "bias" in values else None
        self._add("LinearWeights", linear, linear, weight.T, biases)

    def _neuron(self, lif: GraphModule, synapse: GraphModule) -> None:
        plain = {"v0": 0.0, "reset": "subtract", "refractory": 0.0, "strict": False, "max_spikes_per_dt": 65536}
        roles = {"tau_mem", "tau_syn", "threshold", "bias"}
        for owner in {lif.name: lif, synapse.name: synapse}.values():
            for name, value in owner.parameters.items():
                silent = name in _SILENT or name in roles or (owner is synapse and name == "tau")
                zero = not isinstance(value, Tensor) and value in (0, None, "None")
                if not silent and not zero and plain.get(name.removesuffix("_setting")) != value:
                    raise InterchangeError(f"Rockpool's graphs have no word for {name}={value!r}", node=owner.name)
        size = len(lif.output_nodes)
        tau_syn = synapse.parameters["tau_syn" if synapse is lif else "tau"]
        values = [np.broadcast_to(_array(v), (size,)).copy() for v in (lif.parameters["tau_mem"], tau_syn)]
        values += [np.broadcast_to(_array(lif.parameters[name]), (size,)).copy() for name in ("threshold", "bias")]
        self._add("LIFNeuronWithSynsRealValue", synapse, lif, *values, lif.parameters["dt"])

    def _add(self, kind: str, first: GraphModule, last: GraphModule, *values: Any) -> None:
        made = getattr(self.graph, kind)
        nodes = self._nodes(first.input_nodes), self._nodes(last.output_nodes)
        made(*nodes, last.name, last.computational_module, *values)


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()
