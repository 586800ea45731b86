"""Synapses that answer for the past: their currents and spikes at earlier times, read from an evolved state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snncompile.ir.delay import Rule, read, to_steps
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import InputError, ModelError
from snncompile.ir.graph import Graph
from snncompile.signals_io import as_state

if TYPE_CHECKING:
    from snncompile.network import Network


@dataclass(frozen=True)
class _Synapse:
    """A synapse that keeps a record, as the graph says it."""

    name: str
    op: Elementwise
    dt: float

    def setting(self, name: str, default: Any) -> Any:
        """An option; the graph holds those that are not the default."""
        value = self.op.attrs.get(name, default)
        return None if value == "None" else value

    def rule(self, interpolation: str, overbound: float | None, tau: Any = 1.0) -> Rule:
        """How its record is read."""
        limit = float(to_steps(self.op.attrs["delay"], self.dt))
        tolerance = self.setting("tolerance", 0.0) / self.dt
        return Rule(limit, interpolation, tau, overbound, tolerance)


def current_at(
    net: Network, state: Mapping[str, Tensor], name: str, time: Any, component: str | None = None
) -> Tensor:
    """The current ``time`` before the present; see :meth:`Network.current_at`."""
    synapse = _synapse(net.graph, name)
    states = [s.local for s in synapse.op.states]
    if component is not None and component not in states:
        raise ModelError(f"it has no component {component!r}; its components: {', '.join(states)}", node=name)
    wanted = states if component is None else [component]
    over = synapse.setting("current_overbound", 0.0)
    taus = {"current": "tau", "decay": "tau_decay", "rise": "tau_rise"}
    held = _histories(net, state, [f"{name}_{s}" for s in wanted])
    steps = _steps(synapse, time, held[0])
    parts = []
    for s, past in zip(wanted, held, strict=True):
        tau = net.value(synapse.op.params[taus[s]].name).detach().double() / synapse.dt
        parts.append(_read(past, steps, synapse.rule("expdecay", None, _beside(tau, steps, past))))
    current = parts[0] if len(parts) == 1 else parts[0] - parts[1]
    return _bounded(current, steps, synapse.rule("expdecay", over))


def spike_at(net: Network, state: Mapping[str, Tensor], name: str, time: Any) -> Tensor:
    """Whether there were spikes ``time`` before the present; see :meth:`Network.spike_at`."""
    synapse = _synapse(net.graph, name)
    (held,) = _histories(net, state, [f"{name}_spikes"])
    steps = _steps(synapse, time, held)
    over = synapse.setting("spike_overbound", False)
    rule = synapse.rule(synapse.setting("spike_interpolation", "previous"), None if over is None else float(over))
    return _bounded(_read(held, steps, rule), steps, rule) != 0


def _synapse(graph: Graph, name: str) -> _Synapse:
    able = [n for n, op in graph.of_type(Elementwise) if op.kind in ("ExpCurrent", "DoubleExpCurrent")]
    keeping = [n for n in able if "delay" in graph.op(n).attrs]
    if name in keeping:
        return _Synapse(name, graph.op(name), graph.dt)
    if name in able:
        raise ModelError("it keeps no record of the past: give it delay=", node=name, where=graph.where(name))
    known = ", ".join(keeping) or "none; ExpCurrent and DoubleExpCurrent do, with delay="
    raise ModelError(f"{name!r} is no synapse that keeps a record of the past; those that do: {known}")


def _histories(net: Network, state: Mapping[str, Tensor], records: list[str]) -> list[Tensor]:
    """What a state holds of these records, ``(batch, depth + 1, *features)`` each."""
    held: list[Tensor] = []
    for key in (f"{record}.history" for record in records):
        if not isinstance(state, Mapping) or key not in state:
            raise InputError(f"this is no state of this network: {key!r} is missing")
        info = net.layout.states[key]
        value = as_state(key, state[key], info)
        batch = held[0].shape[0] if held else value.shape[0] if value.dim() else 1
        if tuple(value.shape) != info.full_shape(batch):
            wanted = info.full_shape(batch)
            raise InputError(f"state {key!r} has shape {tuple(value.shape)}; of this network it is {wanted}")
        held.append(value)
    return held


def _steps(synapse: _Synapse, time: Any, held: Tensor) -> Tensor:
    """Times in steps, ``(batch, *features)`` or ``(batch, *features, D)``."""
    shape = (held.shape[0], *held.shape[2:])
    try:
        steps = torch.as_tensor(to_steps(time, synapse.dt, "a time before the present"), device=held.device)
    except ModelError as err:
        raise InputError(err.message) from None
    if steps.dim() == 0:
        return steps.expand(shape)
    if tuple(steps.shape) != shape and (steps.dim() != len(shape) + 1 or tuple(steps.shape[:-1]) != shape):
        raise InputError(
            f"times before the present have shape {tuple(steps.shape)}; give a number, {shape}, or {(*shape, 'D')}"
            .replace("'", "")
        )
    return steps


def _beside(tau: Tensor, steps: Tensor, held: Tensor) -> Tensor:
    """``tau``, which broadcasts against the features, as it broadcasts against ``steps``."""
    return tau.unsqueeze(-1) if tau.dim() and steps.dim() == held.dim() else tau


def _read(held: Tensor, steps: Tensor, rule: Rule) -> Tensor:
    """What ``held (batch, depth + 1, *features)``, oldest first, shows at ``steps`` before its last value."""
    several = steps.dim() == held.dim()
    reading = read(steps, rule)
    rows = held.shape[1] - 1 - reading.index
    rows = rows.movedim(-1, 1) if several else rows.unsqueeze(1)
    found = torch.gather(held, 1, rows)
    found = found.movedim(1, -1) if several else found.squeeze(1)
    return found if reading.gain is None else found * reading.gain


def _bounded(found: Tensor, steps: Tensor, rule: Rule) -> Tensor:
    valid = read(steps, rule).valid
    return found if valid is None else torch.where(valid, found, rule.overbound)
