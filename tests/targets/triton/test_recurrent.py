"""Recurrent layers against a plain loop: forward bit for bit where the product is exact, gradients to 1e-5."""

from dataclasses import replace

import pytest
import torch

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.recurrent_call import RecurrentBackwardCall, RecurrentForwardCall, weight_gradients
from snncompile.targets.triton.recurrent import FORM_VARIABLE, RecurrentLayers

from ..recurrent_calls import KINDS, SHAPES, check_layer, close, loop_backward, loop_forward, make_calls
from ..scan_calls import make_calls as scan_calls
from ..scan_calls import poisoned
from ..scans import awkward, constant, integrator, stateless

#: Form, precision, kind of layer. In float32 programs that wait for each other read the weight at every step.
WAYS = [
    *(("steps", "float32", *kind) for kind in KINDS),
    *(("resident", "split-fp16", *kind) for kind in KINDS),
    *(("streamed", "split-fp16", *kind) for kind in KINDS[1:3]),
    ("streamed", "float32", *KINDS[3]),
    *(("together", "split-fp16", *kind) for kind in KINDS),
    ("together", "float32", *KINDS[1]),
]


class Bounded(RecurrentLayers):
    """Layers that are told how large a source can be."""

    most = None

    def forward(self, scan, call):
        return super().forward(scan, replace(call, most=self.most))


@pytest.mark.parametrize(("form", "precision", "kind", "port", "settings"), WAYS)
def test_matches_loop(form, precision, kind, port, settings):
    layers = Bounded(poisoned, precision, form)
    layers.most = 1
    for shape in SHAPES:
        check_layer(layers, kind, port, settings, shape)


@pytest.mark.parametrize("form", ["resident", "streamed", "together"])
@pytest.mark.parametrize("most", [2048, 65536, None])
def test_larger_counts_and_any_number(form, most):
    layers = Bounded(poisoned, form=form)
    layers.most = most
    check_layer(layers, "lif", "x", {}, (3, 2, 19))


@pytest.mark.parametrize("form", ["resident", "streamed"])
def test_counts_beyond_float16_are_exact(form):
    scan, call, _ = make_calls("lif", "x", "spikes", (1, 1, 5), bias=False)
    call = replace(call, start=torch.tensor([[[65535.0, 2049.0, 40001.0, 0.0, 1.0]]]), train=True)
    expected = call.start[0] @ call.weight.T
    made = RecurrentLayers(poisoned, form=form).forward(scan, replace(call, most=65536))
    assert torch.equal(made.product[0], expected)
    assert not torch.equal(call.start.half().float(), call.start)


@pytest.mark.parametrize("form", ["resident", "streamed", "together"])
@pytest.mark.parametrize("source", [None, 1])
def test_random_weights_to_22_bits(form, source):
    """Weights of any size from row to row: each is kept to 2**-22 of itself, or 2**-40 of the largest beside it."""
    scan, call, _ = make_calls("lif", "x", "spikes", (1, 4, 40), bias=False)
    g = torch.Generator().manual_seed(3)
    sizes = torch.logspace(-20, 20, 40).unsqueeze(1)
    weight = torch.randn((40, 40), generator=g) * sizes
    start = call.start if source else torch.randn((1, 4, 40), generator=g) * torch.logspace(-6, 6, 4).unsqueeze(1)
    call = replace(call, weight=weight, start=start, most=source)
    made = RecurrentLayers(poisoned, form=form).forward(scan, call)
    exact = start[0].double() @ weight.double().T
    error = (made.product[0].double() - exact).abs() / (start[0].double().abs() @ weight.double().abs().T)
    assert float(error.max()) < 2.0**-21


def test_lower_precision_is_lower():
    scan, call, _ = make_calls("lif", "x", "spikes", (3, 2, 19))
    call = replace(call, weight=torch.randn((19, 19), generator=torch.Generator().manual_seed(0)), most=1)
    errors = {}
    for precision in ("split-fp16", "fp16"):
        made = RecurrentLayers(poisoned, precision, "resident").forward(scan, call)
        exact = call.start[0] @ call.weight.T + call.bias
        errors[precision] = float((made.product[0] - exact).norm() / exact.norm())
    assert errors["split-fp16"] < 1e-6 < 1e-5 < errors["fp16"] < 1e-3


def test_gradients_of_random_weights():
    scan, call, backward_call = make_calls("chain", "inh", "spikes", (4, 3, 19))
    weight = torch.randn((19, 19), generator=torch.Generator().manual_seed(0))
    for form in ("resident", "streamed", "together"):
        layers = RecurrentLayers(poisoned, form=form)
        made = layers.forward(scan, replace(call, weight=weight))
        backward = replace(backward_call(made, ("spikes",)), weight=weight)
        inputs, carry, start, _ = loop_backward(scan, backward)
        got = layers.backward(scan, backward)
        assert close(got.product, torch.stack(inputs["inh"]))
        assert close(got.start, start)
        assert all(close(a, carry[s]) for s, a in zip(scan.states, got.states, strict=True))


def test_special_values_pass_through():
    scan, call, _ = make_calls("lif", "x", "spikes", (2, 1, 5), bias=False)
    weight = call.weight.clone()
    weight[2, 3] = float("nan")
    made = RecurrentLayers(poisoned, form="resident").forward(scan, replace(call, weight=weight))
    assert made.product[0, 0].isnan().tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("form", ["steps", "resident", "streamed", "together"])
@pytest.mark.parametrize(
    ("scan", "port", "source"),
    [(integrator(), "x", "v"), (stateless(), "x", "spikes"), (awkward(), "x", "y"), (constant(), "x", "y")],
)
def test_other_neurons(form, scan, port, source):
    """A state that comes back itself, no state, every operation, states and gradients that are always one number."""
    shape = (3, 2, 5)
    g = torch.Generator().manual_seed(0)
    forward, backward_call = scan_calls(scan, shape, full=True)
    call = RecurrentForwardCall(
        port,
        source,
        torch.randint(-8, 8, (5, 5), generator=g) / 64.0,
        None,
        torch.randint(0, 2, (1, *shape[1:]), generator=g).float(),
        tuple(None if x == port else c for x, c in zip(scan.inputs, forward.inputs, strict=True)),
        forward.coefs,
        forward.states,
        shape,
        scan.results,
        train=True,
    )
    layers = RecurrentLayers(poisoned, form=form)
    courses, states, saved, products = loop_forward(scan, call)
    made = layers.forward(scan, call)
    assert all(close(made.stored[r], torch.stack(course)) for r, course in courses.items())
    assert all(close(made.finals[k], states[s]) for k, s in enumerate(scan.states))
    whole = backward_call(tuple(torch.stack([s[n].expand(shape[1:]) for s in saved]) for n in scan.states))
    backward = RecurrentBackwardCall(
        port,
        source,
        call.weight,
        call.inputs,
        whole.coefs,
        whole.saved,
        torch.stack(products),
        shape,
        {source: whole.grads[source]},
        whole.grad_finals,
        whole.need_inputs,
        whole.need_accumulators,
    )
    inputs, carry, start, sums = loop_backward(scan, backward)
    got = layers.backward(scan, backward)
    assert close(got.product, torch.stack(inputs[port]))
    assert close(got.start, start)
    assert all(close(a, carry[s]) for s, a in zip(scan.states, got.states, strict=True))
    assert all(close(total, sums[a]) for a, total in got.accumulators.items())


@pytest.mark.parametrize("late", [1, 2, 4, 7])
def test_weight_gradients(late):
    g = torch.Generator().manual_seed(0)
    product, course = torch.randn((4, 2, 3), generator=g), torch.randn((4, 2, 3), generator=g)
    start = torch.randn((late, 2, 3), generator=g)
    weight, bias = weight_gradients(product, start, course)
    seen = torch.cat([start, course])
    expected = sum(product[t].T @ seen[t] for t in range(4))
    assert torch.allclose(weight, expected, atol=1e-6)
    assert torch.allclose(bias, product.sum((0, 1)))
    assert weight_gradients(product[:0], start, course[:0])[0].shape == (3, 3)


@pytest.mark.parametrize("form", ["steps", "resident", "together"])
def test_inference_keeps_nothing(form):
    scan, call, _ = make_calls("lif", "x", "spikes", (3, 2, 5))
    call = RecurrentForwardCall(**{**call.__dict__, "store": (), "train": False})
    made = RecurrentLayers(poisoned, form=form).forward(scan, call)
    assert made.saved == ()
    assert made.product is None
    assert set(made.stored) == {"spikes"}


@pytest.mark.parametrize("form", ["resident", "streamed"])
def test_more_than_one_block_and_tile(form):
    """Not a power of two, more than one block of neurons, more than one tile of sequences."""
    scan, call, _ = make_calls("lif", "x", "spikes", (2, 17, 77 if form == "resident" else 150))
    courses, *_ = loop_forward(scan, call)
    made = RecurrentLayers(poisoned, form=form).forward(scan, replace(call, most=1))
    assert torch.equal(made.stored["spikes"], torch.stack(courses["spikes"]))
    assert torch.equal(made.stored["v"], torch.stack(courses["v"]))


def test_form_from_the_environment(monkeypatch):
    monkeypatch.setenv(FORM_VARIABLE, "wrong")
    scan, call, _ = make_calls("lif", "x", "spikes", (2, 1, 3))
    with pytest.raises(UnsupportedError, match="no form 'wrong' of a recurrent layer; there are resident, streamed"):
        RecurrentLayers().forward(scan, call)
