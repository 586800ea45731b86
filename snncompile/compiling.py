"""``compile``: from a model to a network that runs."""

from __future__ import annotations

import warnings
from typing import Any

from snncompile.dsl.model import Model
from snncompile.ir.errors import ModelError
from snncompile.ir.graph import Graph
from snncompile.ir.locations import caller
from snncompile.network import Network
from snncompile.units import doubtful_times


def compile(
    model: Model | Graph,
    *,
    target: str = "auto",
    checkpoint: int | None = None,
    precision: str = "auto",
    **hyperparameters: Any,
) -> Network:
    """Compile a model.

    Args:
        model: a function decorated with ``@snn.model``, or a graph.
        target: ``"torch"`` (the reference), ``"triton"`` (NVIDIA and AMD GPUs), ``"c"`` (the CPU, with its compiler) or
            ``"auto"``.
        checkpoint: keep states every so many steps for the backward pass and recompute between; 1 keeps all. None, the
            default, leaves it to the target: ``"c"`` keeps those of every 32nd step in large scans.
        precision: of the products inside recurrent layers on Triton: ``"auto"`` (float32-grade, the fastest way),
            ``"float32"``, ``"split-fp16"`` (float32-grade, from weights in two float16 parts), or less than float32:
            ``"tf32"``, ``"fp16"``. Every other target, and everything else, is float32.
        **hyperparameters: values for the model's keyword-only arguments.

    Returns:
        a ``torch.nn.Module``; random weights come from torch's global generator.

    Raises:
        ModelError: where the model cannot mean anything.
        UnsupportedError: where there is no such target or precision.
    """
    if isinstance(model, Model):
        graph = model.build(**hyperparameters)
    elif isinstance(model, Graph) and not hyperparameters:
        graph = model
    else:
        raise ModelError(f"compile takes a function decorated with @snn.model, not {model!r}", where=caller())
    network = Network(graph, target, checkpoint=checkpoint, precision=precision)
    network.check_parameters()
    doubt = doubtful_times(graph)
    if doubt is not None:
        warnings.warn(doubt, stacklevel=2)
    return network
