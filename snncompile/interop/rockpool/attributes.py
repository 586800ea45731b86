"""Attributes: what Rockpool calls the parameters, simulation parameters and states of a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

import snncompile.ir.nodes as library
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Graph, StateInfo
from snncompile.ir.params import Parameter
from snncompile.ir.plasticity import Plasticity

PARAMETER = "Parameter"
SIMULATION = "SimulationParameter"
STATE = "State"

#: states that hold a current, by name, in nodes whose output is none
_CURRENTS = ("isyn", "current")


@dataclass(frozen=True)
class Attribute:
    """One registered attribute of a module.

    Attributes:
        name: its name in the module.
        kind: ``"Parameter"`` (trained), ``"SimulationParameter"`` (settings, and parameters that are not trained) or
            ``"State"``.
        family: ``"taus"``, ``"weights"``, ... ; None for settings.
        key: the network's name for the parameter or state; "" for a setting.
        setting: the value of a setting, which is part of the compiled network.
    """

    name: str
    kind: str
    family: str | None
    key: str = ""
    setting: Any = None


def of_node(graph: Graph, node: str) -> dict[str, Attribute]:
    """The attributes of one node: parameters, states, then settings, by name."""
    op = graph.op(node)
    found = {}
    own = op.own if isinstance(op, Plasticity) else getattr(op, "params", {})  # its weight is the connection's
    for role, p in own.items():
        found[role] = Attribute(role, PARAMETER if p.trainable else SIMULATION, p.family, p.name)
    parameters = graph.parameters()
    for name, info in graph.states().items():
        owner, _, local = name.partition(".")
        if owner == node and local:
            free = f"{local}_state" if local in found else local  # a weight that learns is a parameter and a state
            found[free] = Attribute(free, STATE, _family(op, local, info, parameters), name)
    settings = {"dt": graph.dt, **_settings(op)} if isinstance(op, Elementwise) else dict(getattr(op, "attrs", {}))
    for setting, value in settings.items():
        if setting in own:
            continue  # given as a parameter
        free = f"{setting}_setting" if setting in found else setting
        found[free] = Attribute(free, SIMULATION, None, "", value)
    return found


def signals_of(graph: Graph, node: str) -> dict[str, Edge]:
    """Port -> what feeds it, without the weights that a rule hands to the connection it teaches."""
    learned = graph.learned()
    return {port: edge for port, edge in graph.inputs_of(node).items() if edge.feedback not in learned}


def of_network(graph: Graph, nodes: Mapping[str, Any]) -> dict[str, Attribute]:
    """The attributes of the network itself: its time step, and the states that belong to no node: feedbacks, and where
    its random numbers are."""
    found = {"dt": Attribute("dt", SIMULATION, None, "", graph.dt)}
    parameters = graph.parameters()
    for name, info in graph.states().items():
        if name.partition(".")[0] not in nodes or "." not in name:
            shared = "counters" if info.dtype != "float32" else "feedbacks"
            family = parameters[info.parameter].family if info.parameter else shared
            found[name] = Attribute(name, STATE, family, name)
    return found


def _family(op: Any, local: str, info: StateInfo, parameters: Mapping[str, Parameter]) -> str:
    if info.parameter:
        return parameters[info.parameter].family
    if info.dtype != "float32":
        return "counters"
    if not isinstance(op, Elementwise):
        return "histories" if local == "history" else "states"
    kinds = {out.local: out.type.kind for out in op.outputs}
    if local in kinds:
        return {"current": "currents", "membrane": "membranes"}.get(kinds[local], "states")
    if local == "v":
        return "membranes"
    return "currents" if local in _CURRENTS or op.outputs[0].type.kind == "current" else "states"


def _settings(op: Elementwise) -> dict[str, Any]:
    """Every setting of a node of the library, defaults included; of a user's node those that its graph shows."""
    cls = getattr(library, op.kind, None)
    declared = fields(cls) if is_dataclass(cls) else ()
    if not {role for role in op.params} <= {f.name for f in declared}:
        return dict(op.attrs)  # a user's node that has the name of one in the library
    defaults = {
        f.name: f.default if isinstance(f.default, (int, float, str, bool)) else repr(f.default)
        for f in declared
        if "param" not in f.metadata and f.name != "name" and f.init and f.default is not MISSING
    }
    return {**defaults, **op.attrs}
