"""Splitting a program changes nothing: derived values and body give what the whole gave."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snncompile.ir.hoist import Split, hoist, misplaced, sink
from snncompile.ir.interp import Interpreter
from snncompile.ir.nodes.spiking import spike
from snncompile.ir.ops import OPS
from snncompile.ir.program import Op, Program, dce
from snncompile.ir.trace import trace, trace_reverse
from snncompile.ir.verify_program import verify_program

CPU = torch.device("cpu")
PARAMS = ("a", "b")
INPUTS = ("v", "x", *PARAMS)


@st.composite
def programs(draw, grads: bool = False) -> Program:
    """Random programs over a state, an input and two parameters."""
    inputs = (*INPUTS, "grad_v") if grads else INPUTS
    floats, bools = list(inputs), [True, False]
    ops = []
    kinds = ["add", "sub", "mul", "div", "min", "max", "neg", "abs", "lt", "ge", "and", "not", "where", "float"]
    for i in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from(kinds))
        spec = OPS[kind]
        constants = st.sampled_from([0.5, -1.0, 2.0, 0.0])
        args = tuple(
            draw(st.one_of(st.sampled_from(floats), constants)) if t == "f32" else draw(st.sampled_from(bools))
            for t in spec.args
        )
        ops.append(Op(f"n{i}", kind, args))
        (floats if spec.result == "f32" else bools).append(f"n{i}")
    if not grads:
        return Program(inputs, tuple(ops), tuple((name, draw(st.sampled_from(floats))) for name in ("v", "y")))
    outputs = []
    for name in INPUTS:  # a gradient is linear in the gradient that comes in
        ops.append(Op(f"g_{name}", "mul", (draw(st.sampled_from(floats)), "grad_v")))
        last = f"g_{name}"
        for k, factor in enumerate(draw(st.lists(st.sampled_from(["a", "b", 0.5, -2.0, None]), max_size=4))):
            kind = draw(st.sampled_from(["mul", "div"]))
            args = (last,) if factor is None else (factor, last) if k % 2 and kind == "mul" else (last, factor)
            last = f"g_{name}_{k}"
            ops.append(Op(last, "neg" if factor is None else kind, args))
        outputs.append((f"grad_{name}", last))
    return Program(inputs, tuple(ops), tuple(outputs))


def values(seed: int, steps: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(4, generator=generator) + 0.25 for n in (*INPUTS, "grad_v")}


def derived(split: Split, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**given, **Interpreter(split.derived).named(given, CPU)}


@given(programs(), st.integers(0, 100))
def test_hoist_changes_nothing(program: Program, seed: int) -> None:
    verify_program(program)
    split = hoist(program, PARAMS)
    verify_program(split.derived)
    verify_program(split.body)
    assert set(split.derived.inputs) <= set(PARAMS)
    given_ = values(seed)
    want = Interpreter(program).named(given_, CPU)
    got = Interpreter(split.body).named(derived(split, given_), CPU)
    for name, tensor in want.items():
        assert torch.equal(tensor.nan_to_num(7.0), got[name].nan_to_num(7.0)), name


@given(programs())
def test_hoist_leaves_nothing_behind(program: Program) -> None:
    """What parameters alone decide is not computed at every step, but for comparisons."""
    split = hoist(dce(program), PARAMS)
    fixed = set(split.coefs)
    for op in split.body.ops:
        names = [a for a in op.args if isinstance(a, str)]
        if names and all(n in fixed for n in names):
            assert OPS[op.op].result == "bool"


@given(programs(grads=True), st.integers(0, 100), st.integers(1, 4))
def test_sink_changes_nothing(program: Program, seed: int, steps: int) -> None:
    """The sum over time of each parameter's gradient, with factors taken out of the sum."""
    split = hoist(program, PARAMS)
    sunk = sink(split.body, PARAMS, split.coefs)
    verify_program(sunk.body)
    verify_program(sunk.epilogue)
    first = values(seed)
    fixed = {p: first[p] for p in PARAMS}
    whole = {f"grad_{p}": torch.zeros(4, dtype=torch.float64) for p in PARAMS}
    sums = {acc: torch.zeros(4, dtype=torch.float64) for acc in sunk.accumulators}
    for t in range(steps):
        now = {n: x.double() for n, x in ({**values(seed + 1000 * t), **fixed}).items()}
        want = _double(program, now)
        got = _double(sunk.body, {**now, **_double(split.derived, now)})
        for name in ("grad_v", "grad_x"):
            assert torch.allclose(want[name], got[name], equal_nan=True)
        for name in whole:
            whole[name] += want[name]
        for acc in sums:
            sums[acc] += got[acc]
    doubled = {p: x.double() for p, x in fixed.items()}
    grads = _double(sunk.epilogue, {**doubled, **_double(split.derived, doubled), **sums})
    for name, total in whole.items():
        finite = total.isfinite() & grads[name].isfinite()
        assert torch.allclose(total[finite], grads[name][finite], rtol=1e-9, atol=1e-9)


def _double(program: Program, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The program in float64, so that an order of summation does not show."""
    env: dict = dict(given)

    def value(arg):
        if isinstance(arg, str):
            return env[arg]
        return torch.tensor(arg) if isinstance(arg, bool) else torch.tensor(arg, dtype=torch.float64)

    for op in program.ops:
        args = [value(a) for a in op.args]
        env[op.name] = args[0].double() if op.op == "float" else OPS[op.op].host(*args)
    return {name: value(arg).expand(4) for name, arg in program.outputs}


def lif(v, x, tau, threshold):
    v = v * torch.exp(-0.001 / tau) + x
    s = spike(v, threshold)
    return {"v": v - s * threshold, "spikes": s}


def test_what_a_neuron_hoists() -> None:
    program = trace(lif, ("v", "x", "tau", "threshold"), what="lif")
    split = hoist(program, ("tau", "threshold"))
    assert "exp" in {op.op for op in split.derived.ops}
    assert "exp" not in {op.op for op in split.body.ops}
    assert "tau" not in split.coefs and "threshold" in split.coefs


def test_what_a_neuron_sinks() -> None:
    """The derivative of exp(-dt/tau) does not depend on time: one product at the end, not one a step."""
    names, params = ("v", "x", "tau", "threshold"), ("tau", "threshold")
    split = hoist(trace_reverse(lif, names, ("v", "spikes"), what="lif"), params)
    sunk = sink(split.body, params, split.coefs)
    assert len(sunk.accumulators) == 2
    assert set(sunk.epilogue.output_names) == {"grad_tau", "grad_threshold"}
    assert len(sunk.body.ops) < len(split.body.ops)


def test_a_gradient_needed_twice_is_summed_once() -> None:
    program = Program((*INPUTS, "grad_v"), (Op("g", "mul", ("grad_v", "x")), Op("h", "mul", ("g", "b"))),
                      (("grad_v", "grad_v"), ("grad_x", "g"), ("grad_a", "g"), ("grad_b", "h")))  # fmt: skip
    sunk = sink(program, PARAMS, PARAMS)
    assert sunk.accumulators == ("acc_0",)
    assert sunk.epilogue.outputs[0] == ("grad_a", "acc_0")


@pytest.mark.parametrize("name", ["acc_0", "e0", "e1"])
def test_names_of_a_user_stay_apart_from_ours(name: str) -> None:
    def step(a, v, x):
        return {"v": v * torch.exp(a * -0.5) * a + x}

    inputs = ("v", "x", name)
    swapped = partial(lambda v, x, a: step(a, v, x))
    split = hoist(trace_reverse(swapped, inputs, ("v",), what="step"), (name,))
    sunk = sink(split.body, (name,), split.coefs)
    verify_program(sunk.body)
    verify_program(sunk.epilogue)


def test_misplaced() -> None:
    log = Op("n", "log", ("a",))
    assert misplaced(Program(INPUTS, (log,), (("y", "n"),)), PARAMS) is None
    for arg in ("v", 2.0):
        bad = Op("n", "log", (arg,))
        assert misplaced(Program(INPUTS, (bad,), (("y", "n"),)), PARAMS) is bad
    assert not partial(misplaced, params=PARAMS)(Program(INPUTS, (), ()))
