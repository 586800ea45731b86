"""The interpreter's constants keep their type and sign."""

from __future__ import annotations

import torch

from snncompile.ir.interp import Interpreter, constant
from snncompile.ir.program import Op, Program

CPU = torch.device("cpu")


def test_a_number_is_not_taken_for_a_truth_value() -> None:
    """``True == 1.0`` and ``False == 0.0`` in Python."""
    for first, second in ((False, 0.0), (True, 1.0), (0.0, False), (1.0, True)):
        assert constant(first, CPU).dtype == (torch.bool if isinstance(first, bool) else torch.float32)
        assert constant(second, CPU).dtype == (torch.bool if isinstance(second, bool) else torch.float32)


def test_signs_of_zero() -> None:
    assert [torch.signbit(constant(c, CPU)).item() for c in (0.0, -0.0, 0.0)] == [False, True, False]


def test_constants_of_both_types_in_one_program() -> None:
    ops = (Op("a", "and", (True, False)), Op("b", "neg", (0.0,)), Op("c", "where", ("a", 1.0, "b")))
    (y,) = Interpreter(Program((), ops, (("y", "c"),)))([], CPU)
    assert y.dtype == torch.float32 and torch.signbit(y)
