"""A plastic region of any form as one operation, on a target that runs it with one function for the whole sequence."""

from __future__ import annotations

import torch

from snncompile.ir.graph import Region
from snncompile.ir.plasticity import Plasticity
from snncompile.targets.cycle_call import CycleForwardCall, last_values, values_at
from snncompile.targets.cycle_late import bound_scans, outside
from snncompile.targets.cycle_run import keep_state, leaving, mask, start, there
from snncompile.targets.cycle_weights import weights_of
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.plastic import refuse_gradient
from snncompile.targets.plastic_plan import Learn, PlasticPlan
from snncompile.targets.plastic_region_call import PlasticRegionCall, PlasticRegionTarget, Taught


def run_plastic_region(ev: Evaluation, plan: PlasticPlan, region: Region, target: PlasticRegionTarget) -> None:
    """Run ``plan`` over all steps of ``ev``, leaving courses, sums and final states there.

    Raises:
        InputError: where a gradient would have to pass through the learning.
    """
    refuse_gradient(ev, region)
    with torch.no_grad():
        _run(ev, plan, target)


def _run(ev: Evaluation, plan: PlasticPlan, target: PlasticRegionTarget) -> None:
    late = {e.feedback: e for n in plan.nodes for e in ev.sources(n) if e.delay}
    refs = leaving(ev, plan)
    summed = sorted({r for r in ev.want_sum if r in plan.ports and r not in refs}, key=str)
    steps, shape = ev.r.steps, (ev.r.steps, ev.r.batch)
    inputs, offsets = outside(ev, plan)
    call = CycleForwardCall(
        shape,
        tuple(inputs),
        {i: start(ev, late, line) for i, line in enumerate(plan.lines) if line.depth},
        {n: bound.coefs for n, bound in bound_scans(ev, plan).items()},
        tuple(weights_of(p, ev.graph.op(p.name), ev.params(p.name), ev.r.device) for p in plan.products),
        tuple(dict.fromkeys(plan.ports[ref] for ref in refs)),
        tuple(dict.fromkeys(plan.ports[ref] for ref in summed)),
        masks=tuple(mask(ev, m) for m in plan.masks),
        random=ev.random() if any(scan.draws for scan in plan.scans.values()) else None,
        late=offsets,
    )
    made = target.forward(plan, PlasticRegionCall(call, tuple(_taught(ev, plan, i) for i in range(len(plan.learns)))))
    lines, totals = made.cycle.lines, dict(zip(call.sums, made.cycle.sums, strict=True))
    for ref in refs:
        at = plan.ports[ref]
        course = values_at(there(lines[at.line]), plan.lines[at.line].depth, at.lag, steps)
        ev.courses[ref] = course.unflatten(2, ev.graph.type_of(ref).shape)
    for ref in summed:
        ev.sums[ref] = totals[plan.ports[ref]].unflatten(1, ev.graph.type_of(ref).shape)
    for i in call.starts:
        keep_state(ev, late, plan.lines[i], last_values(there(lines[i]), plan.lines[i].depth, steps))
    for learn, weight, synapses in zip(plan.learns, made.weights, made.synapses, strict=True):
        rule: Plasticity = ev.graph.op(learn.name)
        ev.state[rule.weight.name] = weight
        ev.state.update({t.name: synapses[t.local] for t in rule.of_side("synapse")})


def _taught(ev: Evaluation, plan: PlasticPlan, place: int) -> Taught:
    learn: Learn = plan.learns[place]
    rule: Plasticity = ev.graph.op(learn.name)
    product = next(p.name for p in plan.plastic_products if p.rule == place)
    bias = ev.params(product).get("bias")
    values = ev.r.values
    return Taught(
        weight=ev.r.state[rule.weight.name].float().contiguous(),
        bias=None if bias is None else bias.float().contiguous(),
        fixed={r: values[rule.params[r].name].float().contiguous() for r in ("mask", "sign") if r in rule.params},
        synapses={t.local: ev.r.state[t.name].float().contiguous() for t in rule.of_side("synapse")},
        coefs=ev.bind_rule(learn.name).coefs,
    )
