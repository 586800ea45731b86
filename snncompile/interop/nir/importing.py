"""From a NIR graph to a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import nn

from snncompile.dsl.builder import Builder
from snncompile.dsl.signals import Signal
from snncompile.interop.nir.connections import CONNECTIONS, Shape, expect, same_features
from snncompile.interop.nir.cycles import schedule
from snncompile.interop.nir.flat import Flat, flatten, kind_of
from snncompile.interop.nir.neurons import NEURONS, numbers
from snncompile.interop.nir.options import Discretisation, checked
from snncompile.interop.nir.reading import read_graph
from snncompile.ir.delay import to_steps
from snncompile.ir.errors import InterchangeError, ModelError
from snncompile.ir.graph import Graph
from snncompile.ir.nodes import Add, Delay, Node, Scale
from snncompile.ir.types import SignalType
from snncompile.network import Network

_TAKEN = frozenset(("self", "state", "record", "steps", "batch", "graph", "target", "checkpoint", "layout", "handle"))
_ENDINGS = ("_gain", "_in", "_syn", "_sum", "_back", "_now", "_each")  # of the names of what one NIR node becomes


def from_nir(
    source: str | Path | Any,
    *,
    dt: float | None = None,
    method: str = "exact",
    reset: str = "zero",
    current: str = "after",
    target: str = "auto",
    name: str | None = None,
) -> Network:
    """A network from a NIR file or graph. What cannot be represented exactly is refused, by name.

    Args:
        source: the path of a file, or a ``nir.NIRGraph``.
        dt: the time step in seconds. Required: NIR's equations are continuous, and a file names none.
        method: ``"exact"``, the solution of each equation for an input that is constant over the step, or ``"euler"``.
        reset: ``"zero"``, to the node's ``v_reset``, or ``"subtract"``, by the threshold (where ``v_reset`` is 0).
        current: whether the membrane of CubaLI and CubaLIF sees the synaptic current ``"after"`` or ``"before"`` its
            update of the same step.
        target: what the network runs on, as for :func:`snncompile.compile`.
        name: its name; the file's by default.

    Returns:
        the network. Weights, time constants and thresholds are parameters like those of any other.

    Raises:
        InterchangeError: for a file that is none, a graph that makes no sense, and nodes that cannot be represented.
        UnsupportedError: where the package nir is not installed.
    """
    options = checked(dt, method, reset, current)
    is_path = isinstance(source, (str, Path))
    graph = read_graph(Path(source)) if is_path else source
    named = name or (Path(source).stem if is_path else "nir")
    made, values = _Importer(flatten(graph), options, _identifier(named, "net")).build()
    first = {n: torch.from_numpy(np.array(values.get(n, _initial(p)))) for n, p in made.parameters().items()}
    return Network(made, target, values=first)


def _initial(p: Any) -> np.ndarray:
    return np.broadcast_to(p.init.value_or_constant(), p.shape).astype(np.float32)


class _Importer:
    """Builds the graph of one import."""

    def __init__(self, flat: Flat, options: Discretisation, name: str) -> None:
        self.flat = flat
        self.options = options
        self.builder = Builder(name, options.dt)
        self.names = self._names()
        self.signals: dict[str, Signal] = {}
        self.values: dict[str, np.ndarray] = {}
        self.late: dict[str, Signal] = {}  # node -> its previous value
        cycles = nx.strongly_connected_components(nx.DiGraph(flat.edges))
        self.cyclic = {name for part in cycles if len(part) > 1 for name in part}
        self.waiting: dict[str, Signal] = {}  # Delay on a cycle -> what leads into it, as late as it is or at once

    def build(self) -> tuple[Graph, dict[str, np.ndarray]]:
        """The graph, and the first values of parameters that it cannot hold."""
        order, late = schedule(self.flat, self._waits)
        for node in sorted({a for a, _ in late}):
            self.late[node] = self._open(node, f"{self.names[node]}_back")
        for node in order:
            if self._waits(node):
                self.waiting[node] = self._open(node, self.names[node], self._one_delay(node))
        for node in order:
            try:
                self.signals[node] = self._apply(node, late)
            except (InterchangeError, ModelError) as err:
                kind = f"{kind_of(self.flat.nodes[node])}: "
                raise InterchangeError(f"{kind}{err.message.removeprefix(kind)}", node=node) from None
        for node, held in self.late.items():
            self._close(held, self.signals[node], node)
        for node, held in self.waiting.items():
            self._close(held, self._sum(node, late), node)
        single = len(self.flat.outputs) == 1
        outputs = [("out" if single else self.names[n], self._solid(self.signals[n])) for n in self.flat.outputs]
        return self.builder.finish(outputs), self.values

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _apply(self, name: str, late: set[tuple[str, str]]) -> Signal:
        node, kind = self.flat.nodes[name], kind_of(self.flat.nodes[name])
        if name in self.flat.inputs:
            return self.builder.input(self.names[name], SignalType("current", _shape(node.input_type, "input", name)))
        own = self.names[name]
        if name in self.waiting:
            held = self.waiting[name]
            return held if self._one_delay(name) else self._through(held, Delay(self._delays(name), name=f"{own}_each"))
        x = self._sum(name, late)
        if kind in ("Input", "Output"):
            said = node.input_type["input"]
            if said is not None:
                expect(x.shape, tuple(int(n) for n in np.atleast_1d(said)), "it has")
            return x
        if kind in NEURONS:
            for role, value in vars(node).items():
                if isinstance(value, np.ndarray) and role not in ("input_type", "output_type", "metadata"):
                    same_features(x.shape, value.shape, role)
            for part in NEURONS[kind](own, node, self.options):
                x = self._through(x, part)
            return x
        if kind in CONNECTIONS:
            made = CONNECTIONS[kind](own, node, x.shape)
            if made.node is None:
                return x
            y = self._through(x, made.node)
            self.values |= {f"{y._ref.node}.{role}": value for role, value in made.values.items()}
            return y
        if kind == "Delay":
            same_features(x.shape, numbers(node, "delay").shape, "delay")
            times = self._delays(name)
            return self._through(x, Delay(self._one_delay(name) or times, name=own)) if np.any(times) else x
        raise InterchangeError("no NIR primitive that is read has this name")

    def _through(self, x: Signal, node: Node) -> Signal:
        return self.builder.apply(node, (x,), {}, None)

    def _sum(self, name: str, late: set[tuple[str, str]]) -> Signal:
        """What leads into a node, added in the order of names."""
        parts = [self.late[a] if (a, name) in late else self.signals[a] for a in self.flat.sources(name)]
        shapes = {a: p.shape for a, p in zip(self.flat.sources(name), parts, strict=True)}
        if len(set(shapes.values())) > 1:
            said = ", ".join(f"{a} {shape}" for a, shape in shapes.items())
            raise InterchangeError(f"what leads into it has different features: {said}")
        if len(parts) == 1:
            return parts[0]
        return self.builder.apply(Add(len(parts), name=f"{self.names[name]}_sum"), parts, {}, None)

    # -- one step late -----------------------------------------------------------------------------------------------

    def _waits(self, name: str) -> bool:
        """Whether this is a Delay on a cycle, of one step or more: what comes back need not wait besides."""
        if name not in self.cyclic or kind_of(self.flat.nodes[name]) != "Delay":
            return False
        return bool(np.min(self._delays(name)) > 0)

    def _delays(self, name: str) -> np.ndarray:
        """The times of a Delay, in seconds: whole numbers of steps.

        Raises:
            InterchangeError: where they are not.
        """
        dt = self.options.dt
        try:
            steps = to_steps(np.float64(numbers(self.flat.nodes[name], "delay")), dt)
        except (InterchangeError, ModelError) as err:
            raise InterchangeError(f"Delay: {err.message}", node=name) from None
        if np.all(steps == np.round(steps)) and np.min(steps, initial=0) >= 0:
            return steps * dt
        low, high = float(np.min(steps)), float(np.max(steps))
        said = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        raise InterchangeError(
            f"Delay: it is {said} steps of dt = {dt:g} s; a delay that is read is a whole number of steps, at least 0:"
            " choose another dt",
            node=name,
        )

    def _one_delay(self, name: str) -> float:
        """The delay in seconds that all elements share, or 0."""
        each = self._delays(name)
        return float(each.flat[0]) if np.all(each == each.flat[0]) else 0.0

    def _open(self, node: str, wanted: str, delay: float | None = None) -> Signal:
        return self.builder.open(wanted, SignalType("any", self._known_shape(node)), None, delay)

    def _close(self, held: Signal, signal: Signal, node: str) -> None:
        if signal.shape != held.shape:
            raise InterchangeError(f"it has features {held.shape}, but is given {signal.shape}", node=node)
        self.builder.close(held._ref.node, self._solid(signal), None)

    def _solid(self, signal: Signal) -> Signal:
        """A signal that is no placeholder of a previous value: an output and a feedback must come from a node."""
        if signal._ref.node not in self.builder._open:
            return signal
        name = self.builder.free(f"{signal._ref.node}_now")
        return self.builder.apply(Scale(1.0, name=name), (signal,), {}, None)

    def _known_shape(self, name: str) -> Shape:
        """The features of a node's output, before it is applied."""
        node = self.flat.nodes[name]
        for role in ("r", "threshold", "scale", "delay", "v_threshold"):
            if hasattr(node, role) and np.ndim(getattr(node, role)):
                return tuple(np.shape(getattr(node, role)))
        if kind_of(node) in ("Affine", "Linear"):
            return (int(np.shape(node.weight)[0]),)
        if kind_of(node) in ("Input", "Output"):
            return _shape(node.input_type, "input", name)
        if kind_of(node) in NEURONS or kind_of(node) == "Delay":
            sources = [s for s in self.flat.sources(name) if kind_of(self.flat.nodes[s]) in ("Affine", "Linear")]
            if sources:
                return self._known_shape(sources[0])
        raise InterchangeError(
            f"{kind_of(node)}: a cycle or a delay needs its last value, and its shape is not known beforehand:"
            " give one value per neuron",
            node=name,
        )

    # -- names -------------------------------------------------------------------------------------------------------

    def _names(self) -> dict[str, str]:
        """Names in the graph: letters, digits and ``_``, none twice."""
        names: dict[str, str] = {}
        used: set[str] = set()
        for name, node in self.flat.nodes.items():
            wanted = _identifier(name, kind_of(node).lower())
            free, k = wanted, 0
            while used & {free, *(free + end for end in _ENDINGS)}:
                k += 1
                free = f"{wanted}_{k}"
            used |= {free, *(free + end for end in _ENDINGS)}
            names[name] = free
        return names


def _identifier(name: str, prefix: str) -> str:
    """``lif.1`` -> ``lif_1``, ``3`` -> ``lif_3``; the same for names that a network needs for itself."""
    text = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not re.match(r"[A-Za-z]", text) or text in _TAKEN or hasattr(Network, text) or hasattr(nn.Module(), text):
        text = f"{prefix}_{text}"
    return text[:90]


def _shape(types: Any, key: str, name: str) -> Shape:
    value = types.get(key) if isinstance(types, dict) else None
    if value is None:
        raise InterchangeError("Input: it has no shape", node=name)
    shape = tuple(int(n) for n in np.atleast_1d(value))
    if not shape or min(shape) < 1:
        raise InterchangeError(f"Input: a shape holds whole numbers of at least 1, not {shape}", node=name)
    return shape
