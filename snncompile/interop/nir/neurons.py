"""NIR's neurons as a gain, a synapse and a membrane: each equation of a node, solved for one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from snncompile.interop.nir.nodes import EulerLI, EulerLIF, Integrator, Synapse, Threshold
from snncompile.interop.nir.options import Discretisation
from snncompile.ir.errors import InterchangeError
from snncompile.ir.nodes import IF, LI, LIF, ExpSyn, Node, Scale

#: What a primitive becomes: nodes one after the other.
Chain = Sequence[Node]


def lif(name: str, node: Any, d: Discretisation) -> Chain:
    """``tau v' = (v_leak - v) + R I``; spike where ``v > v_threshold``; reset."""
    tau = times(node, "tau")
    gain = share(tau, d) * numbers(node, "r")
    neuron = (LIF if d.method == "exact" else EulerLIF)(tau, v_leak=leak(node), name=name, **firing(node, d))
    return [*scale(f"{name}_gain", gain), neuron]


def integrate_and_fire(name: str, node: Any, d: Discretisation) -> Chain:
    """``v' = R I``; spike where ``v > v_threshold``; reset."""
    return [*scale(f"{name}_gain", d.dt * numbers(node, "r")), IF(name=name, **firing(node, d))]


def leaky(name: str, node: Any, d: Discretisation) -> Chain:
    """``tau v' = (v_leak - v) + R I``."""
    tau = times(node, "tau")
    readout = (LI if d.method == "exact" else EulerLI)(tau, v_leak=leak(node), name=name)
    return [*scale(f"{name}_gain", share(tau, d) * numbers(node, "r")), readout]


def integrator(name: str, node: Any, d: Discretisation) -> Chain:
    """``v' = R I``."""
    return [*scale(f"{name}_gain", d.dt * numbers(node, "r")), Integrator(name=name)]


def cuba_lif(name: str, node: Any, d: Discretisation) -> Chain:
    """``tau_syn I' = -I + w_in S``, then as :func:`lif`."""
    node_tau = times(node, "tau_mem")
    gain = share(node_tau, d) * numbers(node, "r")
    neuron = (LIF if d.method == "exact" else EulerLIF)(node_tau, v_leak=leak(node), name=name, **firing(node, d))
    return [*synapse(name, node, d), *scale(f"{name}_gain", gain), neuron]


def cuba_li(name: str, node: Any, d: Discretisation) -> Chain:
    """``tau_syn I' = -I + w_in S``, then as :func:`leaky`."""
    tau = times(node, "tau_mem")
    readout = (LI if d.method == "exact" else EulerLI)(tau, v_leak=leak(node), name=name)
    return [*synapse(name, node, d), *scale(f"{name}_gain", share(tau, d) * numbers(node, "r")), readout]


def threshold(name: str, node: Any, d: Discretisation) -> Chain:
    """1 where the input is above the threshold."""
    del d
    return [Threshold(single(numbers(node, "threshold")), name=name)]


NEURONS: dict[str, Callable[[str, Any, Discretisation], Chain]] = {
    "CubaLI": cuba_li,
    "CubaLIF": cuba_lif,
    "I": integrator,
    "IF": integrate_and_fire,
    "LI": leaky,
    "LIF": lif,
    "Threshold": threshold,
}


def synapse(name: str, node: Any, d: Discretisation) -> Chain:
    """The synaptic current, scaled by ``w_in``."""
    tau, weight = times(node, "tau_syn"), numbers(node, "w_in")
    syn = f"{name}_syn"
    if d.method == "euler" or d.current == "before":
        gain = share(tau, d) * weight
        return [*scale(f"{name}_in", gain), Synapse(tau, euler=d.method == "euler", late=d.current == "before",
                                                    name=syn)]  # fmt: skip
    if np.any(d.dt / tau > 40.0):
        raise InterchangeError(
            f"tau_syn = {float(np.min(tau)):g} s is less than a 40th of dt = {d.dt:g} s: nothing of the current is left"
            " after a step. Take a smaller dt"
        )
    # The library's synapse decays its input too, in the step in which it comes: the gain makes up for that.
    return [*scale(f"{name}_in", share(tau, d) / np.exp(-d.dt / tau) * weight), ExpSyn(tau, name=syn)]


def share(tau: np.ndarray, d: Discretisation) -> np.ndarray:
    """How far a step leads towards the input: ``1 - exp(-dt/tau)``, or ``dt/tau`` by Euler's method; in float64.

    Raises:
        InterchangeError: where Euler's method would lead beyond it.
    """
    if d.method == "euler" and np.any(d.dt > tau * (1 + 1e-6)):
        raise InterchangeError(
            f"a time constant is {float(np.min(tau)):g} s, shorter than dt = {d.dt:g} s: a step by Euler's method would"
            " overshoot. Take a smaller dt, or method='exact'; or the file is not in seconds"
        )
    return -np.expm1(-d.dt / tau) if d.method == "exact" else d.dt / tau


def scale(name: str, factor: np.ndarray) -> Chain:
    """A Scale by ``factor``; nothing where that is 1 everywhere in float32."""
    if not np.all(np.isfinite(factor.astype(np.float32))):
        raise InterchangeError("the gain of its input, from its constants and dt, is not finite in float32")
    return [] if np.all(factor.astype(np.float32) == 1.0) else [Scale(single(factor), name=name)]


def firing(node: Any, d: Discretisation) -> dict[str, Any]:
    """Threshold and reset of a spiking neuron."""
    reset = numbers(node, "v_reset")
    options = {"threshold": single(numbers(node, "v_threshold")), "strict": True, "max_spikes_per_dt": 1}
    if d.reset == "zero":
        value = single(reset)
        return {**options, "reset": ("zero" if value == 0.0 else value) if isinstance(value, float) else value}
    if np.any(reset != 0):
        raise InterchangeError(
            f"its v_reset is {float(reset.reshape(-1)[np.argmax(reset != 0)]):g}, and reset='subtract' subtracts the"
            " threshold without regard to it: take reset='zero', which goes to v_reset"
        )
    return {**options, "reset": "subtract"}


def leak(node: Any) -> Any:
    """``v_leak``, or None where it is 0 everywhere."""
    value = numbers(node, "v_leak")
    return None if np.all(value == 0) else single(value)


def numbers(node: Any, name: str) -> np.ndarray:
    """A parameter of a node, as float64.

    Raises:
        InterchangeError: where it is no array of finite numbers.
    """
    try:
        value = np.asarray(getattr(node, name), dtype=np.float64)
    except (TypeError, ValueError):
        raise InterchangeError(f"{name} is no array of numbers") from None
    if not np.all(np.isfinite(value.astype(np.float32))):
        raise InterchangeError(f"{name} holds a value that is not finite in float32")
    return value


def times(node: Any, name: str) -> np.ndarray:
    """A parameter that is a time constant, greater than 0."""
    value = numbers(node, name)
    if np.any(value <= 0):
        raise InterchangeError(f"{name} is a time constant greater than 0, but one is {float(np.min(value)):g}")
    return value


def single(value: np.ndarray) -> Any:
    """The one number that all are, or the array in float32."""
    first = float(value.reshape(-1)[0])
    return first if np.all(value == first) else value.astype(np.float32)
