"""The fused recurrent step against a plain loop: forward bit for bit where the product is exact, gradients to 1e-5."""

import functools

import pytest
import torch

from snncompile.targets.recurrent_call import RecurrentBackwardCall, RecurrentForwardCall, weight_gradients
from snncompile.targets.triton.recurrent import RecurrentSteps
from snncompile.targets.triton.recurrent_kernel import RecurrentVariant, print_recurrent
from snncompile.targets.variant import Layout

from ..scan_loop import evaluate, same_bits
from ..scans import ALL

STEPS = RecurrentSteps(empty=lambda shape, **like: torch.full(shape, float("nan"), **like))


@functools.cache
def scan_of(kind):
    return ALL[kind]()


def loop_forward(scan, call):
    steps, batch, size = call.shape
    coefs = dict(zip(scan.coefs, call.coefs, strict=True))
    states, before = dict(zip(scan.states, call.states, strict=True)), call.start
    courses = {r: [] for r in scan.results}
    saved, products = [], []
    for t in range(steps):
        product = before @ call.weight.T
        if call.bias is not None:
            product = product + call.bias
        inputs = {
            x: product if x == call.port else c[t] for x, c in zip(scan.inputs, call.inputs, strict=True)
        }
        saved.append(states)
        products.append(product)
        results = {r: v.expand(batch, size) for r, v in evaluate(scan.forward, {**states, **inputs, **coefs}).items()}
        for r, course in courses.items():
            course.append(results[r])
        states = {s: results[s] for s in scan.states}
        before = results[call.source]
    return courses, states, saved, products


def loop_backward(scan, call):
    steps, batch, size = call.shape
    zero = torch.zeros(batch, size)
    coefs = dict(zip(scan.reverse_coefs, call.coefs, strict=True))
    carry = {s: zero if g is None else g for s, g in zip(scan.states, call.grad_finals, strict=True)}
    later = zero
    inputs = {x: [None] * steps for x in scan.inputs}
    sums = dict.fromkeys(scan.accumulators, zero)
    for t in reversed(range(steps)):
        grads = {f"grad_{r}": carry.get(r, zero) + (call.grads[r][t] if r in call.grads else 0) for r in scan.results}
        grads[f"grad_{call.source}"] = grads[f"grad_{call.source}"] + later
        values = {x: call.product[t] if x == call.port else c[t] for x, c in zip(scan.inputs, call.inputs, strict=True)}
        before = {s: saved[t] for s, saved in zip(scan.states, call.saved, strict=True)}
        made = evaluate(scan.reverse, {**values, **before, **coefs, **grads})
        carry = {s: made[f"grad_{s}"].expand(batch, size) for s in scan.states}
        for x, course in inputs.items():
            course[t] = made[f"grad_{x}"].expand(batch, size)
        later = inputs[call.port][t] @ call.weight
        sums = {a: total + made[a] for a, total in sums.items()}
    return inputs, carry, later, sums


def make_calls(kind, port, source, shape, bias=True, full=False, transposed=False, needs=True):
    scan = scan_of(kind)
    steps, batch, size = shape
    g = torch.Generator().manual_seed(steps + size)
    params = {p: torch.rand(size if full else (), generator=g) * 0.5 + 0.25 for p in scan.params}
    front = {**params, **evaluate(scan.derived, params)}
    back = {**params, **evaluate(scan.reverse_derived, params)}
    # whole multiples of 1/64, and spikes: every order of summation gives the same bits
    weight = torch.randint(-32, 48, (size, size), generator=g) / 64.0
    inputs = tuple(None if x == port else torch.rand(shape, generator=g) for x in scan.inputs)
    if transposed:
        weight = weight.T.contiguous().T
        inputs = tuple(x if x is None else x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs)
    start = (torch.rand((batch, size), generator=g) < 0.3).float()
    call = RecurrentForwardCall(
        port,
        source,
        weight,
        torch.randint(-8, 8, (size,), generator=g) / 64.0 if bias else None,
        start,
        inputs,
        tuple(front[c].contiguous() for c in scan.coefs),
        tuple(torch.rand((batch, size), generator=g) for _ in scan.states),
        shape,
        scan.results,
        train=True,
    )

    def backward_call(made, given):
        return RecurrentBackwardCall(
            port,
            source,
            weight,
            inputs,
            tuple(back[c].contiguous() for c in scan.reverse_coefs),
            made.saved,
            made.product,
            shape,
            {r: torch.randn(shape, generator=g) for r in given},
            tuple(torch.randn((batch, size), generator=g) if needs else None for _ in scan.states),
            tuple(needs for _ in scan.inputs),
            needs,
        )

    return scan, call, backward_call


def close(a, b):
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(b.abs().max())) if b.numel() else 0.0)


@pytest.mark.parametrize(
    ("kind", "port", "settings"),
    [
        ("lif", "x", {}),
        ("lif", "x", {"bias": False, "full": True}),
        ("chain", "inh", {"transposed": True}),
        ("chain", "exc", {"full": True, "needs": False}),
    ],
)
@pytest.mark.parametrize("shape", [(5, 3, 19), (1, 1, 1), (4, 17, 33), (0, 2, 4), (3, 0, 4)])
def test_matches_loop(kind, port, settings, shape):
    scan, call, backward_call = make_calls(kind, port, "spikes", shape, **settings)
    courses, states, saved, products = loop_forward(scan, call)
    made = STEPS.forward(scan, call)
    steps = shape[0]
    for r, course in courses.items():
        assert made.stored[r].shape == shape
        assert all(same_bits(made.stored[r][t], course[t]) for t in range(steps)), r
    for k, s in enumerate(scan.states):
        assert same_bits(made.finals[k], states[s])
        assert all(same_bits(made.saved[k][t], saved[t][s]) for t in range(steps))
    assert all(same_bits(made.product[t], products[t]) for t in range(steps))

    backward = backward_call(made, ("spikes", "v"))
    inputs, carry, start, sums = loop_backward(scan, backward)
    got = STEPS.backward(scan, backward)
    assert all(close(got.product[t], inputs[port][t]) for t in range(steps))
    assert close(got.start, start)
    for k, x in enumerate(scan.inputs):
        if x == port or not backward.need_inputs[k]:
            assert got.inputs[k] is None
        else:
            assert all(close(got.inputs[k][t], inputs[x][t]) for t in range(steps))
    for k, s in enumerate(scan.states):
        assert close(got.states[k], carry[s]), s
    for a, total in got.accumulators.items():
        assert close(total, sums[a]), a
    assert bool(got.accumulators) == (backward.need_accumulators and bool(scan.accumulators))


def test_weight_gradients():
    g = torch.Generator().manual_seed(0)
    product, course = torch.randn((4, 2, 3), generator=g), torch.randn((4, 2, 3), generator=g)
    start = torch.randn((2, 3), generator=g)
    weight, bias = weight_gradients(product, start, course)
    expected = sum(product[t].T @ (course[t - 1] if t else start) for t in range(4))
    assert torch.allclose(weight, expected, atol=1e-6)
    assert torch.allclose(bias, product.sum((0, 1)))
    assert weight_gradients(product[:0], start, course[:0])[0].shape == (3, 3)


def test_inference_keeps_nothing():
    scan, call, _ = make_calls("lif", "x", "spikes", (3, 2, 5))
    call = RecurrentForwardCall(**{**call.__dict__, "store": (), "train": False})
    made = STEPS.forward(scan, call)
    assert made.saved == ()
    assert made.product is None
    assert set(made.stored) == {"spikes"}


def test_compiles_for_every_chip():
    from snncompile.targets.triton.aot import compile_recurrent
    from snncompile.targets.triton.arch import ARCHS

    scan = scan_of("lif")
    one = Layout((True,), (True,) * len(scan.coefs))
    forward = print_recurrent(scan, RecurrentVariant(False, "x", "spikes", one, bias=True, train=True))
    one = Layout((True,), (True,) * len(scan.reverse_coefs))
    grads = (("spikes", True),)
    backward = print_recurrent(scan, RecurrentVariant(True, "x", "spikes", one, grads=grads, need_accumulators=True))
    for b in compile_recurrent({"forward": forward, "backward": backward}, list(ARCHS.values()), size=512):
        assert b.resources.spills == 0, f"{b.role} {b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared
