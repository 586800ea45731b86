"""Cycles: the value that a signal had one step, or some time, before."""

from __future__ import annotations

from typing import Any

from snncompile.dsl.builder import Builder
from snncompile.dsl.model import current_builder
from snncompile.dsl.signals import Signal
from snncompile.ir.errors import ModelError
from snncompile.ir.locations import caller
from snncompile.ir.nodes.base import Block, Node
from snncompile.ir.types import SignalType, as_shape


class Feedback(Signal):
    """The value that a signal, named later by :meth:`close`, had one step (or ``delay``) before; 0 until then.

    Args:
        shape: its feature shape.
        max: the most spikes per step, if it carries spikes.
        name: name of the value in the network's state.
        delay: how late it is, in seconds, a whole number of steps. None, the default, is one step. With 0 the value
            is that of this very step: then a ``snn.Delay`` of at least one step must stand on the cycle.

    Example::

        back = snn.Feedback(128)
        h = (x >> snn.Linear(128)) + (back >> snn.Linear(128)) >> snn.LIF()   # mind: + binds tighter than >>
        back.close(h)
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        *,
        max: int | None = None,
        name: str = "feedback",
        delay: float | None = None,
    ) -> None:
        where = caller()
        builder = current_builder("snn.Feedback", where)
        try:
            kind = SignalType("any" if max is None else "spikes", as_shape(shape), max)
        except ModelError as err:
            raise ModelError(f"snn.Feedback: {err.message}", where=where) from None
        super().__init__(builder, builder.open(name, kind, where, delay)._ref)

    def close(self, signal: Signal) -> None:
        """Name the signal whose previous value this is."""
        self._builder.close(self._ref.node, signal, caller())


class Recurrent:
    """What :func:`recurrent` returns: apply it with ``>>``."""

    def __init__(self, block: Block, via: Block, delay: float | None = None) -> None:
        self.block = block
        self.via = via
        self.delay = delay

    def __rshift__(self, other: Any) -> Any:
        raise ModelError("apply a recurrent block to a signal first: `x >> snn.recurrent(...) >> ...`", where=caller())

    def apply_to(self, signal: Signal) -> Signal:
        """The block's output on ``signal`` plus its own previous output sent through ``via``."""
        builder = signal._builder
        out = self._probe(signal.type)
        name = self.block.nodes[-1].name or self.block.nodes[-1].default_name()
        back = builder.open(f"{name}_back", out, caller(), self.delay)
        fed = back >> self.via
        if fed.shape != signal.shape:
            raise ModelError(
                f"`via` gives features {fed.shape}, but the block's input has {signal.shape}", where=caller()
            )
        result = (signal + fed) >> self.block
        builder.close(back._ref.node, result, caller())
        return result

    def _probe(self, type: SignalType) -> SignalType:
        """The type of the block's output, found by applying it to a throw-away model."""
        probe = Builder("probe", 1e-3)
        return (probe.input("x", type) >> self.block).type


def recurrent(block: Node | Block, via: Node | Block, *, delay: float | None = None) -> Recurrent:
    """A block whose output comes back, one step (or ``delay``) later, through ``via``, added to its input.

    ``x >> snn.recurrent(snn.LIF(), via=snn.Linear(128))`` is a recurrent layer: the spikes of step t-1 enter step t
    through the weights.

    Args:
        block: the node or block in the loop.
        via: what its output passes on the way back; its output has the features of the block's input.
        delay: how late it comes back, in seconds, as for :class:`Feedback`.
    """
    return Recurrent(_as_block(block), _as_block(via), delay)


def _as_block(block: Any) -> Block:
    if isinstance(block, Node):
        return Block((block,))
    if isinstance(block, Block):
        return block
    raise ModelError(f"snn.recurrent takes nodes or blocks, not {block!r}", where=caller())
