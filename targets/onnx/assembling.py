"""From the parts of a model to the model: functions inlined where asked, metadata."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto, helper

from snncompile.targets.onnx.functions import DOMAIN
from snncompile.targets.onnx.opsets import FUNCTIONS_IR
from snncompile.targets.onnx.parts import Built


def assemble(built: Built, name: str, opset: int, metadata: Mapping[str, str], doc: str, inline: bool) -> ModelProto:
    """The model of ``built``, but for its initializers, which :func:`writing.save` adds.

    Args:
        built: the parts.
        name: the graph's name.
        opset: its operator set.
        metadata: what ``metadata_props`` says; ``version`` becomes the producer's.
        doc: the graph's doc string.
        inline: whether local functions are replaced by their bodies.
    """
    graph = helper.make_graph(built.nodes, name, [*built.inputs, *built.states], built.outputs, doc_string=doc)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, functions=built.functions, opset_imports=imports)
    if inline:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    if not model.functions:
        kept = [i for i in model.opset_import if i.domain != DOMAIN]
        del model.opset_import[:]
        model.opset_import.extend(kept)
    least = helper.find_min_ir_version_for([i for i in model.opset_import if not i.domain])
    model.ir_version = max(least, FUNCTIONS_IR) if model.functions else least
    model.producer_name = "snncompile"
    model.producer_version = metadata.get("version", "")
    model.doc_string = doc
    helper.set_model_props(model, dict(metadata))
    return model


