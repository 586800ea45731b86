"""Learning: connections whose weights change while the network runs."""

from __future__ import annotations

from snncompile.dsl.model import current_builder
from snncompile.dsl.signals import Signal
from snncompile.ir.locations import caller
from snncompile.ir.nodes.base import Node
from snncompile.ir.nodes.rules import Rule


def learn(
    connection: Node | Signal, rule: Rule, pre: Signal | None = None, post: Signal | None = None, **signals: Signal
) -> None:
    """Let ``rule`` change the weights of ``connection`` at every step, once the spikes of that step are known.

    The current of a step is computed with the weights from before its update.

    Args:
        connection: a Linear or Conv2d: the node object that was applied, or the signal that left it.
        rule: how it learns, e.g. ``snn.STDP(...)``.
        pre: the signal whose traces meet the output's; None takes the connection's own input, where that is spikes.
        post: the spikes of the neurons it leads to; None takes the first population downstream that spikes.
        **signals: further signals that the rule listens to (``reward=...``), with one value per sequence: features
            ``(1,)``.

    Raises:
        ModelError: for a connection that cannot learn, and where ``pre`` or ``post`` must be said.
    """
    where = caller()
    current_builder("snn.learn", where).learn(connection, rule, pre, post, signals, where)
