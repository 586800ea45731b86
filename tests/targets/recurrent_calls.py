"""Recurrent calls of many kinds, and the plain loop that every target's recurrent layers are held against."""

import functools

import torch

from snncompile.targets.recurrent_call import RecurrentBackwardCall, RecurrentForwardCall

from .scan_loop import evaluate, same_bits
from .scans import ALL

#: Scan, input that is the product, and settings of :func:`make_calls`.
KINDS = [
    ("lif", "x", {}),
    ("lif", "x", {"bias": False, "full": True}),
    ("chain", "inh", {"transposed": True}),
    ("chain", "exc", {"full": True, "needs": False}),
]
SHAPES = [(5, 3, 19), (1, 1, 1), (4, 17, 33), (0, 2, 4), (3, 0, 4)]


@functools.cache
def scan_of(kind):
    return ALL[kind]()


def loop_forward(scan, call):
    steps, batch, size = call.shape
    coefs = dict(zip(scan.coefs, call.coefs, strict=True))
    states, back = dict(zip(scan.states, call.states, strict=True)), list(call.start)
    courses = {r: [] for r in scan.results}
    saved, products = [], []
    for t in range(steps):
        product = back[t] @ call.weight.T
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
        back.append(results[call.source])
    return courses, states, saved, products


def loop_backward(scan, call):
    steps, batch, size = call.shape
    zero = torch.zeros(batch, size)
    coefs = dict(zip(scan.reverse_coefs, call.coefs, strict=True))
    carry = {s: zero if g is None else g for s, g in zip(scan.states, call.grad_finals, strict=True)}
    back = [zero] * (call.late + steps)
    inputs = {x: [None] * steps for x in scan.inputs}
    sums = dict.fromkeys(scan.accumulators, zero)
    for t in reversed(range(steps)):
        grads = {f"grad_{r}": carry.get(r, zero) + (call.grads[r][t] if r in call.grads else 0) for r in scan.results}
        grads[f"grad_{call.source}"] = grads[f"grad_{call.source}"] + back[call.late + t]
        values = {x: call.product[t] if x == call.port else c[t] for x, c in zip(scan.inputs, call.inputs, strict=True)}
        before = {s: saved[t] for s, saved in zip(scan.states, call.saved, strict=True)}
        made = evaluate(scan.reverse, {**values, **before, **coefs, **grads})
        carry = {s: made[f"grad_{s}"].expand(batch, size) for s in scan.states}
        for x, course in inputs.items():
            course[t] = made[f"grad_{x}"].expand(batch, size)
        back[t] = inputs[call.port][t] @ call.weight
        sums = {a: total + made[a] for a, total in sums.items()}
    return inputs, carry, torch.stack(back[: call.late]), sums


def make_calls(kind, port, source, shape, bias=True, full=False, transposed=False, needs=True, late=1):
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
    start = (torch.rand((late, batch, size), generator=g) < 0.3).float()
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
        late=late,
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
            late,
        )

    return scan, call, backward_call


def close(a, b):
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(b.abs().max())) if b.numel() else 0.0)


def check_layer(target, kind, port, settings, shape):
    """Run ``target`` forward and backward: forward bit for bit the loop's (the products are exact), gradients close."""
    scan, call, backward_call = make_calls(kind, port, "spikes", shape, **settings)
    courses, states, saved, products = loop_forward(scan, call)
    made = target.forward(scan, call)
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
    got = target.backward(scan, backward)
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
