"""Runs a node in two ways: its programs, operation by operation, and its own step function in an eager torch loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.nodes import ElementwiseNode
from snncompile.ir.ops import OPS
from snncompile.ir.program import Program
from snncompile.ir.types import SignalType
from snncompile.targets.scan import Scan, make_scan

DT = 1e-3
RANGES = {
    "taus": (2e-3, 40e-3), "thresholds": (0.3, 1.5), "biases": (-0.05, 0.15), "leaks": (-0.3, 0.3),
    "betas": (0.0, 2.0), "charges": (0.5, 3.0), "resets": (-0.5, 0.2), "scales": (-2.0, 2.0),
    "parameters": (0.5, 1.5),
}  # fmt: skip
IZHIKEVICH = {"a": (0.02, 0.1), "b": (0.2, 0.25), "c": (-65.0, -50.0), "d": (2.0, 8.0)}


@dataclass
class Case:
    """A node with values for everything it reads; tensors are (N,), inputs (T, B, N), states (B, N)."""

    node: ElementwiseNode
    op: Elementwise
    params: dict[str, Tensor]
    inputs: dict[str, Tensor]
    states: dict[str, Tensor]


@dataclass
class Run:
    """Results by name, (T, B, N), and gradients of parameters, inputs and initial states."""

    results: dict[str, Tensor]
    grads: dict[str, Tensor]


def lower(node: ElementwiseNode, shape: tuple[int, ...] = (4,), kind: str = "current", dt: float = DT) -> Elementwise:
    given = SignalType(kind, shape, 1 if kind == "spikes" else None)
    return node.lower("node", dict.fromkeys(node.inputs, given), dt, None)


def random_case(node: ElementwiseNode, seed: int, steps: int = 12, batch: int = 2, n: int = 5) -> Case:
    """Random parameters, inputs and initial states for ``node``."""
    g = torch.Generator().manual_seed(seed)
    op = lower(node, (n,))

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=g)

    params = {}
    for role, p in op.params.items():
        low, high = IZHIKEVICH[role] if p.family == "izhikevich" else RANGES[p.family]
        params[role] = uniform(low, high, n)
    for low_role, high_role in node.ordered:
        params[high_role] = params[low_role] + uniform(1e-3, 10e-3, n)
    high = 40.0 if op.kind == "Izhikevich" else 2.0
    inputs = {port: uniform(-0.3 * high, high, steps, batch, n) for port in node.inputs}
    states = {s.local: torch.full((batch, n), s.init) for s in op.states}
    for name, value in states.items():
        if name != "refractory":
            value.add_(uniform(-0.1, 0.1, batch, n))
    return Case(node, op, params, inputs, states)


def random_weights(case: Case, seed: int) -> dict[str, Tensor]:
    """Gradients of the loss with respect to each result's course."""
    g = torch.Generator().manual_seed(seed + 1)
    shape = next(iter(case.inputs.values())).shape
    return {name: torch.randn(shape, generator=g) for name in case.op.results}


# -- the programs ------------------------------------------------------------------------------------------------------


def evaluate(program: Program, values: Mapping[str, Tensor], *, host: bool = False) -> dict[str, Tensor]:
    """Outputs of ``program``, one operation after the other."""
    env = {name: values[name] for name in program.inputs}

    def operand(arg: str | float | bool) -> Tensor:
        return env[arg] if isinstance(arg, str) else torch.tensor(arg)

    for op in program.ops:
        spec = OPS[op.op]
        env[op.name] = (spec.host if host else spec.step)(*map(operand, op.args))
    return {name: operand(arg) for name, arg in program.outputs}


def run_programs(case: Case, weights: Mapping[str, Tensor]) -> Run:
    """Forward and reverse scan, as a target does it."""
    scan = make_scan("node", case.op)
    steps = len(next(iter(case.inputs.values())))
    coefs = {**case.params, **evaluate(scan.derived, case.params, host=True)}
    back = {**case.params, **evaluate(scan.reverse_derived, case.params, host=True)}
    state, saved, results = case.states, [], []
    for t in range(steps):
        saved.append(state)
        results.append(evaluate(scan.forward, {**coefs, **state, **_at(case.inputs, t)}))
        state = {name: results[-1][name] for name in scan.states}
    grads = _reverse(scan, case, weights, back, saved)
    like = next(iter(case.inputs.values()))[0]
    return Run({n: torch.stack([r[n].expand_as(like) for r in results]) for n in scan.results}, grads)


def _reverse(scan: Scan, case: Case, weights: Mapping, back: Mapping, saved: list) -> dict[str, Tensor]:
    like = next(iter(case.inputs.values()))[0]
    carried = {name: torch.zeros_like(like) for name in scan.states}
    sums = {name: torch.zeros_like(like) for name in scan.accumulators}
    inputs = {name: torch.zeros_like(x) for name, x in case.inputs.items()}
    for t in reversed(range(len(saved))):
        incoming = {f"grad_{n}": weights[n][t] + carried.get(n, 0.0) for n in scan.results}
        out = evaluate(scan.reverse, {**back, **saved[t], **_at(case.inputs, t), **incoming})
        carried = {n: out[f"grad_{n}"].expand_as(like) for n in scan.states}
        for name in scan.accumulators:
            sums[name] = sums[name] + out[name]
        for name in inputs:
            inputs[name][t] = out[f"grad_{name}"]
    ends = evaluate(scan.epilogue, {**back, **sums}, host=True)
    params = {n: ends[f"grad_{n}"].expand_as(like).sum(0) for n in scan.params}
    return {**params, **inputs, **{f"initial {n}": g for n, g in carried.items()}}


def _at(inputs: Mapping[str, Tensor], t: int) -> dict[str, Tensor]:
    return {name: x[t] for name, x in inputs.items()}


# -- the step function -------------------------------------------------------------------------------------------------


def run_eager(case: Case, weights: Mapping[str, Tensor], dt: float = DT) -> Run:
    """The node's own step in a torch loop, differentiated by autograd."""
    groups = (case.params, case.inputs, case.states)
    params, inputs, states = ({n: x.clone().requires_grad_() for n, x in group.items()} for group in groups)
    state, results = dict(states), []
    for t in range(len(next(iter(inputs.values())))):
        x = SimpleNamespace(**{n: v[t] for n, v in inputs.items()})
        out = case.node.step(SimpleNamespace(**state), x, SimpleNamespace(**params), dt)
        results.append(out)
        state = {name: out[name] for name in state}
    stacked = {n: torch.stack([r[n] for r in results]) for n in case.op.results}
    loss = sum((weights[n] * stacked[n]).sum() for n in stacked if stacked[n].requires_grad)
    leaves = {**params, **inputs, **{f"initial {n}": s for n, s in states.items()}}
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    zeros = {n: torch.zeros_like(x) for n, x in leaves.items()}
    found = {n: zeros[n] if g is None else g for n, g in zip(leaves, grads, strict=True)}
    return Run({n: s.detach() for n, s in stacked.items()}, found)


def assert_same_bits(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    for name in a:
        same = a[name].view(torch.int32) == b[name].view(torch.int32)
        assert bool(same.all()), f"{name}: {int((~same).sum())} values differ, first {a[name][~same][:3]}"


def assert_close_norms(a: Mapping[str, Tensor], b: Mapping[str, Tensor], tolerance: float = 1e-5) -> None:
    """Each tensor within ``tolerance`` of the other, relative to its norm."""
    assert a.keys() == b.keys()
    for name in a:
        error = float((a[name].double() - b[name].double()).norm())
        size = float(b[name].double().norm())
        assert error <= tolerance * size + 1e-12, f"{name}: error {error:g} for a norm of {size:g}"
