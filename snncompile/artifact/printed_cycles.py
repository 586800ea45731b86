"""The functions of cycles, and of what learns, that C runs as one, and the kernels that Triton does, printed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf, prod
from typing import TYPE_CHECKING

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Ref, Region
from snncompile.ir.plasticity import Plasticity

if TYPE_CHECKING:
    from snncompile.targets.c.cycle_writer import CycleSource
    from snncompile.targets.cycle_plan import Conv, CyclePlan, LateSource, Product, Read
    from snncompile.targets.plastic_plan import PlasticPlan
    from snncompile.targets.scan import Scan
    from snncompile.targets.triton.cycle_kernels import CompiledCycle
    from snncompile.targets.triton.cycle_writer import CycleKernel
    from snncompile.targets.triton.plastic_region_design import RegionSettings

    Settings = Mapping[str, RegionSettings]


def cycle_plans(compiled: Graph, layers: Collection[str], target: str) -> list[CyclePlan]:
    """The cycles of a network that are one function each on ``target``, but for those of the populations ``layers``."""
    from snncompile.targets.cycle_late import late_usually
    from snncompile.targets.cycle_limits import way_of
    from snncompile.targets.cycle_plan import CyclePlan
    from snncompile.targets.cycle_planner import plan_cycle

    found = []
    for region in compiled.regions:
        if region.kind != "recurrent" or set(region.nodes) & set(layers):
            continue
        late = late_usually(compiled, region)
        # what drops is there in training alone
        plan = plan_cycle(compiled, region, _scans(compiled, region, late), training=True, late=late)
        if isinstance(plan, CyclePlan) and way_of(plan, target).blocks_up_to < inf:
            found.append(plan)
    return found


def _node(compiled: Graph, name: str) -> Elementwise:
    """An elementwise node of a plan: the network's, or what makes what a delay shows."""
    from snncompile.ir.interpolated import showing
    from snncompile.targets.late_scan import one_each

    op = compiled.op(name)
    return op if isinstance(op, Elementwise) else showing(name, one_each(op))


def _scans(compiled: Graph, region: Region, late: Mapping[Ref, LateSource]) -> dict[str, Scan]:
    """The scans of its nodes, and of delays whose signals it reads late."""
    from snncompile.targets.scan import make_scan

    names = [n for n in region.nodes if isinstance(compiled.op(n), Elementwise)]
    return {n: make_scan(n, _node(compiled, n)) for n in (*names, *(one.delay for one in late.values()))}


def cycle_kernels(compiled: Graph, plan: CyclePlan) -> Iterator[tuple[str, str, CycleSource]]:
    """Node, role and source of the functions of one cycle."""
    from snncompile.targets.c.cycle_printed import cycle_sources

    for role, source in cycle_sources(plan, _leaving(compiled, plan), *_one_number(compiled, plan)).items():
        yield plan.nodes[0], f"{plan.name}_{role}", source


def triton_cycle(compiled: Graph, plan: CyclePlan, archs: Sequence[str]) -> Iterator[tuple[str, str, CompiledCycle]]:
    """Node, role and kernel of one cycle on Triton."""
    from snncompile.targets.cycle_weights import has_bias
    from snncompile.targets.triton.arch import parse_arch
    from snncompile.targets.triton.cycle_kernels import cycle_kernels as kernels_of

    biased = [p for p in plan.products if has_bias(p, compiled.op(p.name))]
    chips = [parse_arch(name) for name in archs or ("sm_90",)]
    synapses = [_synapses(compiled, p) for p in plan.products]
    leaving, numbers = _leaving(compiled, plan), _one_number(compiled, plan)
    for role, kernel in kernels_of(plan, leaving, *numbers, biased, chips, synapses).items():
        yield plan.nodes[0], f"{plan.name}_{role}", kernel


def _synapses(compiled: Graph, product: Product | Conv) -> int | None:
    """How many synapses a product lists that has one weight for each, 0 for others, None where it is dense."""
    if not product.sparse:
        return None
    return prod(compiled.op(product.name).params["weight"].shape) if product.part == "weight" else 0


def _one_number(compiled: Graph, plan: CyclePlan) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Elementwise node -> coefficients, and reverse coefficients, that are one number for all neurons."""
    from snncompile.targets.scan import one_number

    one, one_reverse = {}, {}
    for name, scan in plan.scans.items():
        per_neuron = [role for role, p in _node(compiled, name).params.items() if p.shape != ()]
        one[name] = one_number(scan, per_neuron)
        one_reverse[name] = one_number(scan, per_neuron, reverse=True)
    return one, one_reverse


def plastic_plans(compiled: Graph, layers: Collection[str], target: str) -> list[PlasticPlan]:
    """The regions of a network that learn and are one function each, but for those of the populations ``layers``."""
    from snncompile.targets.cycle_late import late_usually
    from snncompile.targets.cycle_limits import way_of
    from snncompile.targets.plastic_planner import plan_plastic
    from snncompile.targets.plastic_rule import make_rule

    found = []
    for region in compiled.regions:
        if region.kind != "plastic" or set(region.nodes) & set(layers):
            continue
        nodes, late = {n: compiled.op(n) for n in region.nodes}, late_usually(compiled, region)
        rules = {n: make_rule(n, op) for n, op in nodes.items() if isinstance(op, Plasticity)}
        plan = plan_plastic(compiled, region, _scans(compiled, region, late), rules, late=late)
        if way_of(plan, target).blocks_up_to < inf:
            found.append(plan)
    return found


def plastic_region_kernel(compiled: Graph, plan: PlasticPlan) -> tuple[str, str, CycleSource]:
    """Node, role and source of the function of one region that learns."""
    from snncompile.targets.c.plastic_region import RegionForward, print_plastic_region
    from snncompile.targets.scan import one_number

    scalar = []
    for node in plan.neurons:
        scan, params = plan.scans[node.name], _node(compiled, node.name).params
        one = one_number(scan, [role for role, p in params.items() if p.shape != ()])
        scalar.append(tuple(c in one for c in scan.coefs))
    source = print_plastic_region(plan, RegionForward(tuple(scalar), plan.live(_leaving(compiled, plan))))
    return plan.learns[0].name, f"{plan.name}_forward", source


def taught_kernels(
    compiled: Graph, plan: PlasticPlan, archs: Sequence[str]
) -> Iterator[tuple[str, str, CycleKernel, Settings]]:
    """Node, role, source and launch settings by chip of the Triton kernels of one region that learns.

    They are those of a usual caller with one sequence: one program's, and on chips where that is quicker that which
    several share; others are compiled when first used.
    """
    from snncompile.targets.scan import one_number
    from snncompile.targets.triton.arch import parse_arch
    from snncompile.targets.triton.plastic_region_design import settings_of_chip
    from snncompile.targets.triton.plastic_region_kernel import RegionForward, print_region

    scalar = []
    for node in plan.neurons:
        scan, params = plan.scans[node.name], _node(compiled, node.name).params
        one = one_number(scan, [role for role, p in params.items() if p.shape != ()])
        scalar.append(tuple(c in one for c in scan.coefs))
    products = (*plan.products, *plan.plastic_products)
    bias = tuple("bias" in compiled.op(p.name).params and getattr(p, "part", "") != "seen" for p in products)
    chips = [parse_arch(name) for name in archs or ("sm_90",)]
    settings = {chip.name: settings_of_chip(plan, chip) for chip in chips}
    for shared in (False, True):
        those = {name: s for name, s in settings.items() if (s.shares > 1) == shared}
        if those:
            variant = RegionForward(tuple(scalar), bias, plan.live(_leaving(compiled, plan)), shared=shared)
            source = print_region(plan, variant)
            yield plan.learns[0].name, f"{plan.name}_{'shared' if shared else 'forward'}", source, those


def _leaving(compiled: Graph, plan: CyclePlan) -> tuple[Read, ...]:
    """What is read outside of a cycle."""
    refs = {ref for _, ref in compiled.outputs}
    for name in plan.nodes:
        refs |= {e.source for reader, _, e in compiled.consumers(name) if reader not in plan.nodes}
    return tuple(dict.fromkeys(plan.ports[ref] for ref in sorted(refs & set(plan.ports), key=str)))
