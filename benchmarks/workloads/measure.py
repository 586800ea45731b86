"""Measures the contenders of one workload, in one process: equivalence first, then time, then memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from benchmarks.workloads import loops, plastic
from benchmarks.workloads.contender import Absent, Builder, Contender, disagreement
from benchmarks.workloads.libraries import LIBRARIES
from benchmarks.workloads.ours import ours
from benchmarks.workloads.shapes import Data, Workload, make_data
from snncompile.bench.memory import peak_memory
from snncompile.bench.timing import interleaved, timed

SPIKES = 0.01  # spikes that may differ, as a share of those expected
GRADIENT = 1e-3  # norm-relative, where the surrogate is the same


class Different(Exception):
    """A contender does not compute what the loop computes."""


def contenders(w: Workload, compiled: bool, device: str = "cpu") -> dict[str, tuple[str, Builder]]:
    """Name -> group and builder, in the order of the table."""
    targets = ("c", "torch") if device == "cpu" else ("triton", "torch")
    made: dict[str, tuple[str, Builder]] = {f"snncompile {t}": ("ours", ours(t)) for t in targets}
    made["products alone"] = ("floor", loops.products)
    made["plain loop"] = ("loop", loops.plain if w.trains else plastic.plain)
    if compiled:
        made["torch.compile"] = ("compile", loops.compiled if w.trains else plastic.compiled)
    others = LIBRARIES if w.trains else {**plastic.LIBRARIES}
    return made | {name: ("library", build) for name, build in others.items()}


def expected(w: Workload, data: Data) -> dict[str, Tensor]:
    """What the plain loop gives, for each way to reset."""
    resets = ("subtract", "zero", "delayed")
    with torch.no_grad():
        if not w.trains:
            return {r: plastic.loop(data, r)[0] for r in resets[:2]}
        return {r: loops.network(w, data.x, data.weights, r) for r in resets}


def check(data: Data, made: Contender, truth: dict[str, Tensor], grads: dict[str, Tensor]) -> dict[str, Any]:
    """Hold a contender against the loop; raises :class:`Different`."""
    found: dict[str, Any] = {}
    if made.output is not None:
        found["spikes that differ"] = share = disagreement(made.output(), truth[made.reset])
        if share > SPIKES:
            raise Different(f"{share:.2%} of its spikes differ from the loop's")
    if made.weights is not None:
        _, weight = plastic.loop(data, made.reset)
        moved = (weight - data.weights["weight"]).norm()
        found["weight error"] = error = float((made.weights() - weight).norm() / moved)
        if error > GRADIENT and share == 0.0:
            raise Different(f"its learnt weights are off by {error:.1e} of what was learnt")
    if made.gradients is not None:
        errors = {n: float((g - grads[n]).norm() / grads[n].norm()) for n, g in made.gradients().items()}
        found["gradient error"] = worst = max(errors.values())
        # where a spike or two fell on the other side of the threshold gradients differ too
        if worst > (GRADIENT if share == 0.0 else 0.1):
            raise Different(f"its gradients differ from the loop's by {worst:.1e} of their norm")
    return found


def measure(
    w: Workload,
    *,
    seconds: float = 10.0,
    compiled: bool = True,
    only: tuple[str, ...] = (),
    device: str = "cpu",
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All figures of one workload, as they stand in the results.

    Args:
        w: the workload.
        seconds: about how long to time each of forward, and forward with backward.
        compiled: with ``torch.compile``, which takes most of the time.
        only: names of contenders; empty for all.
        device: ``"cpu"`` or ``"cuda"``.
        say: told what is going on.
    """
    data = make_data(w, device=device)
    device == "cpu" or torch.set_default_device(device)
    truth = expected(w, data)
    grads: dict[str, Tensor] = {}
    if w.trains:
        reference = loops.plain(w, data)
        assert reference.gradients is not None
        grads = {n: g.clone() for n, g in reference.gradients().items()}
    rows: dict[str, dict[str, Any]] = {}
    alive: dict[str, Contender] = {}
    for name, (group, build) in contenders(w, compiled, device).items():
        if only and name not in only:
            continue
        say(f"{w.name}: {name}")
        rows[name] = row = {"group": group}
        try:
            made = build(w, data)
            first = timed(made.forward) + (timed(made.both) if made.both else 0.0)
            row |= {"reset": made.reset, "note": made.note} | check(data, made, truth, grads)
            again = timed(made.forward) + (timed(made.both) if made.both else 0.0)
            if group in ("ours", "compile"):
                row["compile seconds"] = made.built + max(0.0, first - again)
            alive[name] = made
        except Absent as err:
            row |= {"status": "absent", "reason": str(err)}
        except Different as err:
            row |= {"status": "failed", "reason": str(err)}
        except Exception as err:  # a library's own failure is a result, too
            row |= {"status": "failed", "reason": f"{type(err).__name__}: {err}".splitlines()[0][:200]}
    say(f"{w.name}: forward")
    for name, timing in interleaved({n: c.forward for n, c in alive.items()}, seconds).items():
        rows[name]["forward"] = asdict(timing)
    if w.trains:
        say(f"{w.name}: forward and backward")
        both = {n: c.both for n, c in alive.items() if c.both is not None}
        for name, timing in interleaved(both, seconds).items():
            rows[name]["both"] = asdict(timing)
    say(f"{w.name}: memory")
    for name, made in alive.items():
        rows[name]["memory"] = peak_memory(made.both or made.forward)
        rows[name]["status"] = "ok"
    rate = float(truth["subtract"].mean())
    return {"title": w.title, "density": w.density, "spikes per neuron and step": rate, "contenders": rows}
