"""Neurons that compete for handwritten digits, in the manner of Diehl and Cook (2015).

    snncompile show examples/diehl_cook/model.py
    snncompile explain examples/diehl_cook/model.py

P. U. Diehl and M. Cook, "Unsupervised learning of digit recognition using spike-timing-dependent plasticity", Frontiers
in Computational Neuroscience 9 (2015), 99. Theirs has conductances, 28x28 pixels and up to 6,400 neurons; here are
currents, 8x8 pixels and a hundred.
"""

import torch

import snncompile as snn
from snncompile import ms


@snn.neuron(states={"v": 0.0, "theta": 0.0}, outputs={"spikes": 1})
def Excitatory(
    v,
    theta,
    exc,
    inh,
    *,
    tau=snn.Param(40 * ms, family="taus", constraint="positive", trainable=False),
    tau_theta=snn.Param(80.0, family="taus", constraint="positive", trainable=False),
    threshold=snn.Param(4.0, trainable=False),
    gain=snn.Param(0.05, trainable=False),
    floor=snn.Param(-20.0, trainable=False),
    dt,
):
    """A leaky neuron whose threshold rises with every spike and is slow to fall, so that none wins always."""
    v = torch.maximum(v * torch.exp(-dt / tau) + exc - inh, floor)
    spikes = snn.spike(v, threshold + theta)
    theta = theta * torch.exp(-dt / tau_theta) + gain * spikes
    return {"v": torch.where(spikes > 0.0, 0.0, v), "theta": theta, "spikes": spikes}


@snn.plasticity(pre={"t": 0.0})
class OnOutput:
    """When a neuron fires, inputs that fired lately gain and all others lose.

    ``dw = eta * sum_b(z_post (t - target)) * (w_max - w)``, within 0 and ``w_max``: the paper's ``dw = eta (x_pre -
    x_tar) (w_max - w)^mu`` with ``mu = 1``, its changes added up over the batch.
    """

    def pre(z, t, *, tau=snn.Param(10 * ms, family="taus", constraint="positive"), target=0.4, dt):
        """The trace of the inputs, above its target."""
        t = t * torch.exp(-dt / tau) + z
        return {"t": t, "potentiation": t - target}

    def post(z):
        """Only a spike of the output changes weights."""
        return {"potentiation": z}

    def update(w, potentiation, *, eta=1e-2, w_max=1.0):
        """The weight after a step, softly bounded above."""
        return {"w": torch.minimum(torch.relu(w + eta * potentiation * (w_max - w)), w_max)}


@snn.model(dt=1 * ms)
def competition(image=snn.Current(64), *, neurons=100, rate=200.0, inhibition=10.0):
    """Pixels become Poisson spikes; each neuron that fires has one inhibitory partner, which silences all others."""
    excite = snn.Linear(neurons, bias=False, init=lambda shape: 0.01 + 0.3 * torch.rand(shape))
    others = snn.Linear(neurons, bias=False, init=lambda shape: inhibition * (1.0 - torch.eye(*shape)), trainable=False)
    back = snn.Feedback(neurons, max=1)
    arriving = image >> snn.PoissonEncoder(rate) >> excite
    spikes = Excitatory(name="exc")(exc=arriving, inh=back >> others)
    back.close(spikes >> snn.IF(threshold=0.5, max_spikes_per_dt=1, reset="zero", name="inh"))
    snn.learn(excite, OnOutput(), post=spikes)
    return spikes
