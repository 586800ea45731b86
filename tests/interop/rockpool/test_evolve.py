"""Running: outputs, states and records against Rockpool's own modules, batches, and what does not fit."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile.interop.rockpool import NetworkModule, as_module, tree_map


def test_as_rockpools_sequential(module: NetworkModule, original: Any) -> None:
    torch.manual_seed(1)
    weight = torch.randn(4, 3).abs()
    named = OrderedDict([("linear", original.LinearTorch((4, 3), weight=weight.clone()))])
    named["exp_syn"], named["lif"] = original.ExpSynTorch(3), original.LIFNeuronTorch(3)
    theirs = original.Sequential(named)

    @snn.model
    def net(x=snn.Spikes(4, max=8)):
        return x >> snn.Linear(3, bias=False, init=weight.T) >> snn.ExpSyn() >> snn.LIF()

    ours = as_module(net, target="torch")
    x = torch.randint(0, 3, (20, 4)).float()
    want, want_state, want_record = theirs(x, record=True)
    got, state, record = ours(x, record=True)
    torch.testing.assert_close(got, want)
    assert got.sum() > 3
    assert list(record) == list(want_record) and list(state) == list(want_state)
    for name, value in want_record.items():
        if isinstance(value, dict):
            extra = {"exp_syn": {"isyn"}}.get(name, set())  # Rockpool's records nothing there
            assert {"vmem" if k == "v" else k for k in record[name]} == set(value) | extra
        else:
            torch.testing.assert_close(record[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state["lif"]["v"], want_state["lif"]["vmem"], rtol=1e-4, atol=1e-5)
    assert state["exp_syn"]["isyn"].shape == want_state["exp_syn"]["isyn"].shape == (3,)


@pytest.mark.parametrize("shape", [(7, 3), (2, 7, 3), (2, 7, 1), (7, 1), (1, 0, 3)])
def test_batches_as_the_original(module: NetworkModule, original: Any, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    want, _, _ = original.ExpSynTorch(3)(x)
    got, _, _ = module.exp_syn(x)
    assert torch.equal(got, want) and got.shape == want.shape


def test_one_dimension_is_time(module: NetworkModule) -> None:
    assert torch.equal(module.exp_syn(torch.ones(7))[0], module.exp_syn(torch.ones(1, 7, 3))[0])


def test_arrays_are_taken(module: NetworkModule) -> None:
    x = np.random.default_rng(0).random((2, 5, 4))
    assert torch.equal(module(x)[0], module(torch.from_numpy(x).float())[0])
    assert torch.equal(module([[1, 0, 0, 1], [0, 1, 1, 0]])[0], module(torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]]))[0])


def test_evolve_is_pure_and_goes_on_from_the_state(module: NetworkModule) -> None:
    x = torch.randint(0, 3, (2, 9, 4)).float()
    whole, last, _ = module.evolve(x)
    assert torch.equal(module.evolve(x)[0], whole)
    first, state, _ = module.evolve(x[:, :4])
    later = module.set_attributes(state)
    rest, end, _ = later.evolve(x[:, 4:])
    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert all(torch.equal(end[n][k], last[n][k]) for n in last for k in last[n])
    assert torch.equal(module.lif.v, torch.zeros(3)) and later.lif.v.shape == (2, 3)
    assert torch.equal(later.reset_state().evolve(x)[0], whole)


def test_state_of_another_batch(module: NetworkModule) -> None:
    _, state, _ = module.evolve(torch.ones(2, 3, 4))
    with pytest.raises(snn.InputError, match=r"batch of 2, the input is a batch of 3: use reset_state\(\)"):
        module.set_attributes(state).evolve(torch.ones(3, 3, 4))
    _, one, _ = module.evolve(torch.ones(3, 4))
    assert module.set_attributes(one).evolve(torch.ones(3, 3, 4))[0].shape == (3, 3, 2)


def test_record(module: NetworkModule) -> None:
    x = torch.ones(5, 4)
    assert module.evolve(x)[2] == {} and module.evolve(x, record=False)[2] == {}
    assert module.lif.evolve(torch.ones(5, 3), record=True)[2].keys() == {"v", "spikes"}
    assert module.linear.evolve(x, record=True)[2] == {}
    some = module.evolve(x, record=["lif.v", "lif.spikes:sum"])[2]
    assert some["lif"]["v"].shape == (1, 5, 3) and some["lif"]["spikes:sum"].shape == (1, 3)
    with pytest.raises(snn.InputError, match=r"nothing to record under 'lif\.w'"):
        module.evolve(x, record=["lif.w"])


def test_nodes_run_alone_as_in_the_network(module: NetworkModule) -> None:
    x = torch.randint(0, 3, (2, 9, 4)).float()
    want, _, record = module.evolve(x, record=True)
    for name, sub in module.modules().items():
        x, _, _ = sub(x)
        assert torch.equal(x, record[f"{name}_output"]), name
    assert torch.equal(x, want)


def test_result_of_another_module(module: NetworkModule, original: Any) -> None:
    x = torch.randint(0, 3, (9, 4)).float()
    lin, syn = original.LinearTorch((4, 3)), original.ExpSynTorch(3)
    _, want_state, want_record = syn(lin(x, record=True), record=True)
    out, state, record = module.exp_syn(module.linear(x), record=True)
    assert torch.equal(out, module.exp_syn(module.linear(x)[0])[0])
    assert [list(want_state), list(want_record)] == [[""], [""]]  # modules there have no name until they are in another
    assert [list(state), list(record)] == [["'exp_syn'"], ["'exp_syn'"]]


def test_forward_is_the_output(module: NetworkModule) -> None:
    x = torch.ones(5, 4)
    assert torch.equal(module.forward(x), module.evolve(x)[0])


@pytest.mark.parametrize("target", ["torch", "c"])
def test_targets(model: Any, target: str) -> None:
    torch.manual_seed(0)
    net = snn.compile(model, target=target)
    x = torch.randint(0, 3, (2, 6, 4)).float()
    want, _, record = net.evolve(x, record=["lif.v"])
    got, _, tree = as_module(net).evolve(x, record=True)
    assert torch.equal(got, want) and torch.equal(tree["lif"]["v"], record["lif.v"])


def test_several_inputs_and_outputs() -> None:
    @snn.model
    def net(a=snn.Spikes(2), b=snn.Current(3)):
        v = (a >> snn.Linear(3)) + b >> snn.LI()
        return {"v": v, "spikes": v >> snn.IF()}

    module = as_module(net, target="torch")
    assert module.size_in == 5 and not module.spiking_input
    a, b = torch.ones(4, 2), torch.rand(4, 3)
    by_name, by_place = module({"a": a, "b": b})[0], module((a, b))[0]
    beside = module(torch.cat([a, b], 1))[0]
    assert list(by_name) == ["v", "spikes"] and by_name["v"].shape == (1, 4, 3)
    assert torch.equal(by_name["v"], by_place["v"]) and torch.equal(by_name["v"], beside["v"])
    for data, message in [
        ({"a": a}, "inputs are a, b, not a"),
        ((a, b, b), "2 inputs, but 3"),
        (a, r"\(batch, time, 5\) with the channels of a \(2\), b \(3\)"),
    ]:
        with pytest.raises(snn.InputError, match=message):
            module(data)


def test_images_also_with_their_features_in_one_dimension() -> None:
    @snn.model
    def net(x=snn.Spikes((2, 3, 3))):
        return x >> snn.Conv2d(1, 2) >> snn.LIF()

    module = as_module(net, target="torch")
    assert module.shape == (18, 4) and module.lif.shape == (4,)
    x = torch.rand(2, 5, 2, 3, 3)
    want, state, _ = module(x)
    assert torch.equal(module(x.flatten(2))[0], want) and state["lif"]["v"].shape == (2, 1, 2, 2)
    with pytest.raises(snn.InputError, match="or with 18 features in one dimension"):
        module(torch.ones(5, 17))


def test_wrong_shapes(module: NetworkModule) -> None:
    with pytest.raises(snn.InputError, match=r"'x' has shape \(5, 3\); it takes \(batch, time, 4\) or \(time, 4\)"):
        module(torch.ones(5, 3))
    with pytest.raises(snn.InputError, match="of type str"):
        module("spikes")


def test_compiled_networks_take_no_options(model: Any) -> None:
    with pytest.raises(snn.InputError, match="compiled already: hidden cannot be given"):
        as_module(snn.compile(model, target="torch"), hidden=5)
    assert as_module(model, target="torch", hidden=5).lif.size_out == 5


def test_names_that_a_record_would_mix_up() -> None:
    @snn.model
    def net(x=snn.Spikes(2)):
        return x >> snn.LIF(name="a") >> snn.LI(name="a_output")

    with pytest.raises(snn.ModelError, match="rename one of the two nodes"):
        as_module(net, target="torch")


def test_gradients_reach_inputs_and_go_through_the_state(module: NetworkModule) -> None:
    x = torch.rand(1, 6, 4, requires_grad=True)
    _, state, _ = module.evolve(x[:, :3])
    module.set_attributes(state).evolve(x[:, 3:].detach())[0].sum().backward()
    assert x.grad is not None and x.grad[:, :3].abs().sum() > 0
    cut = module.set_attributes(tree_map(torch.Tensor.detach, state))
    assert not cut.state()["lif"]["v"].requires_grad


def test_delays_go_on_from_the_state() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        h = x >> snn.Linear(3, init=np.ones((3, 4)), delay=2e-3) >> snn.Delay(3e-3) >> snn.ExpSyn()
        return h >> snn.recurrent(snn.LIF(threshold=0.1), via=snn.Linear(3), delay=4e-3)

    module = as_module(net, target="torch")
    assert list(module.state("histories")) == ["linear", "delay"] and list(module.state("feedbacks")) == ["lif_back"]
    x = (torch.rand(2, 15, 4) < 0.5).float()
    whole, _, record = module.evolve(x, record=True)
    first, state, _ = module.evolve(x[:, :7])
    rest, _, _ = module.set_attributes(state).evolve(x[:, 7:])
    assert torch.equal(torch.cat([first, rest], 1), whole) and whole.sum() > 0
    assert torch.equal(module.linear(x)[0], record["linear_output"])
    assert torch.equal(module.delay(record["linear_output"])[0], record["delay_output"])


def test_no_inputs() -> None:
    @snn.model
    def net():
        back = snn.Feedback(3)
        h = back >> snn.Linear(3, init=np.ones((3, 3)), bias=False) >> snn.LIF(bias=0.4)
        back.close(h)
        return h

    module = as_module(net, target="torch")
    assert (module.size_in, module.spiking_input) == (0, False)
    out, _, _ = module(torch.zeros(7, 0))
    assert out.shape == (1, 7, 3) and out.sum() > 0
    assert torch.equal(module(torch.zeros(2, 7, 0))[0], out.expand(2, 7, 3))
    spikes, _, _ = module.timed()(duration=0.007)
    assert np.array_equal(spikes.raster(1e-3, add_events=True), out[0].detach().numpy())
    with pytest.raises(snn.InputError, match=r"no inputs: give \(batch, time, 0\) or \(time, 0\), not \(7, 1\)"):
        module(torch.zeros(7, 1))


def test_copies_and_pickles(module: NetworkModule) -> None:
    x = torch.rand(5, 4) * 3
    used = module.set_attributes({"lif": {"v": torch.full((3,), 0.5), "tau_mem": torch.full((3,), 0.5)}})
    for again in (copy.deepcopy(used), pickle.loads(pickle.dumps(used))):
        assert torch.equal(again(x)[0], used(x)[0]) and again.lif.tau_mem is not used.lif.tau_mem
        assert torch.equal(again.lif.v, used.lif.v)


def test_training_mode_is_that_of_the_network() -> None:
    @snn.model
    def net(x=snn.Spikes(50)):
        return x >> snn.Dropout(0.5)

    module = as_module(net, target="torch")
    x = torch.ones(3, 50)
    assert (module(x)[0] == 0).any() and (module.dropout(x)[0] == 0).any()
    module.to_torch().eval()
    assert torch.equal(module(x)[0][0], x) and torch.equal(module.dropout(x)[0][0], x)
