"""How results of two ways to run a network are compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snncompile.network import Network


@dataclass
class Outcome:
    """Everything a run leaves."""

    values: dict[str, Tensor]
    gradients: dict[str, Tensor]


def outcome(net: Network, x: Tensor, record: list[str], executor=None) -> Outcome:
    """Outputs, records and final state of ``net`` on ``x``, and the gradients of a loss over all of them.

    Args:
        net: the network.
        x: its input, ``(batch, time, *features)``.
        record: what to record.
        executor: runs in place of the network's own, if given.
    """
    if executor is not None:
        net = _with_executor(net, executor)
    net.zero_grad(set_to_none=True)
    x = x.detach().clone().requires_grad_()
    out, state, courses = net.evolve(x, record=record)
    if not isinstance(out, dict):
        out = dict(enumerate(out)) if isinstance(out, tuple) else {"out": out}
    values = {**{f"out:{k}": v for k, v in out.items()}, **courses, **{f"state:{k}": v for k, v in state.items()}}
    loss = sum((v * weighting(v)).sum() for v in values.values())
    gradients: dict[str, Tensor] = {}
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in net.named_parameters()}
        gradients["input"] = x.grad
    return Outcome({k: v.detach() for k, v in values.items()}, gradients)


def run_pure(net: Network, x: Tensor, record: list[str], executor=None) -> Outcome:
    """As :func:`outcome`, without gradients: for networks that learn, too."""
    if executor is not None:
        net = _with_executor(net, executor)
    with torch.no_grad():
        out, state, courses = net.evolve(x, record=record)
    ends = {f"state:{k}": v for k, v in state.items()}
    return Outcome({**{f"out:{k}": v for k, v in out.items()}, **courses, **ends}, {})


def weighting(v: Tensor) -> Tensor:
    """Different weights for every element, the same in every run."""
    return torch.linspace(-1.0, 1.3, max(v.numel(), 1))[: v.numel()].reshape(v.shape).to(v.device)


def _with_executor(net: Network, executor) -> Network:
    import copy

    twin = copy.copy(net)
    twin.executor = lambda device, keep=frozenset(): executor  # type: ignore[method-assign]
    return twin


def assert_same_bits(a: Outcome, b: Outcome) -> None:
    """Every value equal to the last bit, the sign of zero aside."""
    assert a.values.keys() == b.values.keys()
    for name, value in a.values.items():
        assert value.shape == b.values[name].shape, name
        assert torch.equal(value, b.values[name]), f"{name}: {(value - b.values[name]).abs().max():g} apart"


def assert_close_gradients(a: Outcome, b: Outcome, tolerance: float = 1e-5) -> None:
    """Norm-relative difference of every gradient under ``tolerance``.

    The gradient of one number shared by all neurons is a sum that may cancel to almost nothing: it is held to the scale
    of the largest gradient in the network instead, times 1e-2.
    """
    assert a.gradients.keys() == b.gradients.keys()
    largest = max((float(g.norm()) for g in a.gradients.values()), default=0.0)
    for name, grad in a.gradients.items():
        assert grad.shape == b.gradients[name].shape, name
        scale = float(grad.norm())
        if grad.numel() == 1:
            scale = max(scale, 1e-2 * largest)
        gap = float((grad - b.gradients[name]).norm())
        assert gap <= tolerance * max(scale, 1e-6), f"{name}: {gap / max(scale, 1e-6):g}"
