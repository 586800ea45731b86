"""Every name that the documentation of Rockpool's modules lists is there, and means the same."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

import snncompile as snn
from snncompile.interop.rockpool import Module, NetworkModule, Tree, as_module

METHODS = [
    "as_graph", "attributes_named", "evolve", "modules", "parameters", "reset_parameters", "reset_state",
    "set_attributes", "simulation_parameters", "state", "timed", "tree_flatten", "tree_unflatten", "forward",
]  # fmt: skip
PROPERTIES = [
    "class_name", "full_name", "name", "shape", "size", "size_in", "size_out", "spiking_input", "spiking_output", "dt",
]  # fmt: skip
HELPERS = [
    "_auto_batch", "_force_set_attributes", "_get_attribute_family", "_get_attribute_registry",
    "_has_registered_attribute", "_in_Module_init", "_name", "_register_attribute", "_register_module",
    "_reset_attribute", "_shape", "_spiking_input", "_spiking_output", "_submodulenames", "_wrap_recorded_state",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", METHODS + PROPERTIES + HELPERS)
def test_name_is_there(module: NetworkModule, name: str, original: Any) -> None:
    theirs = original.ExpSynTorch(3)
    for ours in (module, *module):
        assert callable(getattr(ours, name)) or name not in METHODS
    if name not in ("tree_flatten", "tree_unflatten"):  # of Jax modules
        assert callable(getattr(theirs, name)) == callable(getattr(module.exp_syn, name))


def test_identity_as_the_original_says_it(module: NetworkModule, original: Any) -> None:
    named = OrderedDict([("linear", original.LinearTorch((4, 3))), ("exp_syn", original.ExpSynTorch(3))])
    named["lif"] = original.LIFNeuronTorch(3)
    theirs = original.Sequential(named)
    for name, sub in theirs.modules().items():
        ours = module.modules()[name]
        for what in ("name", "shape", "size_in", "size_out"):
            assert getattr(ours, what) == getattr(sub, what), (name, what)
        assert ours.class_name == sub.class_name.removesuffix("NeuronTorch").removesuffix("Torch")
        assert ours.full_name == f"{ours.class_name} {sub.name}"
    assert (theirs.size_in, theirs.size_out, theirs.shape) == (4, 3, (4, 3))
    assert (module.size_in, module.size_out, module.shape) == (4, 2, (4, 2))
    assert (module.name, module.class_name, module.full_name) == ("'small'", "Network", "Network 'small'")


def test_what_is_spiking(module: NetworkModule) -> None:
    assert module.spiking_input and not module.spiking_output
    assert not module.exp_syn.spiking_input and not module.exp_syn.spiking_output
    assert not module.lif.spiking_input and module.lif.spiking_output
    assert module.linear_1.spiking_input


def test_dt_is_that_of_the_model(module: NetworkModule) -> None:
    assert module.dt == module.lif.dt == 1e-3
    own = {name: {"dt": 1e-3} for name in ("exp_syn", "lif", "li")}
    assert module.attributes_named("dt") == {"dt": 1e-3, **own}


def test_size_is_deprecated(module: NetworkModule) -> None:
    with pytest.warns(DeprecationWarning, match="size_out"):
        assert module.size == 2


def test_modules_are_the_nodes_as_written(module: NetworkModule) -> None:
    assert list(module.modules()) == ["linear", "exp_syn", "lif", "linear_1", "li"]
    assert all(isinstance(m, Module) for m in module)
    assert module[2] is module["lif"] is module.lif and not module.lif.modules()
    assert repr(module).splitlines()[:2] == [
        "Network 'small' with shape (4, 2) {",
        "    Linear 'linear' with shape (4, 3)",
    ]


def test_parameters_as_the_original(module: NetworkModule, original: Any) -> None:
    theirs = original.Sequential(OrderedDict(exp_syn=original.ExpSynTorch(3), lif=original.LIFNeuronTorch(3)))
    for family in (None, "taus", "thresholds", "weights", ("taus", "thresholds"), "nothing"):
        want = theirs.parameters(family)
        got = module.parameters(family)
        for node in ("exp_syn", "lif"):
            assert set(got.get(node, ())) == set(want.get(node, ())), (family, node)
            for name, value in want.get(node, {}).items():
                assert torch.equal(got[node][name], value)
    assert list(module.parameters("weights")) == ["linear", "linear_1"]
    assert module.parameters("nothing") == {}


def test_parameters_are_those_of_the_network(model: Any) -> None:
    net = snn.compile(model, target="torch")
    module = as_module(net)
    assert module.to_torch() is net
    assert module.parameters()["lif"]["tau_mem"] is net.lif.tau_mem
    assert [id(p) for p in module.parameters().astorch()] == [id(p) for p in net.parameters()]
    optimiser = torch.optim.SGD(module.parameters().astorch(), lr=1.0)
    module.evolve(torch.ones(5, 4), record="lif.v")[2]["lif"]["v"].sum().backward()
    before = net.linear.weight.clone()
    optimiser.step()
    assert not torch.equal(module.linear.weight, before)


def test_simulation_parameters(module: NetworkModule) -> None:
    found = module.simulation_parameters()
    assert found["dt"] == 1e-3 and found["linear"] == {}
    assert found["lif"]["max_spikes_per_dt"] == 65536 and found["lif"]["surrogate"] == "StepPWL(window=0.5)"
    assert module.simulation_parameters("taus") == {}


def test_constants_are_simulation_parameters() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        mask = torch.tensor([[1.0, 0, 1]])
        return x >> snn.Linear(2, mask=mask) >> snn.LIF(snn.Param(10e-3, trainable=False), refractory=2e-3)

    module = as_module(net, target="torch")
    assert list(module.simulation_parameters("taus")["lif"]) == ["tau_mem"]
    assert list(module.simulation_parameters("masks")["linear"]) == ["mask"]
    assert "tau_mem" not in module.parameters()["lif"]
    assert module.simulation_parameters()["lif"]["refractory_setting"] == 2e-3
    assert torch.equal(module.state()["lif"]["refractory"], torch.zeros(2))  # the state has the name to itself


def test_state_as_the_original(module: NetworkModule, original: Any) -> None:
    theirs = original.ExpSynTorch(3)
    assert torch.equal(module.state()["exp_syn"]["isyn"], theirs.state()["isyn"])
    assert module.state()["linear"] == {} and isinstance(module.state(), Tree)
    assert list(module.state("membranes")) == ["lif", "li"] and list(module.state("currents")) == ["exp_syn"]
    assert module.state("nothing") == {}


def test_attributes_named(module: NetworkModule) -> None:
    found = module.attributes_named(["v", "tau"])
    assert {name: list(inside) for name, inside in found.items()} == {"exp_syn": ["tau"], "lif": ["v"], "li": ["v"]}
    assert module.attributes_named("nothing") == module.attributes_named(3) == module.parameters(3) == {}


def test_attributes_as_attributes(module: NetworkModule) -> None:
    assert module.lif.tau_mem is module.parameters()["lif"]["tau_mem"]
    assert not hasattr(module, "nothing") and not hasattr(module.lif, "nothing")
    with pytest.raises(AttributeError, match=r"do not change in place: module = module.set_attributes\(\{'v': ...\}\)"):
        module.lif.v = torch.zeros(3)


def test_feedbacks_are_states_of_the_network() -> None:
    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.recurrent(snn.LIF(), via=snn.Linear(3))

    module = as_module(net, target="torch")
    assert list(module.state("feedbacks")) == ["lif_back"]
    x = (torch.rand(6, 3) < 0.6).float()
    whole, _, _ = module.evolve(x)
    first, state, _ = module.evolve(x[:3])
    rest, _, _ = module.set_attributes(state).evolve(x[3:])
    assert torch.equal(torch.cat([first, rest], 1), whole) and whole.sum() > 0


def test_helpers(module: NetworkModule, original: Any) -> None:
    theirs = original.ExpSynTorch(3)
    ours = module.exp_syn
    for shape in [(5, 3), (2, 5, 3), (5, 1)]:
        want, (state,) = theirs._auto_batch(torch.ones(shape), (theirs.isyn,))
        got, (held,) = ours._auto_batch(torch.ones(shape), (ours.isyn,))
        assert torch.equal(got, want) and torch.equal(held, state)
    _, (wide,) = ours._auto_batch(torch.ones(2, 5, 3), (torch.ones(3),), ((4, 3),))
    assert wide.shape == (2, 4, 3)
    assert ours._has_registered_attribute("tau") and not ours._has_registered_attribute("tau_mem")
    changed = ours.set_attributes({"isyn": torch.ones(3), "tau": torch.full((3,), 0.5)})
    assert torch.equal(changed._reset_attribute("isyn").isyn, torch.zeros(3))
    assert torch.equal(changed._reset_attribute("tau").tau, torch.full((3,), 10e-3))
    with pytest.raises(KeyError, match="not a registered attribute"):
        ours._reset_attribute("nothing")
    assert list(ours._get_attribute_family("Parameter", "taus")) == ["tau"]
    with pytest.raises(snn.InputError, match="not 'Weights'"):
        ours._get_attribute_family("Weights")


def test_registry(module: NetworkModule, original: Any) -> None:
    theirs, none = original.ExpSynTorch(3)._get_attribute_registry()
    ours, inside = module.exp_syn._get_attribute_registry()
    assert inside == none == {}
    for name, family in (("tau", "taus"), ("isyn", "currents")):
        value, kind, *_ = theirs[name]
        assert ours[name][1:] == [kind, family, None, tuple(value.shape)]
        assert torch.equal(ours[name][0], value)
    attributes, modules = module._get_attribute_registry()
    assert attributes == {"dt": [1e-3, "SimulationParameter", None, None, ()]}
    assert modules["lif"] == [module.lif, "LIF"] and list(modules) == module._submodulenames
    with pytest.raises(AttributeError, match=r"LIF 'lif' takes no new attribute 'gain': it is compiled\. Add it to"):
        module.lif._register_attribute("gain", 1.0)
    with pytest.raises(AttributeError, match="takes no new module 'more': it is compiled"):
        module._register_module("more", module.lif)
