"""Calibration: how much of each product's input is not zero, measured on data and written into the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.connection import HINTS, Connection
from snncompile.ir.errors import InputError, ModelError
from snncompile.ir.graph import Edge, Graph, Input
from snncompile.network import Network
from snncompile.signals_io import read_inputs

#: Sequences that are run at a time.
_BATCH = 16
_LEAST = 1e-6


def calibrate(network: Network, *inputs: Any, **named: Any) -> Network:
    """``network`` with the density of every product as it is on this data.

    The reference runs over the data, without Dropout. The new network has the same values and computes the same; which
    of its products are event-driven is now fixed, whatever data it meets (``docs/c-target.md``).

    Args:
        network: a compiled network.
        *inputs: as for a call of it: data like what it will meet.
        **named: inputs by name.

    Returns:
        a network of its own; its graph holds the densities, and so does an artifact of it. What is frozen stays so.

    Raises:
        InputError: for data of the wrong shape, where there is none, and for what is no network.
    """
    found = measure(network, *inputs, **named)
    values = {name: value.clone() for name, value in _values(network).items()}
    made = Network(
        with_densities(network.graph, found),
        network.target,
        checkpoint=network.checkpoint,
        values=values,
        precision=network.precision,
    )
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(network.value(name).requires_grad)
    made.train(network.training)
    return made.to(network._device())


def measure(network: Network, *inputs: Any, **named: Any) -> dict[str, float]:
    """Name of each ``Linear`` and convolution -> the share of its inputs that are not zero, three digits of it.

    Raises:
        InputError: as :func:`calibrate`.
    """
    given: Any = network
    if not isinstance(given, Network):
        what = type(given).__name__
        raise InputError(f"calibrate takes a compiled network, net = snn.compile(model), not a {what}")
    graph = network.graph
    data = read_inputs(network.layout.inputs, inputs, named, steps=None, batch=None, device=network._device())
    if not data.steps * data.batch:
        raise InputError(f"{data.batch} sequences of {data.steps} steps say nothing about densities: give one at least")
    names = {ref: name for name, ref in graph.recordable().items()}
    edges = dict(_hinted(graph))
    record = sorted({names[e.source] for e in edges.values() if not isinstance(graph.op(e.source.node), Input)})
    values = {name: value.cpu() for name, value in _values(network).items()}
    reference = Network(graph, "torch", values=values).eval()
    counts = dict.fromkeys(edges, 0)
    sizes = dict.fromkeys(edges, 0)
    for start in range(0, data.batch, _BATCH):
        part = {name: x[:, start : start + _BATCH].transpose(0, 1).cpu() for name, x in data.inputs.items()}
        with torch.no_grad():
            courses = reference.evolve(**part, record=record)[2]
        for name, edge in edges.items():
            course = part[edge.source.node] if edge.source.node in part else courses[names[edge.source]]
            counts[name] += int(course.count_nonzero())
            sizes[name] += course.numel()
    return {name: max(float(f"{counts[name] / sizes[name]:.3g}"), _LEAST) for name in edges}


def _values(network: Network) -> dict[str, Tensor]:
    """The values of parameters and buffers as the network computes with them, also where they are parametrised."""
    return {name: network.value(name).detach() for name in network.layout.values}


def with_densities(graph: Graph, densities: Mapping[str, float]) -> Graph:
    """``graph`` with density hints at the named connections.

    Raises:
        ModelError: for a name that takes none.
    """
    known = [name for name, _ in _hinted(graph)]
    made = graph.copy()
    for name, density in densities.items():
        if name not in known:
            raise ModelError(f"{name!r} takes no density; those that do: {', '.join(known) or 'none'}")
        op = made.op(name)
        made.nx.nodes[name]["op"] = replace(op, attrs={**op.attrs, "density": density})
    return made


def _hinted(graph: Graph) -> Iterator[tuple[str, Edge]]:
    """The connections that take a density hint, each with the edge that feeds it."""
    for name, op in graph.of_type(Connection):
        if "density" in HINTS.get(op.kind, ()):
            yield name, graph.inputs_of(name)["x"]  # a connection that learns has its weight as another input
