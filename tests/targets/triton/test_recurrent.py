"""The fused recurrent step against a plain loop: forward bit for bit where the product is exact, gradients to 1e-5."""

import pytest
import torch

from snncompile.targets.recurrent_call import RecurrentForwardCall, weight_gradients
from snncompile.targets.triton.recurrent import RecurrentSteps
from snncompile.targets.triton.recurrent_kernel import RecurrentVariant, print_recurrent
from snncompile.targets.variant import Layout

from ..recurrent_calls import KINDS, SHAPES, check_layer, make_calls, scan_of

STEPS = RecurrentSteps(empty=lambda shape, **like: torch.full(shape, float("nan"), **like))


@pytest.mark.parametrize(("kind", "port", "settings"), KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_loop(kind, port, settings, shape):
    check_layer(STEPS, kind, port, settings, shape)


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
