"""The elementwise node of the IR: a synapse, a neuron, a fused chain of them, or a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from snncompile.ir.params import Parameter
from snncompile.ir.program import Program
from snncompile.ir.types import SignalType


@dataclass(frozen=True)
class State:
    """One state variable.

    Attributes:
        local: its name in the node's programs.
        name: the name records and state dictionaries use, ``"<source node>.<state>"``.
        init: its value before the first step.
    """

    local: str
    name: str
    init: float = 0.0


@dataclass(frozen=True)
class OutPort:
    """One output.

    Attributes:
        local: its name in the node's programs, and the port's name on the node.
        name: the name records use, ``"<source node>.<output>"``.
        type: the signal's type.
    """

    local: str
    name: str
    type: SignalType


@dataclass(frozen=True, eq=False)
class Elementwise:
    """A node that maps a program over its neurons, one step of time after the other.

    ``forward`` takes states, inputs and parameters (by local name) and gives, under their local names, the new states
    and the outputs (an output that is a new state is listed once). ``reverse`` takes the same and ``grad_<name>`` for
    each of forward's results, and gives ``grad_<name>`` for each of forward's inputs.

    Attributes:
        kind: the node class it came from, e.g. ``"LIF"``, or ``"Fused"``.
        shape: the feature shape of every input, output and state.
        inputs: input ports, in order.
        outputs: output ports; the first is the default one.
        states: state variables.
        params: local name -> parameter.
        forward: the step.
        reverse: its gradient.
        members: source nodes this one computes.
        derived: once hoisted, the program parameters -> values that ``forward`` and ``reverse`` read besides them.
        ordered: pairs of parameters of which the first must stay below the second.
        attrs: settings for a reader (surrogate, reset, ...); they change nothing.
    """

    kind: str
    shape: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[OutPort, ...]
    states: tuple[State, ...]
    params: Mapping[str, Parameter]
    forward: Program
    reverse: Program
    members: tuple[str, ...]
    derived: Program | None = None
    ordered: tuple[tuple[str, str], ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def results(self) -> tuple[str, ...]:
        """Local names of forward's results: new states, then the outputs that are no states."""
        states = tuple(s.local for s in self.states)
        return states + tuple(o.local for o in self.outputs if o.local not in states)

    @cached_property
    def recordable(self) -> dict[str, str]:
        """Record name -> local name, for every state and output."""
        table = {o.name: o.local for o in self.outputs}
        table.update((s.name, s.local) for s in self.states)
        return table

    @property
    def size(self) -> int:
        """Number of neurons."""
        return prod(self.shape)

    @property
    def stateless(self) -> bool:
        """Whether time plays no part."""
        return not self.states
