"""Single steps without gradients, with no more around them than they need: what makes ``net.step`` quick."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snncompile.targets.stepping import Moved, StepPlan

if TYPE_CHECKING:
    from snncompile.network import Network

#: Plans kept for one network: one for each shape of the input.
_MOST = 16


class QuickSteps:
    """Runs steps of a network by plans made earlier, where that gives what the usual way gives.

    It takes float32 tensors of the right shapes on the CPU, and a state as a step returns it; anything else is left to
    the usual way, which also says what is wrong.
    """

    def __init__(self, network: Network) -> None:
        self._network = weakref.ref(network)
        self._plans: dict[tuple[Any, ...], _Quick | None] = {}

    def step(self, inputs: tuple[Any, ...], state: Mapping[str, Tensor] | None) -> tuple[Any, dict[str, Tensor]] | None:
        """Output and new state, or None where the usual way must be taken."""
        network = self._network()
        assert network is not None
        key = (network.target, network.training, *[x.shape if type(x) is Tensor else None for x in inputs])
        if key in self._plans:
            quick = self._plans[key]
        else:
            if len(self._plans) >= _MOST:
                self._plans.clear()
            quick = self._plans[key] = _make(network, inputs)
        return None if quick is None else quick.step(network, inputs, state)


class _Quick:
    """A plan, and what must hold for it to be right."""

    def __init__(self, network: Network, plan: StepPlan, modules: dict[str, Any], batched: bool) -> None:
        self._plan, self._modules, self._batched = plan, modules, batched
        self._inputs = list(network.layout.inputs)
        self._states = [(name, torch.Size(shape)) for name, shape in plan.states.items()]
        keys = list(network.layout.outputs)
        self._single = keys == ["out"]
        self._as_tuple = keys == [f"out_{i}" for i in range(len(keys))]

    def step(self, network: Network, inputs: tuple[Any, ...], state: Any) -> tuple[Any, dict[str, Tensor]] | None:
        """Output and new state, or None where the plan does not fit."""
        present = network._modules
        for name, module in self._modules.items():
            if present[name] is not module:
                network._quick = QuickSteps(network)
                return None
        if torch.is_autocast_enabled("cpu"):
            return None
        for x in inputs:
            if x.dtype is not torch.float32 or not x.is_cpu:
                return None
        if state is None:
            state = network.initial_state(inputs[0].shape[0] if self._batched else 1)
        elif type(state) is not dict or len(state) != len(self._states):
            return None
        for name, shape in self._states:
            held = state.get(name)
            if type(held) is not Tensor or held.shape != shape or held.dtype is not torch.float32:
                return None
            if not held.is_contiguous() or not held.is_cpu:
                return None
        if self._batched:
            given = dict(zip(self._inputs, inputs, strict=True))
        else:
            given = {name: x.unsqueeze(0) for name, x in zip(self._inputs, inputs, strict=True)}
        try:
            outputs, after = self._plan(given, state)
        except Moved:
            network._quick = QuickSteps(network)
            return None
        if not self._batched:
            outputs = {key: y[0] for key, y in outputs.items()}
        if self._single:
            return outputs["out"], after
        return tuple(outputs.values()) if self._as_tuple else outputs, after


def _make(network: Network, inputs: tuple[Any, ...]) -> _Quick | None:
    """What runs a step on data like ``inputs``; None where there is no such thing, or the data is wrong."""
    types = network.layout.inputs
    tensors = [x for x in inputs if type(x) is Tensor]
    if not types or len(tensors) != len(inputs) or len(inputs) != len(types) or network.layout.learned:
        return None
    axes = {x.dim() - len(t.shape) for x, t in zip(tensors, types.values(), strict=True)}
    fits = all(tuple(x.shape[-len(t.shape) :]) == t.shape for x, t in zip(tensors, types.values(), strict=True))
    batches = {x.shape[0] for x in tensors}
    if not fits or axes not in ({0}, {1}) or (axes == {1} and len(batches) > 1):
        return None
    batched = axes == {1}
    batch = batches.pop() if batched else 1
    cpu = torch.device("cpu")
    homes = {name: home for name in network.layout.values if (home := _home(network, name)) is not None}
    values = [home[role] for home, role in homes.values()]
    fits = len(values) == len(network.layout.values) and all(_taken(v) for v in values)
    if not batch or not fits or any(not x.is_cpu for x in tensors):
        return None
    executor = network.executor(cpu)
    plan = executor.step_plan(batch, network.training, _lookup(homes))
    if plan is None or set(plan.states) != set(network.layout.states):
        return None
    modules = {name.split(".")[0]: network._modules[name.split(".")[0]] for name in network.layout.values}
    return _Quick(network, plan, modules, batched)


def _home(network: Network, name: str) -> tuple[dict[str, Any], str] | None:
    """The dict that holds a parameter or buffer, and its key there; None where it is computed (a parametrisation)."""
    node, role = name.split(".")
    module = network._modules[node]
    for home in (module._parameters, module._buffers) if module is not None else ():
        if home.get(role) is not None:
            return home, role
    return None


def _taken(value: Tensor) -> bool:
    return value.is_cpu and (value.dtype is torch.float32 or not value.is_floating_point())


def _lookup(homes: Mapping[str, tuple[dict[str, Any], str]]) -> Callable[[str], Tensor]:
    """What looks parameters up where they are now."""
    places = {name: (home, role, home[role].dtype) for name, (home, role) in homes.items()}

    def lookup(name: str) -> Tensor:
        home, role, dtype = places[name]
        value = home.get(role)
        if value is None or value.dtype is not dtype or not value.is_cpu:
            raise Moved(name)
        return value

    return lookup
