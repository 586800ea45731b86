"""The plasticity node of the IR: how the weight of one connection changes while the network runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from snncompile.ir.params import Parameter
from snncompile.ir.program import Program

#: Connections that can learn, with the settings that say which input meets which output.
PLASTIC: Mapping[str, tuple[str, ...]] = {"Linear": (), "Conv2d": ("stride", "padding", "dilation")}

#: Where a state of a rule lives: one value per input, per output, or per sequence and weight.
SIDES = ("pre", "post", "synapse")

#: What the two factor programs give besides their states.
FACTORS = ("potentiation", "depression")

#: Roles of parameters that are the connection's, of the weight's shape; all others are the rule's own, one number each.
WEIGHT_ROLES = ("weight", "mask", "sign")


@dataclass(frozen=True)
class Trace:
    """One state variable of a rule.

    Attributes:
        local: its name in the programs.
        name: the name records and state dictionaries use, ``"<node>.<trace>"``.
        init: its value before the first step.
        side: ``"pre"`` (shape of the input), ``"post"`` (of the output) or ``"synapse"`` (of the weight), each with a
            batch axis.
    """

    local: str
    name: str
    init: float
    side: str


@dataclass(frozen=True, eq=False)
class Plasticity:
    """A rule at work on one connection, after the spikes of a step are known.

    Every step runs, with the rule's own parameters by their roles,

    - ``before`` over the input's features: traces of side ``"pre"`` and ``z`` -> new traces, and the input's factors of
      ``potentiation`` and ``depression``;
    - ``after`` over the output's features: the same for side ``"post"``;
    - the products of the factors, ``potentiation[b] = outer(after's, before's)`` and ``depression`` alike, for each
      sequence ``b`` of the batch (for a convolution summed over positions, on unfolded receptive fields);
    - without ``synapse``: ``update`` over the weights: ``w`` and both products, summed over the batch -> new ``w``;
    - with ``synapse``: that program for every sequence over the weights: ``w``, both products of this sequence, traces
      of side ``"synapse"`` and the signals -> new traces and a ``change``; then ``update``: ``w`` and ``change``,
      summed over the batch -> new ``w``.

    ``update`` may read ``mask`` and ``sign``, too, where the connection has them. The new weight is the port
    ``weight``; a late edge leads it back to the connection, whose current so uses the weights before the update.

    Attributes:
        kind: the rule's name, e.g. ``"STDP"``.
        connection: kind of the connection, a key of :data:`PLASTIC`.
        settings: of the connection, as :data:`PLASTIC` lists them.
        pre: the input's feature shape.
        post: the output's feature shape.
        signals: ports besides ``pre`` and ``post``; each carries one value per sequence, features ``(1,)``.
        traces: state variables.
        params: role -> parameter: ``"weight"`` and, where there are, ``"mask"`` and ``"sign"`` of the connection; the
            rule's own, shape ``()``.
        before: the program of the input side.
        after: the program of the output side.
        synapse: the program of each sequence's synapses, or None.
        update: the program of the weights.
        members: source nodes this one computes.
        ordered: pairs of parameters of which the first must stay below the second.
        bounded: ``(low, high)``: parameters between which weights must lie for the rule to mean anything; or empty.
        attrs: settings for a reader (algorithm, ...); they change nothing.
    """

    kind: str
    connection: str
    settings: Mapping[str, Any]
    pre: tuple[int, ...]
    post: tuple[int, ...]
    signals: tuple[str, ...]
    traces: tuple[Trace, ...]
    params: Mapping[str, Parameter]
    before: Program
    after: Program
    synapse: Program | None
    update: Program
    members: tuple[str, ...]
    ordered: tuple[tuple[str, str], ...] = ()
    bounded: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Input ports."""
        return ("pre", "post", *self.signals)

    @cached_property
    def own(self) -> dict[str, Parameter]:
        """The rule's own parameters by role."""
        return {role: p for role, p in self.params.items() if role not in WEIGHT_ROLES}

    @cached_property
    def fixed(self) -> dict[str, Parameter]:
        """``"mask"`` and ``"sign"`` of the connection, those that it has, in this order."""
        return {role: self.params[role] for role in ("mask", "sign") if role in self.params}

    @property
    def weight(self) -> Parameter:
        """The weight that learns."""
        return self.params["weight"]

    def of_side(self, side: str) -> tuple[Trace, ...]:
        """The traces of one side."""
        return tuple(t for t in self.traces if t.side == side)

    def shape_of(self, side: str) -> tuple[int, ...]:
        """Shape of a trace of a side, without batch."""
        return {"pre": self.pre, "post": self.post, "synapse": self.weight.shape}[side]

    def port_shape(self, port: str) -> tuple[int, ...]:
        """The features that an input port takes."""
        return {"pre": self.pre, "post": self.post}.get(port, (1,))

    @cached_property
    def recordable(self) -> dict[str, str]:
        """Record name -> port, for the traces of neurons (those of synapses are as large as the weight)."""
        return {t.name: t.local for t in self.traces if t.side != "synapse"}

    def programs(self) -> dict[str, Program]:
        """The programs by name, in the order they run."""
        found = {"before": self.before, "after": self.after, "synapse": self.synapse, "update": self.update}
        return {name: program for name, program in found.items() if program is not None}

    def given(self, name: str) -> list[str]:
        """What program ``name`` may read besides the rule's parameters."""
        if name in ("before", "after"):
            side = {"before": "pre", "after": "post"}[name]
            return ["z", *(t.local for t in self.of_side(side))]
        if name == "synapse":
            return ["w", *FACTORS, *(t.local for t in self.of_side("synapse")), *self.signals]
        return ["w", *(FACTORS if self.synapse is None else ("change",)), *self.fixed]

    def results(self, name: str) -> list[str]:
        """What program ``name`` gives."""
        if name in ("before", "after"):
            return [*self.given(name)[1:], *FACTORS]
        if name == "synapse":
            return [*(t.local for t in self.of_side("synapse")), "change"]
        return ["w"]
