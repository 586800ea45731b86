"""Programs that draw random numbers against their own step functions, on the same numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from snncompile.ir import exact
from snncompile.ir.nodes import ALIF, LI, LIF, BernoulliEncoder, CubaLIF, ExpSyn, Node, PoissonEncoder
from snncompile.ir.nodes.sources import Bernoulli, Normal, Poisson
from snncompile.ir.params import Param
from snncompile.ir.random import Draw, draws_in, stream_of
from snncompile.ir.recording import active
from snncompile.ir.types import SignalType
from snncompile.targets.drawn import reading
from snncompile.targets.scan import make_scan

from .running import evaluate

DT, N = 1e-3, 40

NODES = {
    "exp_syn": ExpSyn(noise_std=Param(0.7, trainable=True)),
    "lif": LIF(threshold=0.4, noise_std=20.0, refractory=2e-3),
    "cuba": CubaLIF(threshold=0.4, noise_std=[20.0] * N),
    "alif": ALIF(threshold=0.4, noise_std=9.0),
    "li": LI(noise_std=3.0),
    "poisson encoder": PoissonEncoder(900.0, max=5),
    "bernoulli encoder": BernoulliEncoder(),
    "poisson": Poisson((N,), rate=700.0, max=3),
    "bernoulli": Bernoulli((N,), p=0.25),
    "normal": Normal((N,), mean=0.5, std=2.0),
}


class Given:
    """In place of a trace: hands out numbers, and computes what is one operation to a trace."""

    def __init__(self, numbers: list[Tensor]) -> None:
        self.numbers = iter(numbers)

    def uniform(self) -> Tensor:
        return next(self.numbers)

    def custom(self, op: str, x: Tensor, compute) -> Tensor:
        active.remove(self)  # a square root inside is no operation of this trace
        try:
            return exact.normal(x) if op == "normal" else compute(x)
        finally:
            active.append(self)


@pytest.mark.parametrize("name", NODES)
def test_program_is_the_step(name: str) -> None:
    node = NODES[name]
    inputs = {port: SignalType("current", (N,)) for port in node.inputs}
    op = node.lower("node", inputs, DT, None)
    scan = reading(make_scan("node", op))
    assert [d.stream for d in scan.draws] == []  # they are inputs now
    draws = draws_in(op.forward)
    assert draws == tuple(Draw(stream_of("node"), i) for i in range(len(draws))) and draws
    g = torch.Generator().manual_seed(5)
    numbers = [torch.randint(0, 2**24, (3, N), generator=g) * 2.0**-24 for _ in draws]
    x = {port: torch.rand(3, N, generator=g) for port in node.inputs}
    states = {s.local: torch.rand(3, N, generator=g) * 0.3 for s in op.states}
    params = {role: torch.as_tensor(p.init.value_or_constant()).expand(N) for role, p in op.params.items()}
    derived = evaluate(scan.derived, params, host=True)
    drawn = dict(zip(scan.inputs[len(op.inputs) :], numbers, strict=True))
    got = evaluate(scan.forward, {**params, **derived, **states, **x, **drawn})
    active.append(Given(numbers))
    try:
        want = node.step(SimpleNamespace(**states), SimpleNamespace(**x), SimpleNamespace(**params), DT)
    finally:
        active.pop()
    for result, value in want.items():
        assert torch.allclose(got[result].expand(3, N), value, rtol=1e-6, atol=1e-7), result


def test_what_is_drawn_has_no_gradient_and_the_deviation_has_one() -> None:
    op = LI(noise_std=Param(1.0, trainable=True)).lower("li", {"x": SignalType("current", (N,))}, DT, None)
    outputs = dict(op.reverse.outputs)
    assert isinstance(outputs["grad_noise_std"], str) and isinstance(NODES["li"], Node)
    assert any(o.op == "normal" for o in op.reverse.ops)  # drawn again
    quiet = PoissonEncoder(900.0).lower("p", {"x": SignalType("current", (N,))}, DT, None)
    assert dict(quiet.reverse.outputs) == {"grad_x": 0.0, "grad_max_rate": 0.0}
