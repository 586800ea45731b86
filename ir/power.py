"""Powers with any exponent, made of operations that are exact on every target."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snncompile.ir import exact

_SQRT_HALF = 0.707106781186547524
_LOG2_E = 1.44269504088896341


def power(x: Tensor, exponent: float) -> Tensor:
    """``x ** exponent`` for ``x >= 0`` and ``exponent >= 0``, to a few units in the last place; NaN for ``x < 0``.

    0, 0.5 and 1 are exact. Others are ``2 ** (exponent * log2(x))``, where the whole part of the logarithm and the rest
    are kept apart, so that little is lost for small ``x``.

    Args:
        x: the base.
        exponent: a plain number.
    """
    if exponent == 0.0:
        return torch.ones_like(x)
    if exponent == 1.0:
        return x
    if exponent == 0.5:
        return torch.sqrt(x)
    mantissa, whole = _split(x)
    product = whole * _high(exponent)  # exact: 8 bits times 12
    turns = torch.floor(product + 0.5)
    rest = (product - turns) + (whole * (exponent - _high(exponent)) + exponent * (_log(mantissa) * _LOG2_E))
    steps = torch.clamp(turns, -252.0, 254.0)
    half = torch.floor(steps * 0.5)
    y = (exact.exp(rest * 0.693147180559945309) * exact.exp2i(half)) * exact.exp2i(steps - half)
    y = torch.where(x == 0.0, 0.0, y)
    y = torch.where(x == math.inf, math.inf, y)
    return torch.where(x >= 0.0, y, math.nan)


def _high(exponent: float) -> float:
    """``exponent`` to 12 bits."""
    mantissa, power_of_two = math.frexp(exponent)
    return math.ldexp(math.floor(mantissa * 4096.0) / 4096.0, power_of_two)


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """``m`` from sqrt(1/2) to sqrt(2) and a whole ``k`` with ``x = m * 2**k``, by exact products with powers of two."""
    whole = torch.zeros_like(x)
    for k in (64, 64, 32, 16, 8, 4, 2, 1):  # 64 twice: subnormal numbers are that small
        large = x >= 2.0**k
        x = torch.where(large, x * 2.0**-k, x)
        whole = torch.where(large, whole + float(k), whole)
        small = x < 2.0 ** (1 - k)
        x = torch.where(small, x * 2.0**k, x)
        whole = torch.where(small, whole - float(k), whole)
    below = x > 2.0 * _SQRT_HALF
    return torch.where(below, x * 0.5, x), torch.where(below, whole + 1.0, whole)


def _log(m: Tensor) -> Tensor:
    """Natural logarithm for ``m`` from sqrt(1/2) to sqrt(2): Cephes' single-precision polynomial (S. Moshier 1989)."""
    x = m - 1.0
    z = x * x
    p = x * 7.0376836292e-2 + -1.1514610310e-1
    p = p * x + 1.1676998740e-1
    p = p * x + -1.2420140846e-1
    p = p * x + 1.4249322787e-1
    p = p * x + -1.6668057665e-1
    p = p * x + 2.0000714765e-1
    p = p * x + -2.4999993993e-1
    p = p * x + 3.3333331174e-1
    return x + (p * x * z - 0.5 * z)
