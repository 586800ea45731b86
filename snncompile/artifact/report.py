"""``report.txt``: what a reader of an artifact wants to know first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import snncompile
from snncompile.artifact.kernels import Kernels
from snncompile.explain import explain, explain_text

if TYPE_CHECKING:
    from snncompile.network import Network


def report_text(net: Network, kernels: Kernels, archs: Sequence[str] = ()) -> str:
    """The report on a network and its kernels, as plain text."""
    lines = [f"{net.graph.name}: written by snncompile {snncompile.__version__}", ""]
    e = explain(net.graph, net.target, checkpoint=net.checkpoint, precision=net.precision, archs=archs)
    lines += [explain_text(e), ""]
    lines += ["Kernels", ""]
    if not kernels.sources:
        lines.append(f'  none: target "{net.target}" generates no code')
    for path, node in kernels.sources.items():
        lines.append(f"  {path}  (node {node})")
    if kernels.sources and not kernels.reports:
        why = "" if net.target == "c" else "no architecture was named; "
        lines.append(f"  not compiled: {why}they are compiled when first used")
    if kernels.reports:
        lines += [
            "",
            "  compiled kernel, architecture, registers per thread, bytes spilled, bytes of shared memory",
            "",
        ]
        width = max(len(r.kernel) for r in kernels.reports)
        for r in kernels.reports:
            numbers = f"{r.registers:4d} registers  {r.spills:4d} spilled  {r.shared:6d} shared"
            lines.append(f"  {r.kernel:<{width}}  {r.arch:<8}  {numbers}")
    return "\n".join(line.rstrip() for line in lines) + "\n"
