"""Networks under ``torch.compile``: one opaque operation each, with shapes and a gradient that the compiler knows.

Outside ``torch.compile`` nothing here runs. Inside, the compiler must not look into a network (it would unroll its
loops over time): it sees ``snncompile::evolve``, a pure function of parameters, inputs and state. Its backward runs
the network again and differentiates that run, as activation checkpointing does, since a compiled graph holds tensors
and no autograd nodes.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snncompile.ir.connection import WHOLE_SEQUENCE, Connection
from snncompile.ir.graph import Graph, StateInfo
from snncompile.ir.types import SignalType
from snncompile.records import RecordRequest, read_request
from snncompile.signals_io import check_state, read_inputs

if TYPE_CHECKING:
    from snncompile.network import Network

_networks: weakref.WeakValueDictionary[int, Network] = weakref.WeakValueDictionary()
_count = itertools.count()


@dataclass(frozen=True)
class Layout:
    """What goes in and out of a network by name, worked out once: neither a call nor the compiler reads the graph.

    Attributes:
        values: parameters and buffers.
        inputs: input name -> type.
        states: state name -> shape and first value.
        outputs: output key -> feature shape.
        records: record name -> feature shape.
        impure: whether a run in training mode draws random masks or changes statistics.
        learned: parameters that change while the network runs.
    """

    values: tuple[str, ...]
    inputs: dict[str, SignalType]
    states: dict[str, StateInfo]
    outputs: dict[str, tuple[int, ...]]
    records: dict[str, tuple[int, ...]]
    impure: bool
    learned: tuple[str, ...] = ()


def layout_of(graph: Graph) -> Layout:
    """The layout of ``graph``."""
    record = {name: graph.type_of(ref).shape for name, ref in graph.recordable().items()}
    return Layout(
        tuple(graph.parameters()),
        graph.input_types(),
        graph.states(),
        {key: t.shape for key, t in graph.output_types().items()},
        record,
        any(op.kind in WHOLE_SEQUENCE for _, op in graph.of_type(Connection)),
        tuple(graph.learned()),
    )


def register(network: Network) -> int:
    """A number by which the operation finds ``network`` again, for as long as it lives."""
    handle = next(_count)
    _networks[handle] = network
    return handle


def evolve_compiled(
    network: Network,
    inputs: tuple[Any, ...],
    named: Mapping[str, Any],
    state: Mapping[str, Tensor] | None,
    record: Any,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], bool, int, RecordRequest]:
    """What :meth:`Network.evolve` computes, through the operation: outputs, state and records, time first."""
    layout = network.layout
    asked = read_request(record, list(layout.records))
    data = read_inputs(layout.inputs, inputs, named, steps=None, batch=None, device=torch.device("cpu"))
    if state is None:
        state = network.initial_state(data.batch)
    state = check_state(state, layout.states, data.batch)
    values = [network.value(name) for name in layout.values]
    results = evolve(
        network.handle,
        ",".join(asked.courses) + ";" + ",".join(asked.sums),
        values,
        [data.inputs[name] for name in layout.inputs],
        [state[name] for name in layout.states],
    )
    parts = []
    for names in (layout.outputs, layout.states, asked.courses, asked.sums):
        parts.append(dict(zip(names, results[: len(names)], strict=True)))
        results = results[len(names) :]
    outputs, states, courses, sums = parts
    records = {**courses, **{f"{name}:sum": total for name, total in sums.items()}}
    return outputs, states, records, data.batched, data.steps, asked


def _asked(record: str) -> tuple[list[str], list[str]]:
    courses, sums = (part.split(",") if part else [] for part in record.split(";"))
    return courses, sums


def _shapes(handle: int, record: str, steps: int, batch: int) -> list[list[int]]:
    layout = _networks[handle].layout
    courses, sums = _asked(record)
    return [
        *([steps, batch, *shape] for shape in layout.outputs.values()),
        *(list(info.full_shape(batch)) for info in layout.states.values()),
        *([steps, batch, *layout.records[name]] for name in courses),
        *([batch, *layout.records[name]] for name in sums),
    ]


def _run(
    handle: int, record: str, values: Sequence[Tensor], inputs: Sequence[Tensor], state: Sequence[Tensor]
) -> list[Tensor]:
    network = _networks[handle]
    layout = network.layout
    courses, sums = _asked(record)
    result = network.run_on(
        dict(zip(layout.values, values, strict=True)),
        dict(zip(layout.inputs, inputs, strict=True)),
        dict(zip(layout.states, state, strict=True)),
        courses,
        sums,
    )
    held = [result.state.get(name, before) for name, before in zip(layout.states, state, strict=True)]
    return [*result.outputs.values(), *held, *result.courses.values(), *result.sums.values()]


@torch.library.custom_op("snncompile::evolve", mutates_args=())
def evolve(handle: int, record: str, values: list[Tensor], inputs: list[Tensor], state: list[Tensor]) -> list[Tensor]:
    """The operation: outputs, final states, recorded courses and sums; see the module."""
    with torch.no_grad():
        return [_own(r) for r in _run(handle, record, values, inputs, state)]


def _own(result: Tensor) -> Tensor:
    """A result with memory of its own, contiguous: what the operation promises."""
    return result.clone(memory_format=torch.contiguous_format)


@evolve.register_fake
def _evolve_shapes(
    handle: int, record: str, values: list[Tensor], inputs: list[Tensor], state: list[Tensor]
) -> list[Tensor]:
    steps, batch = inputs[0].shape[:2]
    layout = _networks[handle].layout
    held = {i + len(layout.outputs): info.dtype for i, info in enumerate(layout.states.values())}
    shapes = enumerate(_shapes(handle, record, steps, batch))
    return [inputs[0].new_empty(shape, dtype=getattr(torch, held.get(i, "float32"))) for i, shape in shapes]


@torch.library.custom_op("snncompile::evolve_backward", mutates_args=())
def evolve_backward(
    handle: int, record: str, values: list[Tensor], inputs: list[Tensor], state: list[Tensor], grads: list[Tensor]
) -> list[Tensor]:
    """Gradients of values, inputs and state, by running the network again."""
    tensors = [*values, *inputs, *state]
    n, m = len(values), len(inputs)

    def replay() -> list[Tensor]:
        leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in tensors]
        with torch.enable_grad():
            results = _run(handle, record, leaves[:n], leaves[n : n + m], leaves[n + m :])
            pairs = [(r, g) for r, g in zip(results, grads, strict=True) if r.requires_grad]
            real = [t for t in leaves if t.requires_grad]  # whole numbers have no gradient
            grads_of = torch.autograd.grad([r for r, _ in pairs], real, [g for _, g in pairs], allow_unused=True)
            found = {id(t): g for t, g in zip(real, grads_of, strict=True) if g is not None}
        return [_own(found[id(t)]) if id(t) in found else torch.zeros_like(t) for t in leaves]

    return _with_autograd(replay, tensors[0])


def _with_autograd(function: Callable[[], list[Tensor]], like: Tensor) -> list[Tensor]:
    """``function()`` in a thread of its own: inside an operation autograd is off for the whole thread."""
    stream = torch.cuda.current_stream(like.device) if like.is_cuda else None

    def run() -> list[Tensor]:
        if stream is None:
            return function()
        with torch.cuda.stream(stream):
            return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


@evolve_backward.register_fake
def _backward_shapes(
    handle: int, record: str, values: list[Tensor], inputs: list[Tensor], state: list[Tensor], grads: list[Tensor]
) -> list[Tensor]:
    return [t.new_empty(t.shape) for t in (*values, *inputs, *state)]


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.handle, ctx.record, values, data, state = inputs
    ctx.counts = len(values), len(data)
    ctx.save_for_backward(*values, *data, *state)


def _backward(ctx: Any, grads: list[Tensor]) -> Any:
    n, m = ctx.counts
    held = list(ctx.saved_tensors)
    none = torch.zeros((), dtype=torch.float32)  # of whole numbers, which have no gradient
    given = [none if g is None else g for g in grads]
    made = evolve_backward(ctx.handle, ctx.record, held[:n], held[n : n + m], held[n + m :], given)
    found = [g if t.is_floating_point() else None for g, t in zip(made, held, strict=True)]
    return None, None, found[:n], found[n : n + m], found[n + m :]


evolve.register_autograd(_backward, setup_context=_setup)
