"""A two-layer spiking classifier of handwritten digits.

    snncompile explain examples/digits/model.py
    snncompile build examples/digits/model.py --target triton --arch sm_90 --weights demo-out/weights.safetensors
"""

import snncompile as snn
from snncompile import ms


@snn.model(dt=1 * ms)
def digits(x=snn.Spikes(64, max=1), *, hidden=128):
    """One spike train per pixel; one leaky readout per digit."""
    h = x >> snn.Linear(hidden) >> snn.ExpSyn(tau=5 * ms) >> snn.LIF(tau_mem=20 * ms, max_spikes_per_dt=1)
    return h >> snn.Linear(10, name="readout") >> snn.LI(tau_mem=20 * ms)
