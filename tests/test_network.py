"""Networks as torch modules: what a user of torch expects of one."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import snncompile as snn
from snncompile import ms


@snn.model(dt=1 * ms)
def classifier(x=snn.Spikes(8), *, hidden=16):
    h = x >> snn.Linear(hidden) >> snn.ExpSyn(tau=5 * ms) >> snn.LIF(tau_mem=20 * ms, threshold=0.3)
    return h >> snn.Linear(3) >> snn.LI()


@snn.model
def two_in_two_out(a=snn.Spikes(6), b=snn.Current(4)):
    h = (a >> snn.Linear(5)) + (b >> snn.Linear(5)) >> snn.LIF(threshold=0.3)
    return {"spikes": h, "membrane": h.state("v")}


@snn.model
def recurrent(x=snn.Spikes(8)):
    h = x >> snn.Linear(6) >> snn.recurrent(snn.LIF(threshold=0.3), via=snn.Linear(6))
    return h, h >> snn.Linear(2) >> snn.LI()


@pytest.fixture
def net() -> snn.Network:
    torch.manual_seed(0)
    return snn.compile(classifier)


@pytest.fixture
def x() -> torch.Tensor:
    return (torch.rand(4, 12, 8, generator=torch.Generator().manual_seed(1)) < 0.5).float()


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float16, torch.bfloat16])
def test_counts_of_any_dtype(net: snn.Network, x: torch.Tensor, dtype: torch.dtype) -> None:
    assert torch.equal(net(x.to(dtype)), net(x))


def test_numpy_and_lists(net: snn.Network, x: torch.Tensor) -> None:
    assert torch.equal(net(x.numpy()), net(x))
    assert torch.equal(net(np.asarray(x, dtype=bool)), net(x))
    assert torch.equal(net(x.int().tolist()), net(x))


def test_non_contiguous_input(net: snn.Network, x: torch.Tensor) -> None:
    wide = torch.zeros(12, 8, 4, 2)
    wide[..., 0] = x.permute(1, 2, 0)
    strided = wide[..., 0].permute(2, 0, 1)
    assert not strided.is_contiguous()
    torch.testing.assert_close(net(strided), net(x))


def test_one_sequence_and_batch_of_one(net: snn.Network, x: torch.Tensor) -> None:
    assert net(x[0]).shape == (12, 3)
    assert net(x[:1]).shape == (1, 12, 3)
    torch.testing.assert_close(net(x[0]), net(x)[0])
    assert net.evolve(x[0], record="lif.v")[2]["lif.v"].shape == (12, 16)
    assert net.evolve(x[0], record="lif.v:sum")[2]["lif.v:sum"].shape == (16,)


def test_no_steps_and_no_batch(net: snn.Network, x: torch.Tensor) -> None:
    out, state, record = net.evolve(x[:, :0], record=["lif.v", "lif.spikes:sum"])
    assert out.shape == (4, 0, 3) and record["lif.v"].shape == (4, 0, 16)
    assert torch.equal(record["lif.spikes:sum"], torch.zeros(4, 16))
    assert all(torch.equal(state[k], v) for k, v in net.initial_state(4).items())
    assert net(x[:0]).shape == (0, 12, 3)
    (out.sum() + sum(s.sum() for s in state.values())).backward()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.zeros(4, 12, 7), r"input 'x' has shape \(4, 12, 7\); it takes \(batch, time, 8\) or \(time, 8\)"),
        (torch.zeros(8), r"input 'x' has shape \(8,\); it takes"),
        (torch.zeros(4, 12, 8, dtype=torch.float64), r"input 'x' is float64; networks compute in float32"),
    ],
)
def test_data_that_does_not_fit(net: snn.Network, data: torch.Tensor, said: str) -> None:
    with pytest.raises(snn.InputError, match=said):
        net(data)


def test_other_precisions_are_refused(net: snn.Network, x: torch.Tensor) -> None:
    with pytest.raises(snn.InputError, match=r"linear.weight is float16; networks compute in float32.*net.float\(\)"):
        net.half()(x)
    net.float()(x)


def test_inputs_and_outputs_by_name(x: torch.Tensor) -> None:
    net = snn.compile(two_in_two_out)
    a, b = x[..., :6], x[..., :4] * 0.3
    out = net(a, b)
    assert list(out) == ["spikes", "membrane"] and out["membrane"].shape == (4, 12, 5)
    assert torch.equal(net(b=b, a=a)["spikes"], out["spikes"])
    assert torch.equal(net(a, b=b)["spikes"], out["spikes"])
    with pytest.raises(snn.InputError, match=r"input 'b' is missing; it takes \(batch, time, 4\) or \(time, 4\)"):
        net(a)
    with pytest.raises(snn.InputError, match="no input 'c'; its inputs: a, b"):
        net(a, c=b)
    with pytest.raises(snn.InputError, match=r"a state is given by name: net.evolve\(x, state=state\)"):
        net.evolve(a, b, net.initial_state(4))
    with pytest.raises(snn.InputError, match="inputs differ in length or batch: a: 12 steps, batch 4; b: 11 steps"):
        net(a, b[:, 1:])
    with pytest.raises(snn.InputError, match="some inputs have a batch axis and some have none"):
        net(a, b[0])


def test_a_tuple_of_outputs(x: torch.Tensor) -> None:
    spikes, readout = snn.compile(recurrent)(x)
    assert spikes.shape == (4, 12, 6) and readout.shape == (4, 12, 2)


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [classifier, recurrent])
def test_going_on_from_a_state(model: snn.Model, x: torch.Tensor) -> None:
    torch.manual_seed(0)
    net = snn.compile(model)
    _, whole, record = net.evolve(x, record="lif.v")
    _, state, first = net.evolve(x[:, :5], record="lif.v")
    _, state, second = net.evolve(x[:, 5:], state=state, record="lif.v")
    torch.testing.assert_close(torch.cat([first["lif.v"], second["lif.v"]], 1), record["lif.v"])
    torch.testing.assert_close(state, whole)


@pytest.mark.parametrize("model", [classifier, recurrent])
def test_step_by_step(model: snn.Model, x: torch.Tensor) -> None:
    torch.manual_seed(0)
    net = snn.compile(model)
    state, ys = None, []
    for x_t in x.unbind(1):
        y, state = net.step(x_t, state)
        ys.append(y if isinstance(y, torch.Tensor) else y[-1])
    out = net(x)
    torch.testing.assert_close(torch.stack(ys, 1), out if isinstance(out, torch.Tensor) else out[-1])
    assert net.step(x[0, 0])[1]["lif.v"].shape[0] == 1


def test_step_of_a_sequence_is_refused(net: snn.Network, x: torch.Tensor) -> None:
    with pytest.raises(snn.InputError, match=r"shape \(4, 12, 8\); one step of it is \(batch, 8\) or \(8,\)"):
        net.step(x)
    with pytest.raises(snn.InputError, match="input 'x' is given twice"):
        net.step(x[:, 0], x=x[:, 0])
    with pytest.raises(snn.InputError, match="the state is given twice"):
        net.step(x[:, 0], None, state={})


def test_a_state_that_does_not_fit(net: snn.Network, x: torch.Tensor) -> None:
    state = net.initial_state(3)
    with pytest.raises(snn.InputError, match=r"state 'exp_syn.isyn' has shape \(3, 16\); with this input it is \(4"):
        net.evolve(x, state=state)
    with pytest.raises(snn.InputError, match=r"no state of this network: missing lif.v, li.v; unknown b"):
        net.evolve(x, state={"exp_syn.isyn": state["exp_syn.isyn"], "b": state["lif.v"]})


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ((1, 2), "a state is a dict of tensors by name, as evolve and step return it, not a tuple"),
        (torch.zeros(2, 16), "not a Tensor"),
    ],
)
def test_what_is_no_state(net: snn.Network, x: torch.Tensor, state: object, said: str) -> None:
    with pytest.raises(snn.InputError, match=said):
        net.evolve(x, state=state)


def test_states_are_float32_or_fit_it(net: snn.Network, x: torch.Tensor) -> None:
    _, state, _ = net.evolve(x)
    with pytest.raises(snn.InputError, match=r"state 'exp_syn.isyn' is float64; networks compute in float32"):
        net.evolve(x, state={name: value.double() for name, value in state.items()})
    expected, _, _ = net.evolve(x, state=state)
    from_numpy, _, _ = net.evolve(x, state={name: value.detach().numpy() for name, value in state.items()})
    assert torch.equal(from_numpy, expected)


@pytest.mark.parametrize("data", [None, "spikes"])
def test_what_is_no_data(net: snn.Network, data: object) -> None:
    said = f"input 'x' is of type {type(data).__name__}: give a tensor or an array of numbers"
    with pytest.raises(snn.InputError, match=said):
        net(data)
    if data is not None:  # net.step(None) is a step without input
        with pytest.raises(snn.InputError, match=said):
            net.step(data)


@pytest.mark.parametrize("length", [{"steps": -1}, {"steps": 2.5}, {"steps": 3, "batch": "2"}])
def test_a_length_that_cannot_be(length: dict) -> None:
    @snn.model
    def alone():
        back = snn.Feedback(3)
        spikes = back >> snn.Linear(3) >> snn.LIF(bias=0.3)
        back.close(spikes)
        return spikes

    net = snn.compile(alone)
    assert net(steps=4, batch=2).shape == (2, 4, 3)
    with pytest.raises(snn.InputError, match=r"(steps|batch) is a whole number of at least 0, not "):
        net(**length)


@pytest.mark.parametrize("record", [3, ["lif.v", 3]])
def test_what_is_no_record(net: snn.Network, x: torch.Tensor, record: object) -> None:
    with pytest.raises(snn.InputError, match=r"record takes names such as 'lif\.v', a list of them, or True for all"):
        net.evolve(x, record=record)


def test_a_run_leaves_the_state_it_was_given(net: snn.Network, x: torch.Tensor) -> None:
    state = net.initial_state(4)
    net.evolve(x, state=state)
    assert all(not v.any() for v in state.values())


def test_truncated_backpropagation(net: snn.Network, x: torch.Tensor) -> None:
    """Detached, a chunk's gradient is that of the chunk alone; kept, the chunks give the gradient of the whole."""
    net(x).square().sum().backward()
    whole = gradients(net)
    net.zero_grad()
    first, state, _ = net.evolve(x[:, :5])
    second, _, _ = net.evolve(x[:, 5:], state=state)
    (first.square().sum() + second.square().sum()).backward()
    torch.testing.assert_close(gradients(net), whole, rtol=1e-4, atol=1e-4)
    net.zero_grad()
    held = {k: v.detach() for k, v in state.items()}
    net.evolve(x[:, 5:], state=held)[0].square().sum().backward()
    assert not torch.allclose(gradients(net)["linear.weight"], whole["linear.weight"])


# -- records -----------------------------------------------------------------------------------------------------------


def test_everything_recorded(net: snn.Network, x: torch.Tensor) -> None:
    out, _, record = net.evolve(x, record=True)
    assert {"x", "linear.out", "exp_syn.isyn", "lif.v", "lif.spikes", "li.v"} <= set(record)
    assert torch.equal(record["li.v"], out)


def test_reduced_records(net: snn.Network, x: torch.Tensor) -> None:
    record = net.evolve(x, record=["lif.spikes", "lif.spikes:sum", "lif.spikes:mean"])[2]
    assert record["lif.spikes"].sum() > 0
    torch.testing.assert_close(record["lif.spikes:sum"], record["lif.spikes"].sum(1))
    torch.testing.assert_close(record["lif.spikes:mean"], record["lif.spikes"].mean(1))


def test_the_same_record_again_and_again(net: snn.Network, x: torch.Tensor) -> None:
    """Also in the other mode, and for signals that the passes remove."""
    names = list(net.evolve(x, record=True)[2])
    for mode in (True, False, True):
        net.train(mode)
        for name in names:
            for _ in range(2):
                assert list(net.evolve(x, record=name)[2]) == [name]


def test_a_record_there_is_none_of(net: snn.Network, x: torch.Tensor) -> None:
    with pytest.raises(snn.InputError, match=r"nothing to record under 'lif.w'. Did you mean 'lif.v'\? Names: x, "):
        net.evolve(x, record="lif.w")
    with pytest.raises(snn.InputError, match="unknown reduction 'max'; use :sum or :mean"):
        net.evolve(x, record="lif.v:max")


def test_gradients_of_a_loss_on_hidden_signals(net: snn.Network, x: torch.Tensor) -> None:
    record = net.evolve(x, record=["lif.v", "lif.spikes:sum"])[2]
    (record["lif.v"].square().mean() + record["lif.spikes:sum"].mean()).backward()
    found = gradients(net)
    assert {"linear.weight", "linear.bias", "exp_syn.tau", "lif.tau_mem", "lif.threshold"} <= set(found)
    assert all(torch.isfinite(g).all() for g in found.values()) and found["linear.weight"].any()
    assert not any(g.any() for n, g in found.items() if n.startswith(("linear_1", "li.")))


def test_a_sum_has_the_gradient_of_its_course(net: snn.Network, x: torch.Tensor) -> None:
    net.evolve(x, record="lif.spikes:sum")[2]["lif.spikes:sum"].square().sum().backward()
    summed = gradients(net)
    net.zero_grad()
    net.evolve(x, record="lif.spikes")[2]["lif.spikes"].sum(1).square().sum().backward()
    torch.testing.assert_close(gradients(net), summed)


# -- modules -----------------------------------------------------------------------------------------------------------


def test_copies(net: snn.Network, x: torch.Tensor) -> None:
    net(x).sum().backward()  # kernels and gradients are there to be copied, or not
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))
        with torch.no_grad():
            other.get_parameter("linear.weight").zero_()
        assert net.get_parameter("linear.weight").any()


def test_state_dict(net: snn.Network, x: torch.Tensor) -> None:
    assert list(net.state_dict())[:3] == ["linear.weight", "linear.bias", "exp_syn.tau"]
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = snn.compile(classifier)
    assert not torch.equal(other(x), net(x))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), net(x))


def test_names_do_not_depend_on_the_target(net: snn.Network) -> None:
    assert list(snn.compile(classifier, target="triton").state_dict()) == list(net.state_dict())


def test_changed_values_are_seen(net: snn.Network, x: torch.Tensor) -> None:
    before = net(x)
    with torch.no_grad():
        net.get_parameter("lif.threshold").mul_(2)
    assert not torch.equal(net(x), before)


def test_devices(net: snn.Network, x: torch.Tensor) -> None:
    assert torch.equal(net.to("cpu")(x), net(x))
    with pytest.raises(snn.InputError, match=r"the input is on cpu, the network on meta: move one, net.to\(...\)"):
        copy.deepcopy(net).to("meta")(x)


@pytest.mark.parametrize("target", ["torch", "auto"])
@pytest.mark.parametrize("astray", ["state 'lif.v'", "input 'b'", "'lif.bias'"])
def test_one_tensor_on_another_device(target: str, astray: str) -> None:
    net = snn.compile(two_in_two_out, target=target)
    given = {"a": torch.ones(2, 5, 6), "b": torch.ones(2, 5, 4)}
    _, state, _ = net.evolve(**given)
    if astray.startswith("state"):
        state["lif.v"] = state["lif.v"].to("meta")
    elif astray.startswith("input"):
        given["b"] = given["b"].to("meta")
    else:
        net.lif.bias = nn.Parameter(net.lif.bias.to("meta"))
    with pytest.raises(snn.InputError, match=f"{astray} is on meta, input 'a' on cpu: move all to one device"):
        net.evolve(**given, state=state)


def test_no_grad_and_inference_mode(net: snn.Network, x: torch.Tensor) -> None:
    expected = net(x).detach()
    with torch.no_grad():
        assert torch.equal(net(x), expected) and not net(x).requires_grad
    with torch.inference_mode():
        assert torch.equal(net(x), expected)
    assert net(x).requires_grad


def test_frozen_parameters(net: snn.Network, x: torch.Tensor) -> None:
    net.requires_grad_(False)
    assert not net(x).requires_grad
    net.get_parameter("exp_syn.tau").requires_grad_(True)
    net(x).sum().backward()
    assert list(gradients(net)) == ["exp_syn.tau"]


def test_gradient_of_the_input(net: snn.Network, x: torch.Tensor) -> None:
    x.requires_grad_()
    (found,) = torch.autograd.grad(net(x).sum(), x)
    assert found.shape == x.shape and found.any()


@pytest.mark.parametrize("checkpoint", [1, 5, 100])
def test_checkpoints_change_nothing(net: snn.Network, x: torch.Tensor, checkpoint: int) -> None:
    net(x).square().sum().backward()
    other = snn.compile(classifier, checkpoint=checkpoint)
    other.load_state_dict(net.state_dict())
    other(x).square().sum().backward()
    assert all(torch.equal(g, gradients(net)[n]) for n, g in gradients(other).items())


def test_autocast_leaves_scans_in_float32(net: snn.Network, x: torch.Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, state, record = net.evolve(x, record=["lif.v", "exp_syn.isyn"])
        out.sum().backward()
    assert out.dtype is torch.float32
    assert {v.dtype for v in (*state.values(), *record.values(), *gradients(net).values())} == {torch.float32}


class Around(nn.Module):
    """A module with a network inside."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.net, self.decode = nn.Linear(8, 8), snn.compile(classifier), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out, _, record = self.net.evolve(torch.relu(self.encode(x)), record="lif.spikes:sum")
        return self.decode(out).mean(1), record["lif.spikes:sum"]


def test_torch_compile_of_a_module_around(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    module = Around()
    out, count = module(x)
    (out.sum() + count.sum()).backward()
    expected = gradients(module)
    module.zero_grad()
    compiled = torch.compile(module, backend="aot_eager")
    for _ in range(2):
        module.zero_grad()
        again, count_again = compiled(x)
        (again.sum() + count_again.sum()).backward()
        torch.testing.assert_close(again, out)
        assert torch.equal(count_again, count)
        torch.testing.assert_close(gradients(module), expected)


# -- parameters --------------------------------------------------------------------------------------------------------


def test_families(net: snn.Network) -> None:
    assert list(net.family("taus")) == ["exp_syn.tau", "lif.tau_mem", "li.tau_mem"]
    assert net.family("taus")["lif.tau_mem"] is net.get_parameter("lif.tau_mem")
    with pytest.raises(snn.ModelError, match="no parameter is of family 'tau'; families here: biases, taus"):
        net.family("tau")


def test_clamp_restores_constraints_after_an_optimiser(net: snn.Network, x: torch.Tensor) -> None:
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    net(x).sum().backward()
    optimiser.step()
    with pytest.raises(snn.ModelError, match=r"must be greater than 0, but is -.*net.clamp_\(\) restores"):
        net.check_parameters()
    net.clamp_().check_parameters()
    assert torch.isfinite(net(x)).all()


def test_ordered_parameters_are_clamped() -> None:
    @snn.model
    def double(x=snn.Spikes(4)):
        return x >> snn.DoubleExpCurrent()

    net = snn.compile(double)
    with torch.no_grad():
        net.get_parameter("double_exp_current.tau_rise").fill_(50 * ms)
    with pytest.raises(snn.ModelError, match="tau_rise must be smaller than tau_decay"):
        net.check_parameters()
    net.clamp_().check_parameters()


def test_first_weights_with_a_sign() -> None:
    @snn.model
    def signed(x=snn.Spikes(4)):
        return x >> snn.Linear(64, sign=[1, -1, 1, -1])

    weight = snn.compile(signed).get_parameter("linear.weight").detach()
    assert (weight[:, ::2] >= 0).all() and (weight[:, 1::2] <= 0).all() and weight.any()


def test_seeds() -> None:
    def made(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return snn.compile(classifier).get_parameter("linear.weight").detach()

    assert torch.equal(made(3), made(3)) and not torch.equal(made(3), made(4))
