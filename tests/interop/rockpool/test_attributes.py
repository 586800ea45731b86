"""Setting, resetting, flattening: what comes back is a new module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import snncompile as snn
from snncompile.interop.rockpool import NetworkModule, as_module, tree_map


def test_set_attributes_returns_the_updated_module(module: NetworkModule) -> None:
    tau = torch.tensor([0.01, 0.02, 0.03])
    new = module.set_attributes({"lif": {"tau_mem": tau, "v": torch.full((3,), 0.25)}})
    assert torch.equal(new.lif.tau_mem, tau) and isinstance(new.lif.tau_mem, torch.nn.Parameter)
    assert torch.equal(new.lif.v, torch.full((3,), 0.25))
    assert torch.equal(module.lif.tau_mem, torch.full((3,), 0.02)) and torch.equal(module.lif.v, torch.zeros(3))
    assert new.linear.weight is module.linear.weight  # what was not set is shared
    x = torch.rand(8, 4) * 3
    assert not torch.equal(new(x)[0], module(x)[0])
    net = new.to_torch()
    held = {name: v[None] for name, v in {"lif.v": new.lif.v}.items()}
    state = {**net.initial_state(1), **held}
    assert torch.equal(net.evolve(x[None], state=state)[0], new(x)[0])
    assert net is not module.to_torch() and net.state_dict().keys() == module.to_torch().state_dict().keys()


def test_trees_go_back_as_they_came(module: NetworkModule) -> None:
    same = module.set_attributes(module.parameters()).set_attributes(module.simulation_parameters())
    same = same.set_attributes(module.state())
    assert same.to_torch() is module.to_torch()
    doubled = module.parameters()
    doubled["linear"]["weight"] = (doubled["linear"]["weight"] * 2).detach()
    assert torch.equal(module.set_attributes(doubled).linear.weight, module.linear.weight * 2)


def test_a_loss_of_values_reaches_them(module: NetworkModule) -> None:
    values = tree_map(lambda p: p.detach().clone().requires_grad_(), module.parameters())
    x = torch.rand(2, 9, 4) * 3
    out, _, _ = module.set_attributes(values).evolve(x)
    got = torch.autograd.grad(out.square().sum(), list(values.astorch()))
    net = module.to_torch()
    want = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    assert len(got) == len(want) and all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_nodes_have_values_of_their_own_once_set(module: NetworkModule) -> None:
    lif = module.lif.set_attributes({"threshold": torch.full((3,), 0.1)})
    x = torch.rand(6, 3)
    assert lif(x)[0].sum() > module.lif(x)[0].sum()
    back = module.set_attributes({"lif": lif.parameters()})
    assert torch.equal(back.lif.threshold, torch.full((3,), 0.1)) and torch.equal(back.lif(x)[0], lif(x)[0])


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({"lif": {"tau": 1.0}}, snn.InputError, "LIF 'lif' has no attribute or submodule 'tau'.*It has: tau_mem"),
        ({"life": {}}, snn.InputError, "Did you mean 'lif'"),
        ({"lif": torch.ones(3)}, snn.InputError, "LIF 'lif' takes a dictionary of attributes, not a Tensor"),
        ({"lif": {"tau_mem": torch.ones(4)}}, snn.InputError, r"lif.tau_mem has shape \(3,\), the value given \(4,\)"),
        ({"lif": {"tau_mem": "long"}}, snn.InputError, "lif.tau_mem takes numbers, not a str"),
        ({"lif": {"tau_mem": -torch.ones(3)}}, snn.ModelError, "tau_mem must be greater than 0"),
        ({"lif": {"v": torch.ones(4)}}, snn.InputError, r"state 'lif.v' has shape \(3,\) or \(batch, 3\)"),
        ({"dt": 2e-3}, snn.ModelError, "dt of Network 'small' is 0.001 and part of the compiled network"),
        ({"lif": {"reset": "zero"}}, snn.ModelError, "compile the model again to make it 'zero'"),
    ],
)
def test_refused(module: NetworkModule, tree: Any, error: type[snn.SnnError], message: str) -> None:
    with pytest.raises(error, match=message):
        module.set_attributes(tree)


def test_order_of_parameters_is_kept() -> None:
    @snn.model
    def net(x=snn.Spikes(2)):
        return x >> snn.DoubleExpCurrent()

    module = as_module(net, target="torch")
    with pytest.raises(snn.ModelError, match="tau_rise must be smaller than tau_decay"):
        module.set_attributes({"double_exp_current": {"tau_rise": torch.full((2,), 0.5)}})


def test_shared_parameters_have_one_value() -> None:
    @snn.model
    def net(x=snn.Spikes(2)):
        lif = snn.LIF()
        return x >> lif >> snn.Linear(2) >> lif

    module = as_module(net, target="torch")
    assert module.lif.tau_mem is module.lif_1.tau_mem
    new = module.set_attributes({"lif": {"tau_mem": torch.full((2,), 0.5)}})
    assert torch.equal(new.lif_1.tau_mem, torch.full((2,), 0.5))
    assert len(list(module.parameters().astorch())) == len(list(module.to_torch().parameters()))
    different = {"lif": {"tau_mem": torch.full((2,), 0.5)}, "lif_1": {"tau_mem": torch.full((2,), 0.4)}}
    with pytest.raises(snn.InputError, match=r"lif.tau_mem is given twice"):
        module.set_attributes(different)


def test_reset_state(module: NetworkModule) -> None:
    used = module.set_attributes(module.evolve(torch.ones(2, 5, 4))[1])
    new = used.reset_state()
    assert torch.equal(new.exp_syn.isyn, torch.zeros(3)) and not torch.equal(used.exp_syn.isyn[0], torch.zeros(3))
    only = used.set_attributes({"lif": used.lif.reset_state().state()})
    assert torch.equal(only.lif.v, torch.zeros(3)) and only.exp_syn.isyn.shape == (2, 3)


def test_reset_parameters(module: NetworkModule) -> None:
    used = module.set_attributes({"lif": {"tau_mem": torch.ones(3), "v": torch.ones(3)}})
    new = used.reset_parameters()
    assert torch.equal(new.lif.tau_mem, torch.full((3,), 0.02)) and torch.equal(new.lif.v, torch.ones(3))
    assert not torch.equal(new.linear.weight, used.linear.weight)  # drawn anew
    assert isinstance(new.linear.weight, torch.nn.Parameter)
    assert torch.equal(used.lif.tau_mem, torch.ones(3))


def test_reset_parameters_from_a_file(tmp_path: Path) -> None:
    @snn.model
    def net(x=snn.Spikes(2)):
        return x >> snn.LIF(tau_mem=torch.tensor([0.01, 0.02]))

    snn.compile(net, target="torch").save(tmp_path / "a.snn")
    module = as_module(snn.load(tmp_path / "a.snn"))
    assert torch.equal(module.lif.tau_mem, torch.tensor([0.01, 0.02]))
    with pytest.raises(snn.ModelError, match=r"the first value of lif.tau_mem is not known.*set_attributes"):
        module.reset_parameters()


def test_flatten_and_unflatten(module: NetworkModule) -> None:
    used = module.set_attributes(module.evolve(torch.ones(5, 4))[1])
    children, aux = used.tree_flatten()
    assert aux[:3] == ("small", (4, 2), list(module.modules()))
    parameters, simulation, state = children
    assert parameters == used.parameters() and simulation == {} and list(state) == list(used.state())
    x = torch.rand(5, 4) * 3
    same = NetworkModule.tree_unflatten(aux, children)
    assert torch.equal(same(x)[0], used(x)[0])
    halved = type(used).tree_unflatten(aux, tuple(tree_map(lambda v: v.detach() / 2, child) for child in children))
    assert torch.equal(halved.lif.v, used.lif.v / 2) and torch.equal(halved.linear.weight, used.linear.weight / 2)
    lif_children, lif_aux = used.lif.tree_flatten()
    assert torch.equal(type(used.lif).tree_unflatten(lif_aux, lif_children).v, used.lif.v)
