"""Calls to make of a scan, and the comparison of a target with the plain loop."""

import functools

import torch

from snncompile.targets.scan import BackwardCall, ForwardCall

from .scan_loop import backward, evaluate, forward, same_bits, same_value
from .scans import ALL, constant

SPECIAL = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, -1e-40, 3e38, 1.0, -2.5)


def poisoned(shape, **like):
    """Outputs full of NaN: what a function does not write shows."""
    return torch.full(shape, float("nan"), **like)


@functools.cache
def scan_of(kind):
    return ALL[kind]()


def course(generator, shape, layout, special=0.0):
    """Random values ``(T, B, N)`` that lie in memory as ``layout`` says."""
    steps, batch, size = shape
    random = torch.rand(shape, generator=generator) * 2.0 - 0.5
    if special:
        which = torch.randint(len(SPECIAL), shape, generator=generator)
        random = torch.where(torch.rand(shape, generator=generator) < special, torch.tensor(SPECIAL)[which], random)
    if layout == "flat":
        return random
    if layout == "batch_first":
        return random.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "neurons_first":
        return random.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    if layout == "still":
        return random[:1].expand(shape) if steps else random
    if layout == "one":
        return torch.rand((), generator=generator).expand(shape)
    if layout == "gaps":
        wide = torch.full((steps, batch, 2 * size + 3), float("nan"))
        wide[:, :, 1 : 2 * size + 1 : 2] = random
        return wide[:, :, 1 : 2 * size + 1 : 2]
    raise AssertionError(layout)


def make_calls(
    scan, shape, layout="flat", full=False, checkpoint=1, seed=0, given=None, finals=True, need=True, special=0.0
):
    """A forward call, and a function from its result to the backward call."""
    g = torch.Generator().manual_seed(seed)
    _, batch, size = shape
    params = {p: torch.rand(size if full else (), generator=g) * 0.5 + 0.25 for p in scan.params}
    front = {**params, **evaluate(scan.derived, params)}
    back = {**params, **evaluate(scan.reverse_derived, params)}
    inputs = tuple(course(g, shape, layout, special) for _ in scan.inputs)
    states = tuple(torch.rand((batch, size), generator=g) for _ in scan.states)
    coefs = tuple(front[c].contiguous() for c in scan.coefs)
    call = ForwardCall(inputs, coefs, states, shape, scan.results, scan.results, checkpoint)
    given = scan.results if given is None else given

    def backward_call(saved):
        return BackwardCall(
            inputs,
            tuple(back[c].contiguous() for c in scan.reverse_coefs),
            coefs,
            saved,
            shape,
            checkpoint,
            {r: course(g, shape, layout) for r in given},
            tuple(torch.rand((batch, size), generator=g) if finals else None for _ in scan.states),
            tuple(need for _ in scan.inputs),
            need,
        )

    return call, backward_call


def equal(got, expected):
    """Whether gradients are equal: zeros of either sign alike, any NaN like any other."""
    same = (got == expected) | (got.isnan() & expected.isnan())
    return got.shape == expected.shape and bool(same.all())


def check(target, scan, shape, special=0.0, **settings):
    """Forward bit for bit, gradients as the interpreted reverse program gives them."""
    same = equal if special else same_value  # no NaN comes from ordinary numbers
    call, backward_call = make_calls(scan, shape, special=special, **settings)
    expected, got = forward(scan, call), target.forward(scan, call)
    for r in call.store:
        assert same_bits(got.stored[r], expected.stored[r]), f"course of {r}"
        assert same_bits(got.sums[r], expected.sums[r]), f"sum of {r}"
    for s, a, b in zip(scan.states, got.finals, expected.finals, strict=True):
        assert same_bits(a, b), f"final {s}"
    for s, a, b in zip(scan.states, got.saved, expected.saved, strict=True):
        assert same_bits(a, b), f"saved {s}"
    call = backward_call(got.saved)
    expected, got = backward(scan, call), target.backward(scan, call)
    for x, a, b in zip(scan.inputs, got.inputs, expected.inputs, strict=True):
        assert (a is None and b is None) or same(a, b), f"gradient of {x}"
    for s, a, b in zip(scan.states, got.states, expected.states, strict=True):
        assert same(a, b), f"gradient of initial {s}"
    assert got.accumulators.keys() == expected.accumulators.keys()
    for a, total in got.accumulators.items():
        assert same(total, expected.accumulators[a]), f"accumulator {a}"


def check_constant_states(target):
    """States that are always the same number."""
    check(target, constant(), (5, 2, 3), checkpoint=2)


def check_nothing_saved(target):
    """A forward call that saves nothing gives the same."""
    scan = scan_of("lif")
    call, _ = make_calls(scan, (5, 2, 3), checkpoint=0)
    expected, got = forward(scan, call), target.forward(scan, call)
    assert got.saved == ()
    assert same_bits(got.stored["spikes"], expected.stored["spikes"])


def check_inputs_kept(target):
    """What a call hands over is not written to."""
    scan = scan_of("chain")
    call, backward_call = make_calls(scan, (5, 2, 3), checkpoint=2)
    given = (*call.inputs, *call.states, *call.coefs)
    kept = [t.clone() for t in given]
    target.backward(scan, backward_call(target.forward(scan, call).saved))
    for before, after in zip(kept, given, strict=True):
        assert torch.equal(before, after)
