"""The original packages this one is held against, imported or skipped.

They are test-only and installed with `--no-deps` from tests/oracles.txt (`make install` does it). In a test module:

    from .oracles import inferno, rockpool

    def test_lif():
        ref = rockpool()                                  # skips, with the reason, when it does not import

Rockpool (3.1.0). Times in seconds, data (batch, time, features), state without a batch axis after a call:

    lif = ref.LIFNeuronTorch((3,), tau_mem=0.02, dt=1e-3)                 # shape must have one dimension
    out, state, record = lif(x, record=True)                             # record: vmem, spikes (batch, time, 3)
    syn = ref.ExpSynTorch((3,), tau=5e-3, dt=1e-3)                        # record is always empty
    out, state, _ = syn(x)                                               # state["isyn"] (3,)
    both = ref.LIFTorch((3, 3), tau_mem=0.02, tau_syn=5e-3, dt=1e-3,      # (inputs, neurons): inputs // neurons
                        spike_generation_fn=ref.PeriodicExponential)     # synapses per neuron
    out, state, record = both(x, record=True)                            # + isyn, irec (batch, time, 3, synapses)

`LIFTorch` always has `w_rec`; without `has_rec=True` it is zeros. A call stores its final state in the module, of batch
item 0 only; make a new module, or `lif.reset_state()`, for an independent run. States are updated in place within
a call: pass inputs that do not need their old value. `StepPWL.apply(v, threshold, window, max_spikes)` and
`PeriodicExponential.apply(...)` are the surrogates alone; arguments are tensors.

Inferno (inferno-ai 0.0.5). Times in ms, one call a step, spikes (batch, features) as float, the batch size fixed:

    syn = ref.SingleExponentialCurrent(3, 1.0, spike_charge=1.0, time_constant=5.0, batch_size=2)
    two = ref.DoubleExponentialCurrent(3, 1.0, spike_charge=1.0, tc_decay=5.0, tc_rise=1.0, batch_size=2)
    out = torch.stack([syn(x[:, t]) for t in range(steps)], 1); syn.clear()

A step decays and then adds `spike_charge / time_constant` per spike (`spike_charge / (tc_decay - tc_rise)` for the
double exponential, whose current is `pos_current - neg_current`); the decay is `math.exp`, rounded from float64.

Norse (1.1.0, which imports nirtorch). One call a step, spikes (batch, features):

    state = ref.STDPState(torch.zeros(2, 3), torch.zeros(2, 4))          # changed in place by a step
    w, state = ref.stdp_step_linear(z_pre, z_post, w, state, ref.STDPParameters(tau_pre_inv=1 / torch.tensor(0.05)), dt)
"""

from __future__ import annotations

import importlib
import warnings
from types import SimpleNamespace
from typing import Any

import pytest


def rockpool() -> Any:
    """LIFNeuronTorch, LIFTorch, ExpSynTorch and the surrogates StepPWL and PeriodicExponential."""
    return _names(
        {
            "rockpool.nn.modules": ["LIFNeuronTorch", "LIFTorch", "ExpSynTorch"],
            "rockpool.nn.modules.torch.lif_torch": ["StepPWL", "PeriodicExponential"],
        }
    )


def inferno() -> Any:
    """Currents (SingleExponentialCurrent, ...), LinearDense and the neurons LIF, ALIF, GLIF1, GLIF2, QIF, EIF, ..."""
    currents = ["SingleExponentialCurrent", "DoubleExponentialCurrent", "DeltaCurrent"]
    neurons = ["LIF", "ALIF", "GLIF1", "GLIF2", "QIF", "EIF", "AdEx", "Izhikevich"]
    return _names({"inferno.neural": [*currents, "LinearDense", *neurons]})


def norse_stdp() -> Any:
    """STDPParameters, STDPState, stdp_step_linear and stdp_step_conv2d."""
    names = ["STDPParameters", "STDPState", "stdp_step_linear", "stdp_step_conv2d"]
    return _names({"norse.torch.functional.stdp": names})


def _names(wanted: dict[str, list[str]]) -> Any:
    found = SimpleNamespace()
    for module, names in wanted.items():
        try:
            with warnings.catch_warnings():  # of optional back ends that are not installed
                warnings.simplefilter("ignore")
                loaded = importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"{module} does not import ({error}); tests/oracles.txt lists what to install, with --no-deps")
        for name in names:
            setattr(found, name, getattr(loaded, name))  # an AttributeError is a wrong version: an error, not a skip
    return found
