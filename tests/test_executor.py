"""How a graph runs, region by region: delays, randomness, statistics, sums, and gradients against plain torch."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import snncompile as snn
from snncompile import ms

from .compare import assert_close_gradients, assert_same_bits, outcome

DT = 1e-3
LOW = 0.4


def counts(*shape: int, seed: int = 1) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2.6).floor()


def network(model: snn.Model, **options) -> snn.Network:
    torch.manual_seed(0)
    return snn.compile(model, target="torch", **options)


# -- models, one for every kind of region ------------------------------------------------------------------------------


@snn.model(dt=1 * ms)
def scan(x=snn.Spikes(4)):
    return x >> snn.ExpSyn(np.linspace(0.005, 0.02, 4)) >> snn.LIF(threshold=LOW)


@snn.model(dt=1 * ms)
def product(x=snn.Spikes(4)):
    return x >> snn.Linear(3)


@snn.model(dt=1 * ms)
def cycle(x=snn.Spikes(4)):
    h = x >> snn.Linear(3) >> snn.recurrent(snn.LIF(threshold=LOW), via=snn.Linear(3))
    return h, h.state("v")


@snn.model(dt=1 * ms)
def delayed(x=snn.Spikes(4)):
    """A delay between two regions, and one of the input itself."""
    back, first = snn.Feedback(3, name="back"), snn.Feedback(4, name="first")
    first.close(x)
    h = first >> snn.Linear(3) >> snn.LIF(threshold=LOW)
    back.close(h)
    return {"late": back >> snn.Linear(2) >> snn.LI(), "now": h}


@snn.model(dt=1 * ms)
def image(x=snn.Spikes((2, 6, 6))):
    h = x >> snn.Conv2d(3, 3) >> snn.LIF(threshold=LOW) >> snn.SumPool2d(2) >> snn.MaxPool2d(2)
    return h >> snn.Flatten() >> snn.Linear(2)


REGIONS = {m.name: m for m in (scan, product, cycle, delayed, image)}


def an_input(net: snn.Network, batch: int, steps: int) -> Tensor:
    (type_,) = net.graph.input_types().values()
    return counts(batch, steps, *type_.shape)


@pytest.mark.parametrize("name", REGIONS)
def test_in_pieces_as_in_one(name: str) -> None:
    """Steps, chunks and the whole run agree, delays across their borders included."""
    net = network(REGIONS[name])
    x = an_input(net, 2, 7)
    record = [r for r in net.graph.recordable() if r != "x"]
    _, whole_state, whole = net.evolve(x, record=record)
    for borders in ([0, 3, 7], [0, 0, 1, 7, 7], list(range(8))):
        state, pieces = None, []
        for low, high in pairwise(borders):
            _, state, piece = net.evolve(x[:, low:high], state=state, record=record)
            pieces.append(piece)
        for key in record:
            torch.testing.assert_close(torch.cat([p[key] for p in pieces], 1), whole[key])
        torch.testing.assert_close(state, whole_state)


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize(("batch", "steps"), [(2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("checkpoint", [1, 4])
def test_no_steps_and_no_batch(name: str, batch: int, steps: int, checkpoint: int) -> None:
    net = network(REGIONS[name], checkpoint=checkpoint)
    x = an_input(net, batch, steps).requires_grad_()
    record = [r for r in net.graph.recordable() if r != "x"]
    out, state, courses = net.evolve(x, record=[*record, *(f"{r}:sum" for r in record)])
    outs = list(out.values()) if isinstance(out, dict) else list(out) if isinstance(out, tuple) else [out]
    assert all(o.shape[:2] == (batch, steps) for o in outs)
    for key in record:
        assert courses[key].shape[:2] == (batch, steps)
        assert torch.equal(courses[f"{key}:sum"], torch.zeros(batch, *courses[key].shape[2:]))
    assert all(torch.equal(state[k], v) for k, v in net.initial_state(batch).items())
    total = sum(v.sum() for v in (*outs, *state.values()))
    if total.requires_grad:  # what no step of a cycle was taken for depends on nothing
        total.backward()
    assert all(not p.grad.any() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("checkpoint", [2, 3, 100])
def test_checkpoints(name: str, checkpoint: int) -> None:
    net = network(REGIONS[name])
    x = an_input(net, 2, 7)
    want, got = outcome(net, x, []), outcome(network(REGIONS[name], checkpoint=checkpoint), x, [])
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


@pytest.mark.parametrize("name", REGIONS)
def test_sums_of_everything(name: str) -> None:
    """Also of signals that only their own cycle reads."""
    net = network(REGIONS[name])
    x = an_input(net, 2, 6)
    names = list(net.graph.recordable())
    courses = net.evolve(x, record=names)[2]
    for asked in ([f"{n}:sum" for n in names], [f"{n}:mean" for n in names], [f"{names[-1]}:sum", *names]):
        for key, found in net.evolve(x, record=asked)[2].items():
            signal, _, how = key.partition(":")
            wanted = {"sum": lambda v: v.sum(1), "mean": lambda v: v.mean(1), "": lambda v: v}[how](courses[signal])
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", REGIONS)
def test_strides_do_not_matter(name: str) -> None:
    net = network(REGIONS[name])
    x = an_input(net, 3, 5)
    padded = torch.zeros(*x.shape, 2)
    padded[..., 0] = x
    first = x[:1, :1]
    for a, b in (
        (padded[..., 0], x),
        (x.transpose(0, 1).contiguous().transpose(0, 1), x),
        (first.expand(x.shape), first.repeat(3, 5, *(1,) * (x.dim() - 2))),
    ):
        want, got = outcome(net, b, []), outcome(net, b, [])
        out = net(a)
        values = out.values() if isinstance(out, dict) else out if isinstance(out, tuple) else [out]
        for found, wanted in zip(values, want.values.values(), strict=False):
            torch.testing.assert_close(found, wanted)
        assert_same_bits(want, got)


# -- several inputs, or none -------------------------------------------------------------------------------------------


def test_inputs_of_different_kinds() -> None:
    @snn.model(dt=1 * ms)
    def net(a=snn.Spikes((1, 4, 4)), b=snn.Current(3), c=snn.Spikes(3, max=1)):
        return (a >> snn.Conv2d(1, 2) >> snn.Flatten() >> snn.Linear(3)) + b >> snn.recurrent(
            snn.LIF(threshold=LOW), via=snn.Linear(3)
        ), c + b

    made = network(net)
    a, b, c = counts(2, 5, 1, 4, 4), torch.randn(2, 5, 3), counts(2, 5, 3).clamp(max=1)
    spikes, total = made(a, c=c, b=b)
    assert spikes.shape == (2, 5, 3) and torch.equal(total, c + b)


@pytest.mark.parametrize("linear", [False, True])
def test_no_inputs(linear: bool) -> None:
    @snn.model(dt=1 * ms)
    def net():
        back = snn.Feedback(3)
        h = (back >> snn.Linear(3) if linear else back) >> snn.LIF(bias=0.3)
        back.close(h)
        return h

    made = network(net)
    out, last, _ = made.evolve(steps=8, batch=2)
    assert out.shape == (2, 8, 3) and out.any()
    out.sum().backward()
    assert made.get_parameter("lif.bias").grad.any()
    assert made(steps=8).shape == (8, 3) and made(steps=0, batch=2).shape == (2, 0, 3)
    held, ys = None, []
    for _ in range(8):
        y, held = made.step(state=held)
        ys.append(y)
    torch.testing.assert_close(torch.stack(ys, 1), out[:1])
    torch.testing.assert_close(held, {k: v[:1] for k, v in last.items()})


# -- Dropout and BatchNorm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
def test_one_mask_for_a_whole_sequence(inside: bool) -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Current(40)):
        if not inside:
            return x >> snn.Dropout(0.5)
        back = snn.Feedback(40)
        h = x + 0 * back >> snn.Dropout(0.5)
        back.close(h)
        return h

    made, x = network(net), torch.ones(3, 6, 40)
    masks = [made(x) for _ in range(2)]
    for mask in masks:
        assert set(mask.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(mask, mask[:, :1].expand_as(mask))
        assert not torch.equal(mask[0], mask[1])
    assert not torch.equal(*masks)
    torch.manual_seed(4)
    again = made(x)
    torch.manual_seed(4)
    assert torch.equal(made(x), again)
    assert torch.equal(made.eval()(x), x)


def test_batch_norm_learns_its_statistics_once_a_call() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Current(3)):
        return x >> snn.BatchNorm(momentum=0.25)

    made, x = network(net), torch.randn(2, 5, 3) * 2 + 1
    norm = torch.nn.BatchNorm1d(3, momentum=0.25)
    for _ in range(2):
        torch.testing.assert_close(made(x), norm(x.flatten(0, 1)).unflatten(0, (2, 5)))
        torch.testing.assert_close(made.get_buffer("batch_norm.running_var"), norm.running_var)
    made.evolve(x, record=True)
    norm(x.flatten(0, 1))
    torch.testing.assert_close(made.get_buffer("batch_norm.running_mean"), norm.running_mean)
    made.eval(), norm.eval()
    before = made.get_buffer("batch_norm.running_mean").clone()
    torch.testing.assert_close(made(x), norm(x.flatten(0, 1)).unflatten(0, (2, 5)))
    assert torch.equal(made.get_buffer("batch_norm.running_mean"), before)
    assert made(x[:, :0]).shape == (2, 0, 3)


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (0, 3), (2, 0)])
def test_batch_norm_needs_more_than_one_value(batch: int, steps: int) -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Current(3)):
        return x >> snn.BatchNorm()

    with pytest.raises(snn.ModelError, match=r"node 'batch_norm'.*in training needs at least two values per channel"):
        network(net)(torch.zeros(batch, steps, 3))


# -- autocast ----------------------------------------------------------------------------------------------------------


def test_states_are_float32_under_autocast() -> None:
    """Also one that holds the late output of a product."""

    @snn.model(dt=1 * ms)
    def net(x=snn.Current(3)):
        back, late = snn.Feedback(3), snn.Feedback(3)
        h = (x + back) >> snn.LIF(threshold=LOW) >> snn.Linear(3)
        back.close(h)
        late.close(x >> snn.Linear(3))
        return h, late + x

    made = network(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, state, record = made.evolve(counts(2, 5, 3), record=["lif.v", "lif.spikes"])
        sum(v.sum() for v in (*out, *state.values())).backward()
    assert {v.dtype for v in (*state.values(), *record.values())} == {torch.float32}
    assert made.linear.weight.grad.dtype is torch.float32


# -- gradients, against loops in plain torch ---------------------------------------------------------------------------


class Spike(torch.autograd.Function):
    """Rockpool's step with its piecewise linear surrogate, window 0.5, one spike at most."""

    @staticmethod
    def forward(ctx, v: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(v, threshold)
        return torch.where(v >= threshold, torch.floor(v / threshold), torch.zeros(()))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        v, threshold = ctx.saved_tensors
        near = v >= threshold - 0.5
        return torch.where(near, grad / threshold, 0.0), torch.where(near, -v * grad / (threshold * threshold), 0.0)


def lif(v: Tensor, x: Tensor, p: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    v = v * torch.exp(-DT / p[f"{name}.tau_mem"]) + x + p[f"{name}.bias"]
    s = Spike.apply(v, p[f"{name}.threshold"])
    return v - s * p[f"{name}.threshold"], s


def compare(made: snn.Network, x: Tensor, loop, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Outputs and gradients of ``made`` against those of ``loop(x, parameters, state)``; the gradients."""
    state = {k: v.clone() for k, v in (state or made.initial_state(x.shape[0])).items()}
    found = []
    for run in ("network", "loop"):
        p = {n: v.detach().clone().requires_grad_() for n, v in made.named_parameters()}
        held = {k: v.detach().clone().requires_grad_() for k, v in state.items()}
        data = x.detach().clone().requires_grad_()
        if run == "network":
            out, final, _ = made.evolve(data, state=held)
            p = dict(made.named_parameters())
        else:
            out, final = loop(data, p, held)
        values = {"out": out, **final}
        loss = sum((v * torch.linspace(-1, 1.5, v.numel()).reshape(v.shape)).sum() for v in values.values())
        leaves = {**p, **{f"state {k}": v for k, v in held.items()}, "x": data}
        grads = torch.autograd.grad(loss, list(leaves.values()))
        found.append((values, dict(zip(leaves, grads, strict=True))))
    (values, grads), (wanted_values, wanted) = found
    for key, value in wanted_values.items():
        torch.testing.assert_close(values[key], value)
    for key, grad in wanted.items():
        assert grad.any(), f"{key}: a gradient of nothing proves nothing"
        gap = float((grads[key] - grad).norm() / grad.norm())
        assert grads[key].shape == grad.shape and gap < 1e-5, f"{key}: {gap:g}"
    return grads


def test_gradients_of_a_chain() -> None:
    """One time constant per channel, one bias for all, one threshold per neuron."""

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(4)):
        h = x >> snn.Linear(3) >> snn.ExpSyn([5 * ms, 10 * ms, 20 * ms]) >> snn.LIF([20 * ms, 8 * ms, 30 * ms])
        return h

    def loop(x, p, state):
        i, v, ys = state["exp_syn.isyn"], state["lif.v"], []
        for x_t in x.unbind(1):
            i = (i + F.linear(x_t, p["linear.weight"], p["linear.bias"])) * torch.exp(-DT / p["exp_syn.tau"])
            v, s = lif(v, i, p, "lif")
            ys.append(s)
        return torch.stack(ys, 1), {"exp_syn.isyn": i, "lif.v": v}

    grads = compare(network(net), counts(3, 12, 4), loop)
    assert grads["lif.bias"].shape == () and grads["lif.threshold"].shape == (3,)


def test_gradients_of_images() -> None:
    """Parameters of shape (C, 1, 1) sum over positions."""

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes((1, 5, 5))):
        return x >> snn.Conv2d(2, 3) >> snn.LIF([10 * ms, 20 * ms], threshold=[0.4, 0.6])

    def loop(x, p, state):
        v, ys = state["lif.v"], []
        for x_t in x.unbind(1):
            v, s = lif(v, F.conv2d(x_t, p["conv2d.weight"], p["conv2d.bias"]), p, "lif")
            ys.append(s)
        return torch.stack(ys, 1), {"lif.v": v}

    grads = compare(network(net), counts(2, 8, 1, 5, 5), loop)
    assert grads["lif.tau_mem"].shape == grads["lif.threshold"].shape == (2, 1, 1)


def test_gradients_of_a_recurrent_layer() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(5) >> snn.recurrent(snn.LIF(threshold=LOW), via=snn.Linear(5))

    def loop(x, p, state):
        v, s, ys = state["lif.v"], state["lif_back"], []
        for x_t in x.unbind(1):
            back = F.linear(s, p["linear_1.weight"], p["linear_1.bias"])
            v, s = lif(v, F.linear(x_t, p["linear.weight"], p["linear.bias"]) + back, p, "lif")
            ys.append(s)
        return torch.stack(ys, 1), {"lif.v": v, "lif_back": s}

    compare(network(net), counts(3, 12, 4), loop, {"lif.v": torch.rand(3, 5), "lif_back": torch.ones(3, 5)})


def test_gradients_of_a_node_applied_twice() -> None:
    """Shared parameters, states of their own: in one fused node, and in two regions."""

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(3)):
        synapse = snn.ExpSyn([5 * ms, 10 * ms, 20 * ms])
        return x >> synapse >> synapse >> snn.Linear(3) >> synapse

    def loop(x, p, state):
        decay = torch.exp(-DT / p["exp_syn.tau"])
        a, b, c = (state[k] for k in ("exp_syn.isyn", "exp_syn_1.isyn", "exp_syn_2.isyn"))
        ys = []
        for x_t in x.unbind(1):
            a = (a + x_t) * decay
            b = (b + a) * decay
            c = (c + F.linear(b, p["linear.weight"], p["linear.bias"])) * decay
            ys.append(c)
        return torch.stack(ys, 1), {"exp_syn.isyn": a, "exp_syn_1.isyn": b, "exp_syn_2.isyn": c}

    compare(network(net), counts(2, 9, 3), loop)


def test_gradients_through_a_delay() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3, name="held")
        h = x >> snn.ExpSyn()
        back.close(h)
        return back >> snn.Linear(2)

    def loop(x, p, state):
        i, late, ys = state["exp_syn.isyn"], state["held"], []
        for x_t in x.unbind(1):
            ys.append(F.linear(late, p["linear.weight"], p["linear.bias"]))
            i = late = (i + x_t) * torch.exp(-DT / p["exp_syn.tau"])
        return torch.stack(ys, 1), {"exp_syn.isyn": i, "held": late}

    compare(network(net), counts(2, 6, 3), loop)


def test_gradients_of_a_folded_norm_and_scale() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(4)):
        return x >> snn.Linear(3) >> snn.BatchNorm() >> snn.Scale([0.5, -1.0, 2.0], trainable=True)

    made = network(net).eval()
    with torch.no_grad():
        for name in ("weight", "running_var", "running_mean"):
            made.value(f"batch_norm.{name}").uniform_(0.5, 2.0)

    def loop(x, p, state):
        h = F.linear(x, p["linear.weight"], p["linear.bias"]).flatten(0, 1)
        mean, var = made.value("batch_norm.running_mean"), made.value("batch_norm.running_var")
        h = F.batch_norm(h, mean, var, p["batch_norm.weight"], p["batch_norm.bias"])
        return h.unflatten(0, x.shape[:2]) * p["scale.factor"], {}

    assert len(made.executor(torch.device("cpu")).regions) == 1
    compare(made, counts(2, 6, 4), loop)


def test_gradient_across_a_border_of_runs() -> None:
    """Through the returned state, two runs give the gradient of one; detached, only the second run's own."""
    made, x = network(cycle), counts(2, 10, 4)

    def grads(detached: bool | None) -> Tensor:
        made.zero_grad()
        if detached is None:
            loss = made(x)[1][:, 6:].square().sum()
        else:
            _, state, _ = made.evolve(x[:, :6])
            state = {k: v.detach() for k, v in state.items()} if detached else state
            loss = made.evolve(x[:, 6:], state=state)[0][1].square().sum()
        loss.backward()
        return made.get_parameter("linear.weight").grad

    whole = grads(None).clone()
    assert math.isclose(float((grads(False) - whole).norm()), 0, abs_tol=1e-5 * float(whole.norm()))
    assert float((grads(True) - whole).norm()) > 1e-2 * float(whole.norm())
