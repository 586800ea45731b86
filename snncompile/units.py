"""Times that were probably given in another unit than seconds."""

from __future__ import annotations

from snncompile.ir.graph import Graph

_SHARE = 0.1  # of a step: what decays with such a time constant keeps less than exp(-10), 0.005 %, from step to step


def doubtful_times(graph: Graph) -> str | None:
    """What is odd about the time constants of ``graph``, if something is: a step in which they forget everything."""
    for name, p in graph.parameters().items():
        if p.family != "taus" or p.constraint != "positive":
            continue
        longest = float(p.init.value_or_constant().max())
        if longest < _SHARE * graph.dt:
            return (
                f"{name} is {longest:g} s, far less than the time step of {graph.dt:g} s: it forgets everything within"
                " a step. Times are in seconds; a millisecond is 1 * snn.ms"
            )
    return None
