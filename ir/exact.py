"""Transcendental functions with one definition for every target.

Vendors' ``exp`` differ in the last bit, and one bit in a membrane is a spike more or less. So inside a step these
functions *are* the short sequences of IEEE operations below (Cephes' single-precision polynomials, S. Moshier 1989,
with Cody and Waite's range reduction; under 1 ulp for ``exp``). Targets print the traced form of these functions:
nothing else in the project evaluates an ``exp`` inside a time loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.ir.recording import elementary


def exp2i(n: Tensor) -> Tensor:
    """``2**n`` exactly, for whole ``n`` from -126 to 127, by writing the exponent field."""
    return elementary("exp2i", n, lambda n: ((n.to(torch.int32) + 127) << 23).view(torch.float32))


def exp(x: Tensor) -> Tensor:
    """``e**x`` to under 1 ulp, subnormal results and overflow to infinity included; NaN stays NaN."""
    x = torch.clamp(x, -104.0, 89.0)
    n = torch.floor(x * 1.44269504088896341 + 0.5)
    r = x - n * 0.693359375
    r = r - n * -2.12194440e-4
    p = r * 1.9875691500e-4 + 1.3981999507e-3
    p = p * r + 8.3334519073e-3
    p = p * r + 4.1665795894e-2
    p = p * r + 1.6666665459e-1
    p = p * r + 5.0000001201e-1
    y = (p * (r * r) + r) + 1.0
    half = torch.floor(n * 0.5)  # two factors, since 2**n itself over- or underflows at the ends
    return (y * exp2i(half)) * exp2i(n - half)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return 1.0 / (exp(-x) + 1.0)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent: an odd polynomial below 0.625, through ``exp`` above."""
    z = x * x
    p = z * -5.70498872745e-3 + 2.06390887954e-2
    p = p * z + -5.37397155531e-2
    p = p * z + 1.33314422036e-1
    p = p * z + -3.33332819422e-1
    small = (p * z) * x + x
    size = torch.abs(x)
    large = 1.0 - 2.0 / (exp(size * 2.0) + 1.0)
    large = torch.where(x < 0.0, -large, large)
    return torch.where(size < 0.625, small, large)


def sqrt(x: Tensor) -> Tensor:
    """Correctly rounded square root (torch's own on the CPU is not: rounding a float64 root once is)."""
    return elementary("sqrt", x, lambda x: torch.sqrt(x.double()).float())


#: Functions printed from their traced definition.
COMPOSITE = {"exp": exp, "sigmoid": sigmoid, "tanh": tanh}
