"""Cycles of other forms than one Linear and one population: without gradients they run as with them, only sooner."""

import pytest
import torch

import snncompile as snn


@snn.model
def balanced(x=snn.Spikes(6, max=1)):
    inhibition = snn.Feedback(3)
    excitatory = (x >> snn.Linear(8)) + (inhibition >> snn.Linear(8, sign=-1)) >> snn.LIF(threshold=0.3, name="exc")
    inhibitory = excitatory >> snn.Linear(3, sign=1) >> snn.CubaLIF(threshold=0.2, name="inh")
    inhibition.close(inhibitory)
    return {"e": excitatory, "i": inhibitory.state("v")}


@snn.model
def images(x=snn.Spikes((1, 5, 5), max=1)):
    back = snn.Feedback((2, 5, 5))
    h = (x >> snn.Conv2d(2, 3, padding=1)) + back >> snn.LIF(threshold=0.4, name="first")
    back.close(h >> snn.Conv2d(2, 3, padding=1) >> snn.LIF(threshold=0.2, name="second"))
    return h >> snn.Conv2d(2, 3, padding=1) >> snn.BatchNorm() >> snn.Flatten() >> snn.Linear(3)


@pytest.mark.parametrize("model", [balanced, images])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("record", [None, ["late"], True])
def test_same_with_and_without_gradients(model, batch, record):
    torch.manual_seed(0)
    net = snn.compile(model, target="c").eval()
    (shape,) = [t.shape for t in net.graph.input_types().values()]
    x = (torch.rand(batch, 11, *shape) < 0.5).float()
    if record == ["late"]:
        record = ["exc.v", "inh.isyn"] if model is balanced else ["first.v", "conv2d_1.out"]
    start = {n: s + 0.1 for n, s in net.initial_state(batch).items()}
    want = net.evolve(x, state=start, record=record)
    with torch.no_grad():
        got = net.evolve(x, state=start, record=record)
    for a, b in zip(got, want, strict=True):
        a, b = (v if isinstance(v, dict) else {"out": v} for v in (a, b))
        assert list(a) == list(b)
        for name, value in a.items():
            assert value.shape == b[name].shape
            assert torch.allclose(value, b[name], atol=1e-5), name


def test_other_cases_go_the_usual_way():
    net = snn.compile(balanced, target="c").eval()
    x = (torch.rand(2, 7, 6) < 0.5).float()
    with torch.no_grad():
        _, _, record = net.evolve(x, record=["exc.spikes:sum", "exc.spikes"])
        assert torch.equal(record["exc.spikes:sum"], record["exc.spikes"].sum(1))
        assert net(x[:, :0])["e"].shape == (2, 0, 8)

