"""Checks of a network: parameters, finite values, passes, and every target against the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from snncompile.checks.passes import check_passes
from snncompile.checks.running import Check, Sample, outcome, random_sample
from snncompile.checks.targets import check_target
from snncompile.finite import first_in
from snncompile.ir.errors import ModelError
from snncompile.ir.graph import Graph
from snncompile.network import Network
from snncompile.targets.executor import Executor
from snncompile.targets.torch.loop import LoopTarget

__all__ = ["Check", "check_network"]


def check_network(
    net: Network,
    targets: Sequence[str],
    *,
    steps: int = 32,
    batch: int = 2,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Check ``net`` on random input.

    Args:
        net: the network; it is moved to the CPU and set to evaluation.
        targets: targets to compare with the reference.
        steps: length of the input.
        batch: its batch.
        seed: its seed.
        say: called with what is being done.
    """
    net = net.to("cpu").eval()
    try:
        net.check_parameters()
        checks = [Check("parameters", "ok", "finite, and every constraint holds")]
    except ModelError as err:
        return [Check("parameters", "failed", str(err))]
    sample = random_sample(net.graph.input_types(), steps, batch, seed)
    say("running the reference")
    plain = Executor(net.graph, LoopTarget())
    want = outcome(net, plain, sample, tuple(net.graph.recordable()))
    bad = first_in(net.graph, want.courses)
    if bad is not None:
        return [*checks, Check("finite values", "failed", str(bad))]
    checks.append(Check("finite values", "ok", _coverage(net.graph, want.courses, sample)))
    say("checking the passes")
    checks.append(check_passes(net, sample))
    for target in targets:
        say(f"checking target {target}")
        checks += check_target(net, target, sample)
    return checks


def _coverage(graph: Graph, courses: Mapping[str, Tensor], sample: Sample) -> str:
    spikes, silent = 0, []
    for name, ref in graph.recordable().items():
        if name in courses and graph.type_of(ref).kind == "spikes" and ref.node not in graph.input_types():
            count = int(courses[name].sum())
            spikes += count
            silent += [name] if not count else []
    text = f"{sample.steps} steps, batch {sample.batch}: {spikes:,} spikes"
    return text + (f"; none in {', '.join(silent)}, which is thereby checked less well" if silent else "")
