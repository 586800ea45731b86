"""Recurrent layers in one C function: against the plain loop, whatever the number of threads, and in a network."""

from dataclasses import replace

import pytest
import torch

import snncompile as snn
from snncompile.targets.c import recurrent
from snncompile.targets.c.compiler import function
from snncompile.targets.c.recurrent import RecurrentLayers
from snncompile.targets.c.sources import layer_sources
from snncompile.targets.recurrent_call import RecurrentForwardCall

from ..recurrent_calls import KINDS, SHAPES, check_layer, make_calls
from ..recurrent_late_calls import GATED, LATE_KINDS, LATE_SHAPES, check_late_layer, late_calls


def poisoned(shape, **like):
    return torch.full(shape, float("nan"), **like)


LAYERS = RecurrentLayers(threads=3, empty=poisoned)
LATE_OF_ALL = ("", "one", "each", "shared")


@pytest.mark.parametrize(("kind", "port", "settings"), KINDS)
@pytest.mark.parametrize("shape", [*SHAPES, (7, 12, 130)])
def test_matches_loop(kind, port, settings, shape):
    check_layer(LAYERS, kind, port, settings, shape)


def rounded_calls():
    """Products that round: any other order of summation gives other bits."""
    scan, call, backward_call = make_calls("lif", "x", "spikes", (9, 11, 45))
    weight = torch.randn(call.weight.shape, generator=torch.Generator().manual_seed(1))
    return scan, RecurrentForwardCall(**{**call.__dict__, "weight": weight}), backward_call


def test_threads_change_nothing():
    scan, call, backward_call = rounded_calls()
    found = []
    for threads in (1, 2, 3, 8):
        layers = RecurrentLayers(threads, poisoned)
        made = layers.forward(scan, call)
        back = layers.backward(scan, replaced(backward_call(made, ()), call.weight))
        found.append([*made.stored.values(), *made.finals, made.product, back.product, back.start, *back.states])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def replaced(call, weight):
    grads = {"spikes": torch.linspace(-1, 1, call.product.numel()).reshape(call.shape)}
    return type(call)(**{**call.__dict__, "weight": weight, "grads": grads, "grad_finals": (None,)})


def test_a_sequence_alone_gives_the_same_bits():
    scan, call, _ = rounded_calls()
    whole = LAYERS.forward(scan, call)
    one = {"start": call.start[:, 4:5], "states": tuple(s[4:5] for s in call.states), "shape": (9, 1, 45)}
    one["inputs"] = tuple(None if x is None else x[:, 4:5] for x in call.inputs)
    alone = LAYERS.forward(scan, RecurrentForwardCall(**{**call.__dict__, **one}))
    assert torch.equal(alone.product[:, 0], whole.product[:, 4])
    assert torch.equal(alone.stored["spikes"][:, 0], whole.stored["spikes"][:, 4])


def test_inference_keeps_nothing():
    scan, call, _ = make_calls("lif", "x", "spikes", (3, 2, 5))
    made = LAYERS.forward(scan, RecurrentForwardCall(**{**call.__dict__, "store": (), "train": False}))
    assert made.saved == ()
    assert made.product is None
    assert set(made.stored) == {"spikes"}


@snn.model
def model(x=snn.Spikes(7, max=1)):
    h = x >> snn.Linear(20) >> snn.recurrent(snn.CubaLIF(threshold=0.6, max_spikes_per_dt=1), via=snn.Linear(20))
    return h >> snn.recurrent(snn.LI(), via=snn.Linear(20, bias=False))


def test_network_against_the_reference():
    torch.manual_seed(0)
    nets = {t: snn.compile(model, target=t) for t in ("torch", "c")}
    nets["c"].load_state_dict(nets["torch"].state_dict())
    x = (torch.rand(3, 15, 7) < 0.4).float()
    found = {}
    for t, net in nets.items():
        out, state, record = net.evolve(x, record=["cuba_lif.spikes", "linear_1.out"])
        (out.square().sum() + state["cuba_lif.v"].sum()).backward()
        grads = {n: p.grad for n, p in net.named_parameters()}
        found[t] = out, record, state, grads
    (out, record, state, grads), (want, wanted, before, expected) = found["c"], found["torch"]
    assert torch.equal(record["cuba_lif.spikes"], wanted["cuba_lif.spikes"])
    assert record["cuba_lif.spikes"].sum() > 0
    assert torch.allclose(record["linear_1.out"], wanted["linear_1.out"], rtol=1e-5, atol=1e-6)
    assert torch.allclose(out, want, rtol=1e-4, atol=1e-5)
    assert all(torch.allclose(state[n], s, rtol=1e-4, atol=1e-5) for n, s in before.items())
    for name, grad in expected.items():
        assert (grads[name] - grad).norm() <= 1e-5 * grad.norm(), name


def test_a_weight_that_is_no_number_is_seen():
    """Only inputs that are zero are left out: a NaN input, or any spike, meets every weight of its row."""
    scan, call, _ = make_calls("lif", "x", "spikes", (3, 2, 5), bias=False)
    start = torch.zeros(1, 2, 5)
    start[0, 1, 2] = float("nan")
    made = LAYERS.forward(scan, RecurrentForwardCall(**{**call.__dict__, "start": start}))
    assert made.product[0, 1].isnan().all()
    assert (made.product[0, 0] == 0).all()


@pytest.mark.parametrize("kinds", LATE_KINDS)
@pytest.mark.parametrize(("steps", "batch", "size", "reach"), LATE_SHAPES)
def test_late_inputs_are_read_where_they_lie(kinds, steps, batch, size, reach):
    check_late_layer(LAYERS, kinds, (steps, batch, size), reach)


@pytest.mark.parametrize("kinds", LATE_KINDS[:2])
@pytest.mark.parametrize("layout", ["by sequence", "part"])
def test_late_inputs_of_any_strides(kinds, layout):
    check_late_layer(LAYERS, kinds, (6, 5, 24), 4, layout=layout, full=True, needs=(True, False, True, False))


@pytest.mark.parametrize("kinds", LATE_KINDS[:2])
def test_threads_change_nothing_of_late_inputs(kinds):
    found = []
    for threads in (1, 2, 8):
        layers = RecurrentLayers(threads, poisoned)
        scan, call, backward_call = late_calls(kinds, (9, 11, 45), 4)
        made = layers.forward(scan, call)
        back = layers.backward(scan, backward_call(made))
        inputs = [grad for grad in back.inputs if grad is not None]
        found.append([*made.stored.values(), *made.finals, *inputs, *back.accumulators.values()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_inference_reads_late_inputs():
    scan, call, _ = late_calls(LATE_KINDS[0], (5, 3, 20), 3)
    made, wanted = (LAYERS.forward(scan, replace(call, train=train)) for train in (False, True))
    assert all(torch.equal(made.stored[r], course) for r, course in wanted.stored.items())
    assert made.product is None


def test_late_layers_are_printed_without_a_call(monkeypatch):
    printed = layer_sources(GATED, "x", "spikes", True, ("spikes", "v"), GATED.coefs, GATED.reverse_coefs, LATE_OF_ALL)
    assert list(printed) == ["recurrent", "recurrent_save", "recurrent_backward"]
    run = []
    monkeypatch.setattr(recurrent, "function", lambda *args: run.append(args) or function(*args))
    scan, call, backward_call = late_calls(LATE_OF_ALL[1:], (2, 1, 4), 2)
    layers = RecurrentLayers(1)
    layers.forward(scan, replace(call, store=("spikes", "v"), train=False))
    made = layers.forward(scan, replace(call, store=("spikes", "v")))
    backward = replace(backward_call(made), grad_finals=(None, None))
    layers.backward(scan, backward)
    assert run == [(source.name, source.text, source.types) for source in printed.values()]
