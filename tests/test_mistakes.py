"""Mistakes that a new user makes from Python, each with what it is told."""

from __future__ import annotations

import math
import pickle
import warnings
from pathlib import Path

import pytest
import torch

import snncompile as snn
from snncompile import ms


@snn.model(dt=1 * ms)
def plain(x=snn.Spikes(4)):
    return x >> snn.Linear(3) >> snn.DoubleExpCurrent() >> snn.LIF()


@pytest.fixture
def net() -> snn.Network:
    return snn.compile(plain, target="torch")


@pytest.mark.parametrize(("use", "kind"), [
    (lambda net: net.to_onnx(3), snn.InterchangeError),
    (lambda net: net.to_nir(3), snn.InterchangeError),
    (lambda net: net.save(3), snn.ArtifactError),
    (lambda net: snn.load(3), snn.ArtifactError),
])  # fmt: skip
def test_what_is_no_path(net, use, kind):
    with pytest.raises(kind, match=r"^a path is text or a pathlib\.Path, not 3$"):
        use(net)


def test_a_directory_is_no_nir_file(tmp_path: Path):
    pytest.importorskip("nir")
    with pytest.raises(snn.InterchangeError, match=r"is a directory, not a file$"):
        snn.from_nir(tmp_path, dt=1 * ms)


@pytest.mark.parametrize(("name", "said"), [
    ("Lif", r". Did you mean 'LIF'\?"), ("stdp", r". Did you mean 'STDP'\?"), ("Quux", ""), ("_private", ""),
])  # fmt: skip
def test_names_that_are_not_there(name, said):
    with pytest.raises(AttributeError, match=f"^module 'snncompile' has no attribute '{name}'{said}$"):
        getattr(snn, name)


@pytest.mark.parametrize("value", [None, True])
def test_values_that_are_no_numbers(value):
    model = snn.model(lambda x=snn.Spikes(3): x >> snn.LIF(tau_mem=value))
    with pytest.raises(snn.ModelError, match=f"node 'lif' at .*: tau_mem is {value}, not a number or an array"):
        model.build()


@pytest.mark.parametrize(("declare", "said"), [
    (lambda: snn.Spikes("4"), "a feature shape is a whole number or a tuple of them, not '4'"),
    (lambda: snn.Current(0), r"a feature shape holds positive whole numbers, not \(0,\)"),
    (lambda: snn.Spikes(4, max="1"), "a maximum count per step, a whole number of at least 1, not '1'"),
])  # fmt: skip
def test_inputs_that_cannot_be_say_where(declare, said):
    with pytest.raises(snn.ModelError, match=f"^at {__file__}:.*{said}$"):
        declare()


@pytest.mark.parametrize("make", [snn.LIF, lambda: snn.Linear(3) >> snn.LIF()])
def test_a_node_without_its_input_is_no_output(make):
    model = snn.model(lambda x=snn.Spikes(3): make())
    with pytest.raises(snn.ModelError, match=r"returns a (LIF|Block), which nothing goes into \(write signal >> "):
        model.build()


@pytest.mark.parametrize("batch", [-1, "2", 1.0, True])
def test_a_batch_that_cannot_be(net, batch):
    with pytest.raises(snn.InputError, match="batch is a whole number of sequences of at least 0, not"):
        net.initial_state(batch)


def test_a_target_set_to_what_is_none(net):
    net.target = "tpu"
    with pytest.raises(snn.UnsupportedError, match="there is no target 'tpu'; the targets are torch, triton, c, auto"):
        net(torch.zeros(2, 4))


# -- values that are loaded ----------------------------------------------------------------------------------------

WRONG = {
    "double_exp_current.tau_rise": (1.0, "tau_rise must be smaller than tau_decay"),
    "lif.tau_mem": (-1.0, "tau_mem must be greater than 0, but is -1"),
    "linear.weight": (float("nan"), "weight holds a value that is not finite"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("inside", [False, True])
def test_loaded_values_that_cannot_be(net, name, inside):
    value, said = WRONG[name]
    module = torch.nn.Sequential(net) if inside else net
    state = {key: v.clone() for key, v in module.state_dict().items()}
    state[f"0.{name}" if inside else name].fill_(value)
    with pytest.raises(snn.ModelError, match=f"node '{name.split('.')[0]}' at {__file__}:.*{said}"):
        pickle.loads(pickle.dumps(module)).load_state_dict(state)


def test_loading_a_part_and_without_values(net):
    state = net.state_dict()
    assert net.load_state_dict({"linear.bias": state["linear.bias"]}, strict=False).missing_keys
    empty = snn.compile(plain, target="torch").to("meta")
    empty.load_state_dict(empty.state_dict())
    assert all(value.is_meta for value in empty.state_dict().values())
    assert net.bfloat16().load_state_dict(state).missing_keys == []


# -- units ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dt", "tau", "odd"), [(1.0, 20 * ms, True), (1 * ms, 20e-6, True), (1 * ms, 20e-3, False),
                                                (1.0, 20.0, False), (1 * ms, 0.2 * ms, False)])  # fmt: skip
def test_times_in_another_unit(dt, tau, odd):
    model = snn.model(dt=dt)(lambda x=snn.Spikes(3): x >> snn.LIF(tau_mem=tau))
    if not odd:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            snn.compile(model, target="torch")
        return
    said = f"^lif.tau_mem is {tau:g} s, far less than the time step of {dt:g} s: .* Times are in seconds"
    with pytest.warns(UserWarning, match=said) as found:
        snn.compile(model, target="torch")
    assert found[0].filename == __file__


# -- functions of one's own ----------------------------------------------------------------------------------------


def test_states_that_are_no_dict():
    with pytest.raises(snn.ModelError, match=r"@neuron cell: states is a dict by name, states=\{...\}, not \['v'\]"):

        @snn.neuron(states=["v"])
        def cell(v, x):
            return {"v": v, "spikes": x}

    with pytest.raises(snn.ModelError, match=r"@neuron cell: outputs is a dict by name, outputs=\{...\}, not 'spikes'"):

        @snn.neuron(states={"v": 0.0}, outputs="spikes")
        def cell(v, x):
            return {"v": v, "spikes": x}

    with pytest.raises(snn.ModelError, match=r"@plasticity: pre is a dict of traces .*, not \('t_pre',\)"):
        snn.plasticity(pre=("t_pre",))


def test_a_step_that_is_a_class():
    with pytest.raises(snn.ModelError, match=f"at {__file__}:.*: @neuron takes a step function, not <class"):

        @snn.neuron(states={"v": 0.0})
        class Cell:
            pass


def test_math_in_a_step():
    @snn.neuron(states={"v": 0.0})
    def cell(v, x, *, tau=20 * ms, dt):
        return {"v": v * math.exp(-dt / tau), "spikes": x}

    model = snn.model(lambda x=snn.Spikes(3): x >> cell())
    with pytest.raises(snn.ModelError, match=r"a function of plain numbers got a tensor: write torch\.exp in place of"):
        model.build()


@pytest.mark.parametrize(("options", "said"), [
    ({"layout": "neurons"}, "layout 'neurons' is unknown; use one of scalar, channel, neuron"),
    ({"constraint": "pos"}, "constraint 'pos' is unknown; use one of positive, nonnegative, nonzero"),
    ({"trainable": "no"}, "trainable is True or False, not 'no'"),
])  # fmt: skip
def test_what_a_param_cannot_be(options, said):
    with pytest.raises(snn.ModelError, match=f"^at {__file__}:.*: {said}$"):
        snn.Param(1.0, **options)


@pytest.mark.parametrize("name", ["lif.tau", "life.tau_mem", "lif"])
def test_a_value_that_is_not_there(net, name):
    with pytest.raises(snn.InputError, match=f"^there is no parameter '{name}'; parameters: linear.weight, "):
        net.value(name)


@pytest.mark.parametrize("total", ["a", 0.0, float("inf")])
def test_a_sum_that_cannot_be(net, total):
    with pytest.raises(snn.InputError, match=f"cannot be scaled to sum to {total!r}: it takes a finite number"):
        net.normalize_("linear.weight", total)
