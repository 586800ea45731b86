"""Plastic layers with one generated function for the whole sequence: product, neurons and learning in one loop.

Products and updates leave out what is zero, in the order of ``targets/c/plastic_product.py`` and as exactly as
``targets/c/plastic_source.py`` says, those of a convolution as ``targets/c/plastic_conv_source.py`` says: results equal
those of the loop in ``targets/plastic.py`` bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.ordered import LANES
from snncompile.ir.plasticity import FACTORS
from snncompile.targets.c.calling import Caller, PerScan, check_all, scratch, zeros
from snncompile.targets.c.compiler import function
from snncompile.targets.c.courses import add_course, add_late, unit
from snncompile.targets.c.plastic_conv_source import CHANNEL_PAD, room_of
from snncompile.targets.c.plastic_kernel import print_plastic
from snncompile.targets.c.plastic_printing import PlasticSource, PlasticVariant
from snncompile.targets.c.plastic_product import PAD
from snncompile.targets.c.plastic_seen import add_seen, form_of
from snncompile.targets.plastic_call import PlasticForwardCall, PlasticForwardResult, heard
from snncompile.targets.plastic_fields import Fields, fields_of
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.variant import Layout

#: Time steps * sequences * weights (of a convolution: at every position) that a thread must have to be worth waking,
#: and outputs it must have.
_WORTH, _LEAST = 2**20, 2 * PAD


class PlasticLayers(Caller):
    """Runs plastic layers with generated C.

    Args:
        threads: how many threads to use for every call, instead of up to torch's number, by size.
        empty: allocates outputs; tests hand in one that fills them with NaN.
    """

    offsets = True

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        super().__init__(threads, empty)
        self._kernels: PerScan[tuple[PlasticSource, Callable[..., Any]]] = PerScan()

    def why_not(self, scan: Scan, rule: PlasticRule, shape: tuple[int, ...], batch: int | None = None) -> str:
        """It runs every layer."""
        return ""

    def forward(self, scan: Scan, rule: PlasticRule, call: PlasticForwardCall) -> PlasticForwardResult:
        """Run from the first step to the last."""
        _check(call)
        steps, batch, outs, ins = call.shape
        source, run = self._kernel(scan, rule, call)
        kernel = source.kernel
        sides = {t.local: t.side for t in rule.node.traces}
        fields = fields_of(rule.node)
        blocks = self._blocks(call.shape) if fields is None else self._conv_blocks(call.shape, fields)
        made = PlasticForwardResult(
            {r: self._make((steps, batch, outs)) for r in call.store},
            {t: self._make((steps, *call.traces[t].shape)) for t in call.store_traces},
            tuple(s.clone() for s in call.states),
            {},
            call.weight.clone(),
            self._make((steps, batch, outs)) if call.store_product else None,
        )
        running = {t: _running(value, sides[t], blocks) for t, value in call.traces.items()}
        if steps:
            product = self._make((batch, outs)) if made.product is None else made.product
            held = [*_side(running, sides, "pre"), *_side(running, sides, "post"), *_side(running, sides, "synapse")]
            courses = [*_side(made.stored_traces, sides, "pre"), *_side(made.stored_traces, sides, "post")]
            if fields is None:
                wide = -(-outs // PAD) * PAD
                room, divided = _scratch(blocks, batch, wide, ins), [wide]
                room += [scratch(ins, wide) for _ in range(source.copies)]
            else:
                room, divided = _conv_scratch(blocks, call.shape, fields)
            args = [made.weight.data_ptr(), *([] if call.bias is None else [call.bias.data_ptr()])]
            args += [call.fixed[role].data_ptr() for role in source.fixed]
            late = [*_add_rows(args, call, "x", call.x, blocks)]
            if call.pre is not None:
                late += _add_rows(args, call, "pre", call.pre, blocks)
            for i in kernel.inputs:
                given, by = call.inputs[i], call.late[i] if call.late else None
                assert given is not None
                if by is None:
                    add_course(args, given, unit(given, (steps, batch, outs)))
                else:
                    late += add_late(args, given, by, outs, blocks)
            args += [call.coefs[i].data_ptr() for i in kernel.coefs]
            args += [t.data_ptr() for t in (*made.finals, *made.stored.values(), product, *held, *courses)]
            for name in source.signals:
                args += [call.signals[name].data_ptr(), *call.signals[name].stride()]
                if heard(name) in call.seen:
                    late += add_seen(args, call.seen[heard(name)], batch, 1, blocks)
            args += [call.rule_coefs[part][c].data_ptr() for part, c in source.rule_coefs]
            args += [t.data_ptr() for t in room]
            run(*args, steps, batch, outs, ins, *divided, blocks, blocks)
            del late
        for name, value in running.items():
            made.traces[name] = value[0].clone() if sides[name] == "pre" else value
        return made

    def _kernel(
        self, scan: Scan, rule: PlasticRule, call: PlasticForwardCall
    ) -> tuple[PlasticSource, Callable[..., Any]]:
        units = tuple(x is None or unit(x, call.shape[:3]) for x in call.inputs)
        variant = PlasticVariant(
            call.port,
            call.source,
            Layout(units, tuple(c.dim() == 0 for c in call.coefs), tuple(one.kind if one else "" for one in call.late)),
            call.bias is not None,
            call.store,
            call.store_traces,
            call.store_product,
            call.pre is not None,
            form_of(call.seen.get("x")),
            None if call.pre is None else form_of(call.seen.get("pre")),
            tuple((s, form) for s in call.signals if (form := form_of(call.seen.get(heard(s))))),
        )

        def make() -> tuple[PlasticSource, Callable[..., Any]]:
            source = print_plastic(scan, rule, variant)
            kernel = source.kernel
            return source, function(kernel.name, kernel.text, kernel.types, harder=True)

        return self._kernels.get(scan, (rule, variant), make)

    def _blocks(self, shape: tuple[int, int, int, int]) -> int:
        """How many blocks of outputs, one a thread; what comes out does not depend on it."""
        steps, batch, outs, ins = shape
        most = -(-outs // PAD) if self._threads else outs // _LEAST
        return max(1, min(self._team(steps * batch * outs * ins, most, _WORTH), most))

    def _conv_blocks(self, shape: tuple[int, int, int, int], fields: Fields) -> int:
        """How many blocks of output channels, one a thread; what comes out does not depend on it."""
        steps, batch, outs, _ = shape
        most = -(-fields.outs // CHANNEL_PAD)
        return max(1, min(self._team(steps * batch * outs * fields.taps, most, _WORTH), most))


def _add_rows(args: list[int], call: PlasticForwardCall, name: str, course: Tensor, blocks: int) -> list[Tensor]:
    """Append what the connection takes, or the rule watches; what must live until the function has run."""
    _, batch, _, ins = call.shape
    x = course if unit(course, course.shape) else course.contiguous()
    args += [x.data_ptr(), *x.stride()[:2]]
    return [x, *(add_seen(args, call.seen[name], batch, ins, blocks) if name in call.seen else ())]


def _running(value: Tensor, side: str, blocks: int) -> Tensor:
    """A trace as the function reads and writes it: each block has inputs' traces of its own."""
    return value.repeat(blocks, 1, 1) if side == "pre" else value.clone()


def _side(values: dict[str, Tensor], sides: dict[str, str], side: str) -> list[Tensor]:
    return [value for name, value in values.items() if sides[name] == side]


def _scratch(blocks: int, batch: int, wide: int, ins: int) -> list[Tensor]:
    """Factors of outputs (zero where padded) and inputs, columns, partial sums, numbers, marks: see the file."""
    return [
        *(zeros(batch, wide) for _ in FACTORS),
        *(scratch(blocks, batch, ins) for _ in FACTORS),
        scratch(ins, wide),
        scratch(LANES, wide),
        scratch(blocks, ins + 2 * max(wide, ins) + wide + 1),
        scratch(blocks, 6 * ins + 2 * wide + 3, dtype=torch.int32),
    ]


def _conv_scratch(blocks: int, shape: tuple[int, int, int, int], fields: Fields) -> tuple[list[Tensor], list[int]]:
    """Factors of outputs and inputs, and room for each block; how much that is, and for how many channels."""
    _, batch, outs, ins = shape
    groups = -(-fields.outs // CHANNEL_PAD)
    wide = -(-groups // blocks) * CHANNEL_PAD
    room = room_of(fields, wide)
    post, pre = ([scratch(n, batch, size) for _ in FACTORS] for n, size in ((1, outs), (blocks, ins)))
    return [*post, *pre, scratch(blocks, room)], [room, wide]


def _check(call: PlasticForwardCall) -> None:
    rule = (c for part in call.rule_coefs.values() for c in part.values())
    given = (x for x in (call.pre, *call.inputs) if x is not None)
    held = (*call.coefs, *call.states, *call.traces.values(), *call.signals.values(), *call.fixed.values())
    seen = [c for one in call.seen.values() for c in one.coefs]
    late = [one for late in (call.late, *(s.late for s in call.seen.values())) for one in late if one is not None]
    check_all(call.weight, call.x, *given, *held, *rule, *seen, *(one.past for one in late))
