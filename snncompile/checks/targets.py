"""A target against plain interpretation, scan by scan on the same inputs, then the whole network."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from snncompile.checks.running import Check, Sample, outcome
from snncompile.checks.whole import check_whole
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import SnnError
from snncompile.network import Network
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.executor import Executor
from snncompile.targets.registry import availability, make_target
from snncompile.targets.shadow import GRADIENT_TOLERANCE, ShadowTarget
from snncompile.targets.torch.plain import PlainTarget


def check_target(net: Network, target: str, sample: Sample) -> list[Check]:
    """What ``target`` computes for ``net`` on ``sample``: spikes and states, gradients, and the whole network.

    The target is skipped, with the reason, where it cannot run.
    """
    usable = availability(target)
    if not usable.ok:
        return [Check(f"target {target}", "skipped", usable.reason)]
    device = torch.device("cuda" if target == "triton" and torch.cuda.is_available() else "cpu")
    graph = compile_graph(net.graph, Request())
    shadow = ShadowTarget(PlainTarget(), make_target(target), device)  # the torch target is under test, too
    labels = {name: _labels(op) for name, op in graph.of_type(Elementwise)}
    try:
        outcome(net, Executor(graph, shadow), sample, tuple(graph.recordable()))
        whole = check_whole(net, target, sample, device)
    except SnnError as err:
        return [Check(f"target {target}", "failed", str(err))]
    where = f"on {device}" if device.type == "cuda" else usable.reason if target != "torch" else "on the CPU"
    f, b = shadow.first_difference, shadow.worst_gradient
    forward = Check(f"{target}: spikes and states", "ok", f"{shadow.values:,} values bit-identical ({where})")
    if f is not None:
        label = labels.get(f.scan, {}).get(f.result, f.result)
        detail = (
            f"{label} in {f.scan} first differs at step {f.step}, element {list(f.index)}: reference {f.want!r},"
            f" {target} {f.got!r}; {shadow.different:,} of {shadow.values:,} values differ"
        )
        forward = Check(f"{target}: spikes and states", "failed", detail)
    backward = Check(f"{target}: gradients", "ok", f"norm-relative distance {b[0]:.1g} at most")
    if b[0] > GRADIENT_TOLERANCE or math.isnan(b[0]):
        detail = f"{b[1]} is {b[0]:.2g} from the reference (norm-relative); {GRADIENT_TOLERANCE:g} is allowed"
        backward = replace(backward, status="failed", detail=detail)
    if not shadow.backwards:
        backward = replace(backward, status="skipped", detail="nothing in this network has a gradient")
    return [forward, backward, whole]


def _labels(op: Elementwise) -> dict[str, str]:
    """Name of a result in the scan -> record name."""
    return {local: name for name, local in op.recordable.items()}
