"""From a network to a NIR file that reads back as the same network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch

from snncompile.interop.nir.importing import from_nir
from snncompile.interop.nir.leaving import MEMBRANES, SYNAPSES, Leaving, connection, elementwise, membrane
from snncompile.interop.nir.options import checked_writing
from snncompile.interop.nir.reading import load_nir
from snncompile.interop.nir.sparse import densified
from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import InterchangeError
from snncompile.ir.graph import Edge, Input, Ref
from snncompile.ir.plasticity import Plasticity
from snncompile.ir.random import draws_in
from snncompile.paths import as_path

if TYPE_CHECKING:
    from snncompile.network import Network

_CHECKED_STEPS = 20

# Read by another method than the network's, decays differ by a rounding: so may outputs, and a spike may move.
_ROUNDING, _MOVED = 1e-3, 0.02


@dataclass(frozen=True)
class NirExport:
    """What was written.

    Attributes:
        path: the file.
        read_with: the options that :func:`from_nir` needs to read it as the same network.
        lost: what NIR could not say, a line each; empty unless ``lossy`` was given.
        rounded: nodes whose decay another method gives only up to rounding; empty unless ``method`` asked for another.
    """

    path: Path
    read_with: dict[str, Any]
    lost: tuple[str, ...]
    rounded: tuple[str, ...] = ()


def export_nir(
    net: Network,
    path: str | Path,
    *,
    lossy: bool = False,
    method: str | None = None,
    dt: float | None = None,
    cycles: str = "delay",
) -> NirExport:
    """Write ``net`` as a NIR file; see :meth:`snncompile.Network.to_nir`.

    Unless something was lost, the file is read back and must give the same outputs, bit for bit, before it is kept
    (where ``method`` asks for another method than the network's: within rounding).

    Raises:
        InterchangeError: for what NIR cannot say, by the node's name, and a path that cannot be written.
        UnsupportedError: where the package nir is not installed.
    """
    nir, path = load_nir(), as_path(path, InterchangeError)
    if not path.parent.is_dir() or path.is_dir():
        raise InterchangeError(f"{path} cannot be written: there is no directory {path.parent}, or it is one itself")
    checked_writing(dt, method, cycles)
    step = net.graph.dt if dt is None else float(dt)
    to = Leaving(net.graph.dt, step, method, lossy)
    try:
        for name, rule in net.graph.of_type(Plasticity):
            to.lose(f"{rule.weight.name} learns ({rule.kind})", name)
        writer = _Writer(net.frozen() if net.layout.learned else net, to, cycles == "bare")
        graph = nir.NIRGraph(*writer.written(), type_check=False)
    except InterchangeError as err:
        where = net.graph.where(err.node) if err.node is not None and err.node in net.graph.nx else None
        raise InterchangeError(err.message, node=err.node, where=where) from None
    read_with: dict[str, Any] = {
        "dt": step,
        "method": "exact",
        "reset": "zero",
        "current": "after",
        **writer.to.said,
    }
    if not writer.to.lost:
        _check(net, from_nir(graph, target="torch", **read_with), bool(writer.to.rounded))
    part = path.with_name(f".{path.name}.part")
    try:
        nir.write(part, graph)
        os.replace(part, path)
    except OSError as err:
        raise InterchangeError(f"{path} cannot be written: {err.strerror or err}") from None
    finally:
        part.unlink(missing_ok=True)
    return NirExport(path, read_with, tuple(writer.to.lost), tuple(dict.fromkeys(writer.to.rounded)))


class _Writer:
    """Collects the nodes and edges of one file."""

    def __init__(self, net: Network, to: Leaving, bare: bool) -> None:
        self.nir = load_nir()
        self.bare = bare
        self.graph, self.net, self.to = net.graph, net, to
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.sums: set[str] = set()  # sums that become edges which meet
        self.inside: set[str] = set()  # synapses and gains that became part of a CubaLI or CubaLIF

    def written(self) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Nodes and edges."""
        if not any(isinstance(self.graph.op(n), Input) for n in self.graph.names):
            raise InterchangeError("a network without inputs is no NIR graph")
        chains = {n: chain for n in self.graph.names if (chain := self._chain(n))}
        self.sums = {n for n in self.graph.names if self._is_plain_sum(n)}
        for name in self.graph.names:
            op = self.graph.op(name)
            if isinstance(op, Elementwise) and "noise_std" in op.params and draws_in(op.forward):
                self.to.lose("it has noise (set noise_std=0)", name)
            if isinstance(op, Input):
                self.nodes[name] = self.nir.Input(np.array(op.type.shape))
            elif isinstance(op, Connection):
                self.nodes[name] = connection(self.nir, name, op, self._values(op), self.to.step)
            elif name in chains:
                self.nodes[name] = self._current_based(name, op, chains[name])
            elif name not in self.inside | self.sums:
                if op.kind in SYNAPSES:
                    raise InterchangeError(f"NIR has {op.kind} only before one LIF or LI (CubaLIF, CubaLI)", node=name)
                self.nodes[name] = elementwise(self.nir, name, op, self._values(op), self.to)
        for name in self.graph.names:
            if name not in self.inside | self.sums:
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
        """The synapse, and the gain between, that nothing but this membrane uses; either may be missing."""
        op = self.graph.op(name)
        if not isinstance(op, Elementwise) or op.kind not in (*MEMBRANES, "IF", "Integrator") or op.kind == "CubaLIF":
            return []
        found: list[str] = []
        wanted: tuple[str, ...] = ("Scale", *SYNAPSES) if op.kind in MEMBRANES else ("Scale",)
        while (before := self._alone_before(found[0] if found else name, wanted)) is not None:
            found.insert(0, before)
            if self.graph.op(before).kind in SYNAPSES or op.kind not in MEMBRANES:
                break
            wanted = SYNAPSES
        self.inside |= set(found)
        return found

    def _alone_before(self, name: str, kinds: tuple[str, ...]) -> str | None:
        """The node that feeds ``name`` in the same step and nothing else, if it is of such a kind."""
        (edge,) = self.graph.inputs_of(name).values()
        before = edge.source.node
        source = self.graph.op(before)
        used = len(self.graph.consumers(before)) + sum(ref.node == before for _, ref in self.graph.outputs)
        if edge.delay or used != 1 or not isinstance(source, Elementwise) or source.kind not in kinds:
            return None
        return before

    def _current_based(self, name: str, op: Elementwise, chain: list[str]) -> Any:
        scale = self.graph.op(chain[-1])
        gain = self._values(scale)["factor"] if scale.kind == "Scale" else None
        synapse = self.graph.op(chain[0])
        if synapse.kind not in SYNAPSES:
            return elementwise(self.nir, name, op, self._values(op), self.to, gain)
        tau = (synapse, self._values(synapse)["tau"])
        return membrane(self.nir, name, op, self._values(op), gain, tau, self.to)

    def _is_plain_sum(self, name: str) -> bool:
        """Whether this is a sum of two that one node takes: two edges that meet there say the same.

        Of two only: more are summed in the order of names, which need not be the order here.
        """
        op = self.graph.op(name)
        outside = any(ref.node == name for _, ref in self.graph.outputs)
        if not isinstance(op, Elementwise) or op.kind != "Add" or outside:
            return False
        readers = self.graph.consumers(name)
        sources = {edge.source.node for edge in self.graph.inputs_of(name).values()}
        if len(readers) != 1 or readers[0][2].delay or len(sources) != 2 or len(op.inputs) != 2:
            return False
        kinds = [getattr(self.graph.op(n), "kind", "") for n in (readers[0][0], *sources)]
        return "Add" not in kinds

    def _edge(self, edge: Edge, to: str) -> None:
        if edge.source.node in self.sums:
            for summed in self.graph.inputs_of(edge.source.node).values():
                self._edge(summed, to)
            return
        source = self._default(edge.source, to)
        implied = self.bare and edge.delay == 1 and nx.has_path(self.graph.nx, to, edge.source.node)
        if edge.delay and not implied:
            late = edge.feedback
            if late not in self.nodes:
                time = np.full(self.graph.type_of(edge.source).shape, edge.delay * self.to.step)
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


def _check(net: Network, back: Network, rounded: bool) -> None:
    """The network read back gives the same outputs on random spikes: bit for bit, or ``rounded``."""
    draw = torch.Generator().manual_seed(0)
    inputs = {
        name: (torch.rand((2, _CHECKED_STEPS, *t.shape), generator=draw) < 0.3).to(torch.float32) * (t.max or 1)
        for name, t in net.graph.input_types().items()
    }
    from snncompile.network import Network

    graph, values = densified(net.graph, {n: v.detach().cpu().clone() for n, v in net.state_dict().items()})
    same = Network(graph, "torch", values=values)
    with torch.no_grad():
        wanted, found = (n.eval()(*inputs.values()) if len(inputs) == 1 else n.eval()(**inputs) for n in (same, back))
    for a, b in zip(_all(wanted), _all(found), strict=True):
        apart = (a - b).abs() > _ROUNDING * float(a.abs().max()) if rounded else a != b
        if float(apart.float().mean()) > (_MOVED if rounded else 0.0):
            raise InterchangeError(
                f"read back, the file gives other outputs: the largest difference is {float((a - b).abs().max()):g}"
            )


def _all(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, dict):
        return [outputs[key] for key in sorted(outputs)]
    return list(outputs) if isinstance(outputs, tuple) else [outputs]
