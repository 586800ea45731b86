"""Calls of plastic layers whose inputs are read late, and the same with the late signals made beforehand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.ir.connection import Connection
from snncompile.ir.interp import Interpreter
from snncompile.ir.interpolated import roles, showing
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.late_scan import one_each
from snncompile.targets.scan import ForwardCall, Late, Scan, Seen, make_scan
from snncompile.targets.torch.delays import Past
from snncompile.targets.torch.plain import PlainTarget

from .plastic_calls import Case

#: What a delay of so many features is: its times, in steps, from a generator of them, and its other settings.
DELAYS: dict[str, Any] = {
    "one": (3, {}),
    "each": ("each", {}),
    "between": (1.25, {"interpolation": "linear"}),
    "less than a step": (0.25, {"interpolation": "linear"}),
    "each between": ("between", {"interpolation": "linear"}),
    "decayed": ("between", {"interpolation": "expdecay", "tau": 3 * ms}),
    "replaced": ("between", {"interpolation": "linear", "max_delay": 2 * ms, "overbound": 0.25}),
    "all replaced": (9, {"max_delay": 3 * ms, "overbound": 0.5}),
    "shared": ("shared", {}),
    "shared between": ("shared between", {"interpolation": "linear"}),
}


def _times(kind: Any, features: int) -> tuple[Any, int]:
    """The times, and how many features share a channel."""
    if not isinstance(kind, str):
        return kind, 1
    draw = np.random.default_rng(0)
    share = next((k for k in range(2, features + 1) if features % k == 0), 1) if kind.startswith("shared") else 1
    shape = (features // share, share) if share > 1 else (features,)
    whole = draw.integers(0 if share == 1 else 1, 4, shape).astype(float)
    return whole + (draw.random(shape) if kind.endswith("between") else 0.0), share


@cache
def delay(name: str, features: int) -> tuple[Connection, Scan]:
    """A Delay that shows ``features`` values, and the scan of what it computes."""
    kind, options = DELAYS[name]
    times, share = _times(kind, features)

    @snn.model(dt=1 * ms)
    def net(x=snn.Current(features // share)):
        return x >> snn.Delay(times * ms, **options, name="late") >> snn.LIF(threshold=1.0)

    op: Connection = compile_graph(net.build(), Request()).op("late")
    return op, make_scan("late", showing("late", one_each(op)))


def seen_of(name: str, course: Tensor, features: int, seed: int = 0) -> tuple[Tensor, Seen, Tensor]:
    """The course that a Delay reads in place of ``course``, what it shows of that, and that as a tensor."""
    op, scan = delay(name, features)
    draw = torch.Generator().manual_seed(seed)
    times = {"steps": torch.as_tensor(_times(DELAYS[name][0], features)[0], dtype=torch.float64)}
    past = Past(one_each(op), times, torch.device("cpu"))
    x = course[..., : op.input.size]
    rows = torch.rand((op.depth, *x.shape[1:]), generator=draw).round()
    share = features // op.input.size
    late = tuple(Late(rows[op.depth - reach :], steps, share) if reach else None for steps, reach in past.offsets())
    factors = past.factors()
    given = {role: _flat(factors[role], features) for role in roles(one_each(op))}
    table = {**given, **Interpreter(scan.derived, host=True).named(given, torch.device("cpu"))}
    seen = Seen(scan, tuple(table[c] for c in scan.coefs), late)
    return x, seen, shown(seen, x, features)


def _flat(value: Tensor, features: int) -> Tensor:
    return value if not value.dim() else value.reshape(features).contiguous()


def shown(seen: Seen, x: Tensor, features: int) -> Tensor:
    """What a kernel shall see of ``x``, made."""
    taps = tuple(x if one is None else one.seen(x) for one in seen.late)
    call = ForwardCall(taps, seen.coefs, (), (*x.shape[:2], features), ("seen",))
    return PlainTarget().forward(seen.scan, call).stored["seen"]


def late_input(course: Tensor, kind: str, longest: int = 3, seed: int = 0) -> tuple[Tensor, Late, Tensor]:
    """Likewise of an input of the neurons that is as late as ``kind`` says."""
    draw = torch.Generator().manual_seed(seed)
    features = course.shape[2]
    share = next((k for k in range(2, features + 1) if features % k == 0), 1) if kind == "shared" else 1
    steps = longest if kind == "one" else torch.randint(0, longest + 1, (features,), generator=draw, dtype=torch.int32)
    x = course[..., : features // share]
    x = x if x.stride(2) == 1 else x.contiguous()
    late = Late(torch.rand((longest, *x.shape[1:]), generator=draw), steps, share)
    return x, late, late.seen(x)


def late_case(case: Case, x: str = "", pre: str = "", inputs: str = "", longest: int = 3) -> tuple[Case, Case]:
    """``case`` with what is named read late, ``x`` and ``pre`` as :data:`DELAYS` says; and the same with it made."""
    call, made, seen = case.call, {}, {}
    late: dict[str, Any] = {}
    for name, which in (("x", x), ("pre", pre)):
        if which:
            late[name], seen[name], made[name] = seen_of(which, getattr(call, name), call.shape[3], len(name))
    if inputs:
        found = [None if one is None else late_input(one, inputs, longest) for one in call.inputs]
        late["late"] = tuple(one and one[1] for one in found)
        late["inputs"], made["inputs"] = (tuple(one and one[i] for one in found) for i in (0, 2))
    return replace(case, call=replace(call, **late, seen=seen)), replace(case, call=replace(call, **made))
