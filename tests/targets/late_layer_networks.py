"""Networks whose recurrent layers read delays from outside: as on the reference, for every target."""

from __future__ import annotations

import numpy as np

import snncompile as snn
from snncompile import ms
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.executor import Executor
from snncompile.targets.recurrent_layer import Layer

from ..random_models import dyadic
from .late_cycles import Gated
from .late_networks import DELAYS, check_as_plain


def layer_with(*kinds: str, behind: int = 1) -> snn.Model:
    """A recurrent layer that reads two signals through delays of these kinds, and brings back what it sent out."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(5, max=3)):
        rng = np.random.default_rng(3)

        def late(kind: str) -> snn.Signal:
            some = "several" in kind
            n = 3 if some else 6
            shown = x >> snn.Linear(n, bias=False, init=dyadic(rng, n, 5)) >> DELAYS[kind]()
            return shown >> snn.Flatten() if some else shown

        back = snn.Feedback(6, delay=behind * ms)
        product = back >> snn.Linear(6, bias=False, init=dyadic(rng, 6, 6), name="product")
        cells = Gated(name="cells")(a=late(kinds[0]), b=late(kinds[1]), back=product)
        back.close(cells)
        return {"spikes": cells, "pull": cells["pull"]}

    return model


def check_layer_network(kinds, shapes, target, want: list[str], behind: int = 1) -> None:
    """Everything that comes out and all gradients; ``want``: how late the layer reads where a run is long enough."""
    net = snn.compile(layer_with(*kinds, behind=behind), target=target.name)
    executor, ran = Executor(compile_graph(net.graph, Request(net.training)), target), []
    (layer,) = executor.runner.layers.values()
    assert isinstance(layer, Layer), layer
    forward = executor.runner.recurrent.forward

    def spied(scan, call):
        ran.append(sorted(late.kind for late in call.offsets if late is not None))
        return forward(scan, call)

    executor.runner.recurrent.forward = spied
    check_as_plain(net, executor, shapes)
    assert ran[0] == want and ran[-1] != want, ran
