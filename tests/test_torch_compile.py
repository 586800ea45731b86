"""A compiled network inside ``torch.compile``: one operation, without a graph break, with the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import snncompile as snn

from .random_models import random_model, spikes


class _Around(nn.Module):
    def __init__(self, net: snn.Network, record: list[str]) -> None:
        super().__init__()
        self.net = net
        self.record = record

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, state, record = self.net.evolve(x * 1.0, record=self.record)
        parts = [*outputs.values(), *state.values(), *record.values()]
        return sum((p * p).sum() for p in parts)


@pytest.mark.parametrize("seed", [3, 5])
def test_one_graph_same_values_same_gradients(seed):
    net = snn.compile(random_model(seed), target="torch")
    spiking = [n for n in net.graph.recordable() if n.endswith(".spikes")]
    around = _Around(net, [spiking[0], f"{spiking[-1]}:sum", f"{spiking[-1]}:mean"])
    compiled = torch.compile(around, fullgraph=True, backend="aot_eager")
    for batch, steps in [(2, 13), (3, 9)]:
        x = spikes(seed, batch, steps)
        results = []
        for module in (around, compiled):
            net.zero_grad(set_to_none=True)
            loss = module(x)
            loss.backward()
            results.append((loss, {n: p.grad for n, p in net.named_parameters()}))
        (loss, grads), (loss_c, grads_c) = results
        assert torch.allclose(loss, loss_c, rtol=1e-6)
        for name, grad in grads.items():
            assert grads_c[name] is not None, name
            assert float((grad - grads_c[name]).norm()) <= 1e-5 * float(grad.norm()) + 1e-9, name


def test_training_with_batch_norm_breaks_the_graph_and_stays_right():
    @snn.model
    def norm(x=snn.Current(6)):
        return x >> snn.Linear(4) >> snn.BatchNorm() >> snn.LIF()

    net = snn.compile(norm, target="torch")
    compiled = torch.compile(lambda x: net(x * 2) + 1, backend="aot_eager")
    x = torch.randn(2, 5, 6)
    before = net.batch_norm.running_mean.clone()
    compiled(x)
    assert not torch.equal(before, net.batch_norm.running_mean)
    net.eval()
    assert torch.equal(compiled(x), net(x * 2) + 1)
