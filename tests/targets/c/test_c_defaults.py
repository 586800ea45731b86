"""What torch takes for the default type and device is nothing to a network: what it works in has its own."""

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms


@snn.model
def dense(x=snn.Spikes(40, density=0.05)):
    h = x >> snn.Linear(40) >> snn.recurrent(snn.LIF(threshold=0.3), via=snn.Linear(40))
    return h >> snn.Linear(33, density=0.1) >> snn.LI()


@snn.model
def images(x=snn.Spikes((1, 10, 10), density=0.05)):
    return x >> snn.Conv2d(16, 5) >> snn.LIF(threshold=0.2) >> snn.SumPool2d(2) >> snn.Flatten() >> snn.Sparse(9, p=0.4)


@snn.model
def populations(x=snn.Spikes(12)):
    back = snn.Feedback(5)
    e = (x >> snn.Linear(8)) + (back >> snn.Linear(8, sign=-1)) >> snn.LIF(threshold=0.3)
    back.close(e >> snn.Linear(5, sign=1) >> snn.LIF(threshold=0.3))
    return e


@snn.model
def late(x=snn.Spikes(6)):
    delays = np.arange(24).reshape(4, 6) % 3 * ms
    h = x >> snn.Delay(0.5 * ms, interpolation="linear") >> snn.LIF(threshold=0.4, noise_std=2.0)
    back = snn.Feedback(4, delay=0)
    y = (h >> snn.Linear(4, delay=delays)) + (back >> snn.Linear(4, delay=(1 + np.eye(4)) * ms)) >> snn.LIF()
    back.close(y)
    return y


def ran(net, x):
    """Spikes and gradients."""
    net.zero_grad()
    torch.manual_seed(0)
    out = net(x)
    ramp = torch.linspace(-1, 1, out[0].numel(), dtype=torch.float32, device="cpu")
    (out * ramp.view(out.shape[1:])).sum().backward()
    return [out.detach(), *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("model", [dense, images, populations, late], ids=lambda m: m.__name__)
@pytest.mark.parametrize("steps", [0, 20])
def test_defaults(model, steps):
    torch.manual_seed(0)
    net = snn.compile(model, target="c")
    (info,) = net.graph.input_types().values()
    x = (torch.rand(2, steps, *info.shape) < 0.1).float()
    want = ran(net, x)
    try:
        torch.set_default_dtype(torch.float64)
        got = ran(net, x)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device("meta")
        other = ran(net, x)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for a, b, c in zip(want, got, other, strict=True):
        assert b.dtype is torch.float32 and c.device.type == "cpu"
        assert torch.equal(a, b) and torch.equal(a, c)


@pytest.mark.parametrize("target", ["torch", "c"])
@pytest.mark.parametrize("model", [dense, late], ids=lambda m: m.__name__)
def test_double_precision_by_default(model, target):
    """A network that is compiled, and run, where new tensors are float64."""
    torch.manual_seed(0)
    single = snn.compile(model, target=target)
    (info,) = single.graph.input_types().values()
    x = (torch.rand(2, 15, *info.shape) < 0.3).float()
    want = ran(single, x)
    try:
        torch.set_default_dtype(torch.float64)
        double = snn.compile(model, target=target)
        assert all(v.dtype is torch.float32 for v in double.state_dict().values())
        double.load_state_dict(single.state_dict())
        got = ran(double, x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert float(want[0].sum()) > 0
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
