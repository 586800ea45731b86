"""What mean-field theory says of Brunel's network: rate and regularity of its neurons in the stationary state.

Sources: Brunel (2000), section 4.1 for the rate and appendix A.1 for the coefficient of variation. There the neurons of
the network act on each other as Poisson processes of their rate. They are more regular, so that slow fluctuations are
weaker, by the square of that coefficient for renewal processes (Dummer, Wieland and Lindner 2014, "Self-consistent
determination of the spike-train power spectrum in a neural network with sparse connectivity", Frontiers in
Computational Neuroscience 8:104). Fluctuations as strong as the former and as weak as the latter are two bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from model import REFRACTORY, RESET, TAU, THRESHOLD


@dataclass(frozen=True)
class Prediction:
    """Spikes a second of a neuron, and the coefficient of variation of its inter-spike intervals."""

    rate: float
    cv: float


def predict(n: int, connected: float, j: float, g: float, outside: float) -> tuple[Prediction, Prediction]:
    """The stationary state of the model: for Poisson processes, and for renewal processes as regular as that state."""
    degree = round(connected * n)
    poisson = _stationary(degree, j, g, outside, 1.0)
    cv, found = poisson.cv, poisson
    for _ in range(60):
        found = _stationary(degree, j, g, outside, cv)
        cv += 0.5 * (found.cv - cv)
    return poisson, found


def _stationary(degree: int, j: float, g: float, outside: float, cv: float) -> Prediction:
    """The rate that a neuron has in a network of such rates, whose spike trains have the regularity ``cv``."""
    rate_outside = outside * THRESHOLD / (j * TAU)  # all synapses from outside together, Poisson

    def bounds(rate: float) -> tuple[float, float]:
        inside = degree * rate
        mean = j * TAU * (rate_outside + inside * (1 - 0.25 * g))
        deviation = math.sqrt(j * j * TAU * (rate_outside + cv * cv * inside * (1 + 0.25 * g * g)))
        return (RESET - mean) / deviation, (THRESHOLD - mean) / deviation

    low, high = 0.0, 1 / REFRACTORY
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _rate(*bounds(middle)) > middle else (low, middle)
    return Prediction(low, _cv(low, *bounds(low)))


def _scaled_erfc(u: np.ndarray) -> np.ndarray:
    """``exp(u^2) * (1 + erf(u))``."""
    u = np.minimum(u, 18.0)  # as good as infinite: a neuron so far from its threshold is silent
    below = np.minimum(u, 0.0)
    exact = np.array([math.exp(v * v) * math.erfc(-v) if v > -5.0 else 0.0 for v in u])
    small = -1.0 / (np.minimum(below, -1e-9) * math.sqrt(math.pi)) * (1 - 0.5 / np.maximum(below * below, 1.0))
    return np.where(u > -5.0, exact, small)


def _rate(low: float, high: float) -> float:
    u = np.linspace(low, high, 801)
    return 1.0 / (REFRACTORY + TAU * math.sqrt(math.pi) * np.trapezoid(_scaled_erfc(u), u))


def _cv(rate: float, low: float, high: float) -> float:
    y = np.linspace(min(low, -4.0) - 4.0, high, 4001)
    inner = np.exp(-(y * y)) * _scaled_erfc(y) ** 2  # exp(y^2) (1 + erf y)^2
    total = np.concatenate([[0.0], np.cumsum((inner[1:] + inner[:-1]) / 2 * np.diff(y))])
    inside = y >= low
    integral = np.trapezoid(np.exp(y[inside] ** 2) * total[inside], y[inside])
    return math.sqrt(2 * math.pi * (rate * TAU) ** 2 * integral)
