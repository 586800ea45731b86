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


def _log_of_fraction(x: Tensor) -> Tensor:
    """Natural logarithm for ``x`` from ``2**-31`` to 1 (Cephes; the exponent by comparisons, no bits are read)."""
    halvings = torch.zeros_like(x)
    for n in (16, 8, 4, 2, 1):
        small = x < 2.0**-n
        x = torch.where(small, x * 2.0**n, x)
        halvings = torch.where(small, halvings + float(n), halvings)
    small = x < 0.707106781186547524
    x = torch.where(small, x * 2.0, x) - 1.0
    halvings = torch.where(small, halvings + 1.0, halvings)
    z = x * x
    p = x * 7.0376836292e-2 - 1.1514610310e-1
    p = p * x + 1.1676998740e-1
    p = p * x - 1.2420140846e-1
    p = p * x + 1.4249322787e-1
    p = p * x - 1.6668057665e-1
    p = p * x + 2.0000714765e-1
    p = p * x - 2.4999993993e-1
    p = p * x + 3.3333331174e-1
    y = (p * x) * z + halvings * 2.12194440e-4
    y = y - z * 0.5
    return (x + y) - halvings * 0.693359375


def normal(u: Tensor) -> Tensor:
    """A standard normal number from one that is uniform in [0, 1) and a multiple of ``2**-24``.

    The inverse of the normal distribution at ``u + 2**-25``, so that both tails end alike, at 5.4. Source of the
    polynomials: Giles 2010, "Approximating the erfinv function", single precision.
    """
    x = (u - 0.5) * 2.0 + 2.0**-24
    w = -_log_of_fraction((1.0 - x) * (1.0 + x))
    c = w - 2.5
    p = c * 2.81022636e-08 + 3.43273939e-07
    p = p * c - 3.5233877e-06
    p = p * c - 4.39150654e-06
    p = p * c + 0.00021858087
    p = p * c - 0.00125372503
    p = p * c - 0.00417768164
    p = p * c + 0.246640727
    p = p * c + 1.50140941
    t = sqrt(w) - 3.0
    q = t * -0.000200214257 + 0.000100950558
    q = q * t + 0.00134934322
    q = q * t - 0.00367342844
    q = q * t + 0.00573950773
    q = q * t - 0.0076224613
    q = q * t + 0.00943887047
    q = q * t + 1.00167406
    q = q * t + 2.83297682
    return (torch.where(w < 5.0, p, q) * x) * 1.41421356237309505


#: Functions printed from their traced definition.
COMPOSITE = {"exp": exp, "sigmoid": sigmoid, "tanh": tanh, "normal": normal}
