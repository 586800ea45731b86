"""Plastic layers in one launch: a connection that learns, its neurons and its rule, over a whole sequence.

Weights stay in registers where they fit, with traces and inputs or without them; else they are streamed from memory
(``targets/triton/plastic_plan.py``). The bits are the same. Programs share nothing, so that any number of outputs runs,
whatever is on the chip at a time.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.plasticity import FACTORS
from snncompile.targets.plastic_call import PlasticForwardCall, PlasticForwardResult, heard
from snncompile.targets.plastic_fields import fields_of
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.courses import on_device
from snncompile.targets.triton.load import load
from snncompile.targets.triton.plastic_conv import print_conv
from snncompile.targets.triton.plastic_conv_plan import ConvPlan, choose_conv_plan
from snncompile.targets.triton.plastic_held import print_held
from snncompile.targets.triton.plastic_parts import PlasticSource, PlasticVariant
from snncompile.targets.triton.plastic_plan import NOTHING, Making, PlasticPlan, choose_plan
from snncompile.targets.triton.plastic_resident import print_resident
from snncompile.targets.triton.plastic_seen import (
    Shows,
    kinds_of,
    late_arguments,
    making_of,
    seen_arguments,
    seen_variant,
)
from snncompile.targets.triton.plastic_streamed import print_streamed

_LIMIT = 2**31

#: Bytes that the programs' own traces of inputs may take, where weights are streamed.
_SCRATCH = 2**32


def print_plastic(scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> PlasticSource:
    """The module of the kernel of a plastic layer."""
    fields = fields_of(rule.node)
    if fields is not None:
        return print_conv(scan, rule, variant, fields)
    prints = print_resident if variant.resident else print_held if variant.held else print_streamed
    return prints(scan, rule, variant)


class PlasticSequences:
    """Runs plastic layers, one launch a sequence.

    Args:
        empty: allocates outputs; tests hand in one that fills them with NaN.
        choose: chooses the plan; tests hand in others.
    """

    offsets = True

    def __init__(
        self, empty: Callable[..., Tensor] = torch.empty, choose: Callable[..., PlasticPlan] = choose_plan
    ) -> None:
        self._empty = empty
        self._choose = choose
        self._kernels: weakref.WeakKeyDictionary[Scan, dict[Any, tuple[PlasticSource, Any]]]
        self._kernels = weakref.WeakKeyDictionary()

    def why_not(self, scan: Scan, rule: PlasticRule, shape: tuple[int, ...], batch: int | None = None) -> str:
        """Why this layer runs step by step instead, or ""."""
        outs, ins = math.prod(rule.node.post), math.prod(rule.node.pre)
        if not fields_of(rule.node):
            outs, ins = shape
        if max(outs, ins) * max(batch or 1, 1) >= _LIMIT:
            return f"{batch or 1} sequences of {max(outs, ins)} values are more than 2**31 elements"
        plan = self._plan(rule, shape, 1 if batch is None else batch)
        each = 4 * (len(rule.node.of_side("pre")) + len(FACTORS) * bool(fields_of(rule.node))) * (batch or 1) * ins
        scratch = 0 if plan.resident else each * -(-shape[0] // plan.posts)
        if scratch > _SCRATCH:
            return (
                f"each block of {plan.posts} outputs keeps the inputs' traces of {batch} sequences for itself, together"
                f" {scratch / 2**30:.0f} GiB"
            )
        return ""

    def plan(
        self,
        scan: Scan,
        rule: PlasticRule,
        shape: tuple[int, ...],
        batch: int = 1,
        seen: Iterable[tuple[Scan, tuple[str, ...], Collection[str]]] = (),
    ) -> str:
        """How such a layer runs, in words, and from how many sequences on otherwise; ``seen``: what is made of late
        values where it takes or watches them, as :class:`Shows` has it."""
        making = making_of(Shows(*one).variant() for one in seen)
        plan = self._plan(rule, shape, batch, making=making)
        if not plan.resident:
            return plan.text(shape[0])
        most = next(b for b in count(batch) if not self._plan(rule, shape, b + 1, making=making).resident)
        beyond = self._choose(rule, (shape[0], shape[1]), most + 1, making=making).where
        return f"{plan.text(shape[0])}; of more than {most} sequence{'s' if most > 1 else ''} {beyond}"

    def _plan(
        self, rule: PlasticRule, shape: tuple[int, ...], batch: int, warp: int = 32, making: Making = NOTHING
    ) -> PlasticPlan | ConvPlan:
        fields = fields_of(rule.node)
        if fields is not None:
            return choose_conv_plan(fields, warp)
        return self._choose(rule, (shape[0], shape[1]), batch, warp, making)

    def forward(self, scan: Scan, rule: PlasticRule, call: PlasticForwardCall) -> PlasticForwardResult:
        """Run from the first step to the last, in one launch."""
        check_runnable(call.weight)
        device = call.weight.device
        making = making_in(call)
        warp = 64 if torch.version.hip else 32
        plan = self._plan(rule, call.weight.shape, call.shape[1], warp, making)
        variant = _variant(scan, rule, call, plan)
        source, kernel = self._kernel(scan, rule, variant)
        plan = plan.reading_late() if variant.reads_late else plan
        run = _Launch(self._empty, rule, call, plan)
        arguments = run.arguments(scan)
        with on_device(device):
            kernel[run.programs,](
                *(arguments[slot] for slot in source.slots),
                *plan.constants.values(),
                num_warps=plan.warps,
                num_stages=plan.stages,
                enable_fp_fusion=False,
                **plan.more(not torch.version.hip),
            )
        return run.result()

    def _kernel(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> tuple[PlasticSource, Any]:
        interpret = interpreting()
        kernels = self._kernels.setdefault(scan, {})
        key = (rule, variant, interpret)
        if key not in kernels:
            source = print_plastic(scan, rule, variant)
            kernels[key] = source, load(source, interpret)
        return kernels[key]


def making_in(call: PlasticForwardCall) -> Making:
    """What it costs to make what is seen late: of signals, which are one value, nothing."""
    return making_of(seen_variant(call.seen[of]) for of in ("x", "pre") if of in call.seen)


def _variant(scan: Scan, rule: PlasticRule, call: PlasticForwardCall, plan: PlasticPlan | ConvPlan) -> PlasticVariant:
    seen = {of: seen_variant(one) for of, one in call.seen.items()}
    return PlasticVariant(
        call.port,
        call.source,
        tuple(c.dim() == 0 for c in call.coefs),
        call.bias is not None,
        tuple(r for r in scan.results if r in call.store),
        tuple(t.local for t in rule.node.traces if t.local in call.store_traces),
        call.store_product,
        plan.resident,
        call.pre is not None,
        plan.held,
        kinds_of(call.late),
        seen.get("x"),
        seen.get("pre"),
        tuple((s, seen[heard(s)]) for s in call.signals if heard(s) in seen),
    )


@dataclass
class _Launch:
    """The memory of one launch."""

    empty: Callable[..., Tensor]
    rule: PlasticRule
    call: PlasticForwardCall
    plan: PlasticPlan | ConvPlan

    def __post_init__(self) -> None:
        call, like = self.call, {"dtype": torch.float32, "device": self.call.weight.device}
        steps, batch, outs, ins = call.shape
        self.programs = -(-len(call.weight) // self.plan.posts)
        sizes = {t.local: ins if t.side == "pre" else outs for t in self.rule.node.traces}
        self.stored = {r: self.empty((steps, batch, outs), **like) for r in call.store}
        self.stored_traces = {t: self.empty((steps, batch, sizes[t]), **like) for t in call.store_traces}
        self.product = self.empty((steps, batch, outs), **like) if call.store_product else None
        if self.plan.resident:  # read where they are, written anew
            self.weight = self.empty(call.weight.shape, **like)
            self.finals = tuple(self.empty(s.shape, **like) for s in call.states)
            self.traces = {t: self.empty(value.shape, **like) for t, value in call.traces.items()}
            self.each: dict[str, Tensor] = {}
            return
        self.weight = call.weight.clone()
        self.finals = tuple(s.clone() for s in call.states)
        self.traces = {t: value.clone() for t, value in call.traces.items()}
        pre = [t.local for t in self.rule.node.of_side("pre")]
        self.each = {t: call.traces[t].repeat(self.programs, 1, 1) for t in pre}

    def arguments(self, scan: Scan) -> dict[str, Any]:
        """Slot -> what the kernel is given for it."""
        call = self.call
        given: dict[str, Any] = {"weight": call.weight, "weight_end": self.weight, "bias": call.bias}
        given |= {f"fixed.{role}": value for role, value in call.fixed.items()}
        given |= dict(zip("TBNM", call.shape, strict=True))
        taken = [(s, x) for s, x in (("x", call.x), ("watched", call.pre)) if x is not None]
        for slot, course in (
            *((slot, x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()) for slot, x in taken),
            *((f"input.{i}", x) for i, x in zip(scan.inputs, call.inputs, strict=True) if x is not None),
            *((heard(s), course) for s, course in call.signals.items()),
        ):
            given[slot] = course
            given |= {f"{slot}.{axis}": stride for axis, stride in enumerate(course.stride())}
        for i, one in zip(scan.inputs, call.late, strict=False):
            given |= late_arguments(f"input.{i}", [one])
        for slot, of in (("x", "x"), ("watched", "pre"), *((heard(s), heard(s)) for s in call.signals)):
            given |= seen_arguments(slot, call.seen[of]) if of in call.seen else {}
        given |= {f"coef.{c}": value for c, value in zip(scan.coefs, call.coefs, strict=True)}
        for part, coefs in call.rule_coefs.items():
            given |= {f"rule.{part}.{c}": value for c, value in coefs.items()}
        for state, first, last in zip(scan.states, call.states, self.finals, strict=True):
            given |= {f"state.{state}": first, f"final.{state}": last}
        given |= {f"trace.{t}": value for t, value in call.traces.items()}
        given |= {f"trace_end.{t}": value for t, value in self.traces.items()}
        given |= {f"trace_each.{t}": value for t, value in self.each.items()}
        given |= {f"store.{r}": course for r, course in self.stored.items()}
        given |= {f"store_trace.{t}": course for t, course in self.stored_traces.items()}
        given["product"] = self.product
        if not self.plan.resident:  # the outputs' factors of a step
            given |= {f"factor.{f}": self.empty(call.shape[1:3], device=call.weight.device) for f in FACTORS}
        fields = fields_of(self.rule.node)
        if fields is not None:  # and the inputs', of each program
            shape = (self.programs, call.shape[1], fields.channels * math.prod(fields.inner))
            make = self.empty if fields.padding == (0, 0) else torch.zeros
            like = {"dtype": torch.float32, "device": call.weight.device}
            given |= {f"before.{name}": make(shape, **like) for name in (*FACTORS, "x")}
        return given

    def result(self) -> PlasticForwardResult:
        """What the kernel left."""
        traces = {t: self.each[t][0].clone() if t in self.each else value for t, value in self.traces.items()}
        return PlasticForwardResult(
            self.stored, self.stored_traces, self.finals, traces, self.weight, self.product
        )
