"""The functions every target shares: how near they are to the real ones, and at the ends of the range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from snncompile.ir import exact
from snncompile.ir.definitions import definition
from snncompile.ir.interp import Interpreter
from snncompile.ir.ops import OPS
from snncompile.ir.verify_program import verify_program

CPU = torch.device("cpu")


def grid(low: float, high: float, count: int = 400_001) -> torch.Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64).float()


def ulps(got: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """Distance from the real value in units of the last place there."""
    spacing = torch.from_numpy(np.spacing(want.float().abs().numpy())).double()
    return ((got.double() - want) / spacing).abs()


def test_exp_is_within_one_ulp() -> None:
    for low, high in ((-87.3, 88.7), (-1.0, 1.0), (-1e-3, 1e-3)):
        x = grid(low, high)
        worst = ulps(exact.exp(x), torch.exp(x.double())).max()
        assert worst < 1.0, (low, high, worst)


def test_exp_of_subnormal_results() -> None:
    x = grid(-103.9, -87.4)
    y, want = exact.exp(x), torch.exp(x.double())
    assert (y > 0).all()
    assert ((y.double() - want).abs() <= 1.5 * 2.0**-149).all()


def test_ends_of_exp() -> None:
    x = torch.tensor([0.0, -0.0, 89.0, 1e30, math.inf, -104.0, -1e30, -math.inf, math.nan])
    y = exact.exp(x)
    assert y[:2].tolist() == [1.0, 1.0]
    assert y[2:5].tolist() == [math.inf] * 3
    assert y[5:8].tolist() == [0.0] * 3
    assert y[8].isnan()


def test_exp2i_is_exact() -> None:
    n = torch.arange(-126, 128).float()
    assert torch.equal(exact.exp2i(n).double(), 2.0 ** n.double())


def test_sigmoid_and_tanh() -> None:
    x = grid(-20, 20)
    assert ulps(exact.sigmoid(x), torch.sigmoid(x.double())).max() < 4
    assert ulps(exact.tanh(x), torch.tanh(x.double())).max() < 4
    ends = torch.tensor([-math.inf, math.inf])
    assert exact.sigmoid(ends).tolist() == [0.0, 1.0]
    assert exact.tanh(ends).tolist() == [-1.0, 1.0]
    assert exact.tanh(torch.tensor(math.nan)).isnan() and exact.sigmoid(torch.tensor(math.nan)).isnan()


def test_sqrt_is_correctly_rounded() -> None:
    x = torch.cat([grid(0, 2), grid(0, 1e30), torch.tensor([2.0**-149, 0.0])])
    want = torch.sqrt(x.double()).float()
    assert torch.equal(exact.sqrt(x), want)
    assert exact.sqrt(torch.tensor(-1.0)).isnan()


@pytest.mark.parametrize("name", sorted(exact.COMPOSITE))
def test_the_definition_printed_is_the_function_run(name: str) -> None:
    """Bit by bit: targets print the program, the reference runs the function."""
    program = definition(name)
    verify_program(program)
    assert not {op.op for op in program.ops} & set(exact.COMPOSITE)
    x = torch.cat([grid(-110, 110, 20_001), torch.tensor([math.inf, -math.inf, -0.0])])
    (y,) = Interpreter(program)([x], CPU)
    assert torch.equal(y.view(torch.int32), OPS[name].step(x).view(torch.int32))
