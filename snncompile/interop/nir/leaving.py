"""Nodes of the library as NIR's primitives: the inverse of what reading does, node by node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snncompile.interop.nir.neurons import share
from snncompile.interop.nir.options import Discretisation
from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import InterchangeError

MEMBRANES = ("LIF", "EulerLIF", "CubaLIF", "LI", "EulerLI")
SYNAPSES = ("ExpSyn", "Synapse")


@dataclass
class Leaving:
    """What holds for the whole file, gathered node by node.

    Attributes:
        dt: the time step of the network.
        step: the time step that the reader takes; times in the file are in proportion.
        method: how the reader solves the equations, where that is asked for; None leaves it to the nodes.
        lossy: whether what NIR cannot say is noted instead of refused.
        said: option of reading -> the value that the nodes so far need.
        lost: what was lost, a line each.
        rounded: nodes whose decay is the reader's only up to rounding.
    """

    dt: float
    step: float
    method: str | None = None
    lossy: bool = False
    said: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)

    def needs(self, option: str, value: str, node: str) -> None:
        """Note an option that reading needs; all nodes must agree on it."""
        if self.said.setdefault(option, value) != value:
            raise InterchangeError(
                f"it needs {option}={value!r} when the file is read, and another node {self.said[option]!r}:"
                " one file is read in one way",
                node=node,
            )

    def lose(self, what: str, node: str) -> None:
        """Something NIR has no word for: refused, or noted."""
        if not self.lossy:
            raise InterchangeError(f"NIR cannot say that {what}; lossy=True (--lossy) writes it without", node=node)
        self.lost.append(f"{node}: {what}")

    def times(self, tau: np.ndarray, euler: bool, node: str) -> tuple[np.ndarray, np.ndarray]:
        """The time constant in the file, and how far a step leads towards the input.

        Args:
            tau: the network's.
            euler: whether the node steps by Euler's method.
            node: its name.
        """
        moves = share(tau, Discretisation(self.dt, "euler" if euler else "exact"))
        if self.method == "euler" and not euler:
            self.needs("method", "euler", node)
            self.rounded.append(node)
            return self.step / moves, moves
        if self.method == "exact" and euler:
            raise InterchangeError("it steps by Euler's method: write the file with method='euler'", node=node)
        self.needs("method", "euler" if euler else "exact", node)
        return (tau if self.step == self.dt else tau * (self.step / self.dt)), moves


def connection(nir: Any, name: str, op: Connection, values: dict[str, np.ndarray], dt: float) -> Any:
    """A connection as a primitive."""
    if op.kind == "Delay":
        return nir.Delay(_times(name, op, values) * dt)
    if op.kind == "Flatten":
        return nir.Flatten({"input": np.array(op.input.shape)}, 0, -1)
    if op.kind in ("SumPool2d", "AvgPool2d"):
        return getattr(nir, op.kind)(*(np.array(op.attrs[role]) for role in ("kernel_size", "stride", "padding")))
    if op.kind == "Sparse":
        from snncompile.interop.nir.sparse import matrix

        values = {**values, "weight": matrix(name, op, values)}
    if op.kind == "DelayedLinear":
        raise InterchangeError("NIR has no delay of a connection: put a snn.Delay before the Linear", node=name)
    if op.kind not in ("Linear", "Sparse", "Conv1d", "Conv2d"):
        raise InterchangeError(f"NIR has no {op.kind}", node=name)
    weight = values["weight"] * values["mask"] if "mask" in values else values["weight"]
    if op.kind in ("Linear", "Sparse"):
        return nir.Affine(weight, values["bias"]) if "bias" in values else nir.Linear(weight)
    bias = values.get("bias", np.zeros(weight.shape[0], np.float32))
    attrs = {role: tuple(op.attrs[role]) for role in ("stride", "padding", "dilation")}
    if op.kind == "Conv1d":
        one = {role: int(value[0]) for role, value in attrs.items()}
        return nir.Conv1d(op.input.shape[1], weight, groups=op.attrs["groups"], bias=bias, **one)
    return nir.Conv2d(tuple(op.input.shape[1:]), weight, groups=op.attrs["groups"], bias=bias, **attrs)


def _times(name: str, op: Connection, values: dict[str, np.ndarray]) -> np.ndarray:
    """The steps of a Delay, one for each feature."""
    steps = np.float64(values["steps"]) if "steps" in values else np.float64(op.attrs["steps"])
    if op.rule.interpolation != "exact":
        raise InterchangeError(f"NIR has no delay with interpolation={op.rule.interpolation!r}", node=name)
    if op.output.shape != op.input.shape:
        raise InterchangeError("NIR has no several delays for one element", node=name)
    if np.any((steps < 0) | (steps > op.rule.limit)):
        raise InterchangeError("NIR has no overbound of a delay", node=name)
    return np.broadcast_to(steps, op.input.shape)


def elementwise(
    nir: Any, name: str, op: Elementwise, values: dict[str, np.ndarray], to: Leaving, gain: np.ndarray | None = None
) -> Any:
    """A node that is a primitive by itself, with the gain before it."""
    full = {role: np.broadcast_to(value, op.shape).astype(np.float64) for role, value in values.items()}
    ones = np.ones(op.shape)
    if op.kind == "Scale":
        return nir.Scale(np.broadcast_to(values["factor"], op.shape).copy())
    if op.kind == "Add":
        return nir.Scale(ones)  # edges that meet are summed
    if op.kind == "Threshold":
        return nir.Threshold(full["threshold"])
    if op.kind == "Integrator":
        return nir.I(_full(gain, op) / to.step)
    if op.kind == "IF":
        return nir.IF(_full(gain, op) / to.step, **_firing(name, op, full, to))
    if op.kind in MEMBRANES:
        return membrane(nir, name, op, values, gain, None, to)
    raise InterchangeError(f"NIR has no primitive for {op.kind}", node=name)


def membrane(
    nir: Any,
    name: str,
    op: Elementwise,
    values: dict[str, np.ndarray],
    gain: np.ndarray | None,
    synapse: tuple[Elementwise, np.ndarray] | None,
    to: Leaving,
) -> Any:
    """A leaky membrane, with the synapse before it and the gain between them.

    NIR's input acts by ``r`` times the share of a step: ``r`` is chosen so that the product is the gain.
    """
    full = {role: np.broadcast_to(value, op.shape).astype(np.float64) for role, value in values.items()}
    euler = op.kind.startswith("Euler")
    tau_mem, moves = to.times(full["tau_mem"], euler, name)
    leaky = {"r": _full(gain, op) / moves, "v_leak": full.get("v_leak", np.zeros(op.shape))}
    fires = {} if op.kind in ("LI", "EulerLI") else _firing(name, op, full, to)
    if not fires:
        _bare(name, op, full, to)
    if op.kind == "CubaLIF":
        synapse = (op, full["tau_syn"])
    if synapse is None:
        kind = nir.LIF if fires else nir.LI
        return kind(tau=tau_mem, **leaky, **fires)
    source, tau = synapse[0], np.broadcast_to(synapse[1], op.shape).astype(np.float64)
    own = source.attrs if source.kind == "Synapse" else {}
    if bool(own.get("euler", False)) != euler:
        raise InterchangeError("its synapse and its membrane are solved by different methods", node=name)
    to.needs("current", "before" if own.get("late", False) else "after", name)
    tau_syn, moves = to.times(tau, euler, name)
    weight = 1.0 / moves
    if source.kind != "Synapse":  # the library's synapse decays its input too
        weight = weight * np.exp(-to.dt / tau)
    kind = nir.CubaLIF if fires else nir.CubaLI
    return kind(tau_syn=tau_syn, tau_mem=tau_mem, w_in=weight, **leaky, **fires)


def _full(gain: np.ndarray | None, op: Elementwise) -> np.ndarray:
    """A gain for every neuron, in float64; 1 where there is none."""
    return np.ones(op.shape) if gain is None else np.broadcast_to(gain, op.shape).astype(np.float64)


def _firing(name: str, op: Elementwise, full: dict[str, np.ndarray], to: Leaving) -> dict[str, np.ndarray]:
    """Threshold and reset."""
    _bare(name, op, full, to)
    if not op.attrs.get("strict", False):
        to.lose("it fires at the threshold (strict=False): NIR's neurons fire above it", name)
    if (op.outputs[0].type.max or 1) > 1:
        to.lose("it may fire several times in a step (max_spikes_per_dt)", name)
    reset = op.attrs.get("reset", "subtract")
    if "reset" in full:
        low = full["reset"]
    elif isinstance(reset, str):
        if reset == "subtract":
            to.lose("its reset subtracts the threshold: NIR's goes to a value", name)
        low = np.zeros(op.shape)
    else:
        low = np.full(op.shape, float(np.float32(reset)))
    return {"v_threshold": full["threshold"], "v_reset": low}


def _bare(name: str, op: Elementwise, full: dict[str, np.ndarray], to: Leaving) -> None:
    """What NIR's membranes have not: bias, first value, refractory time."""
    if "bias" in full and np.any(full["bias"] != 0):
        to.lose("it has a bias", name)
    for option in ("v0", "refractory"):
        if op.attrs.get(option, 0.0) != 0.0:
            to.lose(f"its {option} is not 0", name)
