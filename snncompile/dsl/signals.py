"""Signals: what a model function passes from node to node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snncompile.ir.errors import ModelError
from snncompile.ir.graph import Ref
from snncompile.ir.locations import caller
from snncompile.ir.nodes.base import Block, Node
from snncompile.ir.nodes.connections import share
from snncompile.ir.types import DEFAULT_MAX_SPIKES, SignalType, as_shape

if TYPE_CHECKING:
    from snncompile.dsl.builder import Builder


class Signal:
    """The output of a node (or an input) inside a model function.

    ``signal >> node`` applies a node, ``a + b`` adds, ``a - b`` subtracts, ``2 * a`` scales, ``signal.state("v")`` is a
    state of the node it comes from, ``signal["name"]`` another of its outputs.
    """

    __hash__ = object.__hash__
    __array_ufunc__ = None  # an array on the left leaves the operator to the signal, rather than go through elements

    def __init__(self, builder: Builder, ref: Ref) -> None:
        self._builder = builder
        self._ref = ref

    @property
    def type(self) -> SignalType:
        """Kind and feature shape."""
        return self._builder.type_of(self._ref)

    @property
    def shape(self) -> tuple[int, ...]:
        """The feature shape, without batch and time."""
        return self.type.shape

    def __rshift__(self, node: Any) -> Signal:
        if isinstance(node, Block):
            signal = self
            for member in node.nodes:
                signal = signal >> member
            return signal
        if hasattr(node, "apply_to"):
            return node.apply_to(self)
        if isinstance(node, type) and issubclass(node, Node):
            raise ModelError(f"`>> {node.__name__}` needs an object: write `>> {node.__name__}(...)`", where=caller())
        if not isinstance(node, Node):
            if isinstance(node, Signal):
                raise ModelError("`>>` leads to a node, not into another signal: add signals, a + b. (Spikes at a rate"
                                 " that a signal gives are drawn by PoissonEncoder.)", where=caller())  # fmt: skip
            hint = ". A layer of torch is no node: use snn's of that name" if hasattr(node, "state_dict") else ""
            raise ModelError(f"`>>` leads to a node or a block, not to {node!r}{hint}", where=caller())
        return self.apply_node(node, (self,), {})

    def apply_node(self, node: Node, signals: Sequence[Any], ports: Mapping[str, Any]) -> Signal:
        """Apply ``node`` to positional signals and signals by port."""
        return self._builder.apply(node, signals, ports, caller())

    def __add__(self, other: Any) -> Signal:
        if isinstance(other, (Node, Block)):
            return other + self  # raises, with the parenthesised form
        return self._builder.sum(self, other, caller())

    __radd__ = __add__

    def __neg__(self) -> Signal:
        return self * -1.0

    def __sub__(self, other: Any) -> Signal:
        return self + (-other if isinstance(other, Signal) else other)

    def __mul__(self, factor: Any) -> Signal:
        from snncompile.ir.nodes import Scale

        if isinstance(factor, Signal):
            raise ModelError("signals can be added, not multiplied; a product belongs in a node of your own",
                             where=caller())  # fmt: skip
        return self >> Scale(factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Signal:
        raise ModelError("a signal is not divided: multiply it by a number, 0.5 * signal; a quotient of signals belongs"
                         " in a node of your own", where=caller())  # fmt: skip

    __rtruediv__ = __truediv__

    def __rsub__(self, other: Any) -> Signal:
        return self._builder.sum(-self, other, caller())

    def _no_operator(self, *others: Any) -> Any:
        raise ModelError("of Python's operators a signal has `>>`, `+`, `-` and `*` by a number; anything else belongs"
                         " in a node of your own", where=caller())  # fmt: skip

    __pow__ = __rpow__ = __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __matmul__ = __rmatmul__ = _no_operator
    __lt__ = __le__ = __gt__ = __ge__ = __abs__ = __and__ = __or__ = __xor__ = __invert__ = _no_operator

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse functions of torch: there is no tensor yet."""
        del types, kwargs
        if getattr(function, "__name__", "") == "mul" and isinstance(args[-1], Signal) and len(args) == 2:
            return args[1] * args[0]  # `tensor * signal`
        raise ModelError(f"torch's {getattr(function, '__name__', function)} takes tensors, and a signal holds no data"
                         " yet: write a node of your own, @snn.neuron or @snn.synapse", where=caller())  # fmt: skip

    def state(self, name: str) -> Signal:
        """A state of the node this signal comes from (its value after the step), as a signal."""
        return self._builder.port(self._ref.node, name, caller())

    def __getitem__(self, name: str) -> Signal:
        return self._builder.port(self._ref.node, name, caller())

    def __iter__(self) -> Any:
        raise ModelError("a signal cannot be unpacked; several outputs are reached by name, signal['name']",
                         where=caller())  # fmt: skip

    def __len__(self) -> int:
        raise ModelError("a signal has no length; its feature shape is signal.shape", where=caller())

    def __bool__(self) -> bool:
        raise ModelError("a signal has no truth value: a model is built once, before any data is there", where=caller())

    def __repr__(self) -> str:
        return f"<signal {self._ref}: {self.type}>"


@dataclass(frozen=True)
class InputSpec:
    """An input of a model: the default value of a parameter of the model function."""

    type: SignalType
    density: float | None = None


def Spikes(
    shape: int | tuple[int, ...], *more: Any, max: int = DEFAULT_MAX_SPIKES, density: float | None = None
) -> Any:
    """An input of spike counts.

    Args:
        shape: feature shape, ``64`` or ``(2, 34, 34)``; data is ``(batch, time, *shape)`` or ``(time, *shape)``.
        *more: an error, which says how a shape of several numbers is written.
        max: the most spikes in one step; 1 for binary spikes.
        density: the share of values that are not zero, over steps and sequences, where that is known: a hint for the
            ``Linear`` and convolution nodes that read the input.
    """
    type = _type("Spikes", "spikes", shape, more, max)
    return InputSpec(type, None if density is None else share(density))


def Current(shape: int | tuple[int, ...], *more: Any) -> Any:
    """An input of real values.

    Args:
        shape: feature shape; data is ``(batch, time, *shape)`` or ``(time, *shape)``.
        *more: an error, which says how a shape of several numbers is written.
    """
    return InputSpec(_type("Current", "current", shape, more))


def _type(name: str, kind: str, shape: Any, more: tuple[Any, ...], max: Any = None) -> SignalType:
    if more:
        inside = ", ".join(map(repr, (shape, *more)))
        hint = f" (and {name}({shape!r}, max={more[0]!r}) a maximum)" if name == "Spikes" and len(more) == 1 else ""
        raise ModelError(f"a shape of several numbers is a tuple: {name}(({inside})){hint}", where=caller())
    try:
        return SignalType(kind, as_shape(shape), max)
    except ModelError as err:
        raise ModelError(err.message, where=caller()) from None
