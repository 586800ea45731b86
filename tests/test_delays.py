"""Delays of signals and feedbacks, and per synapse: what they show, what they remember, how they are trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms

MODES = ("previous", "nearest", "expdecay", "linear")


def network(node, n: int = 4, target: str = "torch") -> snn.Network:
    @snn.model(dt=1 * ms)
    def model(x=snn.Current(n)):
        return x >> node >> snn.Scale(1.0)

    return snn.compile(model, target=target)


def value_at(x: torch.Tensor, t: int, steps: float, mode: str | None, tau: float = 5.0) -> torch.Tensor | float:
    """The rule for one neuron ``x (B, T)``, written down once more, plainly."""
    k = int(np.floor(steps + 1e-9))
    r = steps - k
    newer = x[:, t - k] if t >= k else 0.0
    older = x[:, t - k - 1] if t >= k + 1 else 0.0
    if r < 1e-9:
        return newer
    if mode == "previous":
        return older
    if mode == "nearest":
        return newer if 1 - r > 0.5 else older
    if mode == "expdecay":
        return older * np.exp(-(1 - r) / tau)
    return newer * (1 - r) + older * r


@pytest.mark.parametrize("mode", [None, *MODES])
@pytest.mark.parametrize("shape", [(), (4,), (4, 3)])
def test_every_mode_shows_what_the_rule_says(mode, shape):
    rng = np.random.default_rng(3)
    steps = rng.integers(0, 6, size=shape) + (0.0 if mode is None else rng.choice([0.0, 0.25, 0.5, 0.8], size=shape))
    options = {"tau": 5 * ms} if mode == "expdecay" else {}
    net = network(snn.Delay(steps * ms, interpolation=mode, **options))
    x = torch.randn(2, 11, 4)
    y = net(x)
    assert y.shape == (2, 11, *shape) if len(shape) == 2 else x.shape
    for index in np.ndindex(y.shape[2:]):
        each = float(np.broadcast_to(steps, y.shape[2:])[index])
        for t in range(11):
            want = value_at(x[..., index[0]], t, each, mode)
            torch.testing.assert_close(y[(slice(None), t, *index)], torch.zeros(2) + want, rtol=1e-6, atol=1e-6)


def test_square_images_have_several_delays_of_each_channel():
    """Shape (C, D), where the image is as wide and high: the same for each pixel of a channel."""
    steps = np.array([[0, 1, 2], [3, 0, 1], [2, 2, 4]])

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((3, 3, 3)), y=snn.Spikes((3, 3))):
        return x >> snn.Delay(steps * ms), y >> snn.Delay(steps * ms)

    x = torch.rand(1, 6, 3, 3, 3)
    each, alone = snn.compile(model, target="torch")(x, x[..., 0])
    assert each.shape == (1, 6, 3, 3, 3, 3) and alone.shape == (1, 6, 3, 3)
    for c, d in np.ndindex(3, 3):
        k = steps[c, d]
        assert torch.equal(each[0, k:, c, ..., d], x[0, : 6 - k, c])
        assert torch.equal(alone[0, k:, c, d], x[0, : 6 - k, c, d, 0])


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (3, 2, 2), (3, 2), (1, 2, 2), (1, 1, 1, 5)])
def test_images(shape):
    steps = np.random.default_rng(0).integers(0, 4, size=shape)
    node = snn.Delay(torch.as_tensor(steps * ms))
    node_shape = {(3,): (3, 1, 1), (3, 2): (3, 1, 1, 2)}.get(shape, shape)

    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes((3, 2, 2), max=1)):
        return x >> node

    net = snn.compile(model, target="torch")
    x = (torch.rand(2, 9, 3, 2, 2) < 0.5).float()
    y = net(x)
    taps = node_shape[3:]
    assert y.shape == (2, 9, 3, 2, 2, *taps)
    each = np.broadcast_to(steps.reshape(node_shape), (3, 2, 2, *taps))
    for index in np.ndindex(each.shape):
        one = x[(slice(None), slice(None), *index[:3])]
        want = torch.cat([torch.zeros(2, each[index]), one], 1)[:, :9]
        assert torch.equal(y[(slice(None), slice(None), *index)], want)


def test_whole_steps_survive_any_dt():
    """In float32 seconds half of these would miss their step."""
    for dt in (1e-4, 1e-3, 0.3e-3, 7e-5):

        @snn.model(dt=dt)
        def model(x=snn.Spikes(1), *, delays):
            return {f"k{k}": x >> snn.Delay(k * delays) for k in range(1, 130, 7)}

        graph = model.build(delays=dt)
        attrs = [graph.op(name).attrs["steps"] for name in graph.names[1:]]
        assert attrs == [float(k) for k in range(1, 130, 7)]
    single = np.arange(1, 200, dtype=np.float32) * np.float32(1e-3)  # and given in float32

    @snn.model(dt=1 * ms)
    def given(x=snn.Spikes(199)):
        return x >> snn.Delay(single)

    assert given.build().op("delay").params["steps"].init.value.tolist() == list(range(1, 200))


def test_options_computed_from_arrays():
    """Numbers of numpy's own types, as a maximum of an array is."""
    delays = (np.arange(4) * 1e-3).astype(np.float32)
    one = network(snn.Delay(delays, max_delay=delays.max(), overbound=delays.min()))
    other = network(snn.Delay(delays, max_delay=3 * ms, overbound=0.0))
    x = torch.randn(2, 6, 4)
    assert torch.equal(one(x), other(x)) and one.initial_state(1)["delay.history"].shape == (1, 3, 4)
    assert network(snn.Linear(np.int64(3)))(x).shape == (2, 6, 3)


def test_spikes_stay_spikes():
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(4, max=3), i=snn.Current(4)):
        def of(signal, **options):
            return signal >> snn.Delay(1.5 * ms, tau=1 * ms if options["interpolation"] == "expdecay" else None,
                                       **options)  # fmt: skip

        kinds = {mode: of(x, interpolation=mode) for mode in MODES}
        return {**kinds, "held": of(x, interpolation="nearest", overbound=2.0),
                "strange": of(x, interpolation="nearest", overbound=0.5), "current": of(i, interpolation="previous"),
                "exact": x >> snn.Delay(0)}  # fmt: skip

    types = {key: str(t) for key, t in model.build().output_types().items()}
    assert types == {
        "previous": "spikes[4]<=3", "nearest": "spikes[4]<=3", "expdecay": "current[4]", "linear": "current[4]",
        "held": "spikes[4]<=3", "strange": "current[4]", "current": "current[4]", "exact": "spikes[4]<=3",
    }  # fmt: skip


def test_out_of_reach_is_the_overbound():
    net = network(snn.Delay(np.array([0, 3, 4, -1]) * ms, max_delay=3 * ms, overbound=7.0))
    x = torch.randn(2, 5, 4)
    y = net(x)
    assert torch.equal(y[..., 0], x[..., 0]) and torch.equal(y[:, 3:, 1], x[:, :2, 1]) and (y[..., 2:] == 7).all()
    near = network(snn.Delay(3.2 * ms, max_delay=3 * ms, tolerance=0.3 * ms, overbound=7.0))
    assert torch.equal(near(x)[:, 3:], x[:, :2])  # within the tolerance: the value at the limit


MODELS = {
    "signal": lambda x: x >> snn.Delay(4 * ms) >> snn.Linear(3),
    "channels": lambda x: x >> snn.Delay(np.array([0, 1, 5, 2]) * ms, max_delay=8 * ms) >> snn.Linear(3),
    "several": lambda x: x >> snn.Delay(np.array([[0, 1], [5, 2], [1, 1], [3, 0]]) * ms) >> snn.Flatten(),
    "linear": lambda x: x >> snn.Delay(2.3 * ms, interpolation="linear", trainable=True) >> snn.Linear(3),
    "synapses": lambda x: x >> snn.Linear(3, delay=np.arange(12).reshape(3, 4) * 0.5 * ms, interpolation="linear"),
    "one for all": lambda x: x >> snn.Linear(3, delay=3 * ms),
    "feedback": lambda x: x >> snn.Linear(3) >> snn.recurrent(snn.LIF(), via=snn.Linear(3), delay=4 * ms),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cut", [(0, 11), (1, 10), (3, 8), (1,) * 11])
def test_a_sequence_in_pieces_is_the_sequence(name, cut):
    """The state carries the history, also where a piece is shorter than the delay."""

    @snn.model(dt=1 * ms)
    def model(x=snn.Current(4)):
        return MODELS[name](x) >> snn.LIF(threshold=0.1)

    torch.manual_seed(4)
    net = snn.compile(model, target="torch")
    for p in net.parameters():
        p.data.mul_(8).round_().div_(8) if p.dim() == 2 else None
    x = torch.randint(-3, 9, (2, 11, 4)) / 8
    want, last, _ = net.evolve(x)
    pieces, state = [], None
    for part in x.split(list(cut), 1):
        y, state, _ = net.evolve(part, state=state)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, 1), want) and want.sum() > 0
    assert all(torch.equal(state[k], last[k]) for k in last)
    assert all(s.shape == last[k].shape for k, s in net.initial_state(2).items())


@pytest.mark.parametrize("options", [{}, {"interpolation": "linear"}, {"overbound": 0.5, "max_delay": 15 * ms}])
def test_few_delays_among_many_steps(options):
    """As many products as there are delays, instead of as many as steps: the same sums."""
    delays = np.array([[2, 20, 2, 9], [9, 9, 20, 2], [2, 2, 2, 2]]) * ms
    delays = delays + 0.5 * ms if "interpolation" in options else delays
    weights = np.random.default_rng(0).integers(-8, 9, (3, 4)) / 8
    few = network(snn.Linear(3, delay=delays, init=weights, bias=False, **options))
    spread = network(snn.Linear(12, init=np.eye(4).repeat(3, 0), bias=False))  # one channel for each synapse
    each = network(snn.Delay(delays.T.flatten(), **options), n=12)
    x = torch.randint(0, 3, (2, 40, 4)).float()
    want = (each(spread(x)).unflatten(2, (4, 3)) * torch.as_tensor(weights.T).float()).sum(2)
    for steps in (0, 1, 7, 40):
        assert torch.equal(few(x[:, :steps]), want[:, :steps])


def test_the_gradient_through_delays():
    def loss(net, x):
        y, state, _ = net.evolve(x)
        return y.sin().sum() + sum(s.cos().sum() for s in state.values())

    rng = np.random.default_rng(0)
    for node in (
        snn.Delay(3 * ms),
        snn.Delay(rng.integers(0, 5, 4) * ms),
        snn.Delay(rng.uniform(0, 5, (4, 2)) * ms, interpolation="linear"),
        snn.Delay(2.4 * ms, interpolation="expdecay", tau=3 * ms),
        snn.Linear(3, delay=rng.integers(0, 5, (3, 4)) * ms),
    ):
        net = network(node)
        x = torch.randn(2, 7, 4, requires_grad=True)
        (got,) = torch.autograd.grad(loss(net, x), x)
        v = torch.randn(x.shape)
        eps = 1e-2
        with torch.no_grad():
            numeric = (loss(net, x + eps * v) - loss(net, x - eps * v)) / (2 * eps)
        torch.testing.assert_close((got * v).sum(), numeric, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("connection", [False, True])
def test_delays_are_trained(connection):
    """A linear interpolation hands its gradient to the delay, on the grid and off it; it finds the right delay."""
    start = np.array([1.0, 2.5, 4.2, 3.0]) * ms
    options = {"interpolation": "linear", "max_delay": 8 * ms}
    if connection:
        node = snn.Linear(1, delay=start[None], trainable_delay=True, bias=False, init=np.ones((1, 4)), trainable=False,
                          **options)  # fmt: skip
    else:
        node = snn.Delay(start, trainable=True, **options)
    net = network(node)
    assert [n for n, p in net.named_parameters() if p.requires_grad] == [f"{'linear' if connection else 'delay'}.steps"]
    (steps,) = net.parameters()
    x = torch.randn(1, 400, 4).cumsum(1) * 0.1
    x = torch.nn.functional.avg_pool1d(x.transpose(1, 2), 9, 1, 4).transpose(1, 2).contiguous()
    target = network(snn.Delay(np.array([2.0, 4.0, 3.0, 5.5]) * ms, interpolation="linear"))(x)
    target = target.sum(-1, keepdim=True) if connection else target
    y = net(x)
    y[:, 10:].sum().backward()
    slope = {False: x, True: x}[connection]
    newer = steps.detach().floor().long().flatten()
    want = torch.stack([(slope[0, 10 - k - 1 : 400 - k - 1, i] - slope[0, 10 - k : 400 - k, i]).sum()
                        for i, k in enumerate(newer.tolist())])  # fmt: skip
    torch.testing.assert_close(steps.grad.flatten(), want, rtol=1e-3, atol=1e-3)
    optimiser = torch.optim.Adam([steps], lr=0.1)
    losses = []
    for _ in range(80):
        optimiser.zero_grad()
        loss = (net(x) - target)[:, 10:].pow(2).mean()
        loss.backward()
        optimiser.step()
        net.clamp_()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    assert connection or torch.allclose(steps, torch.tensor([2.0, 4.0, 3.0, 5.5]), atol=0.2)


def test_a_trained_delay_stays_in_reach():
    net = network(snn.Delay(2 * ms, interpolation="linear", trainable=True, max_delay=3 * ms))
    x = torch.randn(1, 6, 4)
    with torch.no_grad():
        net.value("delay.steps").fill_(9.0)
    assert torch.equal(net(x)[:, 3:], x[:, :3])
    assert net.clamp_().value("delay.steps") == 3
    net.value("delay.steps").data.fill_(-2.0)
    assert torch.equal(net(x), x)
    with pytest.raises(snn.ModelError, match=r"node 'delay'.*steps must be at least 0, but is -2"):
        net.check_parameters()
    assert net.clamp_().value("delay.steps") == 0


def test_a_state_with_another_history():
    net = network(snn.Delay(2 * ms))
    with pytest.raises(snn.InputError, match=r"state 'delay.history' has shape \(1, 3, 4\); with this input it is"):
        net.evolve(torch.zeros(1, 2, 4), state={"delay.history": torch.zeros(1, 3, 4)})


# -- around a network ----------------------------------------------------------------------------------------------


@snn.model(dt=1 * ms)
def everything(x=snn.Spikes(4)):
    h = x >> snn.Delay(np.array([0, 3, 1, 2]) * ms) >> snn.ExpSyn()
    h = h >> snn.Linear(3, delay=np.arange(12).reshape(3, 4) * 0.5 * ms, interpolation="linear", trainable_delay=True)
    return h >> snn.recurrent(snn.LIF(threshold=0.2), via=snn.Linear(3), delay=3 * ms)


@pytest.mark.parametrize("target", ["torch", "c"])
def test_artifacts(target, tmp_path):
    torch.manual_seed(0)
    net = snn.compile(everything, target=target)
    x = (torch.rand(2, 12, 4) < 0.4).float()
    again = snn.load(net.save(tmp_path / "net.snn"), target=target)
    a, b = net.evolve(x), again.evolve(x)
    assert torch.equal(a[0], b[0]) and all(torch.equal(a[1][k], b[1][k]) for k in a[1]) and a[0].sum() > 0


def test_inside_torch_compile():
    torch.manual_seed(0)
    net = snn.compile(everything, target="torch")
    x = (torch.rand(2, 12, 4) < 0.4).float()
    run = torch.compile(lambda x, state: net.evolve(x, state=state), fullgraph=True)
    want, got = net.evolve(x, state=net.initial_state(2)), run(x, net.initial_state(2))
    assert torch.equal(want[0], got[0]) and all(torch.equal(want[1][k], got[1][k]) for k in want[1])
    got[0].sum().backward()
    mine = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    net(x).sum().backward()
    assert all(torch.allclose(p.grad, mine[name], rtol=1e-5) for name, p in net.named_parameters())
    assert mine["linear.steps"].abs().sum() > 0


@pytest.mark.parametrize("target", ["torch", "c", "triton"])
def test_strided_inputs(target, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    torch.manual_seed(0)
    net, plain = snn.compile(everything, target=target), snn.compile(everything, target="torch")
    plain.load_state_dict(net.state_dict())
    wide = (torch.rand(9, 12, 2, 8) < 0.4).float()
    for x in (wide.permute(2, 1, 0, 3)[:, :, 3, ::2], wide[0, 0, 0, :4].expand(2, 12, 4), wide[:2, :, 1, :4]):
        assert torch.equal(net(x), plain(x.contiguous()))


def test_a_delayed_signal_may_be_an_output_twice():
    @snn.model(dt=1 * ms)
    def model(x=snn.Spikes(4)):
        late = x >> snn.Delay(2 * ms)
        return {"a": late, "b": late >> snn.LIF(threshold=0.5), "c": late >> snn.Delay(1 * ms)}

    x = (torch.rand(2, 7, 4) < 0.4).float()
    y = snn.compile(model, target="c")(x)
    assert torch.equal(y["a"][:, 2:], x[:, :-2]) and torch.equal(y["c"][:, 3:], x[:, :-3])
