"""Signals with a clock, and modules that take and give them, against Rockpool's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile.interop.rockpool import NetworkModule, TimedModule, TSContinuous, TSEvent, as_module

DT = 1e-3


def events(steps: int = 30, channels: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.4, (steps, channels))


# -- series ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_start", [False, True])
@pytest.mark.parametrize("add", [False, True])
def test_events_as_the_original(original: Any, add: bool, at_start: bool, capsys: Any) -> None:
    counts = events()
    options = {"dt": 0.5, "t_start": 1.0, "name": "e", "spikes_at_bin_start": at_start}
    ours, theirs = TSEvent.from_raster(counts, **options), original.TSEvent.from_raster(counts, **options)
    assert np.array_equal(ours.times, theirs.times) and np.array_equal(ours.channels, theirs.channels)
    for what in ("t_start", "t_stop", "duration", "num_channels", "periodic", "name"):
        assert getattr(ours, what) == getattr(theirs, what), what
    assert ours.isempty() == theirs.isempty() and len(ours) == len(theirs)
    assert np.array_equal(ours.raster(0.5, add_events=add), theirs.raster(0.5, add_events=add))
    coarse = {"dt": 1.5, "t_start": 2.5, "num_timesteps": 6, "add_events": add}
    assert np.array_equal(ours.raster(**coarse), theirs.raster(**coarse))
    assert ours.contains([1.0, 3.0]) and not ours.contains([0.5])
    assert repr(ours).startswith("TSEvent 'e' from t=1 to 16, ")


def test_events_on_the_border_of_a_step_belong_to_the_later_one() -> None:
    times = np.arange(1000) * DT  # 0.029 / 0.001 is 28.999999999999996
    assert np.array_equal(TSEvent(times, t_stop=1.0).raster(DT), np.ones((1000, 1)))


def test_periodic_events() -> None:
    once = TSEvent([0.25, 1.25], [0, 1], t_start=0.0, t_stop=2.0, periodic=True)
    assert np.array_equal(once.raster(0.5, t_start=-2.0, num_timesteps=12).argmax(0), [0, 2])
    assert np.array_equal(once.raster(0.5, t_start=0.0, num_timesteps=12), np.tile(once.raster(0.5), (3, 1)))


def test_samples_as_the_original(original: Any) -> None:
    x = np.random.default_rng(1).random((8, 3))
    for kind in ("previous", "linear"):
        options = {"dt": 0.25, "t_start": 1.0, "name": "s", "interp_kind": kind}
        ours, theirs = TSContinuous.from_clocked(x, **options), original.TSContinuous.from_clocked(x, **options)
        at = np.array([1.0, 1.1, 1.25, 1.3, 2.74])
        assert np.allclose(ours(at), theirs(at))
        for what in ("t_start", "t_stop", "duration", "num_channels", "periodic", "name"):
            assert getattr(ours, what) == getattr(theirs, what), what
    assert np.array_equal(TSContinuous.from_clocked(x, dt=0.25).to_clocked(0.25), x)
    clocked = TSContinuous.from_clocked(np.arange(1000.0), dt=DT)
    assert np.array_equal(clocked(np.arange(1000) * DT)[:, 0], np.arange(1000.0))
    around = TSContinuous.from_clocked(x, dt=0.25, periodic=True)
    assert np.array_equal(around([2.0, 4.25, -0.25])[:, 0], x[[0, 1, 7], 0]) and around.contains([99.0])
    assert not ours.isempty() and len(ours) == 8 and TSContinuous().isempty()
    assert repr(ours) == "TSContinuous 's' from t=1 to 3, 8 samples, 3 channels"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TSEvent([0.2, 0.1], t_stop=1.0), "go back"),
        (lambda: TSEvent([0.2]), "t_stop of events 'unnamed' must lie after the last of them, at 0.2 s"),
        (lambda: TSEvent([0.2], [3], 2, t_stop=1.0), "on channels 3 to 3 of 2"),
        (lambda: TSEvent([float("nan")], t_stop=1.0), "the times of 'unnamed' are not all finite"),
        (lambda: TSEvent(["a"], t_stop=1.0), "the times of 'unnamed' are numbers, side by side in an array"),
        (lambda: TSEvent([0.1, 0.2], [0, 1, 2], t_stop=1.0), "events 'unnamed' have 2 times and 3 channels"),
        (lambda: TSEvent([0.1], [0.5], t_stop=1.0), "the channels of 'unnamed' are whole numbers from 0"),
        (lambda: TSContinuous([0.1, 0.2], [[1.0], [2.0, 3.0]]), "the samples of 'unnamed' are numbers, side by side"),
        (lambda: TSContinuous([0.1], [[1.0], [2.0]]), "have 1 times and 2 rows"),
        (lambda: TSContinuous([0.1], [[1.0]], interp_kind="cubic"), "'previous' or 'linear', not 'cubic'"),
        (lambda: TSContinuous.from_clocked(np.ones(3), DT)(0.5), "go from 0 to 0.003 s, but are needed from 0.5"),
        (lambda: TSContinuous()(0.0), "nothing to read"),
    ],
)
def test_no_series(make: Any, message: str) -> None:
    with pytest.raises(snn.InputError, match=message):
        make()


# -- timed modules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("add", [False, True])
def test_as_rockpools_timed_module(original: Any, add: bool, capsys: Any) -> None:
    class Original(original.LIFTorch):
        def evolve(self, input_data: Any, record: bool = False) -> Any:  # rasters are arrays, its input tensors
            out, state, kept = super().evolve(torch.as_tensor(input_data, dtype=torch.float32), record)
            return out.detach(), state, kept

    class_options = {"tau_mem": 0.02, "tau_syn": 0.01, "dt": DT}
    theirs = Original((4, 4), threshold=torch.full((4,), 0.7), **class_options).timed(add_events=add)

    @snn.model(dt=DT)
    def net(x=snn.Spikes(4, max=20)):
        return x >> snn.CubaLIF(threshold=0.7, tau_mem=0.02, tau_syn=0.01)

    ours = as_module(net, target="torch").timed(add_events=add)
    for run, seed in enumerate((1, 2)):  # the second goes on where the first ended
        counts, start = events(seed=seed), run * 30 * DT
        want, _, _ = theirs(original.TSEvent.from_raster(counts, DT, t_start=start))
        got, _, _ = ours(TSEvent.from_raster(counts, DT, t_start=start))
        assert isinstance(got, TSEvent) and len(got) == len(want) > 5
        assert np.allclose(got.times, want.times) and np.array_equal(got.channels, want.channels)
        assert (got.t_start, got.num_channels) == (want.t_start, want.num_channels)
        assert ours.t == theirs.t == pytest.approx((run + 1) * 30 * DT)
    for what in ("dt", "size_in", "size_out", "shape", "spiking_input", "spiking_output"):
        assert getattr(ours, what) == getattr(theirs, what), what
    assert (ours.input_type, ours.output_type) == (TSEvent, TSEvent)
    assert (theirs.input_type, theirs.output_type) == (original.TSEvent, original.TSEvent)


def test_rockpools_series_are_answered_with_rockpools(module: NetworkModule, original: Any) -> None:
    counts = np.minimum(events(), 1)
    want, _, want_record = module.timed()(TSEvent.from_raster(counts, DT), record=True)
    got, _, record = module.timed()(original.TSEvent.from_raster(counts, DT), record=True)
    assert type(got) is original.TSContinuous and np.allclose(got.samples, want.samples)
    assert type(record["lif"]["spikes"]) is original.TSEvent
    assert np.allclose(record["lif"]["spikes"].times, want_record["lif"]["spikes"].times)


def test_same_as_the_module(module: NetworkModule) -> None:
    counts = events()
    out, state, record = module.timed(add_events=True).evolve(TSEvent.from_raster(counts, DT), record=True)
    want, want_state, want_record = module.evolve(counts, record=True)
    assert np.array_equal(out.samples, want[0].detach().numpy())
    assert torch.equal(state["lif"]["v"], want_state["lif"]["v"])
    membrane, spikes = (want_record["lif"][name][0].detach().numpy() for name in ("v", "spikes"))
    assert np.array_equal(record["lif"]["v"].samples, membrane)
    assert np.array_equal(record["lif_output"].raster(DT, add_events=True), spikes)
    assert isinstance(record["linear_output"], TSContinuous) and record["linear"] == {}


def test_record_wrapped_by_hand(module: NetworkModule) -> None:
    _, _, record = module.lif.evolve(torch.rand(2, 5, 3) * 2, record=True)
    wrapped = module.lif._wrap_recorded_state(record, t_start=1.0)
    assert wrapped["v"].t_start == 1.0 and np.array_equal(wrapped["v"].samples, record["v"][0].detach().numpy())
    assert isinstance(wrapped["spikes"], TSEvent)


def test_clock_and_state(module: NetworkModule) -> None:
    timed = module.timed()
    assert timed.t == 0.0 and timed.module is module
    first, _, _ = timed(TSEvent.from_raster(events(), DT), duration=10 * DT)
    assert len(first) == 10 and timed.t == pytest.approx(10 * DT)
    timed(num_timesteps=5)
    assert timed.t == pytest.approx(15 * DT) and not torch.equal(timed.state()["lif"]["v"], torch.zeros(3))
    timed.reset_time()
    assert timed.t == 0.0 and not torch.equal(timed.state()["lif"]["v"], torch.zeros(3))
    timed.t = 0.0071
    assert timed.t == pytest.approx(0.007)
    with pytest.raises(snn.InputError, match="t is a time in seconds, not None"):
        timed.t = None
    timed.reset_state()
    assert torch.equal(timed.state()["lif"]["v"], torch.zeros(3)) and timed.t == pytest.approx(0.007)
    timed(num_timesteps=3)
    timed.reset_all()
    again, _, _ = timed(TSEvent.from_raster(events(), DT), duration=10 * DT)
    assert np.array_equal(again.samples, first.samples)
    assert torch.equal(module.lif.v, torch.zeros(3))  # the module itself did not change


def test_identity_and_attributes(module: NetworkModule) -> None:
    timed = module.timed()
    assert (timed.class_name, timed.name, timed.full_name) == ("TimedModule", "'small'", "TimedModule 'small'")
    assert repr(timed) == "TimedModule 'small' with shape (4, 2), at t=0 s"
    assert timed.parameters("taus") == module.parameters("taus")
    assert timed.simulation_parameters() == module.simulation_parameters()
    assert timed.set_attributes({"lif": {"v": torch.ones(3)}}) is timed
    assert torch.equal(timed.state()["lif"]["v"], torch.ones(3))


def test_dt_is_the_modules_own(module: NetworkModule) -> None:
    with pytest.warns(UserWarning, match=r"dt=0.002 is ignored: the module has a time step, 0.001 s"):
        assert module.timed(dt=2e-3).dt == DT
    assert module.timed(dt=DT).dt == DT
    for dt in ("1", float("inf"), True):
        with pytest.raises(snn.InputError, match=f"dt is a time in seconds, not {dt!r}"):
            module.timed(dt=dt)


def test_output_num_and_several_inputs() -> None:
    @snn.model(dt=DT)
    def net(a=snn.Spikes(2), b=snn.Current(3)):
        v = (a >> snn.Linear(3)) + b >> snn.LI()
        return v, v >> snn.IF(threshold=0.1)

    module = as_module(net, target="torch")
    a, b = TSEvent([0.0005], [1], 2, t_stop=4 * DT), TSContinuous.from_clocked(np.ones((4, 1)), DT)
    membrane, _, _ = module.timed()({"a": a, "b": b})
    spikes, _, _ = module.timed(output_num=1)({"a": a, "b": b})
    want = module({"a": a.raster(DT), "b": torch.ones(4, 1)})[0]
    assert np.array_equal(membrane.samples, want[0][0].detach().numpy())
    assert np.array_equal(spikes.raster(DT, add_events=True), want[1][0].detach().numpy())
    only, _, _ = module.timed()({"b": b})
    assert np.array_equal(only.samples, module((torch.zeros(4, 2), torch.ones(4, 1)))[0][0][0].detach().numpy())
    with pytest.raises(snn.InputError, match="output_num is 2, the module's outputs are 0 to 1"):
        module.timed(2)
    with pytest.raises(snn.InputError, match="one for each of the inputs a, b"):
        module.timed()(a)
    with pytest.raises(snn.InputError, match="there is no input 'c'; inputs: a, b"):
        module.timed()({"c": a})


def test_options_of_the_output(module: NetworkModule) -> None:
    out, _, _ = module.timed()(num_timesteps=4, kwargs_timeseries={"name": "mine", "t_start": 2.0})
    assert (out.name, out.t_start) == ("mine", 2.0)


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        (TSContinuous.from_clocked(np.ones((3, 4)), DT), {}, "input 'x' takes a TSEvent, not a TSContinuous"),
        (TSEvent([0.0], [5], t_stop=1.0), {}, "input 'x' has 4 channels, the series 6"),
        (np.ones((3, 4)), {}, "not a ndarray; arrays go to the module itself"),
        (None, {}, r"say how long to run: a series, duration= or num_timesteps="),
        (None, {"num_timesteps": 1.5}, "num_timesteps is a whole number of at least 0, not 1.5"),
        (None, {"duration": -1.0}, "duration is a time of at least 0, not -1"),
        (None, {"duration": "1"}, "duration is a time in seconds, not '1'"),
        (None, {"duration": float("nan")}, "duration is a time in seconds, not nan"),
        (TSEvent([], [], 4, t_stop=0.0), {}, r"the input ends before the present time, 0 s; reset_time\(\)"),
    ],
)
def test_refused(module: NetworkModule, series: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(snn.InputError, match=message):
        module.timed()(series, **options)


def test_more_events_than_the_input_takes(module: NetworkModule) -> None:
    many = TSEvent([0.0] * 9, [0] * 9, 4, t_stop=2 * DT)
    with pytest.raises(snn.InputError, match=r"up to 8 spikes a step, but 9 .* declare it with max=9"):
        module.timed(add_events=True)(many)
    assert isinstance(module.timed()(many)[0], TSContinuous)  # one event a step


def test_samples_must_cover_the_time(module: NetworkModule) -> None:
    timed = module.lif.timed()
    assert isinstance(timed, TimedModule) and timed.input_type is TSContinuous
    with pytest.raises(snn.InputError, match=r"go from 0 to 0.003 s, but are needed from 0 to 0.009 s"):
        timed(TSContinuous.from_clocked(np.ones((3, 3)), DT), duration=10 * DT)
    with pytest.raises(snn.InputError, match="has 3 channels, the series 2"):
        timed(TSContinuous.from_clocked(np.ones((3, 2)), DT))
