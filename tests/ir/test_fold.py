"""Constants fold to the bit."""

from __future__ import annotations

import struct

from snncompile.ir.fold import fold_constants
from snncompile.ir.program import Op, Program, dce


def folded(*ops: Op, out: str) -> Program:
    return dce(fold_constants(Program(("x",), ops, (("y", out),))))


def test_constants_become_one():
    program = folded(
        Op("a", "sub", (1.0, 0.5)), Op("b", "ge", (1.0, "a")), Op("c", "where", ("b", "x", 0.0)), out="c"
    )
    assert program.ops == () and program.outputs == (("y", "x"),)


def test_a_constant_is_rounded_to_float32():
    program = folded(Op("a", "div", (1.0, 3.0)), Op("b", "mul", ("x", "a")), out="b")
    third = program.ops[0].args[1]
    assert isinstance(third, float) and third == struct.unpack("f", struct.pack("f", 1 / 3))[0]


def test_a_product_with_one_is_its_other_factor():
    program = folded(Op("a", "mul", (1.0, "x")), Op("b", "div", ("a", 1.0)), Op("c", "mul", ("b", 1.0)), out="c")
    assert program.ops == () and program.outputs == (("y", "x"),)


def test_a_decided_choice():
    ops = [Op("n", "ne", ("x", "x"))]
    ops += [Op("a", "and", (True, "n")), Op("b", "or", ("a", False)), Op("c", "and", ("b", False))]
    program = folded(*ops, Op("d", "where", ("c", 1.0, "x")), out="d")
    assert program.outputs == (("y", "x"),)
    program = folded(*ops[:3], Op("d", "float", ("b",)), out="d")
    assert [op.op for op in program.ops] == ["ne", "float"]


def test_a_sum_with_zero_stays_since_it_changes_the_sign_of_zero():
    assert folded(Op("a", "add", ("x", 0.0)), out="a").ops
