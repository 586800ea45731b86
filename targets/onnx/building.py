"""A graph under construction: nodes in order, initializers, and names that are unique."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from snncompile.targets.printing import Names


class GraphBuilder:
    """Collects the nodes of an ONNX graph.

    A body (of a Scan) is a builder of its own that shares names and initializers with the graph around it.

    Args:
        outer: the builder of the graph around this one, if any.
    """

    def __init__(self, outer: GraphBuilder | None = None) -> None:
        self.root: GraphBuilder = self if outer is None else outer.root
        self.nodes: list[NodeProto] = []
        if outer is None:
            self._values = Names(())
            self._labels = Names(())
            self.initializers: dict[str, np.ndarray] = {}
            self._made: dict[tuple, str] = {}

    def fresh(self, wanted: str) -> str:
        """A name for a value that no other value of the file has."""
        return self.root._values.new(wanted)

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        label: str,
        *,
        domain: str = "",
        doc: str = "",
        **attributes: Any,
    ) -> None:
        """Append a node whose outputs are already named."""
        name = self.root._labels.new(label)
        node = helper.make_node(op, list(inputs), list(outputs), name, domain=domain, doc_string=doc, **attributes)
        self.nodes.append(node)

    def node(self, op: str, inputs: Sequence[str], wanted: str, label: str = "", **attributes: Any) -> str:
        """Append a node with one output; the name of that."""
        out = self.fresh(wanted)
        self.add(op, inputs, [out], label or out, **attributes)
        return out

    def initializer(self, name: str, value: np.ndarray) -> str:
        """Store ``value`` under exactly ``name``, a parameter's; the same again is stored once."""
        held = self.root.initializers
        if name not in held:
            held[name] = value
        return name

    def stored(self, wanted: str, value: np.ndarray) -> str:
        """Store a derived value, once for equal bits; its name."""
        key = (wanted, value.dtype.str, value.shape, value.tobytes())
        if key not in self.root._made:
            name = self.fresh(wanted)
            self.root._made[key] = self.initializer(name, value)
        return self.root._made[key]

    def ints(self, values: Sequence[int]) -> str:
        """A vector of whole numbers, as shapes are written."""
        text = "_".join(str(v).replace("-", "minus") for v in values)
        return self.stored(f"ints_{text}", np.asarray(values, dtype=np.int64))
