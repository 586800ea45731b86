"""The parameters of a network: by family, checked, and moved to where their constraints hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from snncompile.ir.connection import DELAYS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.base import check_order
from snncompile.ir.nodes.delays import check_steps
from snncompile.ir.params import check_constraint
from snncompile.ir.plasticity import Plasticity
from snncompile.learning import check_bounds
from snncompile.values import clamp, clamp_sign

if TYPE_CHECKING:
    from snncompile.network import Network


class ParameterNetwork:
    """What a compiled network has for its parameters."""

    def family(self: Any, family: str) -> dict[str, Tensor]:
        """Parameters of a family (``"taus"``, ``"thresholds"``, ``"weights"``, ...) by name.

        Raises:
            ModelError: where no parameter is of that family, listing those there are.
        """
        declared = self.graph.parameters()
        families = sorted({p.family for p in declared.values()})
        if family not in families:
            raise ModelError(f"no parameter is of family {family!r}; families here: {', '.join(families) or 'none'}")
        values = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: values[name] for name, p in declared.items() if p.family == family}

    def check_parameters(self: Any) -> None:
        """Raise :class:`ModelError` where a parameter is not finite or breaks its constraint."""
        values = {n: v.detach().cpu().float().numpy() for n, v in self.state_dict().items()}
        for name, p in self.graph.parameters().items():
            node, role = name.split(".")
            broken = p.constraint and bool(np.all(np.isfinite(values[name])))
            hint = ". net.clamp_() restores all constraints" if broken else ""
            try:
                check_constraint(values[name], p.constraint, role, node)
            except ModelError as err:
                raise ModelError(err.message + hint, node=node, where=self.graph.where(node)) from None
        ordered = [(name, op.params, op.ordered) for name, op in self.graph.of_type(Elementwise)]
        ordered += [(name, op.params, op.ordered) for name, op in self.graph.of_type(Plasticity)]
        for name, params, pairs in ordered:
            by_role = {role: values[p.name] for role, p in params.items()}
            check_order(pairs, by_role, name, self.graph.where(name))
        for name, op in self.graph.of_type(Connection):
            if op.kind in DELAYS and "steps" in op.params and not op.rule.trained:
                try:
                    check_steps(values[op.params["steps"].name], op.rule, self.graph.dt)
                except ModelError as err:
                    raise ModelError(err.message, node=name, where=self.graph.where(name)) from None
        for name, rule in self.graph.of_type(Plasticity):
            check_bounds(rule, name, values, self.graph.where(name))

    @torch.no_grad()
    def clamp_(self: Any) -> Network:
        """Move every parameter, in place, to where its constraint holds; call it after an optimiser's step."""
        values = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        for name, p in self.graph.parameters().items():
            clamp(values[name], p.constraint)
        for _, connection in self.graph.of_type(Connection):
            if "sign" in connection.params:
                clamp_sign(values[connection.params["weight"].name], values[connection.params["sign"].name])
            if connection.kind in DELAYS and connection.rule.trained:
                values[connection.params["steps"].name].clamp_(max=connection.rule.limit)
        for op in [op for kind in (Elementwise, Plasticity) for _, op in self.graph.of_type(kind)]:
            for low, high in op.ordered:
                below = values[op.params[low].name]
                limit = values[op.params[high].name] * (1 - 1e-3)
                below.copy_(torch.minimum(below, limit.expand_as(below) if below.dim() else limit.min()))
        return self


def check_loaded(network: Network, _: Any) -> None:
    """After ``load_state_dict``: raise :class:`ModelError` where a value that was loaded breaks its constraint."""
    if not any(value.is_meta for value in network.state_dict().values()):
        network.check_parameters()
