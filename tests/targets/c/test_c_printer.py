"""Programs as C functions: names, constants, and every operation on awkward numbers."""

import ctypes
import itertools

import pytest
import torch

from snncompile.ir.errors import UnsupportedError
from snncompile.ir.ops import OPS
from snncompile.ir.program import Op, Program
from snncompile.targets.c.printer import literal, print_function, safe
from snncompile.targets.c.target import CTarget
from snncompile.targets.scan import ForwardCall, Scan

from ..scan_calls import SPECIAL
from ..scan_loop import evaluate, same_bits


def run(program, values):
    """The outputs of a program of inputs, as a stateless scan of one step."""
    none = Program((), (), ())
    names = program.output_names
    scan = Scan("probe", (), program.inputs, names, (), (), none, program, (), none, none, (), none)
    size = next(iter(values.values())).numel()
    inputs = tuple(values[n].reshape(1, 1, size) for n in program.inputs)
    got = CTarget().forward(scan, ForwardCall(inputs, (), (), (1, 1, size), names))
    return {n: torch.flatten(v) for n, v in got.stored.items()}


def test_text():
    program = Program(
        ("v", "x", "decay"),
        (Op("scaled", "mul", ("v", "decay"), "model.py:3"), Op("v_1", "add", ("scaled", "x"), "model.py:4")),
        (("v", "v_1"), ("seven", 7.0)),
    )
    assert print_function("lif_step", program, "One time step.").text == (
        "/* One time step. */\n"
        "SNN_INLINE void lif_step(float v, float x, float decay, float *v_out, float *seven_out)\n"
        "{\n"
        "    /* model.py:3 */\n"
        "    const float scaled = v * decay;\n"
        "    /* model.py:4 */\n"
        "    const float v_1 = scaled + x;\n"
        "    *v_out = v_1;\n"
        "    *seven_out = 7.0f;\n"
        "}\n"
    )


def test_names_that_mean_something_else():
    names = ("int", "NAN", "_x", "sqrtf", "snn_exp", "restrict", "j", "LANES", "lif", "M_PI", "errno")
    ops = [Op("double", "exp", ("int",)), Op("float", "sqrt", ("sqrtf",)), Op("T", "add", ("double", "float"))]
    ops += [Op(f"INFINITY{i}", "add", (n, "T")) for i, n in enumerate(names)]
    program = Program(names, tuple(ops), tuple((f"out{i}", f"INFINITY{i}") for i in range(len(names))))
    values = {n: torch.rand(9) for n in names}
    got, expected = run(program, values), evaluate(program, values)
    for name in got:
        assert same_bits(got[name], expected[name])


def test_comments_cannot_end_or_hide():
    assert safe("a*/ b??/\n") == "a* / b? ?/?"


def test_literals_are_exact():
    for value in (0.1, 0.0, -0.0, 1e-45, 3.4028234663852886e38, -1e-40, 16777217.0, 1 / 3):
        rounded = ctypes.c_float(value).value
        text = literal(rounded).strip("()")
        assert text.endswith("f")
        assert ctypes.c_float(float(text[:-1])).value.hex() == rounded.hex()
    assert [literal(float(v)) for v in ("inf", "-inf", "nan")] == ["INFINITY", "(-INFINITY)", "NAN"]
    assert [literal(v) for v in (True, False)] == ["1", "0"]


def test_host_only_operations_are_refused():
    program = Program(("x",), (Op("y", "log", ("x",), "model.py:9"),), (("y", "y"),))
    with pytest.raises(UnsupportedError, match=r"log \(model.py:9\) may be applied to parameters only"):
        print_function("f", program, "A step.")


def test_every_operation_on_awkward_numbers():
    g = torch.Generator().manual_seed(0)
    numbers = [*SPECIAL, *(torch.randn(40, generator=g) * 30.0).tolist(), 0.5, -0.5, 2.0**23 + 1, 88.7, -103.5, 1e30]
    pairs = torch.tensor(list(itertools.product(numbers, numbers)))
    values = {"a": pairs[:, 0].contiguous(), "b": pairs[:, 1].contiguous(), "n": pairs[:, 0].clamp(-126, 127).round()}
    ops, outputs = [], []
    for op, spec in OPS.items():
        if spec.host_only or spec.random or "bool" in spec.args:
            continue
        args = ("n",) if op == "exp2i" else ("a", "b")[: len(spec.args)]
        ops.append(Op(f"r_{op}", op, args))
        name = f"r_{op}"
        if spec.result == "bool":
            ops += [
                Op(f"n_{op}", "not", (name,)),
                Op(f"o_{op}", "or", (f"n_{op}", True)),
                Op(f"f_{op}", "float", (name,)),
            ]
            ops.append(Op(f"w_{op}", "where", (f"o_{op}", f"f_{op}", "a")))
            name = f"w_{op}"
        outputs.append((op, name))
    values["n"] = values["n"].nan_to_num(0.0)
    program = Program(("a", "b", "n"), tuple(ops), tuple(outputs))
    got, expected = run(program, values), evaluate(program, values)
    for op in got:
        a, b = got[op], expected[op]
        if op in ("min", "max"):  # torch itself returns either zero
            a, b = a + 0.0, b + 0.0
        assert same_bits(a, b), f"{op}: {[(x.tolist(), y.tolist()) for x, y in zip(a, b, strict=True) if x != y][:5]}"
