"""The kernel that a plastic layer needs, for the chips it is compiled for ahead of time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from snncompile.targets.plastic_call import Wiring, heard
from snncompile.targets.plastic_fields import fields_of
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan, one_number
from snncompile.targets.triton.arch import Arch
from snncompile.targets.triton.plastic import print_plastic
from snncompile.targets.triton.plastic_conv_plan import ConvPlan, choose_conv_plan
from snncompile.targets.triton.plastic_parts import PlasticSource, PlasticVariant
from snncompile.targets.triton.plastic_plan import Making, PlasticPlan, choose_plan
from snncompile.targets.triton.plastic_seen import Shows, making_of


@dataclass(frozen=True)
class PlasticKernel:
    """One kernel.

    Attributes:
        source: the printed kernel.
        settings: name of a chip -> launch settings there.
    """

    source: PlasticSource
    settings: Mapping[str, PlasticPlan | ConvPlan]


def plastic_kernel(
    scan: Scan,
    rule: PlasticRule,
    wiring: Wiring,
    read: Collection[str],
    per_neuron: Collection[str],
    archs: Sequence[Arch],
    late: tuple[str, ...] = (),
    seen: Mapping[str, Shows] = MappingProxyType({}),
) -> PlasticKernel:
    """The kernel for one sequence; others are compiled when first used.

    Args:
        scan: the neurons.
        rule: the rule.
        wiring: the layer besides.
        read: results that something else reads.
        per_neuron: parameters that have one value for each neuron (the others are one number).
        archs: the chips, at least one.
        late: per input of the scan how late it is, ``""``, ``"one"``, ``"each"`` or ``"shared"``; empty where none is.
        seen: as in :class:`~snncompile.targets.plastic_call.PlasticForwardCall`.
    """
    x, watched = (seen[of].variant() if of in seen else None for of in ("x", "pre"))
    plans = {arch.name: _plan(rule, arch, making_of([x, watched])) for arch in archs}
    one = one_number(scan, per_neuron)
    store = tuple(r for r in scan.results if r in read)
    plan = next(iter(plans.values()))  # its form depends on the rule and the size alone
    port, source, bias, product, other = wiring
    scalar = tuple(c in one for c in scan.coefs)
    told = tuple((s, seen[heard(s)].variant()) for s in rule.node.signals if heard(s) in seen)
    form = (plan.resident, other, plan.held, late, x, watched, told)
    variant = PlasticVariant(port, source, scalar, bias, store, (), product, *form)
    if variant.reads_late:
        plans = {arch: each.reading_late() for arch, each in plans.items()}
    return PlasticKernel(print_plastic(scan, rule, variant), plans)


def _plan(rule: PlasticRule, arch: Arch, making: Making) -> PlasticPlan | ConvPlan:
    fields = fields_of(rule.node)
    if fields is not None:
        return choose_conv_plan(fields, arch.warp)
    outs, ins = rule.node.weight.shape
    return choose_plan(rule, (outs, ins), 1, arch.warp, making)
