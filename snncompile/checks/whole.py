"""A whole network on a target, as a user runs it, against the reference.

Products may sum in another order on another target, and one spike that moves moves many. So the weights of products are
rounded to multiples of 1/64, and currents too: then every sum is exact, in any order, and results must be equal. Those
that learn are left as they are: they are summed in one order on every target, and what they come to must be equal, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snncompile.checks.running import Check, Sample
from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Input, Ref
from snncompile.network import Network

_UNIT = 64.0
_LIMIT = 2.0**16  # sums beyond have fewer than six bits for fractions


def check_whole(net: Network, target: str, sample: Sample, device: torch.device) -> Check:
    """Compare what ``net`` gives on ``target`` with what it gives on the reference, weights and currents rounded: its
    outputs, and where it learns its last state."""
    name = f"{target}: whole network"
    values = _rounded(net)
    products = [f"{n}.out" for n, op in net.graph.of_type(Connection) if op.kind in PRODUCTS]
    given = {n: (x * _UNIT).round() / _UNIT for n, x in sample.inputs.items()}
    (got, _), (want, sums) = (
        _run(net, runner, place, values, given, sample, products if runner == "torch" else [])
        for runner, place in ((target, device), ("torch", torch.device("cpu")))
    )
    total = sum(y.numel() for y in want)
    same = sum(int((a == b).sum()) for a, b in zip(got, want, strict=True))
    learns = bool(net.layout.learned)
    what = "values of outputs and the last state" if learns else "output values"
    if not all(bool(torch.isfinite(y).all()) for y in got):
        return Check(name, "failed", "its outputs are not finite")
    if same == total:
        which = "weights that do not learn" if learns else "weights"
        return Check(name, "ok", f"{total:,} {what} bit-identical, {which} rounded to multiples of 1/64")
    small = all(float(y.abs().max()) < _LIMIT for y in sums if y.numel())
    if small and exact(net.graph):
        said = "though all products are exact, or summed in one order" if learns else "though all products are exact"
        return Check(name, "failed", f"only {same:,} of {total:,} {what} are equal, {said}")
    return Check(name, "ok", f"{same / total:.2%} of {total:,} {what} equal (products are not exact here)")


def exact(graph: Graph) -> bool:
    """Whether every product of ``graph`` is exact once weights and currents are multiples of 1/64."""
    for name, op in graph.of_type(Connection):
        if op.kind == "BatchNorm":
            return False
        if op.plastic:
            continue  # it sums in one order on every target
        if op.kind in PRODUCTS and not all(_whole(graph, edge.source) for edge in graph.inputs_of(name).values()):
            return False
    return all(op.kind != "Scale" for _, op in graph.of_type(Elementwise))  # it may be folded into a product


def _whole(graph: Graph, ref: Ref) -> bool:
    """Whether a signal has few bits: an input, or numbers of spikes, possibly summed or reshaped."""
    op = graph.op(ref.node)
    if isinstance(op, Input):
        return True
    if isinstance(op, Connection):
        passing = op.kind in ("Flatten", "SumPool2d", "MaxPool2d", "Dropout")
        return passing and all(_whole(graph, edge.source) for edge in graph.inputs_of(ref.node).values())
    return graph.type_of(ref).kind == "spikes"


def _rounded(net: Network) -> dict[str, Tensor]:
    fixed = [op for _, op in net.graph.of_type(Connection) if op.kind in PRODUCTS and not op.plastic]
    roles = {p.name for op in fixed for p in op.params.values()}
    return {
        n: (v.detach() * _UNIT).round() / _UNIT if n in roles else v.detach().clone()
        for n, v in net.state_dict().items()
    }


def _run(
    net: Network,
    target: str,
    device: torch.device,
    values: dict[str, Tensor],
    given: dict[str, Tensor],
    sample: Sample,
    record: list[str],
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, with the last state where it learns, and records."""
    copied = {n: v.clone() for n, v in values.items()}
    twin = Network(net.graph, target, checkpoint=net.checkpoint, values=copied, precision=net.precision)
    twin = twin.to(device).eval()
    sizes: dict[str, Any] = {} if given else {"steps": sample.steps, "batch": sample.batch}
    inputs = {n: x.transpose(0, 1).to(device) for n, x in given.items()}
    with torch.no_grad():
        start = twin.initial_state(sample.batch, seed=0)
        out, state, records = twin.evolve(**inputs, **sizes, state=start, record=record)
    outputs = list(out.values()) if isinstance(out, dict) else list(out) if isinstance(out, tuple) else [out]
    outputs += state.values() if net.layout.learned else ()
    return [y.cpu() for y in outputs], list(records.values())
