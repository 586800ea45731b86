"""Scans that read an input some steps late, against the same scans on that input made late beforehand."""

from dataclasses import replace

import pytest
import torch

from snncompile.targets.scan import Late
from snncompile.targets.torch.plain import PlainTarget

from .scan_calls import equal, make_calls, same_bits, scan_of

SHAPES = [(7, 2, 3), (1, 1, 1), (9, 1, 130), (6, 3, 64), (0, 2, 3), (5, 130, 2)]


def lates(scan, shape, kind, seed=0):
    """What makes the first input late; a last one stays as it is."""
    _, batch, size = shape
    g = torch.Generator().manual_seed(seed)
    longest = 3
    late = longest if kind == "one" else torch.randint(0, longest + 1, (size,), generator=g, dtype=torch.int32)
    share = next((k for k in range(2, size + 1) if size % k == 0), 1) if kind == "shared" else 1
    first = Late(torch.rand((longest, batch, size // share), generator=g), late, share)
    return (first, *[None] * (len(scan.inputs) - 1))


def check_late(target, reference, name, shape, kind, layout="flat", checkpoint=1, need=True):
    """Forward bit for bit, and gradients; those of the late input land where they come from."""
    scan = scan_of(name)
    call, backward_call = make_calls(scan, shape, layout, checkpoint=checkpoint, need=need)
    late = lates(scan, shape, kind)
    if kind == "shared":  # the signal itself is narrower
        narrow = call.inputs[0][:, :, : shape[2] // late[0].share]
        narrow = narrow.contiguous() if layout == "flat" else narrow
        call = replace(call, inputs=(narrow, *call.inputs[1:]))
    seen = tuple(x if one is None else one.seen(x) for x, one in zip(call.inputs, late, strict=True))
    expected, got = reference.forward(scan, replace(call, inputs=seen)), target.forward(scan, replace(call, late=late))
    for r in call.store:
        assert same_bits(got.stored[r], expected.stored[r]), f"course of {r}"
        assert same_bits(got.sums[r], expected.sums[r]), f"sum of {r}"
    for a, b in zip((*got.finals, *got.saved), (*expected.finals, *expected.saved), strict=True):
        assert same_bits(a, b)
    back = backward_call(got.saved)
    expected = reference.backward(scan, replace(back, inputs=seen))
    got = target.backward(scan, replace(back, inputs=call.inputs, late=late))
    for x, a, b, one, given in zip(scan.inputs, got.inputs, expected.inputs, late, call.inputs, strict=True):
        if one is not None and b is not None:
            past, plain = one.past.clone().requires_grad_(), given.clone().requires_grad_()
            replace(one, past=past).seen(plain).backward(b)
            b = torch.cat([past.grad, plain.grad])
            if one.share > 1:  # a sum, in whatever order
                assert torch.allclose(a, b, atol=1e-5)
                a = b
            check_room(target, scan, replace(back, inputs=call.inputs, late=late), b)
        assert (a is None and b is None) or equal(a, b), f"gradient of {x}"
    for a, b in zip(got.states, expected.states, strict=True):
        assert equal(a, b)
    assert all(equal(total, expected.accumulators[name]) for name, total in got.accumulators.items())


def check_room(target, scan, back, grad):
    """The gradient of a late input where it is sent, and added to what is there."""
    for first in (0.0, 0.5):
        room = torch.full_like(grad, first)
        target.backward(scan, replace(back, room={0: room}, add=first > 0))
        assert torch.allclose(room, grad + first, atol=1e-5)


def check_parts(target, shape, kind):
    """A course in two parts, the second late by less: what is before it lies there. Results go where they are sent."""
    scan = scan_of("stateless")
    call, _ = make_calls(scan, shape, "flat")
    late = lates(scan, shape, kind)
    if kind == "shared":
        narrow = call.inputs[0][:, :, : shape[2] // late[0].share].contiguous()
        call = replace(call, inputs=(narrow, *call.inputs[1:]))
    call = replace(call, late=late, sums=(), checkpoint=0)
    whole = target.forward(scan, call)
    room = {r: torch.full_like(y, float("nan")) for r, y in whole.stored.items()}
    for first, last in ((0, 2), (2, shape[0])):
        back = min(first, 3)
        part = replace(late[0], steps=late[0].steps - back)
        inputs = (call.inputs[0][first - back : last], *(x[first:last] for x in call.inputs[1:]))
        states = tuple(s.clone() for s in call.states)
        target.forward(
            scan,
            replace(call, inputs=inputs, states=states, shape=(last - first, *shape[1:]), late=(part, *late[1:]),
                    room={r: y[first:last] for r, y in room.items()}),
        )  # fmt: skip
    for r, y in whole.stored.items():
        assert same_bits(room[r], y)


@pytest.mark.parametrize("kind", ["one", "each", "shared"])
class LateScans:
    """The tests of a target; ``make`` makes it, ``threads`` are those it spreads over where it can."""

    threads = None

    @pytest.mark.parametrize("shape", SHAPES)
    def test_shapes(self, kind, shape):
        check_late(self.make(), PlainTarget(), "lif", shape, kind)

    @pytest.mark.parametrize("shape", [(7, 2, 6), (9, 1, 130)])
    def test_parts(self, kind, shape):
        check_parts(self.make(), shape, kind)

    @pytest.mark.parametrize("name", ["chain", "stateless"])
    @pytest.mark.parametrize("layout", ["flat", "batch_first"])
    @pytest.mark.parametrize("checkpoint", [1, 3])
    def test_scans(self, kind, name, layout, checkpoint):
        check_late(self.make(), PlainTarget(), name, (8, 2, 5), kind, layout, checkpoint)

    def test_threads_and_gradients_that_nobody_wants(self, kind):
        check_late(self.make(self.threads), PlainTarget(), "lif", (8, 3, 300), kind, need=False)
