"""Brunel's network: sparsely connected excitatory and inhibitory integrate-and-fire neurons.

Source: N. Brunel, "Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons", Journal of
Computational Neuroscience 8 (2000), model A: identical neurons, each with C_E excitatory and C_I = C_E / 4 inhibitory
synapses from inside (a tenth of the network) and C_E from outside, on which Poisson spikes arrive. A spike moves the
membrane by J or by -g J, 1.5 ms later.

    snncompile explain examples/brunel/model.py --set n=500
"""

import snncompile as snn
from snncompile import ms

TAU, REFRACTORY, DELAY = 20 * ms, 2 * ms, 1.5 * ms
THRESHOLD, RESET = 20.0, 10.0  # mV


@snn.model(dt=0.1 * ms)
def brunel(*, n=10_000, connected=0.1, j=0.1, g=5.0, outside=2.0, seed=1):
    """Excitatory and inhibitory spikes.

    Args:
        n: excitatory neurons; there are a quarter as many inhibitory ones.
        connected: share of each population that a neuron has synapses from.
        j: what an excitatory spike adds to a membrane, in mV.
        g: how many times stronger inhibition is.
        outside: rate of the spikes from outside, in units of the rate that alone would bring the membrane to threshold.
        seed: of the connections.
    """
    inhibitory = n // 4
    degree, degree_i = round(connected * n), round(connected * inhibitory)
    rate = outside * THRESHOLD / (j * TAU)  # of all spikes that a neuron gets from outside

    e_back = snn.Feedback(n, max=1, delay=DELAY, name="e_back")
    i_back = snn.Feedback(inhibitory, max=1, delay=DELAY, name="i_back")

    def population(name: str, size: int) -> snn.Signal:
        options = {"seed": seed, "trainable": False}
        e = e_back >> snn.Sparse(size, indegree=degree, init=j, name=f"e_to_{name}", **options)
        i = i_back >> snn.Sparse(size, indegree=degree_i, init=-g * j, name=f"i_to_{name}", **options)
        background = j * snn.Poisson(rate, size, max=32, name=f"outside_{name}")
        return e + i + background >> snn.LIF(
            TAU, threshold=THRESHOLD, reset=RESET, refractory=REFRACTORY, name=name, max_spikes_per_dt=1
        )

    excitatory, inhibition = population("e", n), population("i", inhibitory)
    e_back.close(excitatory)
    i_back.close(inhibition)
    return {"e": excitatory, "i": inhibition}
