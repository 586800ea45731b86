"""The module of a whole network, and those of its nodes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from snncompile.compiling import compile
from snncompile.dsl.model import Model
from snncompile.interop.rockpool.attributes import STATE, of_network, of_node, signals_of
from snncompile.interop.rockpool.batching import as_batches, replicated
from snncompile.interop.rockpool.module import Module
from snncompile.interop.rockpool.store import Store, first_state
from snncompile.interop.rockpool.trees import Tree
from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import InputError, ModelError, UnsupportedError
from snncompile.ir.graph import Graph, Input, Ref
from snncompile.learning import without_learning
from snncompile.network import Network


def as_module(model: Model | Graph | Network, **options: Any) -> NetworkModule:
    """A network behind the interface of Rockpool's modules.

    Args:
        model: a compiled network on any target, or a model (or graph), which is compiled.
        **options: for :func:`snncompile.compile`: ``target``, ``checkpoint``, hyperparameters.

    Raises:
        InputError: for options beside a network that is compiled already.
        ModelError: as :func:`snncompile.compile`, and for nodes ``a`` and ``a_output``, which a record would mix up.
    """
    if isinstance(model, Network):
        if options:
            raise InputError(f"the network is compiled already: {', '.join(options)} cannot be given")
        return NetworkModule(Store(model, {}, first_state(model)))
    return as_module(compile(model, **options))


class NetworkModule(Module):
    """A compiled network as a module; its submodules are the nodes of the graph as written. See :func:`as_module`."""

    _class_name = "Network"

    def __init__(self, store: Store) -> None:
        graph = store.net.graph
        self.graph = graph
        self._store = store
        self._name = graph.name
        self._nodes = [name for name in graph.names if not isinstance(graph.op(name), Input)]
        self._own = of_network(graph, dict.fromkeys(self._nodes))
        for name in self._nodes:
            if f"{name}_output" in self._nodes:
                raise ModelError(
                    f"a record keeps what {name!r} sends under {name + '_output'!r}: rename one of the two nodes",
                    node=f"{name}_output",
                    where=graph.where(f"{name}_output"),
                )
        inputs, outputs = graph.input_types(), list(graph.output_types().values())
        self._shape = (sum(t.size for t in inputs.values()), outputs[0].size)
        self._spiking_input = bool(inputs) and all(t.kind == "spikes" for t in inputs.values())
        self._spiking_output = outputs[0].kind == "spikes"

    def modules(self) -> OrderedDict[str, Module]:
        """Submodules by the names of the nodes."""
        return OrderedDict((name, self._module(name)) for name in self._nodes)

    def _module(self, name: str) -> NodeModule:
        if name not in self._modules:
            self._modules[name] = NodeModule(self._store, name)
        return self._modules[name]

    @cached_property
    def _modules(self) -> dict[str, NodeModule]:
        return {}

    def _with(self, store: Store) -> Self:
        return type(self)(store)

    def evolve(self, input_data: Any, record: bool | str | Sequence[str] = False) -> tuple[Any, Tree, Tree]:
        """As :meth:`Module.evolve`."""
        store = self._store
        state = {name: store.state_of(name) for name in store.infos}
        output, new_state, recorded = run(store.net, store.values, state, input_data, record)
        return output, self._nested(new_state), self._nested_record(recorded, record is True)

    def to_torch(self) -> Network:
        """As :meth:`Module.to_torch`."""
        store = self._store
        if not store.values:
            return store.net
        values = {name: store.value(name).detach().clone() for name in store.parameters}
        old = store.net
        net = Network(old.graph, old.target, checkpoint=old.checkpoint, values=values, precision=old.precision)
        return net.train(store.net.training)

    def _nested(self, state: Mapping[str, Tensor]) -> Tree:
        tree = _own_states(self, state)
        for name in self._nodes:
            tree[name] = _own_states(self._module(name), state)
        return tree

    def _nested_record(self, recorded: Mapping[str, Tensor], everything: bool) -> Tree:
        tree = Tree()
        if not everything:
            for key, value in recorded.items():
                node, _, local = key.partition(".")
                if local:
                    tree.setdefault(node, Tree())[local] = value
                else:
                    tree[node] = value
            return tree
        for name in self._nodes:
            op = self.graph.op(name)
            sent = _default_record(self.graph, name)
            once = sent if isinstance(op, Connection) else ""  # a connection has nothing but what it sends
            inside = [(k, v) for k, v in recorded.items() if k.startswith(f"{name}.") and k != once]
            tree[name] = Tree({key.removeprefix(f"{name}."): value for key, value in inside})
            if sent in recorded:
                tree[f"{name}_output"] = recorded[sent]
        return tree


class NodeModule(Module):
    """One node of a network as a module: a synapse, a neuron, a connection. It runs alone, too."""

    def __init__(self, store: Store, node: str) -> None:
        graph = store.net.graph
        op = graph.op(node)
        self._store = store
        self._name = node
        self._whole = graph
        self._class_name = op.kind
        self._own = of_node(graph, node)
        inputs = [graph.type_of(edge.source) for edge in signals_of(graph, node).values()]
        sent = _default_type(graph, node)
        size = sum(t.size for t in inputs)
        self._shape = (size,) if isinstance(op, Elementwise) and len(inputs) == 1 else (size, sent.size if sent else 0)
        self._spiking_input = bool(inputs) and all(t.kind == "spikes" for t in inputs)
        self._spiking_output = sent is not None and sent.kind == "spikes"

    @cached_property
    def graph(self) -> Graph:  # type: ignore[override]
        """A graph of this node alone, with an input for each of its ports.

        Raises:
            UnsupportedError: for a node that has no meaning alone, such as a rule of plasticity.
        """
        name, whole = str(self._name), self._whole
        op = whole.op(name)
        if not isinstance(op, Elementwise | Connection):
            raise UnsupportedError(f"{op.kind} acts on a connection beside it: evolve the network", node=name)
        alone = Graph(name, whole.dt)
        fed = {}
        for port, edge in signals_of(whole, name).items():
            source = f"{port}_in" if port == name else port
            alone.add(source, Input(whole.type_of(edge.source)))
            fed[port] = Ref(source)
        alone.add(name, op, fed, whole.where(name))
        alone.outputs = (("out", Ref(name, _default_port(op))),)
        return without_learning(alone)

    @property
    def dt(self) -> float:
        """The time step in seconds."""
        return self._whole.dt

    @property
    def _alone(self) -> Network:
        made, name = self._store.alone, str(self._name)
        if name not in made:
            made[name] = self.to_torch()
        return made[name]

    def _with(self, store: Store) -> Self:
        return type(self)(store, str(self._name))

    def evolve(self, input_data: Any, record: bool | str | Sequence[str] = False) -> tuple[Any, Tree, Tree]:
        """As :meth:`Module.evolve`."""
        net, store = self._alone, self._store
        net.train(store.net.training)
        learned = {info.parameter: name for name, info in store.infos.items() if info.parameter}
        values = {n: store.state_of(learned[n]) if n in learned else store.value(n) for n in net.layout.values}
        state = {name: store.state_of(name) for name in net.layout.states}
        output, new_state, recorded = run(net, values, state, input_data, record)
        tree = _own_states(self, new_state)
        if record is True and isinstance(self._whole.op(str(self._name)), Connection):
            recorded = {}
        inside = {key.partition(".")[2] or key: value for key, value in recorded.items()}
        return output, tree, Tree(inside)

    def to_torch(self) -> Network:
        """As :meth:`Module.to_torch`: a network of this node."""
        net, graph = self._store.net, self.graph
        values = {name: self._store.value(name).detach().clone() for name in graph.parameters()}
        twin = Network(graph, net.target, checkpoint=net.checkpoint, values=values, precision=net.precision)
        return twin.train(net.training)


def run(
    net: Network, values: Mapping[str, Tensor], state: Mapping[str, Tensor], data: Any, record: Any
) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    """Run ``net`` with other values of parameters: output, state (without a batch of one) and record."""
    inputs = as_batches(data, net.graph.input_types(), net._device())
    if inputs:
        batch, extra = next(iter(inputs.values())).shape[0], dict[str, int]()
    else:
        batch, steps = _empty(data)
        extra = {"batch": batch, "steps": steps}
    infos = net.layout.states
    held = {
        name: value if infos[name].shared else replicated(value, infos[name].shape, batch, name)
        for name, value in state.items()
    }
    if record is True:
        record = [name for name, ref in net.graph.recordable().items() if not isinstance(net.graph.op(ref.node), Input)]
    given: dict[str, Any] = {**extra, "state": held, "record": record or None}
    if net.layout.learned:
        with torch.no_grad():  # no gradient flows through learning
            return _run(net, values, inputs, given, batch)
    return _run(net, values, inputs, given, batch)


def _run(
    net: Network, values: Mapping[str, Tensor], inputs: Mapping[str, Tensor], given: Mapping[str, Any], batch: int
) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    infos = net.layout.states
    if values:
        named = {f"net.{name}": value for name, value in values.items()}
        args = tuple(inputs.values())
        output, new_state, recorded = torch.func.functional_call(_Evolve(net), named, args, dict(given))
    else:
        output, new_state, recorded = net.evolve(*inputs.values(), **given)
    alone = batch == 1
    return output, {n: v[0] if alone and not infos[n].shared else v for n, v in new_state.items()}, recorded


class _Evolve(nn.Module):
    """``evolve`` as the call of a module, which is what ``functional_call`` calls."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor, **given: Any) -> Any:
        return self.net.evolve(*inputs, **given)


def _own_states(module: Module, state: Mapping[str, Tensor]) -> Tree:
    own = [a for a in module._own.values() if a.kind == STATE]
    return Tree({a.name: state[a.key] for a in own if a.key in state})


def _empty(data: Any) -> tuple[int, int]:
    shape = tuple(torch.as_tensor(data).shape)
    if len(shape) not in (2, 3) or shape[-1] != 0:
        raise InputError(f"the module has no inputs: give (batch, time, 0) or (time, 0), not {shape}")
    return (1, shape[0]) if len(shape) == 2 else (shape[0], shape[1])


def _default_port(op: Any) -> str:
    return op.outputs[0].local if isinstance(op, Elementwise) else "out"


def _default_record(graph: Graph, name: str) -> str:
    op = graph.op(name)
    return op.outputs[0].name if isinstance(op, Elementwise) else f"{name}.out"


def _default_type(graph: Graph, name: str) -> Any:
    op = graph.op(name)
    return graph.type_of(Ref(name, _default_port(op))) if isinstance(op, Elementwise | Connection) else None
