"""The kernels against the plain loop: forward bit for bit, gradients as the interpreted reverse program gives them."""

import functools

import pytest
import torch
from triton_loop import backward, evaluate, forward, same_bits, same_value
from triton_scans import ALL, build

from snncompile.targets.scan import BackwardCall, ForwardCall
from snncompile.targets.triton.config import Config
from snncompile.targets.triton.target import TritonTarget


def poisoned(shape, **like):
    """Outputs full of NaN: what a kernel does not write shows."""
    return torch.full(shape, float("nan"), **like)


TARGET = TritonTarget(Config(block=32, warps=1, ahead=4), empty=poisoned)


@functools.cache
def scan_of(kind):
    return ALL[kind]()


def course(generator, shape, layout):
    steps, batch, size = shape
    random = torch.rand(shape, generator=generator) * 2.0 - 0.5
    if layout == "flat":
        return random
    if layout == "batch_first":
        return random.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "still":
        return random[:1].expand(shape) if steps else random
    if layout == "one":
        return torch.rand((), generator=generator).expand(shape)
    if layout == "gaps":
        wide = torch.full((steps, batch, 2 * size + 3), float("nan"))
        wide[:, :, 1 : 2 * size + 1 : 2] = random
        return wide[:, :, 1 : 2 * size + 1 : 2]
    raise AssertionError(layout)




def make_calls(scan, shape, layout="flat", full=False, checkpoint=1, seed=0, given=None, finals=True, need=True):
    """A forward call, and a function from its result to the backward call."""
    g = torch.Generator().manual_seed(seed)
    _, batch, size = shape
    params = {p: torch.rand(size if full else (), generator=g) * 0.5 + 0.25 for p in scan.params}

    front = {**params, **evaluate(scan.derived, params)}
    back = {**params, **evaluate(scan.reverse_derived, params)}
    inputs = tuple(course(g, shape, layout) for _ in scan.inputs)
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


def check(scan, shape, **settings):
    call, backward_call = make_calls(scan, shape, **settings)
    expected, got = forward(scan, call), TARGET.forward(scan, call)
    for r in call.store:
        assert same_bits(got.stored[r], expected.stored[r]), f"course of {r}"
        assert same_bits(got.sums[r], expected.sums[r]), f"sum of {r}"
    for s, a, b in zip(scan.states, got.finals, expected.finals, strict=True):
        assert same_bits(a, b), f"final {s}"
    for s, a, b in zip(scan.states, got.saved, expected.saved, strict=True):
        assert same_bits(a, b), f"saved {s}"
    call = backward_call(got.saved)
    expected, got = backward(scan, call), TARGET.backward(scan, call)
    for x, a, b in zip(scan.inputs, got.inputs, expected.inputs, strict=True):
        assert (a is None and b is None) or same_value(a, b), f"gradient of {x}"
    for s, a, b in zip(scan.states, got.states, expected.states, strict=True):
        assert same_value(a, b), f"gradient of initial {s}"
    assert got.accumulators.keys() == expected.accumulators.keys()
    for a, total in got.accumulators.items():
        assert same_value(total, expected.accumulators[a]), f"accumulator {a}"


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("checkpoint", [1, 3, 8, 50])
def test_matches_loop(kind, checkpoint):
    check(scan_of(kind), (13, 3, 17), checkpoint=checkpoint, full=checkpoint == 3, seed=checkpoint)


@pytest.mark.parametrize("checkpoint", [1, 3])
@pytest.mark.parametrize("shape", [(0, 2, 5), (1, 1, 1), (7, 1, 33), (4, 5, 32), (9, 2, 1), (5, 0, 4), (1, 0, 0)])
def test_shapes(shape, checkpoint):
    check(scan_of("lif"), shape, checkpoint=checkpoint, full=True)


@pytest.mark.parametrize("checkpoint", [1, 3])
@pytest.mark.parametrize("layout", ["batch_first", "still", "one", "gaps"])
def test_layouts(layout, checkpoint):
    check(scan_of("chain"), (6, 3, 5), layout=layout, checkpoint=checkpoint, full=True)


@pytest.mark.parametrize("checkpoint", [1, 4])
@pytest.mark.parametrize("given", [(), ("spikes",), ("v",), ("a", "spikes"), ("wait",)])
def test_absent_gradients(given, checkpoint):
    check(scan_of("chain"), (6, 2, 5), given=given, finals=False, checkpoint=checkpoint)


def test_unwanted_gradients():
    check(scan_of("lif"), (6, 2, 5), need=False)
    check(scan_of("lif"), (6, 2, 5), need=False, checkpoint=4)


def test_constant_states():
    """A state that is always the same number, one of them a negative zero, one made of a coefficient alone."""

    def step(a, b, c, x, rest):
        return {"a": torch.full_like(a, -0.0), "b": torch.full_like(b, 0.5), "c": rest * 2.0, "y": a + b * x + c}

    check(build("constant", step, ("a", "b", "c"), ("x",), ("y",), ("rest",)), (5, 2, 3), checkpoint=2)


def test_nothing_saved():
    scan = scan_of("lif")
    call, _ = make_calls(scan, (5, 2, 3), checkpoint=0)
    expected, got = forward(scan, call), TARGET.forward(scan, call)
    assert got.saved == ()
    assert same_bits(got.stored["spikes"], expected.stored["spikes"])


def test_inputs_are_not_written_to():
    scan = scan_of("chain")
    call, backward_call = make_calls(scan, (5, 2, 3), checkpoint=2)
    kept = [t.clone() for t in (*call.inputs, *call.states, *call.coefs)]
    TARGET.backward(scan, backward_call(TARGET.forward(scan, call).saved))
    for before, after in zip(kept, (*call.inputs, *call.states, *call.coefs), strict=True):
        assert torch.equal(before, after)
