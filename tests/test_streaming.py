"""``net.step`` without gradients takes a quicker way: it gives what the usual way gives, and sees every change."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import snncompile as snn
from snncompile.ir.errors import InputError
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.streaming import _Quick
from snncompile.targets.c.target import CTarget
from snncompile.targets.executor import Executor


@snn.model
def deep(x=snn.Spikes(6, max=1)):
    h = x >> snn.Linear(9) >> snn.ExpSyn() >> snn.LIF(threshold=0.2, name="first")
    h = h >> snn.recurrent(snn.ALIF(threshold=0.3), via=snn.Linear(9, density=0.1, mask=torch.ones(9, 9)))
    out = h >> snn.Linear(3, bias=False) >> snn.LI()
    return {"membrane": out, "spikes": h}


@snn.model
def images(x=snn.Spikes((1, 6, 6)), y=snn.Current((2, 4, 4))):
    h = x >> snn.Conv2d(2, 3) >> snn.BatchNorm()
    return (h + y >> snn.LIF(threshold=0.2)) >> snn.SumPool2d(2) >> snn.Flatten() >> snn.Dropout(0.5) >> snn.Linear(4)


@snn.model
def loop(x=snn.Spikes(4)):
    back = snn.Feedback(4)
    h = x + back >> snn.LIF(threshold=0.7, name="a") >> snn.Linear(4) >> snn.IF(threshold=0.2, name="b")
    back.close(h)
    return h, h.state("v")


@snn.model
def few(x=snn.Spikes(6, max=1)):
    h = x >> snn.Sparse(8, indegree=3) >> snn.LIF(threshold=0.2)
    back = snn.Feedback(8)
    e = (h >> snn.Linear(8)) + (back >> snn.Sparse(8, p=0.3)) >> snn.LIF(threshold=0.3)
    back.close(e >> snn.IF())
    return e


def network(model, target="c"):
    torch.manual_seed(0)
    return snn.compile(model, target=target).eval()


def data(net, batch):
    lead = (9, batch) if batch else (9,)
    return [(torch.rand(*lead, *t.shape) < 0.5).float() for t in net.graph.input_types().values()]


def taken(net):
    """Whether every plan of ``net`` is there."""
    return bool(net._quick._plans) and all(isinstance(p, _Quick) for p in net._quick._plans.values())


def flat(out):
    return list(out.values()) if isinstance(out, dict) else list(out) if isinstance(out, tuple) else [out]


def run(net, courses, quick):
    state, outs = None, []
    with torch.set_grad_enabled(not quick):
        for xs in zip(*courses, strict=True):
            out, state = net.step(*xs, state)
            outs += flat(out)
    return [*outs, *state.values()], list(state)


@pytest.mark.parametrize("target", ["c", "torch"])
@pytest.mark.parametrize("model", [deep, images, loop, few])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_same_as_the_usual_way(model, target, batch):
    net = network(model, target)
    courses = data(net, batch)
    (got, names), (want, expected) = run(net, courses, True), run(net, courses, False)
    assert taken(net)
    assert names == expected
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, atol=1e-6), (a - b).abs().max()
        assert not a.requires_grad


def test_whole_numbers_give_the_same_bits():
    net = network(deep)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.startswith("linear"):
                p.copy_((p * 64).round() / 64)
    courses = data(net, 2)
    (got, _), (want, _) = run(net, courses, True), run(net, courses, False)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def changes():
    def by_data(net):
        net.first.tau_mem.data[2] = 0.5

    def by_copy(net):
        with torch.no_grad():
            net.first.threshold.fill_(0.9)

    def by_new_memory(net):
        net.first.threshold.data = torch.full_like(net.first.threshold, 0.9)

    def by_state_dict(net):
        net.load_state_dict({n: v * 0.7 for n, v in net.state_dict().items()})

    def by_parameter(net):
        net.first.tau_mem = torch.nn.Parameter(net.first.tau_mem.detach() * 0.3)

    def by_module(net):
        net.first = copy.deepcopy(net.first)
        net.first.tau_mem.data *= 0.3

    def by_weight(net):
        net.linear.weight.data.neg_()

    def by_turned_weight(net):
        weight = net.linear.weight
        weight.data = (0.5 * weight.data).t().contiguous().t()

    def by_bias(net):
        net.linear.bias.data = net.linear.bias.data.repeat(2)[::2] + 1

    by = [by_data, by_copy, by_new_memory, by_state_dict, by_parameter, by_module, by_weight]
    return [*by, by_turned_weight, by_bias]


@pytest.mark.parametrize("change", changes(), ids=lambda c: c.__name__)
def test_every_change_of_a_parameter_is_seen(change):
    net = network(deep)
    courses = data(net, 1)
    before, _ = run(net, courses, True)
    change(net)
    (got, _), (want, _) = run(net, courses, True), run(net, courses, False)
    assert any(not torch.equal(a, b) for a, b in zip(got, before, strict=True))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(got, want, strict=True))


def test_weights_that_do_not_fit_are_an_error():
    net = network(deep)
    (x,) = data(net, 1)
    with torch.no_grad():
        net.step(x[0], None)
        net.linear.weight.data = torch.zeros(9, 7)
        with pytest.raises(RuntimeError):
            net.step(x[0], None)


@pytest.mark.parametrize("name", ["linear.weight", "first.tau_mem"])
def test_parameters_of_another_type_or_device_are_an_error(name):
    net = network(deep)
    (x,) = data(net, 1)
    parameter = net.get_parameter(name)
    kept = parameter.detach().clone()
    with torch.no_grad():
        want, state = net.step(x[0], None)
        parameter.data = kept.double()
        with pytest.raises(InputError, match=f"{name} is float64"):
            net.step(x[0], None)
        parameter.data = kept
        assert torch.equal(net.step(x[0], None)[0]["spikes"], want["spikes"])
        net.to("meta")
        with pytest.raises(InputError, match="move"):
            net.step(x[0], state)


def test_a_parametrisation_that_comes_later():
    class Half(torch.nn.Module):
        def forward(self, weight):
            return weight / 2

    net = network(deep)
    (x,) = data(net, 1)
    with torch.no_grad():
        net.step(x[0], None)
        torch.nn.utils.parametrize.register_parametrization(net.linear, "weight", Half())
        _, state = net.step(x[0], None)
    want = net.evolve(x[0].unsqueeze(1))[1]
    assert all(torch.allclose(state[n], want[n], atol=1e-6) for n in want)


def test_products_of_any_size():
    @snn.model
    def model(x=snn.Spikes(60)):
        return x >> snn.Linear(64) >> snn.LIF(threshold=0.1)

    net = network(model)
    for batch, one in ((1, True), (3, True), (40, False)):
        xs = data(net, batch)
        (got, _), (want, _) = run(net, xs, True), run(net, xs, False)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, want, strict=True))
        nodes = list(net._quick._plans.values())[-1]._plan._nodes
        assert (len(nodes) == 1) is one
    assert taken(net)


def test_steps_in_several_threads():
    net = network(deep)
    (x,) = data(net, 2)
    expected = run(net, [x], True)[0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [run(net, [x], True)[0] for _ in range(20)], range(4)))
    for made in (m for several in found for m in several):
        assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))


def test_every_result_is_written():
    net = network(deep)
    (x,) = data(net, 2)
    target = CTarget(empty=lambda shape, **like: torch.full(shape, float("nan"), **like))
    plan = Executor(compile_graph(net.graph, Request()), target).step_plan(2, False, net.value)
    with torch.no_grad():
        outputs, state = plan({"x": x[0]}, net.initial_state(2))
        want, expected = net.step(x[0])
    for made, wanted in ((outputs, want), (state, expected)):
        assert all(torch.equal(made[name], value) for name, value in wanted.items())


def test_pure():
    net = network(loop)
    (x,) = data(net, 1)
    with torch.no_grad():
        (y, v), state = net.step(x[0], None)
        kept = {n: s.clone() for n, s in state.items()}
        again, _ = net.step(x[1], state)
        assert all(torch.equal(state[n], s) for n, s in kept.items())
        y.fill_(7), v.fill_(7)
        assert all(torch.equal(state[n], s) for n, s in kept.items())
        third, _ = net.step(x[1], state)
    assert all(torch.equal(a, b) for a, b in zip(again, third, strict=True))


@pytest.mark.parametrize("flat", [True, False])
def test_states_are_no_views_of_an_input_or_an_older_state(flat):
    @snn.model
    def held(x=snn.Spikes(4 if flat else (1, 2, 2))):
        x = x if flat else x >> snn.Flatten()
        back = snn.Feedback(4)
        late = back >> snn.Flatten()
        back.close(x)
        return (x + back >> snn.LIF()), late

    net = network(held)
    buffer = torch.ones(2, *net.graph.input_types()["x"].shape)
    with torch.no_grad():
        _, first = net.step(buffer, None)
        buffer.zero_()
        assert (first["feedback"] == 1).all()
        (_, late), _ = net.step(buffer, first)
        assert (late == 1).all()
        late.fill_(9)
    assert (first["feedback"] == 1).all()
    assert taken(net)


def test_what_does_not_fit_goes_the_usual_way():
    net = network(deep)
    (x,) = data(net, 2)
    with torch.no_grad():
        out, state = net.step(x[0], None)
        assert torch.equal(net.step(x[0].bool(), None)[0]["spikes"], out["spikes"])
        assert torch.equal(net.step(x[0].numpy(), None)[0]["spikes"], out["spikes"])
        assert torch.equal(net.step(x=x[0])[0]["spikes"], out["spikes"])
        wide = {n: s.repeat(1, 2)[:, ::2].clone().repeat(1, 2)[:, : s.shape[1]] for n, s in state.items()}
        net.step(x[1], wide)
        with pytest.raises(InputError, match="has shape"):
            net.step(x[0][:, :5], None)
        with pytest.raises(InputError, match="this is no state"):
            net.step(x[0], {"first.v": state["first.v"]})
        with pytest.raises(InputError, match="with this input it is"):
            net.step(x[0][:1], state)
        with pytest.raises(InputError, match="float64"):
            net.step(x[0].double(), None)
        with torch.autocast("cpu"):
            assert net.step(x[0], None)[0]["spikes"].shape == (2, 9)
    net.step(x[0], None)[0]["membrane"].sum().backward()
    assert net.linear.weight.grad is not None


def test_training_mode_draws_masks():
    net = network(images).train()
    x, y = data(net, 2)
    with torch.no_grad():
        net.step(x[0], y[0], None)
    assert not taken(net)


def test_copies_have_plans_of_their_own():
    net = network(deep)
    (x,) = data(net, 1)
    with torch.no_grad():
        first = net.step(x[0], None)[0]["membrane"]
        twin = copy.deepcopy(net)
        twin.linear_2.weight.data.zero_()
        assert (twin.step(x[0], None)[0]["membrane"] == 0).all()
        assert torch.equal(net.step(x[0], None)[0]["membrane"], first)
        for batch in range(1, 40):
            net.step(x[0].repeat(batch, 1), None)
    assert len(net._quick._plans) <= 16
