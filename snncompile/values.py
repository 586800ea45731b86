"""Parameter values: where the first ones come from, and how broken ones are mended."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from snncompile.ir.errors import ModelError
from snncompile.ir.params import Parameter


def initial_value(p: Parameter) -> Tensor:
    """The first value of ``p``; random ones come from torch's global generator."""
    value = torch.empty(p.shape, dtype=torch.float32)
    if p.init.kind == "constant":
        return value.fill_(p.init.args[0])
    if p.init.kind == "given":
        if p.init.value is None:
            raise ModelError(f"{p.name} has no first value: load weights that hold it")
        return torch.from_numpy(p.init.value.copy()).reshape(p.shape)
    bound = 1.0 / math.sqrt(p.init.args[0])  # torch's Linear and Conv: kaiming_uniform_(a=sqrt(5)) is this bound
    value.uniform_(-bound, bound)
    return value if p.init.sign is None else value.abs_() * torch.from_numpy(p.init.sign.copy())


def build_module_tree(
    root: nn.Module, parameters: Mapping[str, Parameter], values: Mapping[str, Tensor] | None = None
) -> None:
    """Register every parameter on ``root`` as ``<node>.<role>``, so that ``state_dict`` has their names.

    Args:
        root: the module.
        parameters: name -> what it is.
        values: name -> first value, which is copied; None makes the first values.
    """
    for name, p in parameters.items():
        node, role = name.split(".")
        if node not in root._modules:
            if hasattr(root, node):
                raise ModelError("this cannot name a node: every network has an attribute of that name", node=node)
            root.add_module(node, nn.Module())
        holder = root._modules[node]
        assert holder is not None
        if hasattr(holder, role):
            raise ModelError(f"a parameter cannot be called {role!r}, as torch's modules have that name", node=node)
        value = initial_value(p) if values is None else values[name].detach().clone()  # what learns writes to it
        if p.trainable:
            holder.register_parameter(role, nn.Parameter(value))
        else:
            holder.register_buffer(role, value)


@torch.no_grad()
def clamp(value: Tensor, constraint: str | None) -> None:
    """Move ``value`` in place to where ``constraint`` holds."""
    tiny = 1e-6
    if constraint == "positive":
        value.clamp_(min=tiny)
    elif constraint == "nonnegative":
        value.clamp_(min=0.0)
    elif constraint == "nonzero":
        value[value == 0] = tiny


@torch.no_grad()
def clamp_sign(weight: Tensor, sign: Tensor) -> None:
    """Set to 0, in place, every weight whose sign is not the one given (+1 or -1)."""
    weight[weight * sign < 0] = 0.0
