"""Sparse connections as dense ones: NIR knows no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.errors import InterchangeError
from snncompile.ir.graph import Graph
from snncompile.targets.sparse import as_dense


def matrix(name: str, op: Connection, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The weight of a sparse connection, ``(out, in)``.

    Raises:
        InterchangeError: where that is too large.
    """
    found = as_dense(op, {role: torch.from_numpy(np.array(value)) for role, value in values.items()})
    if found is None:
        raise InterchangeError(
            f"NIR has no sparse connection, and {op.output.size} x {op.input.size} is too large for a dense one",
            node=name,
        )
    return found.numpy()


def densified(graph: Graph, values: Mapping[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """The graph with a Linear in place of every Sparse, and values for it: what its file says."""
    graph, held = graph.copy(), dict(values)
    for name, op in list(graph.of_type(Connection)):
        if op.kind == "Sparse":
            weight = as_dense(op, {role: values[p.name] for role, p in op.params.items()})
            assert weight is not None
            params = {role: p for role, p in op.params.items() if role in ("weight", "bias")}
            params["weight"] = replace(params["weight"], shape=tuple(weight.shape))
            graph.nx.nodes[name]["op"] = replace(op, kind="Linear", attrs={}, params=params)
            held[params["weight"].name] = weight
            for role in set(op.params) - set(params):
                del held[op.params[role].name]
    return graph, held
