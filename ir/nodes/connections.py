"""Dense connections from one population to another."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from snncompile.ir.connection import Connection
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.delays import Delays, given_shape
from snncompile.ir.nodes.weights import ConnectionNode, Weighted, share, weight_parameter, whole
from snncompile.ir.types import SignalType


@dataclass(frozen=True, eq=False)
class Linear(Weighted):
    """Dense connection, the same at every step: ``y = x W^T + b``.

    Source: ``torch.nn.Linear``, with its default initialisation.

    Shapes: input ``(batch, time, in)``, output ``(batch, time, out)``, weight ``(out, in)`` of family ``weights``, bias
    ``(out,)`` of family ``biases``.

    Attributes:
        out: number of output features.
        bias: whether a bias is added. Default True.
        init: first weights: an array ``(out, in)``, a function from that shape to one, or None for torch's default
            (weights and biases uniform within ``1/sqrt(in)``).
        trainable: whether weight and bias are trained. Default True.
        mask: an array of 0 and 1 that broadcasts to ``(out, in)``; the weight that acts is ``weight * mask``.
        sign: +1 or -1, or an array of them that broadcasts to ``(out, in)``; ``(in,)`` is one per source neuron. The
            first weights get this sign, by their absolute value.
        delay: a time in seconds, or an array ``(out, in)`` of them, one per synapse: what arrives is as old as its
            delay. The delays are then the parameter ``steps`` of family ``delays`` (in steps), and the last inputs the
            state ``history``, as for :class:`~snncompile.ir.nodes.delays.Delay`, which explains the options below.
        interpolation: what is seen between two steps; None: every delay is a whole number of steps.
        max_delay: the longest delay. Default: the longest of ``delay``.
        overbound: what is seen in place of values from before ``max_delay``. Default: such a delay is an error.
        tolerance: a delay this near to a step, in seconds, is on it. Default 0.
        tau: time constant of ``interpolation="expdecay"``.
        trainable_delay: whether the delays are trained, each on its own; needs ``interpolation="linear"``.
        density: the share of its inputs that are not zero, over steps and sequences: a target may then compute from
            those alone. None takes that of the model's input, where it reads one with a density.
    """

    out: int
    _: KW_ONLY
    density: float | None = None
    delay: Any = None
    interpolation: str | None = None
    max_delay: float | None = None
    overbound: float | None = None
    tolerance: float = 0.0
    tau: float | None = None
    trainable_delay: bool = False

    def timed_connection(self, owner: str, x: SignalType, name: str, dt: float) -> Connection:
        """The connection, with delays or without."""
        plain = self.connection(owner, x, name)
        if self.delay is None:
            for option in ("interpolation", "max_delay", "overbound", "tau"):
                if getattr(self, option) is not None:
                    raise ModelError(f"{option}= is an option of delays: give it delay=, too")
            if self.tolerance or self.trainable_delay:
                option = "tolerance" if self.tolerance else "trainable_delay"
                raise ModelError(f"{option}= is an option of delays: give it delay=, too")
            return plain
        options = Delays(
            self.delay, self.interpolation, self.max_delay, self.overbound, self.tolerance, self.tau,
            self.trainable_delay,
        )  # fmt: skip
        shape = plain.params["weight"].shape
        given = given_shape(self.delay)
        if given not in ((), shape):
            raise ModelError(f"delay has shape {given}: give a time, or one per synapse {shape}")
        attrs, params = options.lowered(dt, owner, shape if given or self.trainable_delay else ())
        return replace(plain, kind="DelayedLinear", attrs={**attrs, **plain.attrs}, params={**plain.params, **params})

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection with its parameters named after ``owner``, as if it had no delays."""
        out = whole("out", self.out)
        if len(x.shape) != 1:
            raise ModelError(f"it takes flat features, not {x.shape}. Put `>> Flatten()` before it")
        params = self.parameters(owner, (out, x.shape[0]))
        settings = {} if self.density is None else {"density": share(self.density)}
        return Connection("Linear", settings, params, x, SignalType("current", (out,)), (name,))


__all__ = ["ConnectionNode", "Linear", "share", "weight_parameter"]
