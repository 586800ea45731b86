"""Images in regions that learn: the order of sums, and which targets run them as one function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile.ir.connection import Connection
from snncompile.ir.ordered import ordered_windows
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.plastic import current
from snncompile.targets.sliding import sliding_of

from .test_plastic import by_hand


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 3)] * 4), st.tuples(*[st.integers(0, 1)] * 2), st.integers(0, 99))
def test_the_order_of_sums_over_windows(window: tuple[int, ...], padding: tuple[int, int], seed: int) -> None:
    size, stride = window[:2], window[2:]
    padding = (min(padding[0], size[0] // 2), min(padding[1], size[1] // 2))
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    y, around = ordered_windows(x, size, stride, padding), F.pad(x, (*padding[1:] * 2, *padding[:1] * 2))
    assert torch.equal(y, F.avg_pool2d(x, size, stride, padding, divisor_override=1))
    i, j = y.shape[2] - 1, y.shape[3] - 1
    values = around[1, 2, i * stride[0] :, j * stride[1] :][: size[0], : size[1]].flatten()
    assert torch.equal(y[1, 2, i, j], by_hand(values, torch.ones_like(values), 1))


def test_a_norm_behind_what_learns_is_refused() -> None:
    @snn.model(dt=1e-3)
    def model(x=snn.Spikes((2, 5, 5), max=1)):
        learnt = snn.Conv2d(3, 3)
        h = x >> learnt >> snn.BatchNorm() >> snn.LIF()
        snn.learn(learnt, snn.STDP(), post=h)
        return h

    with pytest.raises(snn.ModelError, match="stands on the cycle conv2d, batch_norm, lif, stdp: move it out"):
        compile_graph(model.build(), Request(False))


CONVOLUTIONS = {
    "grouped": ((4, 6, 5), lambda: snn.Conv2d(6, (2, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=2)),
    "flat": ((4, 9), lambda: snn.Conv1d(6, 3, stride=2, padding=1, groups=2, bias=False)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_order_of_a_convolution_that_does_not_learn(name: str) -> None:
    shape, connection = CONVOLUTIONS[name]

    @snn.model(dt=1e-3)
    def model(x=snn.Spikes(shape)):
        return x >> connection()

    (op,) = (op for _, op in compile_graph(model.build(), Request(False)).of_type(Connection))
    draw, s = torch.Generator().manual_seed(3), sliding_of(op)
    params = {role: torch.randn(p.shape, generator=draw) for role, p in op.params.items()}
    x = torch.randn(2, *shape, generator=draw)
    with torch.no_grad():
        y = current(op, params, x).reshape(2, *s.outputs)
    images = F.pad(x.reshape(2, *s.inputs), (s.padding[1], s.padding[1], s.padding[0], s.padding[0]))
    for out, row, column in ((0, 0, 0), (5, s.outputs[1] - 1, s.outputs[2] - 1)):
        group = images[1, 2 * (out // 3) : 2 * (out // 3) + 2, row * s.stride[0] :, column * s.stride[1] :]
        height, width = np.multiply(s.dilation, s.kernel)
        taps = group[:, : height : s.dilation[0], : width : s.dilation[1]].flatten()
        want = by_hand(params["weight"][out].flatten(), taps, 1)
        assert torch.equal(y[1, out, row, column], want + params["bias"][out] if "bias" in params else want)
