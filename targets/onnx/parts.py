"""What an export is made from, what it is made of, and the types at its border."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from snncompile.ir.connection import CONNECTIONS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import InterchangeError
from snncompile.ir.graph import Graph, Input, Ref, StateInfo
from snncompile.ir.plasticity import Plasticity
from snncompile.ir.random import draws_in
from snncompile.ir.types import SignalType

if TYPE_CHECKING:
    from snncompile.targets.onnx.quantizing import Int8

LATER = ".next"
"""What the name of a state's new value ends in: feed ``lif.v.next`` back as ``lif.v``."""


@dataclass(frozen=True)
class Request:
    """What is exported.

    Attributes:
        graph: the network after all passes, for evaluation.
        source: the network as written.
        values: parameter name -> value.
        form: a key of :data:`snncompile.targets.onnx.opsets.FORMS`.
        opset: the operator set.
        steps: the length of the unrolled form.
        int8: product -> its weight, where that is stored as int8.
        rounding: node that rounds a signal to int8 -> what one code stands for.
    """

    graph: Graph
    source: Graph
    values: Mapping[str, Tensor]
    form: str = "scan"
    opset: int = 17
    steps: int | None = None
    int8: Mapping[str, Int8] = field(default_factory=dict)
    rounding: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Built:
    """The parts of a model, before they are put together.

    Attributes:
        nodes: of the main graph.
        functions: local functions.
        inputs: that must be given.
        states: that may be given (in the step form: must), with their initial values in ``initializers``.
        outputs: outputs and final states.
        initializers: name -> value.
        results: value in the main graph -> the port whose course it is, for what a region computes.
        names: output key, or state name -> name of the graph's output.
        given: input name -> the network's input; "clock" stands for a network without inputs.
    """

    nodes: list[NodeProto]
    functions: list[FunctionProto]
    inputs: list[ValueInfoProto]
    states: list[ValueInfoProto]
    outputs: list[ValueInfoProto]
    initializers: dict[str, np.ndarray]
    results: dict[str, Ref]
    names: dict[str, str]
    given: dict[str, str | None] = field(default_factory=dict)


def refuse_unknown(graph: Graph) -> None:
    """Raise :class:`InterchangeError` for a node that ONNX has no words for."""
    for name in graph.names:
        op = graph.op(name)
        if not isinstance(op, Input | Connection | Elementwise | Plasticity) or (
            isinstance(op, Connection) and op.kind not in CONNECTIONS
        ):
            kind = getattr(op, "kind", type(op).__name__)
            raise InterchangeError(f"{kind} cannot be written as ONNX", node=name, where=graph.where(name))


def refuse_random(graph: Graph) -> None:
    """Raise :class:`InterchangeError` for a node, of a network as written, that draws random numbers."""
    for name, op in graph.of_type(Elementwise):
        if draws_in(op.forward):
            raise InterchangeError(
                "it draws random numbers, which ONNX cannot repeat: set noise_std=0, or make a source an input of the"
                " model",
                node=name,
                where=graph.where(name),
            )


def signal_info(name: str, lead: list, type: SignalType, doc: str) -> ValueInfoProto:
    """An input or output that is a signal."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [*lead, *type.shape], doc)


def state_info(name: str, info: StateInfo, doc: str) -> ValueInfoProto:
    """An input or output that is a state."""
    lead = [] if info.shared else ["batch"]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [*lead, *info.shape], doc)


def first_value(info: StateInfo, values: Mapping[str, Tensor], batch: int) -> np.ndarray:
    """A state before the first step, for ``batch`` sequences."""
    if info.parameter:
        return np.ascontiguousarray(values[info.parameter].detach().cpu().float().numpy())
    return np.full(info.full_shape(batch), info.init, dtype=np.float32)
