"""Pass delays-to-offsets: delays that scans alone read, and why others are signals of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.explain import explain
from snncompile.passes.delays_to_offsets import DelaysToOffsets
from snncompile.passes.pipeline import Request, compile_graph

from .rewrites import assert_golden_rewrite, assert_same_meaning


@snn.model(dt=1 * ms)
def model(x=snn.Spikes(4)):
    late = x >> snn.Delay(3 * ms)
    a = late >> snn.LIF(threshold=0.5)
    b = x >> snn.Delay(np.array([0, 1, 4, 2]) * ms) >> snn.ExpSyn()
    c = x >> snn.Delay(1.5 * ms, interpolation="linear", name="between") >> snn.LI()
    return a, b, c, x >> snn.Delay(2 * ms, name="wide") >> snn.Linear(3)


def test_golden() -> None:
    before = compile_graph(model.build(), Request(), "hoist-parameters")
    after = DelaysToOffsets().run(before)
    assert_golden_rewrite("delays-to-offsets", before, after)
    assert_same_meaning(before, after)


def case(build):
    return snn.model(build, dt=1 * ms)


def many(late):
    return tuple(late >> snn.Linear(2) for _ in range(3))


DECLINED = {
    "output": (case(lambda x=snn.Spikes(3): x >> snn.Delay(2 * ms)), "it is an output"),
    "view": (case(lambda x=snn.Spikes((3, 1)): x >> snn.Delay(2 * ms) >> snn.Flatten()),
             "flatten, another view of it, is an output"),
    "many": (case(lambda x=snn.Spikes(3): many(x >> snn.Delay(np.array([0, 1, 2]) * ms))),
             "3 products read it: for so many it is made once"),
}  # fmt: skip


def test_many_dense_convolutions_read_panels_each() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes((2, 6, 6))):
        late = x >> snn.Delay(np.arange(72).reshape(2, 6, 6) % 5 * ms)
        return tuple(late >> snn.Conv2d(8, 3) for _ in range(4))

    assert not [n for n in compile_graph(net.build(), Request()).notes if n.node == "delay"]
    x = (torch.rand(2, 12, 2, 6, 6) < 0.3).float()
    made, want = [snn.compile(net, target=target) for target in ("c", "torch")]
    made.load_state_dict(want.state_dict())
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(made(x), want(x), strict=True))


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name) -> None:
    built, reason = DECLINED[name]
    notes = compile_graph(built.build(), Request()).notes
    assert [n.text for n in notes if n.by == "delays-to-offsets"] == [f"no offset in a load: {reason}"]


def test_a_delay_on_a_cycle_is_none() -> None:
    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(3)):
        back = snn.Feedback(3, delay=0)
        h = (x + (back >> snn.Delay(2 * ms))) >> snn.LIF()
        back.close(h)
        return h

    notes = compile_graph(net.build(), Request()).notes
    assert "no offset in a load: it stands on a cycle" in [n.text for n in notes]


def notes_of_a_delay_before(reader, **first) -> list[str]:
    built = case(lambda x=snn.Spikes(3): x >> snn.Delay(**first) >> snn.Flatten() >> reader >> snn.LIF())
    return [n.text for n in compile_graph(built.build(), Request()).notes if n.node == "delay"]


@pytest.mark.parametrize("reader", [snn.Delay(1 * ms), snn.Linear(2, delay=1 * ms)])
def test_a_delay_reads_through_a_delay(reader) -> None:
    assert notes_of_a_delay_before(reader, delay=2 * ms) == []
    assert notes_of_a_delay_before(reader, delay=np.array([2, 0, 1]) * ms) == []


def test_a_delay_that_a_delay_cannot_read_through_is_made() -> None:
    said = "no offset in a load: delay_1, which reads it, is a delay itself, and this one"
    found = notes_of_a_delay_before(snn.Delay(1 * ms), delay=1.5 * ms, interpolation="linear")
    assert found == [f"{said} computes what it shows"]
    found = notes_of_a_delay_before(snn.Delay(1 * ms), delay=np.array([[0, 1], [2, 3], [1, 1]]) * ms)
    assert found == [f"{said} shows several values of each channel"]


def test_explain_says_so() -> None:
    found = explain(model.build(), "c")
    regions = {r.nodes: r for r in found.regions}
    assert regions["delay",].why == "a delay of 3 steps: an offset in the loads of lif, no buffer"
    assert regions["delay",].runs_as.startswith("nothing of its own")
    assert regions["wide",].why == "a delay of 2 steps: an offset in the loads of linear, no buffer"
    assert regions["wide",].runs_as.endswith("; products read another view of it")


@pytest.mark.parametrize("target", ["c", "triton"])
@pytest.mark.parametrize("steps", [0, 2, 3, 4, 11])
@pytest.mark.parametrize("checkpoint", [1, 4])
def test_targets_read_earlier_steps(target, steps, checkpoint, monkeypatch) -> None:
    """Outputs, states and gradients; a run shorter than the delay makes the late signal."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    torch.manual_seed(0)
    want, got = snn.compile(model, target="torch"), snn.compile(model, target=target, checkpoint=checkpoint)
    got.load_state_dict(want.state_dict())
    x = (torch.rand(2, steps, 4) < 0.4).float().requires_grad_()
    found = []
    for net in (want, got):
        state = {k: torch.rand(v.shape, generator=torch.Generator().manual_seed(3)).requires_grad_()
                 for k, v in net.initial_state(2).items()}  # fmt: skip
        y, after, _ = net.evolve(x, state=state)
        loss = sum((one * torch.arange(1.0, 1 + one.shape[-1])).sum() for one in (*y, *after.values()))
        grads = torch.autograd.grad(loss, [x, *state.values()])
        found.append(([*y, *after.values(), *grads[1:]], grads[0]))
    (values, grad), (same, same_grad) = found
    assert all(torch.equal(a, b) for a, b in zip(values, same, strict=True))
    assert torch.allclose(grad, same_grad, rtol=1e-5)  # three readers' gradients, added up in another order


@pytest.mark.parametrize("target", ["c", "triton"])
def test_no_late_signal_is_made(target, monkeypatch) -> None:
    """The kernels are given the signal itself, where it lies, and how late it is."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    net = snn.compile(model, target=target)
    x = (torch.rand(9, 2, 4) < 0.4).float().transpose(0, 1)  # inside, time comes first: no copy on the way in
    runner = net.executor(x.device)._target
    forward, seen = runner.forward, {}

    def watched(scan, call):
        seen.update({scan.name: (call.inputs[0].data_ptr(), call.late)})
        return forward(scan, call)

    monkeypatch.setattr(runner, "forward", watched)
    with torch.no_grad():
        net(x)
    assert {pointer for pointer, _ in seen.values()} == {x.data_ptr()}
    assert seen["lif"][1][0].steps == 3 and seen["lif"][1][0].past.shape == (3, 2, 4)
    assert seen["exp_syn"][1][0].steps.tolist() == [0, 1, 4, 2]


def test_a_recorded_delay_is_made() -> None:
    net = snn.compile(model, target="c")
    x = (torch.rand(2, 9, 4) < 0.4).float()
    _, _, record = net.evolve(x, record=["delay.out", "delay.out:sum"])
    assert torch.equal(record["delay.out"][:, 3:], x[:, :-3])
    assert torch.equal(record["delay.out:sum"], x[:, :-3].sum(1))
