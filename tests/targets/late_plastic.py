"""Plastic layers that read inputs some steps late, against the same calls with what they see made beforehand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.ir.connection import Connection
from snncompile.ir.interp import Interpreter
from snncompile.ir.interpolated import showing
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.late_scan import one_each
from snncompile.targets.plastic_call import PlasticForwardCall, heard
from snncompile.targets.scan import ForwardCall, Late, Seen, make_scan
from snncompile.targets.torch.delays import Past
from snncompile.targets.torch.plain import PlainTarget

from .plastic_calls import Case

CPU = torch.device("cpu")

#: Delays, in steps, up to 5 of them: a number, else for each of some values (where each is a row: all shown), and
#: options.
DELAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "whole": (3.0, {}),
    "each": ([0.0, 5.0, 1.0, 2.0], {}),
    "between": (1.5, {"interpolation": "linear"}),
    "less than a step": (0.25, {"interpolation": "linear"}),
    "each between": ([0.5, 4.25, 1.0, 0.0], {"interpolation": "linear"}),
    "decayed": ([0.5, 1.25, 4.0], {"interpolation": "expdecay", "tau": 3 * ms}),
    "replaced": ([1.5, 7.0, 4.0], {"interpolation": "nearest", "max_delay": 5 * ms, "overbound": 0.25}),
    "both": ([0.5, 7.0, 2.75], {"interpolation": "linear", "max_delay": 5 * ms, "overbound": 1.0}),
    "all replaced": (9.0, {"max_delay": 3 * ms, "overbound": 1.0}),
    "shared": ([[1.0, 5.0], [2.0, 3.0]], {}),
    "shared between": ([[1.5, 5.0], [2.0, 3.25]], {"interpolation": "linear"}),
}

#: Those of a rule's signals, which have one value, besides.
HEARD: dict[str, tuple[Any, dict[str, Any]]] = {
    "one of its own": ([2.0], {}),
    "trained": ([1.75], {"trainable": True, "max_delay": 4 * ms, "interpolation": "linear"}),
    "one decayed": ([2.25], {"interpolation": "expdecay", "tau": 3 * ms}),
}


def delay(kind: str, size: int) -> tuple[Connection, dict[str, Tensor]]:
    """A delay of :data:`DELAYS` or :data:`HEARD` that shows ``size`` values, where two of each, then of half as many;
    and its steps."""
    steps, options = (DELAYS | HEARD)[kind]
    times = np.array(steps)
    several = times.ndim == 2
    if times.ndim:
        times = np.resize(times, (size // 2, 2) if several else (size,))
    channels = size // 2 if several else size

    @snn.model(dt=1 * ms)
    def model(x=snn.Current(channels)):
        return x >> snn.Delay(times * ms, name="late", **options)

    return compile_graph(model.build(), Request()).op("late"), {"steps": torch.tensor(times)}


def seen_of(kind: str, size: int, batch: int, draw: torch.Generator) -> tuple[Seen, int]:
    """What shows ``size`` values late, with a random past, and how many values the course has."""
    op, params = delay(kind, size)
    each = one_each(op)
    past = Past(each, params, CPU)
    node = showing("late", each)
    scan = make_scan("late", node)
    factors = {role: v.reshape(-1).contiguous() if v.dim() else v for role, v in past.factors().items()}
    table = {**factors, **Interpreter(scan.derived, host=True).named(factors, CPU)}
    lags, share = past.offsets(), size // op.input.size
    before = torch.rand(op.depth, batch, op.input.size, generator=draw)
    before = before * (torch.rand(before.shape, generator=draw) < 0.4)
    rows = [before[op.depth - reach :].contiguous() for _, reach in lags]
    late = tuple(Late(row, steps, share) if len(row) else None for row, (steps, _) in zip(rows, lags, strict=True))
    return Seen(scan, tuple(table[c] for c in scan.coefs), late), op.input.size


def made(seen: Seen, course: Tensor, size: int) -> Tensor:
    """What is shown of ``course``, as a tensor."""
    inputs = tuple(course if one is None else one.seen(course) for one in seen.late)
    call = ForwardCall(inputs, seen.coefs, (), (*course.shape[:2], size), ("seen",))
    return PlainTarget().forward(seen.scan, call).stored["seen"].expand(*course.shape[:2], size)


def course(
    steps: int, batch: int, size: int, draw: torch.Generator, strided: bool = False, rate: float = 0.3
) -> Tensor:
    """Random spikes whose features lie one after the other."""
    x = (torch.rand(steps, batch, size, generator=draw) < rate).float()
    if strided:  # batch first, and more in between
        wide = torch.full((batch, steps, size + 3), float("nan"))
        wide[..., :size] = x.transpose(0, 1)
        x = wide.transpose(0, 1)[..., :size]
    return x


def late_case(
    case: Case, shown: dict[str, str], neurons: str = "", *, seed: int = 1, strided: bool = False, rate: float = 0.3
) -> tuple[Case, PlasticForwardCall]:
    """``case`` with what it reads late, and the same call with all of it made.

    Args:
        case: the layer; ``x``, ``pre`` and the current are replaced.
        shown: ``"x"``, ``"pre"`` and signals that the rule hears -> the delay of :data:`DELAYS` before it.
        neurons: how late the neurons' other input is, ``"one"``, ``"each"`` or ``"shared"``; else not.
        seed: of what is random.
        strided: whether courses are apart in memory.
        rate: of spikes.
    """
    draw = torch.Generator().manual_seed(seed)
    call, plain = case.call, case.call
    steps, batch, outs, ins = call.shape
    for name, kind in shown.items():
        if name in call.signals:
            seen, _ = seen_of(kind, 1, batch, draw)
            x = torch.randn(batch, steps, generator=draw).t() if strided else torch.randn(steps, batch, generator=draw)
            call = replace(call, signals={**call.signals, name: x}, seen={**call.seen, heard(name): seen})
            plain = replace(plain, signals={**plain.signals, name: made(seen, x.unsqueeze(2), 1).squeeze(2)})
            continue
        seen, size = seen_of(kind, ins, batch, draw)
        x = course(steps, batch, size, draw, strided, rate)
        call = replace(call, **{name: x}, seen={**call.seen, name: seen})
        plain = replace(plain, **{name: made(seen, x, ins)})
    if neurons:
        (at,) = [i for i, x in enumerate(call.inputs) if x is not None]
        late = neurons_late(neurons, outs, batch, draw)
        x = course(steps, batch, outs // late.share, draw, strided, rate)
        call = replace(call, inputs=_put(call.inputs, at, x), late=_put((None,) * len(call.inputs), at, late))
        plain = replace(plain, inputs=_put(plain.inputs, at, late.seen(x)))
    return replace(case, call=call), plain


def neurons_late(kind: str, outs: int, batch: int, draw: torch.Generator) -> Late:
    """What makes an input of ``outs`` neurons late, by up to four steps."""
    share = next((k for k in (3, 2, 5, 7, outs) if outs % k == 0), 1) if kind == "shared" else 1
    steps = 4 if kind == "one" else torch.randint(5, (outs,), generator=draw, dtype=torch.int32)
    return Late(torch.rand(4, batch, outs // share, generator=draw), steps, share)


def _put(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at + 1 :])
