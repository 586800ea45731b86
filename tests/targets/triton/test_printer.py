"""Programs as device functions: names, constants, and what the chips' own functions get wrong."""

import pytest
import torch

from snncompile.ir.errors import UnsupportedError
from snncompile.ir.program import Op, Program
from snncompile.targets.printing import Names, comment, fold
from snncompile.targets.triton.printer import literal, print_function

from ..scan_loop import evaluate, same_bits
from ..scans import ALL


def test_text():
    program = Program(
        ("v", "x", "decay"),
        (Op("scaled", "mul", ("v", "decay"), "model.py:3"), Op("v_1", "add", ("scaled", "x"), "model.py:4")),
        (("v", "v_1"), ("seven", 7.0)),
    )
    function = print_function("lif_step", program, "One time step.", scalars=["decay"])
    assert function.text == (
        "@triton.jit\n"
        "def lif_step(v, x, decay):\n"
        '    """One time step."""\n'
        "    # model.py:3\n"
        "    scaled = v * decay\n"
        "    # model.py:4\n"
        "    v_1 = scaled + x\n"
        "    return (v_1,)\n"
    )
    assert function.args == ("v", "x", "decay")
    assert function.results == ("v",)
    assert function.constants == {"seven": 7.0}


def test_names_that_mean_something_else():
    program = Program(
        ("tl", "lambda", "print", "snn_exp"),
        (Op("float", "exp", ("tl",)), Op("triton", "add", ("lambda", "print")), Op("f", "add", ("float", "snn_exp"))),
        (("a", "f"), ("b", "triton")),
    )
    text = print_function("f", program, "A step.").text
    assert "def f(tl_, lambda_, print_, snn_exp_):" in text
    assert "float_ = snn_exp(tl_)" in text
    assert "triton_ = lambda_ + print_" in text
    assert "return (f_, triton_)" in text


def test_names_are_unique():
    names = Names(["a"])
    assert [names.new("a"), names.new("a"), names.new("b"), names.new("b")] == ["a_", "a_3", "b", "b_"]


def test_comment_cannot_end_or_hide():
    assert comment("a\nimport os\r# \u202eb*/ \\") == "a?import os?# ?b* / /"


def test_literals_are_exact():
    for value in (0.1, 0.0, 1e-45, 3.4028234663852886e38, -1e-40, 16777217.0):
        rounded = torch.tensor(value, dtype=torch.float32).item()
        text = literal(rounded)
        if text.startswith("tl.full"):
            text = text.split(",")[1]
        assert float(text) == rounded
        assert str(float(text)) == str(rounded)
    assert "-2147483648" in literal(-0.0)  # by its bits
    assert literal(float("inf")) == 'float("inf")'
    assert literal(float("-inf")) == 'float("-inf")'
    assert literal(float("nan")) == 'float("nan")'


def test_fold_rounds_as_a_step_does():
    program = Program(("x",), (Op("a", "div", (1.0, 3.0)), Op("b", "mul", ("x", "a"))), (("y", "b"),))
    folded = fold(program)
    assert folded.ops == (Op("b", "mul", ("x", torch.tensor(1.0 / 3.0).item())),)


def test_host_only_operations_are_refused():
    program = Program(("x",), (Op("y", "log", ("x",), "model.py:9"),), (("y", "y"),))
    with pytest.raises(UnsupportedError, match=r"log \(model.py:9\) may be applied to parameters only"):
        print_function("f", program, "A step.")


SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 1e-40, -1e-40, 0.5, -0.5, 1.0, -1.0, 1.5, 2.0**23 + 1, -(2.0**23) - 1, 2.0**31]
SPECIAL += [3e38, -3e38, float("inf"), float("-inf"), float("nan"), -103.5, -90.0, 88.7, 89.5, 1e-3, 0.624, 0.626]


@pytest.mark.parametrize("op", ["floor", "ceil", "abs", "neg", "exp", "sigmoid", "tanh", "sqrt", "min", "max", "div"])
def test_special_values(op, run_program):
    x = torch.tensor(SPECIAL)
    if op in ("min", "max", "div"):
        a, b = (t.flatten().contiguous() for t in torch.meshgrid(x, x, indexing="ij"))
        if op != "div":  # which zero the smaller of two zeros is, IEEE leaves open
            keep = (a != 0) | (b != 0)
            a, b = a[keep], b[keep]
        program = Program(("a", "b"), (Op("y", op, ("a", "b")),), (("y", "y"),))
        values = {"a": a, "b": b}
    else:
        program = Program(("a",), (Op("y", op, ("a",)),), (("y", "y"),))
        values = {"a": x}
    assert same_bits(run_program(program, values)["y"], evaluate(program, values)["y"])


@pytest.mark.parametrize("constant", [0.0, -0.0, 1e-40, -1e-40, 0.1, float("inf"), float("nan")])
def test_constant_operands(constant, run_program):
    constant = torch.tensor(constant, dtype=torch.float32).item()
    ops = [Op(f"y{k}", op, ("a", constant)) for k, op in enumerate(("add", "sub", "mul", "div", "min", "max"))]
    ops += [Op("c", "lt", ("a", constant)), Op("y6", "where", ("c", "a", constant)), Op("y7", "sub", (constant, "a"))]
    program = Program(("a",), tuple(ops), tuple((f"y{k}", f"y{k}") for k in range(8)))
    values = {"a": torch.tensor([x for x in SPECIAL if x != 0.0])}
    got, expected = run_program(program, values), evaluate(program, values)
    for name in expected:
        assert same_bits(got[name], expected[name]), name


@pytest.mark.parametrize("kind", ALL)
def test_generated_text_is_the_same_every_time(kind):
    from snncompile.targets.triton.aot import scan_kernels

    first, second = scan_kernels(ALL[kind]()), scan_kernels(ALL[kind]())
    assert {role: k.text for role, k in first.items()} == {role: k.text for role, k in second.items()}
