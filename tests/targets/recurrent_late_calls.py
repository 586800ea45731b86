"""Recurrent layers that read inputs some steps late, against the same layers on those inputs made late beforehand."""

from dataclasses import replace

import torch

from snncompile.targets.recurrent_call import RecurrentBackwardCall, RecurrentForwardCall
from snncompile.targets.scan import Late

from .scan_calls import equal, same_bits
from .scan_loop import evaluate
from .scans import _Spike, build

#: How late the inputs besides the product are.
LATE_KINDS = [
    ("one", "each", "shared"),
    ("each", "", "one"),
    ("shared", "one", ""),
    ("", "shared", "each"),
]
#: T, B, N, and the longest delay.
LATE_SHAPES = [(5, 3, 20, 3), (3, 2, 9, 7), (1, 1, 1, 1), (4, 17, 34, 4), (9, 1, 130, 5), (0, 2, 4, 3), (3, 0, 4, 2)]


def gated():
    """A neuron with a product and three inputs more, one that its gradient does not read, named as kernels name
    their own."""

    def step(v, w, x, places, per, seen, decay, gain):
        v = v * decay + x + places + per * torch.tanh(seen) * gain - w
        spikes = _Spike.apply(v, torch.full_like(v, 0.75))
        w = w * 0.5 + spikes * 0.25
        return {"v": v - spikes, "w": w, "spikes": spikes}

    return build("gated", step, ("v", "w"), ("x", "places", "per", "seen"), ("spikes",), ("decay", "gain"))


GATED = gated()


def late_inputs(kinds, shape, reach, layout):
    """Inputs and what makes them late; ``layout`` as each signal lies: flat, by sequence, or some steps and sequences
    of a larger one."""
    steps, batch, size = shape
    g = torch.Generator().manual_seed(steps + size + reach)
    share = next((k for k in (4, 5, 2, 3) if size % k == 0), 1)
    inputs, lates = [None], [None]
    for kind in kinds:
        narrow = size // share if kind == "shared" else size
        course = torch.randn((2 * steps + 1, batch + 1, narrow), generator=g)
        if layout == "flat":
            course = course[:steps, :batch].contiguous()
        elif layout == "by sequence":
            course = course[:steps, :batch].transpose(0, 1).contiguous().transpose(0, 1)
        else:
            course = course[: 2 * steps : 2, 1:]
        inputs.append(course)
        if not kind:
            lates.append(None)
            continue
        past = torch.randn((reach, batch, narrow), generator=g)
        each = torch.randint(0, reach + 1, (size,), generator=g, dtype=torch.int32)
        lates.append(Late(past, reach if kind == "one" else each, share if kind == "shared" else 1))
    return tuple(inputs), tuple(lates)


def late_calls(kinds, shape, reach, layout="flat", late=1, full=False, needs=None):
    """A forward call, and what makes the backward call of its result."""
    scan, (_, batch, size) = GATED, shape
    g = torch.Generator().manual_seed(size)
    inputs, lates = late_inputs(kinds, shape, reach, layout)
    params = {p: torch.rand(size if full else (), generator=g) * 0.5 + 0.25 for p in scan.params}
    front = {**params, **evaluate(scan.derived, params)}
    back = {**params, **evaluate(scan.reverse_derived, params)}
    weight = torch.randn((size, size), generator=g) / max(size, 1) ** 0.5
    call = RecurrentForwardCall(
        "x",
        "spikes",
        weight,
        torch.randn(size, generator=g),
        (torch.rand((late, batch, size), generator=g) < 0.3).float(),
        inputs,
        tuple(front[c].contiguous() for c in scan.coefs),
        tuple(torch.rand((batch, size), generator=g) for _ in scan.states),
        shape,
        scan.results,
        train=True,
        late=late,
        offsets=lates,
    )

    def backward_call(made):
        return RecurrentBackwardCall(
            "x",
            "spikes",
            weight,
            inputs,
            tuple(back[c].contiguous() for c in scan.reverse_coefs),
            made.saved,
            made.product,
            shape,
            {r: torch.randn(shape, generator=g) for r in ("spikes", "v")},
            tuple(torch.randn((batch, size), generator=g) for _ in scan.states),
            (True,) * len(scan.inputs) if needs is None else needs,
            needs is None,
            late,
            lates,
        )

    return scan, call, backward_call


def at_hand(call):
    """The same call with signals that were made late beforehand."""
    seen = tuple(x if late is None else late.seen(x) for x, late in zip(call.inputs, call.offsets, strict=True))
    return replace(call, inputs=seen, offsets=())


def read_from(late, grad):
    """The gradient of a late input and its past, with a column for each neuron, from that of what is seen of it."""
    steps, batch, size = grad.shape
    whole = torch.zeros((len(late.past) + steps, batch, size), requires_grad=True)
    seen = Late(whole[: len(late.past)], late.steps).seen(whole[len(late.past) :])
    return torch.autograd.grad(seen, whole, grad)[0]


def check_late_layer(target, kinds, shape, reach, **settings):
    """Forward and backward, every bit as of the call whose inputs are made late beforehand."""
    scan, call, backward_call = late_calls(kinds, shape, reach, **settings)
    got, wanted = target.forward(scan, call), target.forward(scan, at_hand(call))
    for r, course in wanted.stored.items():
        assert same_bits(got.stored[r], course), r
    made, expected = (*got.finals, *got.saved, got.product), (*wanted.finals, *wanted.saved, wanted.product)
    assert all(same_bits(a, b) for a, b in zip(made, expected, strict=True))
    backward = backward_call(wanted)
    got, wanted = target.backward(scan, backward), target.backward(scan, at_hand(backward))
    for x, late, a, b in zip(scan.inputs, call.offsets, got.inputs, wanted.inputs, strict=True):
        assert (a is None) == (b is None), x
        assert a is None or equal(a, b if late is None else read_from(late, b)), x
    made, expected = (got.product, got.start, *got.states), (wanted.product, wanted.start, *wanted.states)
    assert all(same_bits(a, b) for a, b in zip(made, expected, strict=True))
    assert got.accumulators.keys() == wanted.accumulators.keys()
    assert all(same_bits(total, wanted.accumulators[a]) for a, total in got.accumulators.items())
    return scan, call, backward
