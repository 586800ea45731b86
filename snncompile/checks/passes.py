"""The passes: the reference on the optimised graph against the reference on the graph as written."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from snncompile.checks.running import Check, Sample, outcome
from snncompile.ir.errors import SnnError
from snncompile.ir.graph import Graph
from snncompile.network import Network
from snncompile.passes.pipeline import Request, compile_graph, pass_names
from snncompile.targets.executor import Executor
from snncompile.targets.shadow import GRADIENT_TOLERANCE
from snncompile.targets.torch.loop import LoopTarget

#: How far (norm-relative) a pass may move values where it changes the rounding of a product ...
ROUNDED = 1e-4
#: ... and which share of spikes may move as a consequence.
MOVED = 0.01
#: Passes that change it.
ROUNDING_PASSES = frozenset({"fold-norm", "fold-scale"})


@dataclass(frozen=True)
class _Distance:
    """How far two outcomes are apart.

    Attributes:
        total: values compared.
        different: how many of them differ at all.
        values: the largest norm-relative distance of a signal or state.
        gradients: the largest norm-relative distance of a gradient.
        moved: the share of spikes that differ, of all places where there could be one.
    """

    total: int
    different: int
    values: float
    gradients: float
    moved: float

    @property
    def same(self) -> bool:
        return self.different == 0 and self.gradients <= GRADIENT_TOLERANCE


def check_passes(net: Network, sample: Sample) -> Check:
    """The reference on the optimised graph against the reference on the graph as written."""
    name = "passes"
    try:
        whole = _apart(net, net.graph, compile_graph(net.graph, Request()), sample)
        if whole.same:
            detail = f"{whole.total:,} values bit-identical before and after; gradients {whole.gradients:.1g} apart"
            return Check(name, "ok", detail)
        said, before = [], net.graph
        for upto in pass_names():  # find out which
            after = compile_graph(net.graph, Request(), upto)
            d = _apart(net, before, after, sample)
            before = after
            if d.same:
                continue
            by = f"by {d.values:.1g}, gradients by {d.gradients:.1g}"
            detail = f"{upto} changes {d.different:,} of {d.total:,} values {by}"
            rounded = d.values <= ROUNDED and d.gradients <= ROUNDED
            if upto not in ROUNDING_PASSES or not (rounded or 0 < d.moved <= MOVED):
                return Check(name, "failed", f"{detail} (norm-relative)")
            said.append(detail + ("" if rounded else f", since {d.moved:.2%} of the spikes moved"))
    except SnnError as err:
        return Check(name, "failed", str(err))
    return Check(name, "ok", "; ".join(said) + ": a product is rounded differently")


def _apart(net: Network, before: Graph, after: Graph, sample: Sample) -> _Distance:
    """How far the results of two graphs of a network are apart; what is recorded is what both have."""
    record = [n for n in after.recordable() if n in before.recordable()]
    want, got = (outcome(net, Executor(g, LoopTarget()), sample, record) for g in (before, after))
    kinds = {name: before.type_of(ref).kind for name, ref in before.recordable().items()}
    pairs = [(kinds.get(n, ""), want.courses[n], v) for n, v in got.courses.items()]
    pairs += [("", want.state[n], v) for n, v in got.state.items() if n in want.state]
    spikes = [(a, b) for kind, a, b in pairs if kind == "spikes"]
    places = sum(a.numel() for a, _ in spikes)
    return _Distance(
        total=sum(a.numel() for _, a, _ in pairs),
        different=sum(int((a != b).sum()) for _, a, b in pairs),
        values=max((_relative(a, b) for _, a, b in pairs), default=0.0),
        gradients=max((_relative(want.gradients.get(n), g) for n, g in got.gradients.items()), default=0.0),
        moved=sum(int((a != b).sum()) for a, b in spikes) / max(1, places),
    )


def _relative(want: Tensor | None, got: Tensor) -> float:
    """The norm-relative distance of two tensors."""
    if want is None:
        return math.inf if float(got.norm()) else 0.0
    return float((got - want).double().norm()) / max(float(want.double().norm()), 1e-6)
