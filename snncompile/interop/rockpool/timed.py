"""Timed modules: a module with a clock, which takes and gives events and samples at times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from snncompile.interop.rockpool import series as own
from snncompile.interop.rockpool.series import SNAP, TSContinuous, TSEvent, events_in, seconds
from snncompile.interop.rockpool.trees import Tree
from snncompile.ir.errors import InputError
from snncompile.ir.types import SignalType

if TYPE_CHECKING:
    from snncompile.interop.rockpool.module import Family, Module


class TimedModule:
    """A module with a clock. See :meth:`Module.timed`.

    Unlike a module it changes: a run moves the clock and the state on, so that the next goes on where it ended.

    Args:
        module: the module.
        output_num: which output to return.
        add_events: count events that fall into one step; otherwise they are one.
    """

    def __init__(self, module: Module, output_num: int = 0, *, add_events: bool = False) -> None:
        outputs = list(module.graph.output_types().values())
        if isinstance(output_num, bool) or not isinstance(output_num, int) or not 0 <= output_num < len(outputs):
            raise InputError(f"output_num is {output_num!r}, the module's outputs are 0 to {len(outputs) - 1}")
        self.module = module
        self.dt = module.dt
        self._output = outputs[output_num]
        self._output_num = output_num
        self._add_events = add_events
        self._timestep = 0

    # -- running -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evolve(
        self,
        ts_input: Any = None,
        duration: float | None = None,
        num_timesteps: int | None = None,
        kwargs_timeseries: Mapping[str, Any] | None = None,
        record: bool = False,
    ) -> tuple[Any, Tree, Tree]:
        """Run from the present time.

        Args:
            ts_input: a series (for several inputs a dictionary of them); None is no input. Rockpool's series are taken
                too, and answered with Rockpool's.
            duration: in seconds; None is to the end of the input.
            num_timesteps: instead of a duration.
            kwargs_timeseries: for ``from_raster`` or ``from_clocked`` of the output, e.g. ``name``.
            record: keep every state and signal, as series, in the tree that :meth:`Module.evolve` describes.

        Returns:
            the output as a series, the new state, the record.

        Raises:
            InputError: for a series of the wrong kind, with too many channels, or that does not cover the time.
        """
        given = self._by_input(ts_input)
        steps = self._steps(given, duration, num_timesteps)
        data = {name: self._rastered(name, ts, steps) for name, ts in given.items()}
        start = self.t
        output, new_state, recorded = self.module.evolve(data if data else np.zeros((steps, 0)), record=record)
        if isinstance(output, Mapping):
            output = tuple(output.values())
        if isinstance(output, tuple):
            output = output[self._output_num]
        kinds = _kinds(next((ts for ts in given.values() if ts is not None), None))
        options = {"name": f"Output {'events' if self.spiking_output else 'samples'}", **(kwargs_timeseries or {})}
        out = _series(output, self._output, self.dt, start, kinds, options)
        wrapped = wrapped_record(self.module, recorded, start, kinds)
        self.module = self.module.set_attributes(new_state)
        self._timestep += steps
        return out, new_state, wrapped

    __call__ = evolve

    @property
    def t(self) -> float:
        """The present time in seconds."""
        return self._timestep * self.dt

    @t.setter
    def t(self, new_t: float) -> None:
        self._timestep = int(np.floor(seconds("t", new_t) / self.dt + SNAP))

    def reset_time(self) -> None:
        """Set the clock to 0."""
        self._timestep = 0

    def reset_state(self) -> None:
        """Set the state to that before the first step."""
        self.module = self.module.reset_state()

    def reset_all(self) -> None:
        """State and clock."""
        self.reset_state()
        self.reset_time()

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def input_type(self) -> type:
        """The kind of series it takes."""
        return TSEvent if self.spiking_input else TSContinuous

    @property
    def output_type(self) -> type:
        """The kind of series it gives."""
        return TSEvent if self.spiking_output else TSContinuous

    @property
    def spiking_input(self) -> bool:
        """Whether it takes events."""
        return self.module.spiking_input

    @property
    def spiking_output(self) -> bool:
        """Whether it gives events."""
        return self._output.kind == "spikes"

    @property
    def shape(self) -> tuple[int, int]:
        """``(size_in, size_out)``."""
        return self.size_in, self.size_out

    @property
    def size_in(self) -> int:
        """Number of input channels."""
        return self.module.size_in

    @property
    def size_out(self) -> int:
        """Number of channels of the output that it gives."""
        return self._output.size

    @property
    def class_name(self) -> str:
        """``"TimedModule"``."""
        return type(self).__name__

    @property
    def name(self) -> str:
        """The module's name."""
        return self.module.name

    @property
    def full_name(self) -> str:
        """Class and name."""
        return f"{self.class_name} {self.name}"

    def parameters(self, family: Family = None) -> Tree:
        """As :meth:`Module.parameters`."""
        return self.module.parameters(family)

    def simulation_parameters(self, family: Family = None) -> Tree:
        """As :meth:`Module.simulation_parameters`."""
        return self.module.simulation_parameters(family)

    def state(self, family: Family = None) -> Tree:
        """As :meth:`Module.state`."""
        return self.module.state(family)

    def set_attributes(self, new_attributes: Mapping[str, Any]) -> Self:
        """Set parameters and states of the module; returns this timed module."""
        self.module = self.module.set_attributes(new_attributes)
        return self

    def __repr__(self) -> str:
        return f"{self.full_name} with shape {self.shape}, at t={self.t:g} s"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _by_input(self, ts_input: Any) -> dict[str, Any]:
        names = list(self.module.graph.input_types())
        if ts_input is None:
            return dict.fromkeys(names)
        if isinstance(ts_input, Mapping):
            unknown = [name for name in ts_input if name not in names]
            if unknown:
                raise InputError(f"there is no input {unknown[0]!r}; inputs: {', '.join(names) or 'none'}")
            return {name: ts_input.get(name) for name in names}
        if len(names) != 1:
            raise InputError(f"give a dictionary of series, one for each of the inputs {', '.join(names) or '(none)'}")
        return {names[0]: ts_input}

    def _steps(self, given: Mapping[str, Any], duration: float | None, num_timesteps: int | None) -> int:
        if num_timesteps is not None:
            if isinstance(num_timesteps, bool) or not isinstance(num_timesteps, int) or num_timesteps < 0:
                raise InputError(f"num_timesteps is a whole number of at least 0, not {num_timesteps!r}")
            return num_timesteps
        if duration is None:
            series = [ts for ts in given.values() if ts is not None]
            for ts in series:
                _kinds(ts)
            if not series:
                raise InputError("say how long to run: a series, duration= or num_timesteps=")
            duration = max(ts.duration if ts.periodic else ts.t_stop - self.t for ts in series)
            if duration <= 0:
                raise InputError(f"the input ends before the present time, {self.t:g} s; reset_time() goes back to 0")
        if seconds("duration", duration) < 0:
            raise InputError(f"duration is a time of at least 0, not {duration:g}")
        return int(np.floor(duration / self.dt + SNAP))

    def _rastered(self, name: str, ts: Any, steps: int) -> Tensor:
        type = self.module.graph.input_types()[name]
        if ts is None:
            return torch.zeros(1, steps, *type.shape, dtype=torch.float32)
        events = type.kind == "spikes"
        if events != _is_events(ts):
            wanted, found = ("TSEvent", "TSContinuous") if events else ("TSContinuous", "TSEvent")
            raise InputError(f"input {name!r} takes a {wanted}, not a {found}")
        if ts.num_channels > type.size or (not events and ts.num_channels not in (1, type.size)):
            raise InputError(f"input {name!r} has {type.size} channels, the series {ts.num_channels}")
        if events:
            rows = events_in(ts, self.dt, self.t, steps, type.size, self._add_events)
            if type.max is not None and rows.size and rows.max() > type.max:
                raise InputError(
                    f"input {name!r} takes up to {type.max} spikes a step, but {rows.max()} events fall into one:"
                    f" declare it with max={rows.max()}, or leave add_events out"
                )
        else:
            rows = np.broadcast_to(ts(np.arange(steps) * self.dt + self.t), (steps, type.size))
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).reshape(1, steps, *type.shape)


def wrapped_record(module: Module, record: Mapping[str, Any], t_start: float, kinds: Any = own) -> Tree:
    """The first sequence of every tensor in a record as a series: events of spikes, samples of all else."""
    graph = module.graph
    single = None if module.modules() else str(module._name)

    def wrap(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return Tree({inner: wrap(f"{name}.{inner}", v) for inner, v in value.items()})
        node = name.removesuffix("_output")
        signal = f"{single}.{name}" if single else name if "." in name else None
        if signal is None:
            op = graph.op(node)
            signal = op.outputs[0].name if hasattr(op, "outputs") else f"{node}.out"
        ref = graph.recordable().get(signal)
        if ref is None:
            return value  # reduced over time
        return _series(value, graph.type_of(ref), graph.dt, t_start, kinds, {"name": name})

    return Tree({name: wrap(name, value) for name, value in record.items()})


def _series(
    x: Tensor, type: SignalType, dt: float, t_start: float, kinds: Any, options: Mapping[str, Any]
) -> Any:
    rows = x.detach().cpu()[0].reshape(x.shape[1], type.size).numpy()
    if type.kind == "spikes":
        return kinds.TSEvent.from_raster(rows, **{"dt": dt, "t_start": t_start, "num_channels": type.size, **options})
    return kinds.TSContinuous.from_clocked(rows, **{"dt": dt, "t_start": t_start, **options})


def _kinds(ts: Any) -> Any:
    """Where the classes of a series come from: this package, or Rockpool's."""
    if ts is None or isinstance(ts, (TSEvent, TSContinuous)):
        return own
    if any(cls.__module__ == "rockpool.timeseries" for cls in type(ts).__mro__):
        import rockpool

        return rockpool
    found = type(ts).__name__
    raise InputError(f"a timed module takes a TSEvent or a TSContinuous, not a {found}; arrays go to the module itself")


def _is_events(ts: Any) -> bool:
    _kinds(ts)
    return hasattr(ts, "channels")


