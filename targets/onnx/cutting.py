"""Cuts a model at the borders of its regions, so that each can be checked on the reference's own values.

A product may be a rounding off, and one rounding can make a spike more or less: behind it, nothing is comparable any
more. In a model that is cut, every region reads what the reference computed, whatever the region before it gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from onnx import ModelProto, NodeProto, TensorProto, helper

PREFIX = "given:"


def cut(model: ModelProto, results: Mapping[str, tuple[int, ...]], lead: list[str]) -> ModelProto:
    """``model`` with each of ``results`` read from a new input ``given:<name>``, and itself an output.

    Args:
        model: left as it is.
        results: values of the main graph, with their feature shapes.
        lead: names of the axes before the features.
    """
    changed = ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    _redirect(graph.node, set(results))
    there = {o.name for o in graph.output}
    for name, shape in results.items():
        graph.input.append(helper.make_tensor_value_info(PREFIX + name, TensorProto.FLOAT, [*lead, *shape]))
        if name not in there:
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [*lead, *shape]))
    return changed


def observed(model: ModelProto, results: Mapping[str, tuple[int, ...]], lead: list[str]) -> ModelProto:
    """``model`` with each of ``results`` as an output, too; arguments as for :func:`cut`."""
    changed = ModelProto()
    changed.CopyFrom(model)
    there = {o.name for o in changed.graph.output}
    for name, shape in results.items():
        if name not in there:
            changed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [*lead, *shape]))
    return changed


def _redirect(nodes: Iterable[NodeProto], cut_here: Collection[str]) -> None:
    for node in nodes:
        for i, name in enumerate(node.input):
            if name in cut_here:
                node.input[i] = PREFIX + name
