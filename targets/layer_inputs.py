"""What feeds the neurons of a layer that one kernel runs, where delays stand before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge
from snncompile.ir.random import courses
from snncompile.targets.autograd import BoundScan
from snncompile.targets.evaluation import Evaluation
from snncompile.targets.late_scan import computed, computes, shower
from snncompile.targets.scan import Late, Seen


class Fed(NamedTuple):
    """Neurons of a layer, with what delays before them compute, and what feeds them.

    Attributes:
        scan: them, with this run's coefficients.
        port: the scan's input that the layer's own product feeds.
        inputs: one course per input of the scan that reads what it draws, ``(T, B, N)``; None for ``port``.
        late: per input what makes it late; empty where none is.
    """

    scan: BoundScan
    port: str
    inputs: tuple[Tensor | None, ...]
    late: tuple[Late | None, ...]


def fed(
    ev: Evaluation,
    name: str,
    op: Elementwise,
    edges: Mapping[str, Edge],
    port: str,
    bind: Callable[[], BoundScan],
) -> Fed:
    """The neurons of a layer and what feeds them.

    Args:
        ev: the run.
        name: the neurons, or what ``op`` stands behind.
        op: the neurons, or what stands for them.
        edges: what feeds them.
        port: the port that the layer's own product feeds.
        bind: their scan with this run's coefficients, where no delay computes anything.
    """
    shape, ports = (ev.r.steps, ev.r.batch, op.size), op.inputs
    late: tuple[Late | None, ...] = ()
    given = {p: e for p, e in edges.items() if p != port}
    if ev.late and computes(ev, given.values()):
        bound, ports, late = computed(ev, name, op, given)
    else:
        bound, found = bind(), {p: ev.late[e.source].late[0] for p, e in given.items() if e.source in ev.late}
        late = tuple(found.get(p) for p in ports) if found else ()
    inputs = [None if p == port else course(ev, edges[p], shape) for p in ports]
    more = drawn(ev, bound, shape)
    late = (*late, *(None for _ in more)) if late else ()
    return Fed(bound, bound.prepared.scan.inputs[ports.index(port)], (*inputs, *more), late)


def course(ev: Evaluation, edge: Edge, shape: tuple[int, int, int]) -> Tensor:
    """What arrives along ``edge``, ``(T, B, N)``; of what is read late, the course that is delayed."""
    found = ev.course(edge)
    return (found if edge.source in ev.late else found.reshape(shape)).float()


def drawn(ev: Evaluation, bound: BoundScan, shape: tuple[int, int, int]) -> list[Tensor]:
    """What neurons draw, which the kernels of layers read as further inputs."""
    random, draws = ev.random(), bound.prepared.scan.draws
    return [] if random is None or not draws else courses(random, draws, shape)


def seen(ev: Evaluation, edge: Edge) -> Seen | None:
    """What a delay makes of the course that arrives along ``edge``; None where none is late."""
    found = ev.late.get(edge.source)
    if found is None:
        return None
    bound = shower(ev, found)
    return Seen(bound.prepared.scan, bound.coefs, found.late)
