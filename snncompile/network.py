"""Compiled networks: torch modules that run a graph on a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snncompile import opaque, past
from snncompile.eager import eager
from snncompile.ir.errors import InputError, ModelError
from snncompile.ir.graph import Graph
from snncompile.learning import LearningNetwork
from snncompile.parameters import ParameterNetwork, check_loaded
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.records import RecordRequest, read_request
from snncompile.signals_io import Sequences, batch_first, check_state, read_inputs, read_step
from snncompile.states import carried_on, checked_batch, checked_seed, initial_state
from snncompile.streaming import QuickSteps
from snncompile.targets.executor import Executor, Run, RunResult
from snncompile.targets.precision import checked_precision
from snncompile.targets.registry import automatic, checked_name, make_target
from snncompile.values import build_module_tree
from snncompile.writing import WrittenNetwork

State = dict[str, Tensor]
"""State name -> ``(batch, *features)``."""


class Network(LearningNetwork, ParameterNetwork, WrittenNetwork, nn.Module):
    """A compiled network. Calling it is pure: no state is kept between calls.

    Parameters live under the names of the source graph (``state_dict()["lif.tau_mem"]``) on every target.

    Args:
        graph: the network as written.
        target: ``"torch"``, ``"triton"``, ``"c"`` or ``"auto"`` (chosen by the device of each input).
        checkpoint: save states every ``checkpoint`` steps for the backward pass and recompute between; 1 saves all.
            None leaves it to the target, which goes by the size of each scan; results are the same bits.
        values: parameter name -> first value, for every parameter; None initialises them as the graph says.
        precision: of the products inside recurrent layers on Triton: one of
            :data:`snncompile.targets.precision.PRECISIONS`.
    """

    def __init__(
        self,
        graph: Graph,
        target: str = "auto",
        *,
        checkpoint: int | None = None,
        values: Mapping[str, Tensor] | None = None,
        precision: str = "auto",
    ) -> None:
        super().__init__()
        whole = isinstance(checkpoint, int) and not isinstance(checkpoint, bool) and checkpoint >= 1
        if checkpoint is not None and not whole:
            raise ModelError(f"checkpoint is a whole number of steps of at least 1, not {checkpoint!r}")
        self.graph = graph
        self.target = checked_name(target)
        self.checkpoint = checkpoint
        self.precision = checked_precision(precision)
        self._executors: dict[tuple[str, Request], Executor] = {}
        self._quick = QuickSteps(self)
        self._kept_anyway: dict[bool, frozenset[str]] = {}
        self.layout = opaque.layout_of(graph)
        self.handle = opaque.register(self)
        self.register_load_state_dict_post_hook(check_loaded)
        try:
            build_module_tree(self, graph.parameters(), values)
        except ModelError as err:
            where = graph.where(err.node) if err.node is not None and err.node in graph.nx else None
            raise ModelError(err.message, node=err.node, where=where) from None

    def __getstate__(self) -> dict[str, Any]:
        # compiled kernels are made again where they are needed
        return {**{k: v for k, v in self.__dict__.items() if k != "_quick"}, "_executors": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._quick = QuickSteps(self)
        self.handle = opaque.register(self)

    def extra_repr(self) -> str:
        """The model's name and target."""
        return f"{self.graph.name}, target={self.target!r}, dt={self.graph.dt:g} s"

    # -- running -----------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Any, steps: int | None = None, batch: int | None = None, **named: Any) -> Any:
        """Run from the initial state.

        Args:
            *inputs: one tensor per input, ``(batch, time, *features)`` or ``(time, *features)``; by name, too.
            steps: length of the run, for a network without inputs.
            batch: its batch, likewise.

        Returns:
            the output, shaped like the input; a tuple or dict of them where the model returns several.

        Raises:
            InputError: for data of the wrong shape or dtype.
        """
        if self.layout.learned:
            self.refuse_plain_call()
        return self.evolve(*inputs, steps=steps, batch=batch, **named)[0]

    def evolve(
        self,
        *inputs: Any,
        state: Mapping[str, Tensor] | None = None,
        record: bool | str | Sequence[str] | None = None,
        steps: int | None = None,
        batch: int | None = None,
        differentiable: bool = False,
        **named: Any,
    ) -> tuple[Any, State, dict[str, Tensor]]:
        """Run from ``state`` and return where it led. Pure: to go on, pass the state back.

        Args:
            *inputs: as for a call.
            state: from :meth:`initial_state` or an earlier run; None starts afresh.
            record: names to keep, e.g. ``["lif.v", "lif.spikes:sum"]``; True keeps everything.
            steps: as for a call.
            batch: as for a call.
            differentiable: for a network that learns, on target ``"torch"``: let gradients flow through the learning.

        Returns:
            the output, the new state (with the weights that a network that learns has now), and the record: name ->
            ``(batch, time, *features)``, without time where reduced. All of them are differentiable.
        """
        opaque_here = self.layout.inputs and not self.layout.learned and not (self.training and self.layout.impure)
        if torch.compiler.is_compiling() and opaque_here:
            return self._evolve_compiled(inputs, named, state, record)
        return self._evolve_eagerly(inputs, named, state, record, steps, batch, differentiable)

    @eager
    def _evolve_eagerly(
        self,
        inputs: tuple[Any, ...],
        named: Mapping[str, Any],
        state: Mapping[str, Tensor] | None,
        record: bool | str | Sequence[str] | None,
        steps: int | None,
        batch: int | None,
        differentiable: bool,
    ) -> tuple[Any, State, dict[str, Tensor]]:
        asked = read_request(record, self.layout.records)
        data = read_inputs(self.layout.inputs, inputs, named, steps=steps, batch=batch, device=self._device())
        infos = self.layout.states
        held = self._initial(data.batch, data.device) if state is None else check_state(state, infos, data.batch)
        if differentiable and state is None:  # from the parameters themselves, so that they get a gradient
            held.update({name: self.value(name).clone() for name in self.layout.learned})
        result = self._run(data, held, asked, differentiable)
        ordered = {name: result.state.get(name, held[name]) for name in infos}
        found = {**result.courses, **{f"{name}:sum": total for name, total in result.sums.items()}}
        recorded = self._recorded(found, asked, data.batched, data.steps)
        return self._pack(result.outputs, data.batched), ordered, recorded

    def _evolve_compiled(
        self,
        inputs: tuple[Any, ...],
        named: Mapping[str, Any],
        state: Mapping[str, Tensor] | None,
        record: bool | str | Sequence[str] | None,
    ) -> tuple[Any, State, dict[str, Tensor]]:
        """As one operation inside ``torch.compile``."""
        outputs, new_state, records, batched, steps, asked = opaque.evolve_compiled(self, inputs, named, state, record)
        return self._pack(outputs, batched), new_state, self._recorded(records, asked, batched, steps)

    def step(self, *inputs: Any, state: Mapping[str, Tensor] | None = None, **named: Any) -> tuple[Any, State]:
        """One time step, for streaming: ``y, state = net.step(x, state=state)``.

        Args:
            *inputs: one tensor per input, ``(batch, *features)`` or ``(*features)``. A trailing positional mapping
                is taken as the state: ``net.step(x, state)``.
            state: the state before the step; None for the initial one.

        Returns:
            the output of this step and the new state.
        """
        last = inputs[-1] if inputs else 0
        if last is None or (not isinstance(last, Tensor) and isinstance(last, Mapping)):
            if state is not None:
                raise InputError("the state is given twice")
            *rest, state = inputs
            inputs = tuple(rest)
        if not named and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            found = self._quick.step(inputs, state)
            if found is not None:
                return found
        types = self.layout.inputs
        if not types:
            infos = self.layout.states
            held = [value for name, value in (state or {}).items() if name in infos and not infos[name].shared]
            batch = held[0].shape[0] if held else 1
            out, new_state, _ = self.evolve(state=state, steps=1, batch=batch)
            return _map(out, lambda y: y[:, 0]), new_state
        timed, batched = read_step(types, inputs, named)
        out, new_state, _ = self.evolve(state=state, **timed)
        return _map(out, lambda y: y[:, 0] if batched else y[0]), new_state

    def initial_state(
        self, batch: int = 1, *, carry: Mapping[str, Tensor] | None = None, seed: int | None = None
    ) -> State:
        """The state before the first step: state name -> ``(batch, *features)``; a weight that learns has no batch.

        Args:
            batch: number of sequences.
            carry: values that some states start from instead, by name, e.g. ``{"exc.theta": state["exc.theta"]}``: what
                a network keeps from one example to the next. One of batch 1 is taken for every sequence.
            seed: of the random numbers, where the network draws some (entry ``"random"``); None draws one from torch's
                generator, which ``torch.manual_seed`` repeats.

        Raises:
            InputError: for a name that is no state, a value of another shape, or a batch or seed that can be none.
        """
        state = self._initial(checked_batch(batch), self._device(), checked_seed(seed))
        return state if carry is None else carried_on(state, carry, self.layout.states)

    def _initial(self, batch: int, device: torch.device, seed: int | None = None) -> State:
        return initial_state(self.layout.states, batch, device, self.value, seed)

    def _run(self, data: Sequences, state: State, asked: RecordRequest, differentiable: bool) -> RunResult:
        if self.layout.learned:
            self.check_learning(state, data.device, differentiable)
        executor = self.executor(data.device, frozenset((*asked.courses, *asked.sums)))
        values = {name: self.value(name) for name in self.layout.values}
        where = next(iter(values.values())).device if values else data.device
        if where != data.device:
            raise InputError(f"the input is on {data.device}, the network on {where}: move one, net.to(...)")
        for name, value in values.items():
            if value.dtype is not torch.float32:
                given = str(value.dtype).removeprefix("torch.")
                raise InputError(f"{name} is {given}; networks compute in float32: convert it back, net.float()")
        return executor.run(
            Run(
                values, data.inputs, state, data.steps, data.batch, data.device, self.training,
                asked.courses, asked.sums, self.checkpoint, differentiable,
            )
        )  # fmt: skip

    def run_on(
        self,
        values: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        courses: Sequence[str],
        sums: Sequence[str],
    ) -> RunResult:
        """Run with parameter values from outside; everything time first, ``(T, B, *features)``."""
        first = next(iter(inputs.values()))
        executor = self.executor(first.device, frozenset((*courses, *sums)))
        steps, batch = first.shape[:2]
        return executor.run(
            Run(values, inputs, state, steps, batch, first.device, self.training, courses, sums, self.checkpoint)
        )

    def current_at(
        self, state: Mapping[str, Tensor], name: str, time: Any, *, component: str | None = None
    ) -> Tensor:
        """The current that a synapse had some time before the present, from what an evolved state remembers.

        Args:
            state: from :meth:`evolve` or :meth:`step`.
            name: the synapse, an ``ExpCurrent`` or ``DoubleExpCurrent`` with ``delay=``.
            time: how long before, in seconds: a number, ``(batch, *features)``, or ``(batch, *features, D)``.
            component: a state of the synapse, ``"decay"`` or ``"rise"``, instead of its output.

        Returns:
            the current, of the shape of ``time``. Between two steps, the older current decayed since.

        Raises:
            InputError: for a time or a state of the wrong shape.
            ModelError: where no such synapse keeps a record.
        """
        return past.current_at(self, state, name, time, component)

    def spike_at(self, state: Mapping[str, Tensor], name: str, time: Any) -> Tensor:
        """Whether spikes came into a synapse some time before the present: bool; arguments as :meth:`current_at`."""
        return past.spike_at(self, state, name, time)

    def value(self, name: str) -> Tensor:
        """The parameter or buffer ``name``, e.g. ``"lif.tau_mem"``.

        Raises:
            InputError: where there is none, listing those there are.
        """
        try:
            node, role = name.split(".")
            return getattr(self._modules[node], role)
        except (AttributeError, KeyError, ValueError):
            known = ", ".join(self.layout.values) or "none"
            raise InputError(f"there is no parameter {name!r}; parameters: {known}") from None

    def executor(self, device: torch.device, keep: frozenset[str] = frozenset()) -> Executor:
        """The graph after all passes, ready to run on ``device``, with the record names ``keep`` available."""
        target = self.resolve(device)
        request = Request(self.training, self._eliminated(keep))
        key = (target, request)
        if key not in self._executors:
            self._executors[key] = Executor(compile_graph(self.graph, request), make_target(target, self.precision))
        return self._executors[key]

    def _eliminated(self, keep: frozenset[str]) -> frozenset[str]:
        """Those of ``keep`` that the passes would remove if nobody asked for them."""
        if not keep:
            return keep
        if self.training not in self._kept_anyway:
            plain = compile_graph(self.graph, Request(self.training))
            self._kept_anyway[self.training] = frozenset(plain.recordable())
        return keep - self._kept_anyway[self.training]

    def resolve(self, device: torch.device) -> str:
        """The target that serves inputs on ``device``."""
        return automatic(device.type) if self.target == "auto" else self.target

    def _device(self) -> torch.device:
        return self.value(self.layout.values[0]).device if self.layout.values else torch.device("cpu")

    def _pack(self, outputs: Mapping[str, Tensor], batched: bool) -> Any:
        named = {key: batch_first(y, batched) for key, y in outputs.items()}
        keys = list(named)
        if keys == ["out"]:
            return named["out"]
        if keys == [f"out_{i}" for i in range(len(keys))]:
            return tuple(named.values())
        return named

    @staticmethod
    def _recorded(found: Mapping[str, Tensor], asked: RecordRequest, batched: bool, steps: int) -> dict[str, Tensor]:
        record = {}
        for name, signal in asked.asked:
            if name == signal:
                record[name] = batch_first(found[signal], batched)
            else:
                total = found[f"{signal}:sum"] if batched else found[f"{signal}:sum"].squeeze(0)
                record[name] = total / steps if name.endswith(":mean") else total
        return record


def _map(out: Any, fn: Any) -> Any:
    if isinstance(out, tuple):
        return tuple(fn(y) for y in out)
    if isinstance(out, dict):
        return {k: fn(y) for k, y in out.items()}
    return fn(out)


__all__ = ["Network", "State"]
