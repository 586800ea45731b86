"""What a step reads besides signals and states: parameters as they are, and values derived from them once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.program import dce
from snncompile.targets.autograd import PreparedScan
from snncompile.targets.onnx.building import GraphBuilder

_CPU = torch.device("cpu")


def coefficients(
    gb: GraphBuilder, name: str, node: Elementwise, prepared: PreparedScan, values: Mapping[str, Tensor]
) -> list[str]:
    """Names of the initializers that hold the coefficients of ``node``, in order.

    Derived ones, such as ``exp(-dt/tau)``, are computed by the code that runs the network in torch: equal bits.
    """
    used = {p.name: values[p.name] for p in node.params.values()}
    bound = prepared.bind(used, used, _CPU, False)
    names = []
    for coef, value in zip(prepared.scan.coefs, bound.coefs, strict=True):
        if coef in node.params:
            p = node.params[coef]
            names.append(gb.initializer(p.name, as_array(values[p.name])))
        else:
            full = as_array(value if value.dim() == 0 else value.reshape(node.shape))
            names.append(gb.stored(f"{name}.{coef}", _narrowed(full, _shape(coef, node, prepared))))
    return names


def _shape(coef: str, node: Elementwise, prepared: PreparedScan) -> tuple[int, ...]:
    """The shape that ``coef`` has by the shapes of the parameters it is made of."""
    program = prepared.scan.derived.select([coef])
    read = {a for op in dce(program).ops for a in op.args if isinstance(a, str)}
    return np.broadcast_shapes(*[p.shape for role, p in node.params.items() if role in read])


def _narrowed(full: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``full`` without the repetitions along the axes that are 1 in ``shape``, if that loses no bit."""
    if full.ndim == 0:
        return full
    padded = (1,) * (full.ndim - len(shape)) + shape
    slim = full[tuple(slice(0, n) for n in padded)]
    same = np.array_equal(np.broadcast_to(slim, full.shape).view(np.uint32), full.view(np.uint32))
    return np.ascontiguousarray(slim.reshape(shape) if same else full)


def as_array(value: Tensor) -> np.ndarray:
    """A parameter as float32 in numpy."""
    return np.ascontiguousarray(value.detach().cpu().float().numpy())
