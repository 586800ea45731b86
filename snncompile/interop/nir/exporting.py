"""From a network to a NIR file that reads back as the same network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from snncompile.interop.nir.importing import from_nir
from snncompile.interop.nir.leaving import MEMBRANES, SYNAPSES, Leaving, connection, elementwise, membrane
from snncompile.interop.nir.reading import load_nir
from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import InterchangeError
from snncompile.ir.graph import Edge, Input, Ref
from snncompile.ir.plasticity import Plasticity

if TYPE_CHECKING:
    from snncompile.network import Network

_CHECKED_STEPS = 20


@dataclass(frozen=True)
class NirExport:
    """What was written.

    Attributes:
        path: the file.
        read_with: the options that :func:`from_nir` needs to read it as the same network.
        lost: what NIR could not say, a line each; empty unless ``lossy`` was given.
    """

    path: Path
    read_with: dict[str, Any]
    lost: tuple[str, ...]


def export_nir(net: Network, path: str | Path, *, lossy: bool = False) -> NirExport:
    """Write ``net`` as a NIR file.

    Unless something was lost, the file is read back and must give the same outputs, bit for bit, before it is kept.

    Raises:
        InterchangeError: for what NIR cannot say, by the node's name, and a path that cannot be written.
        UnsupportedError: where the package nir is not installed.
    """
    nir, path = load_nir(), Path(path)
    if not path.parent.is_dir() or path.is_dir():
        raise InterchangeError(f"{path} cannot be written: there is no directory {path.parent}, or it is one itself")
    writer = _Writer(net, Leaving(net.graph.dt, lossy))
    graph = nir.NIRGraph(*writer.written(), type_check=False)
    read_with: dict[str, Any] = {
        "dt": net.graph.dt,
        "method": "exact",
        "reset": "zero",
        "current": "after",
        **writer.to.said,
    }
    if not writer.to.lost:
        _check(net, from_nir(graph, target="torch", **read_with))
    part = path.with_name(f".{path.name}.part")
    try:
        nir.write(part, graph)
        os.replace(part, path)
    except OSError as err:
        raise InterchangeError(f"{path} cannot be written: {err.strerror or err}") from None
    finally:
        part.unlink(missing_ok=True)
    return NirExport(path, read_with, tuple(writer.to.lost))


class _Writer:
    """Collects the nodes and edges of one file."""

    def __init__(self, net: Network, to: Leaving) -> None:
        self.nir = load_nir()
        self.graph, self.net, self.to = net.graph, net, to
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.inside: set[str] = set()  # synapses and gains that became part of a CubaLI or CubaLIF

    def written(self) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Nodes and edges."""
        if not any(isinstance(self.graph.op(n), Input) for n in self.graph.names):
            raise InterchangeError("a network without inputs is no NIR graph")
        chains = {n: chain for n in self.graph.names if (chain := self._chain(n))}
        for name in self.graph.names:
            op = self.graph.op(name)
            if isinstance(op, Input):
                self.nodes[name] = self.nir.Input(np.array(op.type.shape))
            elif isinstance(op, Plasticity):
                raise InterchangeError(
                    f"NIR has no plasticity ({op.kind}): export net.frozen(), the network without learning", node=name
                )
            elif isinstance(op, Connection):
                self.nodes[name] = connection(self.nir, name, op, self._values(op), self.graph.dt)
            elif name in chains:
                self.nodes[name] = self._current_based(name, op, chains[name])
            elif name not in self.inside:
                if op.kind in SYNAPSES:
                    raise InterchangeError(f"NIR has {op.kind} only before one LIF or LI (CubaLIF, CubaLI)", node=name)
                self.nodes[name] = elementwise(self.nir, name, op, self._values(op), self.to)
        for name in self.graph.names:
            if name not in self.inside:
                start = chains[name][0] if name in chains else name
                for edge in self.graph.inputs_of(start).values():
                    self._edge(edge, name)
        single = len(self.graph.outputs) == 1
        for key, ref in self.graph.outputs:
            out = self._free("output" if single else key)
            self.nodes[out] = self.nir.Output(np.array(self.graph.type_of(ref).shape))
            self._edge(Edge(ref), out)
        return self.nodes, self.edges

    def _chain(self, name: str) -> list[str]:
        """The synapse, and the gain between, that nothing but this membrane uses."""
        op = self.graph.op(name)
        if not isinstance(op, Elementwise) or op.kind not in MEMBRANES or op.kind == "CubaLIF":
            return []
        found: list[str] = []
        at = name
        for kinds in (("Scale", *SYNAPSES), SYNAPSES):
            (edge,) = self.graph.inputs_of(at).values()
            source = self.graph.op(edge.source.node)
            used = len(self.graph.consumers(edge.source.node)) + sum(
                ref.node == edge.source.node for _, ref in self.graph.outputs
            )
            if edge.delay or used != 1 or not isinstance(source, Elementwise) or source.kind not in kinds:
                return []
            at = edge.source.node
            found.insert(0, at)
            if source.kind in SYNAPSES:
                self.inside |= set(found)
                return found
        return []

    def _current_based(self, name: str, op: Elementwise, chain: list[str]) -> Any:
        synapse = self.graph.op(chain[0])
        gain = self._values(self.graph.op(chain[1]))["factor"] if len(chain) == 2 else None
        tau = (synapse, self._values(synapse)["tau"])
        return membrane(self.nir, name, op, self._values(op), gain, tau, self.to)

    def _edge(self, edge: Edge, to: str) -> None:
        source = self._default(edge.source, to)
        if edge.delay:
            late = edge.feedback
            if late not in self.nodes:
                time = np.full(self.graph.type_of(edge.source).shape, edge.delay * self.graph.dt)
                self.nodes[late] = self.nir.Delay(time)
                self.edges.append((source, late))
            source = late
        if (source, to) in self.edges:
            raise InterchangeError(f"it is fed twice by {source!r}, and NIR has one edge between two nodes", node=to)
        self.edges.append((source, to))

    def _default(self, ref: Ref, to: str) -> str:
        op = self.graph.op(ref.node)
        if isinstance(op, Elementwise) and ref.port != op.outputs[0].local:
            raise InterchangeError(f"{to!r} takes its {ref.port!r}, and a NIR node has one output", node=ref.node)
        return ref.node

    def _values(self, op: Any) -> dict[str, np.ndarray]:
        return {role: self.net.value(p.name).detach().cpu().numpy() for role, p in op.params.items()}

    def _free(self, name: str) -> str:
        while name in self.nodes or name in self.graph.nx:
            name += "_out"
        return name


def _check(net: Network, back: Network) -> None:
    """The network read back gives the same outputs, bit for bit, on random spikes."""
    draw = torch.Generator().manual_seed(0)
    inputs = {
        name: (torch.rand((2, _CHECKED_STEPS, *t.shape), generator=draw) < 0.3).float() * (t.max or 1)
        for name, t in net.graph.input_types().items()
    }
    from snncompile.network import Network

    same = Network(net.graph, "torch", values={n: v.detach().cpu().clone() for n, v in net.state_dict().items()})
    with torch.no_grad():
        wanted, found = (n.eval()(*inputs.values()) if len(inputs) == 1 else n.eval()(**inputs) for n in (same, back))
    for a, b in zip(_all(wanted), _all(found), strict=True):
        if not torch.equal(a, b):
            raise InterchangeError(
                f"read back, the file gives other outputs: the largest difference is {float((a - b).abs().max()):g}"
            )


def _all(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, dict):
        return [outputs[key] for key in sorted(outputs)]
    return list(outputs) if isinstance(outputs, tuple) else [outputs]
