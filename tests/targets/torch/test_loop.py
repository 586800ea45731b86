"""The reference loop against its programs, interpreted one step after the other with nothing moved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import snncompile as snn
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.interp import Interpreter
from snncompile.targets.scan import BackwardCall, ForwardCall, Scan, make_scan
from snncompile.targets.torch import loop
from snncompile.targets.torch.loop import LoopTarget

CPU = torch.device("cpu")


@snn.synapse(states={"a": 0.5, "b": -1.0}, outputs={"b": "current"})
def Register(a, b, x):
    """Hands its input on, two steps late: no state is made inside the step."""
    return {"a": x, "b": a}


@snn.neuron(states={"v": 0.0, "last": 3.0}, outputs={"spikes": 1, "level": "current", "early": "current"})
def Mixed(v, last, x, y, *, tau=0.02, gain=2.0, dt):
    """Work before, inside and after the loop; a state that is a constant, outputs that are parameters or inputs."""
    drive = torch.sigmoid(x * gain) + y * y
    v = v * torch.exp(-dt / tau) + drive
    spikes = snn.spike(v, 1.0)
    v = torch.where(spikes > 0, 0.0, v)
    return {"v": v, "last": torch.zeros_like(v) + 2.0, "spikes": spikes, "level": v * v + last, "early": drive}


@snn.synapse(outputs={"current": "current"})
def Stateless(x, *, gain=3.0):
    """No state at all."""
    return {"current": x * gain}


@snn.synapse(outputs={"current": "current", "same": "current"})
def Through(x, y):
    """An output that is an input, and gradients that are gradients."""
    return {"current": x + y, "same": x}


NODES = [Register(), Mixed(), Stateless(), Through(), snn.LIF(), snn.ALIF(refractory=0.002), snn.DoubleExpCurrent()]


def scan_of(node: object) -> tuple[Scan, Elementwise]:
    @snn.model
    def only(x=snn.Current(3), y=snn.Current(3)):
        out = node(x) if len(type(node).inputs) == 1 else node(x, y)
        return out if len(type(node).inputs) == 2 else (out, y >> snn.LI(name="other"))

    ((name, op),) = [(n, op) for n, op in only.build().of_type(Elementwise) if n != "other"]
    return make_scan(name, op), op


def coefficients(scan: Scan, op: Elementwise, names: tuple[str, ...], program: object) -> tuple[Tensor, ...]:
    values = {role: torch.as_tensor(p.init.value_or_constant()).expand(3) for role, p in op.params.items()}
    values.update(Interpreter(program, host=True).named(values, CPU))
    return tuple(values[n].contiguous() for n in names)


def step_by_step(scan: Scan, call: ForwardCall) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Results of each step, and states before it."""
    program, states = Interpreter(scan.forward), dict(zip(scan.states, call.states, strict=True))
    results, before = [], []
    for t in range(call.shape[0]):
        before.append(states)
        values = {**states, **{n: x[t] for n, x in zip(scan.inputs, call.inputs, strict=True)}}
        values.update(zip(scan.coefs, call.coefs, strict=True))
        results.append({n: v.expand(call.shape[1:]) for n, v in program.named(values, CPU).items()})
        states = {n: results[-1][n] for n in scan.states}
    return results, before


def back_by_step(scan: Scan, call: BackwardCall, before: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    program, zero = Interpreter(scan.reverse), torch.zeros(call.shape[1:])
    carry = {n: zero if g is None else g for n, g in zip(scan.states, call.grad_finals, strict=True)}
    totals = dict.fromkeys(scan.accumulators, zero)
    courses: dict[str, list[Tensor]] = {n: [] for n in scan.inputs}
    for t in reversed(range(call.shape[0])):
        values = {**before[t], **{n: x[t] for n, x in zip(scan.inputs, call.inputs, strict=True)}}
        values.update(zip(scan.reverse_coefs, call.coefs, strict=True))
        for name in scan.results:
            values[f"grad_{name}"] = carry.get(name, zero) + (call.grads[name][t] if name in call.grads else zero)
        grads = {n: v.expand(call.shape[1:]) for n, v in program.named(values, CPU).items()}
        carry = {n: grads[f"grad_{n}"] for n in scan.states}
        totals = {n: total + grads[n] for n, total in totals.items()}
        for name, course in courses.items():
            course.append(grads[f"grad_{name}"])
    return {**carry, **totals, **{f"in:{n}": torch.stack(c[::-1]) for n, c in courses.items()}}


@pytest.mark.parametrize("checkpoint", [1, 3])
@pytest.mark.parametrize("piece", [1, 40, 10**6])
@pytest.mark.parametrize("node", NODES, ids=lambda node: type(node).__name__)
def test_same_bits_as_step_by_step(node, piece, checkpoint, monkeypatch):
    monkeypatch.setattr(loop, "_PIECE", piece)
    torch.manual_seed(0)
    scan, op = scan_of(node)
    shape = (11, 2, 3)
    inputs = tuple(torch.randn(shape) for _ in scan.inputs)
    states = tuple(torch.full(shape[1:], s.init) for s in op.states)
    coefs = coefficients(scan, op, scan.coefs, scan.derived)
    call = ForwardCall(inputs, coefs, states, shape, scan.results, scan.results[-1:], checkpoint)
    target = LoopTarget()
    found = target.forward(scan, call)
    results, before = step_by_step(scan, call)
    for name in scan.results:
        assert torch.equal(found.stored[name], torch.stack([r[name] for r in results])), name
    total = torch.zeros(shape[1:])
    for r in results:
        total = total + r[scan.results[-1]]
    assert torch.equal(found.sums[scan.results[-1]], total)
    for name, final in zip(scan.states, found.finals, strict=True):
        assert torch.equal(final, results[-1][name])
    back = BackwardCall(
        inputs,
        coefficients(scan, op, scan.reverse_coefs, scan.reverse_derived),
        coefs,
        found.saved,
        shape,
        checkpoint,
        {name: torch.randn(shape) for name in scan.results},
        tuple(torch.randn(shape[1:]) for _ in states),
        tuple(True for _ in inputs),
        True,
    )
    expected = back_by_step(scan, back, before)
    grads = target.backward(scan, back)
    for name, grad in zip(scan.inputs, grads.inputs, strict=True):
        assert torch.equal(grad, expected[f"in:{name}"]), name
    for name, grad in zip(scan.states, grads.states, strict=True):
        assert torch.equal(grad, expected[name]), name
    for name in scan.accumulators:
        assert torch.equal(grads.accumulators[name], expected[name]), name


@pytest.mark.parametrize("node", NODES, ids=lambda node: type(node).__name__)
def test_results_are_nobody_elses(node):
    """Writing into what a scan gives changes neither its inputs nor constants shared between runs."""
    scan, op = scan_of(node)
    shape = (1, 1, 3)
    inputs = tuple(torch.ones(shape) for _ in scan.inputs)
    states = tuple(torch.full(shape[1:], s.init) for s in op.states)
    call = ForwardCall(inputs, coefficients(scan, op, scan.coefs, scan.derived), states, shape, scan.results)
    target = LoopTarget()
    first = target.forward(scan, call)
    kept = {name: course.clone() for name, course in first.stored.items()}
    for course in (*first.stored.values(), *first.finals):
        course.add_(1.0)
    assert all(torch.equal(course, kept[n]) for n, course in target.forward(scan, call).stored.items())
    assert all(torch.equal(x, torch.ones(shape)) for x in inputs)


def test_no_steps():
    scan, op = scan_of(snn.LIF())
    call = ForwardCall(
        (torch.zeros(0, 2, 3),), coefficients(scan, op, scan.coefs, scan.derived), (torch.ones(2, 3),), (0, 2, 3),
        scan.results, ("spikes",), 1,
    )  # fmt: skip
    found = LoopTarget().forward(scan, call)
    assert found.stored["spikes"].shape == (0, 2, 3) and torch.equal(found.finals[0], torch.ones(2, 3))
    assert found.saved[0].shape == (0, 2, 3) and torch.equal(found.sums["spikes"], torch.zeros(2, 3))
