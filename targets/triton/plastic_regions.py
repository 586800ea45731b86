"""Plastic regions of any form with one generated kernel for the whole sequence.

It takes the lines and the neurons of cycles (``targets/triton/cycle.py``). Results equal those of the loop in
``targets/plastic.py`` bit for bit.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from snncompile.ir.plasticity import FACTORS
from snncompile.targets.cycle_call import CycleForwardResult
from snncompile.targets.cycle_lines import forward_lines
from snncompile.targets.cycle_plan import Product
from snncompile.targets.cycle_weights import Weights
from snncompile.targets.plastic_plan import PlasticPlan
from snncompile.targets.plastic_region_call import PlasticRegionCall, PlasticRegionResult
from snncompile.targets.triton.availability import check_runnable, interpreting
from snncompile.targets.triton.courses import on_device
from snncompile.targets.triton.cycle import check_size
from snncompile.targets.triton.cycle_given import Given, ring_rows
from snncompile.targets.triton.cycle_shared_design import FORM_VARIABLE, check_form
from snncompile.targets.triton.cycle_writer import CycleKernel
from snncompile.targets.triton.load import load
from snncompile.targets.triton.plastic_region_design import RegionSettings, choose_region_settings
from snncompile.targets.triton.plastic_region_kernel import RegionForward, print_region
from snncompile.targets.triton.recurrent_launch import launch_together, processors


class PlasticRegions:
    """Runs plastic regions, one launch a sequence.

    Args:
        empty: allocates outputs; tests hand in one that fills them with NaN.
        settings: launch settings to use, instead of those chosen by size.
        form: ``"one"`` program for every region or ``"several"``, instead of what is reckoned to be quicker.
    """

    #: Signals from outside may be read late.
    offsets = True

    def __init__(
        self,
        empty: Callable[..., Tensor] = torch.empty,
        settings: RegionSettings | None = None,
        form: str | None = None,
    ) -> None:
        self._empty = empty
        self._settings = settings
        self.form = check_form(form or os.environ.get(FORM_VARIABLE) or None)
        self._kernels: weakref.WeakKeyDictionary[PlasticPlan, dict[Hashable, tuple[CycleKernel, Any]]]
        self._kernels = weakref.WeakKeyDictionary()

    def forward(self, plan: PlasticPlan, call: PlasticRegionCall) -> PlasticRegionResult:
        """Run from the first step to the last."""
        cycle = call.cycle
        steps, batch = cycle.shape
        device = call.taught[0].weight.device
        check_runnable(call.taught[0].weight)
        check_size(plan, batch)
        make = partial(self._empty, dtype=torch.float32, device=device)
        live = plan.live((*cycle.store, *cycle.sums))
        lines = forward_lines(plan, cycle, live, make, ring_rows)
        sums = tuple(make((batch, plan.lines[read.line].size)).zero_() for read in cycle.sums)
        weights = tuple(t.weight.clone() for t in call.taught)
        synapses = tuple({n: s.clone() for n, s in t.synapses.items()} for t in call.taught)
        if steps:
            settings = self._settings or _settings(plan, cycle.shape, device, self.form)
            source, function = self._kernel(plan, _variant(plan, call, live, settings.shares > 1))
            given = _Given(plan, source, cycle.shape, device)
            given.inputs(cycle.inputs, cycle.late)
            given.lines("line", lines)
            given.coefs("coefficient", {n: scan.coefs for n, scan in plan.scans.items()}, cycle.coefs)
            given.weights(cycle.weights, back=False)
            given.images(cycle.masks, back=False, make=make)
            given.values[("random",)] = cycle.random
            given.values |= {("sum", i): total for i, total in enumerate(sums)}
            for i, (weight, held) in enumerate(zip(weights, synapses, strict=True)):
                given.values |= _taught(plan, call, i, make) | {
                    ("taught", "weight", plan.learns[i].name): weight,
                    **{("taught trace", plan.learns[i].name, t): value for t, value in held.items()},
                }
            given.values[("arrived",)] = torch.zeros(1, dtype=torch.int32, device=device)
            values = [*(given.values[key] for key in source.given), *settings.constants.values()]
            options = {"num_warps": settings.warps, "num_stages": settings.stages, "enable_fp_fusion": False}
            options |= settings.more(not torch.version.hip)
            with on_device(device):
                if settings.shares > 1:
                    launch_together(function, (settings.shares,), values, {**options, "launch_cooperative_grid": True})
                else:
                    function[(1,)](*values, **options)
        return PlasticRegionResult(CycleForwardResult(tuple(lines), sums), weights, synapses)

    def _kernel(self, plan: PlasticPlan, variant: RegionForward) -> tuple[CycleKernel, Any]:
        made = self._kernels.setdefault(plan, {})
        key = (variant, interpreting())
        found = made.get(key)
        if found is None:
            source = print_region(plan, variant)
            found = made[key] = source, load(source, interpreting())
        return found


class _Given(Given):
    """What the kernel of a region may take: weights of dense products and convolutions as they are."""

    def weights(self, weights: Sequence[Weights], back: bool) -> None:
        """The weights that stay."""
        for product, w in zip(self.plan.products, weights, strict=True):
            if w.synapses is not None:
                assert isinstance(product, Product)
                self._synapses(product, w, back)
                continue
            key = (product.name, product.part)
            self.values[("ordered weight", *key)] = w.values.contiguous()
            self._bias(key, w)
            if isinstance(product, Product):
                self._lags(product, w)


def _settings(
    plan: PlasticPlan, shape: tuple[int, int], device: torch.device, form: str | None
) -> RegionSettings:
    steps, batch = shape
    if torch.version.hip:
        return choose_region_settings(plan, batch, 64)
    return choose_region_settings(plan, batch, 32, processors(device), steps, form)


def _variant(plan: PlasticPlan, call: PlasticRegionCall, live: tuple[int, ...], shared: bool) -> RegionForward:
    cycle = call.cycle
    scalar = tuple(tuple([not c.dim() for c in cycle.coefs[n.name]]) for n in plan.neurons)
    bias = [w.bias is not None for w in cycle.weights]
    bias += [call.taught[p.rule].bias is not None for p in plan.plastic_products]
    return RegionForward(scalar, tuple(bias), live, cycle.sums, shared)


def _taught(plan: PlasticPlan, call: PlasticRegionCall, place: int, make: Callable[..., Tensor]) -> dict[Any, Any]:
    """What a rule reads, and room for its factors."""
    learn, taught, batch = plan.learns[place], call.taught[place], call.cycle.shape[1]
    node = plan.rules[learn.name].node
    found: dict[Any, Any] = {("taught", role, learn.name): value for role, value in taught.fixed.items()}
    for part, values in taught.coefs.items():
        found |= {("taught", part, learn.name, c): value for c, value in values.items()}
    for f in FACTORS:
        found[("taught", f"pre {f}", learn.name)] = make((batch, prod(node.pre)))
        found[("taught", f"post {f}", learn.name)] = make((batch, prod(node.post)))
    for product in plan.plastic_products:
        if product.rule == place:
            found[("plastic bias", product.name)] = taught.bias
    return found
