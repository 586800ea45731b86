"""What modules hold: a network, the values that replace its parameters', and a state. Never changed, only replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import InputError, ModelError
from snncompile.ir.graph import StateInfo
from snncompile.ir.nodes.base import check_order
from snncompile.ir.params import Parameter, check_constraint
from snncompile.network import Network
from snncompile.values import initial_value


@dataclass(frozen=True)
class Store:
    """The values behind a module and its submodules, under the network's own names.

    Attributes:
        net: the network.
        values: parameter name -> the value that stands for the network's own.
        state: state name -> value, with or without a batch axis. A state that starts from a parameter is absent until
            it was given.
        alone: networks of single nodes, made when first run; shared with the stores that replace this one.
    """

    net: Network
    values: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    alone: dict[str, Network] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter of the network."""
        return self.net.graph.parameters()

    @property
    def infos(self) -> Mapping[str, StateInfo]:
        """Every state of the network."""
        return self.net.layout.states

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((self.value(name).device for name in self.parameters), torch.device("cpu"))

    def value(self, name: str) -> Tensor:
        """The parameter ``name``."""
        return self.values[name] if name in self.values else self.net.value(name)

    def state_of(self, name: str) -> Tensor:
        """The state ``name``."""
        if name in self.state:
            return self.state[name]
        return self.value(self.infos[name].parameter).detach().clone()

    def initial(self, names: set[str] | None = None) -> Store:
        """This store with the states ``names``, or all of them, as before the first step."""
        fresh = first_state(self.net)
        kept = {} if names is None else {n: v for n, v in self.state.items() if n not in names}
        return replace(self, state={**{n: v for n, v in fresh.items() if names is None or n in names}, **kept})

    def redrawn(self, names: set[str]) -> Store:
        """This store with first values for the trainable parameters ``names``; random ones are drawn anew."""
        values = dict(self.values)
        for name, p in self.parameters.items():
            if name in names and p.trainable:
                try:
                    values[name] = nn.Parameter(initial_value(p).to(self.device))
                except ModelError:
                    raise ModelError(
                        f"the first value of {name} is not known: it was an array, and the network comes from a file."
                        " Set it, module.set_attributes(...)"
                    ) from None
        learned = {n for n, info in self.infos.items() if info.parameter in names}
        return replace(self, values=values, state={n: v for n, v in self.state.items() if n not in learned})

    def changed(self, values: Mapping[str, Any], state: Mapping[str, Any]) -> Store:
        """This store with new values of parameters and states, checked.

        Raises:
            InputError: for a value that is no array of numbers, or has the wrong shape.
            ModelError: for a parameter that breaks its constraint.
        """
        new = {name: self._parameter(name, value) for name, value in values.items()}
        kept = {n: v for n, v in {**self.values, **new}.items() if v is not self.net.value(n)}
        states = {name: self._state(name, value) for name, value in state.items()}
        learned = {n for n, info in self.infos.items() if info.parameter in new and n not in states}
        before = {n: v for n, v in self.state.items() if n not in learned}
        result = replace(self, values=kept, state={**before, **states})
        result._check_orders(set(new))
        return result

    def _parameter(self, name: str, value: Any) -> Tensor:
        p = self.parameters[name]
        x = _numbers(name, value, self.device).to(torch.float32)
        if tuple(x.shape) != p.shape:
            raise InputError(f"{name} has shape {p.shape}, the value given {tuple(x.shape)}")
        node, role = name.split(".")
        check_constraint(x.detach().cpu().numpy(), p.constraint, role, node, self.net.graph.where(node))
        if x.requires_grad or not p.trainable:
            return x
        return nn.Parameter(x.clone())

    def _state(self, name: str, value: Any) -> Tensor:
        info = self.infos[name]
        x = _numbers(name, value, self.device).to(getattr(torch, info.dtype))
        batched = not info.shared and x.dim() == len(info.shape) + 1 and tuple(x.shape[1:]) == info.shape
        if tuple(x.shape) != info.shape and not batched:
            dims = ", ".join(map(str, info.shape))
            or_batch = "" if info.shared else f" or (batch, {dims})"
            raise InputError(f"state {name!r} has shape {info.shape}{or_batch}, the value given {tuple(x.shape)}")
        return x

    def _check_orders(self, names: set[str]) -> None:
        graph = self.net.graph
        for node, op in graph.of_type(Elementwise):
            if op.ordered and names & {p.name for p in op.params.values()}:
                values = {role: self.value(p.name).detach().cpu().numpy() for role, p in op.params.items()}
                check_order(op.ordered, values, node, graph.where(node))


def first_state(net: Network) -> dict[str, Tensor]:
    """The states of ``net`` before the first step, without a batch axis; those that start from a parameter absent."""
    infos = net.layout.states
    return {
        name: value if infos[name].shared else value[0]
        for name, value in net.initial_state(1).items()
        if not infos[name].parameter
    }


def _numbers(name: str, value: Any, device: torch.device) -> Tensor:
    try:
        x = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} takes numbers, not a {type(value).__name__}") from None
    return x.to(device)
