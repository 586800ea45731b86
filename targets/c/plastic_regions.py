"""Plastic regions of any form with one generated function for the whole sequence.

It takes the lines and the neurons of cycles (``targets/c/cycle.py``), and learning from plastic layers
(``targets/c/plastic.py``). Results equal those of the loop in ``targets/plastic.py`` bit for bit.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from snncompile.ir.ordered import LANES
from snncompile.ir.plasticity import FACTORS
from snncompile.targets.c.calling import Caller, scratch, zeros
from snncompile.targets.c.compiler import function
from snncompile.targets.c.cycle import Given
from snncompile.targets.c.cycle_writer import CycleSource
from snncompile.targets.c.plastic_product import PAD
from snncompile.targets.c.plastic_region import RegionForward, most, print_plastic_region, work_size
from snncompile.targets.c.plastic_region_conv import learning_room, taps_of
from snncompile.targets.c.plastic_region_learning import padded
from snncompile.targets.c.plastic_region_source import CHUNK
from snncompile.targets.cycle_call import CycleForwardResult
from snncompile.targets.cycle_plan import Conv
from snncompile.targets.plastic_plan import PlasticPlan
from snncompile.targets.plastic_region_call import PlasticRegionCall, PlasticRegionResult, Taught

#: Values and weights of a step that a thread must have to be worth waking and waiting for.
_WORTH = 2**16


class PlasticRegions(Caller):
    """Runs plastic regions with generated C."""

    offsets = True

    def __init__(self, threads: int | None = None, empty: Callable[..., Tensor] = torch.empty) -> None:
        super().__init__(threads, empty)
        self._kernels: weakref.WeakKeyDictionary[
            PlasticPlan, dict[RegionForward, tuple[CycleSource, Callable[..., Any]]]
        ] = weakref.WeakKeyDictionary()

    def forward(self, plan: PlasticPlan, call: PlasticRegionCall) -> PlasticRegionResult:
        """Run from the first step to the last."""
        cycle = call.cycle
        steps, batch = cycle.shape
        live = plan.live((*cycle.store, *cycle.sums))
        whole = {read.line for read in cycle.store}
        lines: list[Tensor | None] = [None] * len(plan.lines)
        for i in live:
            it = plan.lines[i]
            lines[i] = line = self._make((it.depth + (steps if i in whole or not steps else 1), batch, it.size))
            if it.depth:
                line[: it.depth] = cycle.starts[i]
        sums = tuple(zeros(batch, plan.lines[read.line].size) for read in cycle.sums)
        weights = tuple(t.weight.clone() for t in call.taught)
        synapses = tuple({n: s.clone() for n, s in t.synapses.items()} for t in call.taught)
        if steps:
            team = self._threads or self._worth(plan, batch)
            scalar = tuple(tuple([not c.dim() for c in cycle.coefs[n.name]]) for n in plan.neurons)
            source, run = self._kernel(plan, RegionForward(scalar, live, cycle.sums))
            given = Given(plan, cycle.inputs, cycle.late)
            given.lines("line", lines)
            given.coefs("coefficient", {n: plan.scans[n].coefs for n in plan.scans}, cycle.coefs)
            given.masks(cycle.masks)
            given.random(cycle.random)
            for i, total in enumerate(sums):
                given.take(("sum", i), total)
            _add_fixed(given, plan, call)
            _add_room(given, plan, team)
            given.late_rooms(plan, team)
            for i in range(len(plan.learns)):
                _add_taught(given, plan, i, call.taught[i], (weights[i], synapses[i]), (batch, team))
            table = array("q", [given.numbers[key] for key in source.given])
            run(table.buffer_info()[0], steps, batch, team)
        return PlasticRegionResult(CycleForwardResult(tuple(lines), sums), weights, synapses)

    def _kernel(self, plan: PlasticPlan, variant: RegionForward) -> tuple[CycleSource, Callable[..., Any]]:
        made = self._kernels.setdefault(plan, {})
        found = made.get(variant)
        if found is None:
            source = print_plastic_region(plan, variant)
            found = made[variant] = source, function(source.name, source.text, source.types, harder=True)
        return found

    def _worth(self, plan: PlasticPlan, batch: int) -> int:
        """How many threads share a step; what comes out does not depend on it."""
        values = batch * sum(line.size for line in plan.lines)
        values += sum(prod(r.node.weight.shape) for r in plan.rules.values())
        return max(1, min(torch.get_num_threads(), values // _WORTH))


def _turned(weight: Tensor) -> Tensor:
    """Rows of inputs, padded, of a weight that stays."""
    return pad(weight.transpose(-1, -2), (0, -weight.shape[-2] % PAD)).contiguous()


def _add_room(given: Given, plan: PlasticPlan, team: int) -> None:
    """Room for products and poolings."""
    outs, ins = most(plan)
    given.take(("identity",), torch.arange(ins, dtype=torch.int32, device="cpu"))
    given.take(("product numbers",), scratch(team, LANES * CHUNK + outs + ins))
    given.take(("product marks",), scratch(team, ins, dtype=torch.int32))
    size = work_size(plan)
    given.take(("work",), scratch(team, size))
    given.numbers[("work size",)] = size


def _add_fixed(given: Given, plan: PlasticPlan, call: PlasticRegionCall) -> None:
    """Products with weights that stay."""
    for product, w in zip(plan.products, call.cycle.weights, strict=True):
        given.product(product, w)
        if w.synapses is not None:
            continue
        key = (product.name, product.part)
        if isinstance(product, Conv):
            given.take(("weight", *key), taps_of(product, w.values))
        else:
            given.take(("weight", *key), _turned(w.values))
        given.numbers[("wild", *key)] = not bool(w.values.isfinite().all())


def _add_taught(
    given: Given, plan: PlasticPlan, place: int, taught: Taught, held: tuple[Tensor, dict[str, Tensor]],
    shape: tuple[int, int],
) -> None:  # fmt: skip
    """A weight that changes, what its rule reads, and room to work in."""
    learn, (batch, team) = plan.learns[place], shape
    name, (weight, synapses) = learn.name, held
    given.take(("weight", name), weight)
    for product in plan.plastic_products:
        if product.rule == place:
            given.bias((product.name,), taught.bias)
    for role, value in taught.fixed.items():
        given.take((role, name), value)
    for t, value in synapses.items():
        given.take((f"{t} trace", name), value)
    for part, values in taught.coefs.items():
        for c, value in values.items():
            given.take((f"coefficient of {part}", name, f"{part}_{c}"), value)
    node = plan.rules[name].node
    wide, deep = prod(node.post), prod(node.pre)
    if node.connection == "Linear":
        wide, deep = padded(wide), padded(deep)
        _add_turned(given, name, taught, (batch, team))
    else:
        size = learning_room(plan.rules[name])
        given.take(("room", name), scratch(team, size))
        given.numbers[("room size", name)] = size
    for factor in FACTORS:
        given.take((f"before {factor}", name), zeros(batch, deep))
        given.take((f"after {factor}", name), zeros(batch, wide))


def _add_turned(given: Given, name: str, taught: Taught, shape: tuple[int, int]) -> None:
    """Room for a dense weight that changes, and what has its shape, as threads have them."""
    (outs, ins), (batch, team) = taught.weight.shape, shape
    wide, deep = padded(outs), padded(ins)
    for what in ("turned", *(f"turned {role}" for role in taught.fixed)):
        given.take((what, name), scratch(ins, wide))
    if "mask" in taught.fixed:
        given.take(("seen", name), scratch(ins, wide))
    for t in taught.synapses:
        given.take((f"turned {t}", name), scratch(batch, ins, wide))
    given.take(("columns", name), scratch(wide, deep))
    given.take(("numbers", name), scratch(team, 2 * max(wide, deep)))
    given.take(("marks", name), scratch(team, 3 * wide + 2 * deep + 1, dtype=torch.int32))
