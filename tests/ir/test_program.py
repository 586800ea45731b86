"""Rewrites of programs: dead operations, common subexpressions, renaming."""

from __future__ import annotations

import math

from snncompile.ir.program import Op, Program, cse, dce, simplify, substitute


def test_dce_keeps_what_an_output_needs() -> None:
    ops = (Op("a", "neg", ("x",)), Op("b", "abs", ("a",)), Op("c", "abs", ("x",)))
    assert dce(Program(("x",), ops, (("y", "b"),))).ops == ops[:2]
    assert dce(Program(("x",), ops, (("y", "x"),))).ops == ()


def test_cse_keeps_constants_apart_that_differ_in_bits() -> None:
    ops = tuple(Op(f"n{i}", "add", ("x", c)) for i, c in enumerate((0.0, -0.0, 0.0, math.nan, math.nan)))
    program = cse(Program(("x",), ops, tuple((f"y{i}", f"n{i}") for i in range(5))))
    assert [op.name for op in program.ops] == ["n0", "n1", "n3"]
    assert [arg for _, arg in program.outputs] == ["n0", "n1", "n0", "n3", "n3"]


def test_cse_does_not_take_true_for_one() -> None:
    ops = (Op("a", "and", (True, True)), Op("b", "add", (1.0, 1.0)), Op("c", "float", ("a",)))
    assert len(cse(Program((), ops, (("y", "b"), ("z", "c")))).ops) == 3


def test_cse_follows_chains() -> None:
    ops = (Op("a", "neg", ("x",)), Op("b", "neg", ("x",)), Op("c", "abs", ("a",)), Op("d", "abs", ("b",)))
    assert [op.name for op in simplify(Program(("x",), ops, (("y", "c"), ("z", "d")))).ops] == ["a", "c"]


def test_substitute() -> None:
    program = Program(("v", "x"), (Op("a", "mul", ("v", "x")),), (("v", "a"), ("y", "x")))
    done = substitute(program, {"x": 2.0}, lambda n: f"lif_{n}")
    assert done == Program(("lif_v",), (Op("lif_a", "mul", ("lif_v", 2.0)),), (("v", "lif_a"), ("y", 2.0)))


def test_renamed_keeps_output_names() -> None:
    program = Program(("v",), (Op("a", "neg", ("v",)),), (("v", "a"),)).renamed(str.upper)
    assert program == Program(("V",), (Op("A", "neg", ("V",)),), (("v", "A"),))


def test_select() -> None:
    program = Program(("x",), (Op("a", "neg", ("x",)), Op("b", "abs", ("x",))), (("y", "a"), ("z", "b")))
    assert program.select(["z"]) == Program(("x",), (Op("b", "abs", ("x",)),), (("z", "b"),))
    assert program.output("y") == "a" and program.output_names == ("y", "z")


