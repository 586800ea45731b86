"""What a recurrent layer runs as on Triton: which form of kernel, in which precision, and why, for each chip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snncompile.ir.graph import Graph

if TYPE_CHECKING:
    from snncompile.targets.recurrent_layer import Layer
    from snncompile.targets.triton.recurrent_design import Design

#: The chips that are spoken of where none was named.
USUAL = ("sm_90",)

_FORMS = {
    "resident": "one launch for all steps, weight, states and spikes on chip",
    "streamed": "one launch for all steps, weight, states and spikes through the L2 cache",
    "steps": "one launch for each step, captured in a CUDA graph where the device has them",
    "together": "one launch for all steps of programs that wait for each other",
}
_SLICED = (
    "one launch for all steps, the whole weight, states and spikes on chip, shared out over {} programs that wait for"
    " each other {}"
)

_LATE_STEPS = "one launch for every {} steps, captured in a CUDA graph where the device has them"


def layer_report(graph: Graph, layer: Layer, precision: str, archs: Sequence[str]) -> tuple[str, ...]:
    """One line for each direction in which a layer runs on each chip.

    Args:
        graph: the network after the passes.
        layer: the layer in it.
        precision: what was asked for.
        archs: the chips; none takes the usual one.
    """
    from snncompile.artifact.usual import usual_layer
    from snncompile.targets.triton.arch import parse_arch
    from snncompile.targets.triton.layer_kernels import layer_designs
    from snncompile.targets.triton.recurrent_product import product_of

    op = graph.op(layer.neurons)
    scan = usual_layer(graph, layer.neurons, op, graph.inputs_of(layer.neurons), layer.port).scan
    lines = []
    for name in archs or USUAL:
        ahead, back = layer_designs(scan, op.size, precision, parse_arch(name), layer.late > 1, layer.most)
        product = product_of(ahead.precision, layer.most)
        spikes = _OPERANDS[product.operand] if product.parts == 2 else ""
        both = [("forward", ahead, spikes), ("backward", back, "")]
        if (ahead.form, ahead.precision, ahead.shares) == (back.form, back.precision, back.shares):
            both = [("both ways", ahead, spikes)]
        for way, d, said in both:
            lines.append(f"{name}, {way}: {_form(d, layer.late)}; {d.why}{said}")
    return tuple(lines)


def _form(design: Design, late: int) -> str:
    """What a form of kernel is, in words."""
    if design.sliced:
        return _SLICED.format(design.shares, "after every step" if late == 1 else f"once in {late} steps")
    return _LATE_STEPS.format(late) if design.form == "steps" and late > 1 else _FORMS[design.form]


_OPERANDS = {
    "whole": "; spike counts fit one float16",
    "counts": "; spike counts take two float16, one more product (max_spikes_per_dt of at most 2048 would save it)",
    "real": "; what comes back takes two float16, scaled by the largest of its sequence",
}
