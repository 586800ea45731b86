"""How time grows with steps, batch, neurons and input density: one Linear and LIF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from benchmarks.workloads import libraries, loops
from benchmarks.workloads.contender import Absent, Builder, Contender, disagreement
from benchmarks.workloads.measure import expected
from benchmarks.workloads.ours import ours
from benchmarks.workloads.shapes import Workload, make_data
from snncompile.bench.timing import interleaved

BASE = Workload("scaling", "lif", 256, 256, 16, 200)
AXES: dict[str, tuple[float, ...]] = {
    "steps": (50, 100, 200, 400, 800, 1600),
    "batch": (1, 4, 16, 64),
    "size": (64, 128, 256, 512, 1024),
    "density": (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
}


def ways(device: str) -> dict[str, Builder]:
    """The contenders, fewer than of the workloads."""
    target = "c" if device == "cpu" else "triton"
    return {
        f"snncompile {target}": ours(target),
        f"snncompile {target}, dense": ours(target, hint=False, label=f"snncompile {target}, dense"),
        "products alone": loops.products,
        "plain loop": loops.plain,
        "SpikingJelly": libraries.spikingjelly,
    }


def point(axis: str, value: float, tiny: bool) -> Workload:
    """The workload at one point of an axis."""
    w = replace(BASE, batch=4) if tiny else BASE
    if axis == "density":  # as much current whatever the density, so that neurons fire as much
        return replace(w, density=value, gain=w.gain * (0.05 / value) ** 0.5)
    if axis == "size":
        return replace(w, inputs=int(value), size=int(value))
    return replace(w, **{axis: int(value)})


def measure(*, tiny: bool, seconds: float, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds of forward and backward along each axis."""
    found: dict[str, Any] = {"title": BASE.title, "axes": {}}
    for axis, values in AXES.items():
        rows: dict[str, dict[str, Any]] = {}
        for value in values[:2] if tiny else values:
            say(f"scaling: {axis} {value:g}")
            w = point(axis, value, tiny)
            data = make_data(w, device=device)
            truth = expected(w, data)
            alive: dict[str, Contender] = {}
            for name, build in ways(device).items():
                try:
                    made = build(w, data)
                except Absent:
                    continue
                if made.output is not None:
                    share = disagreement(made.output(), truth[made.reset])
                    assert share < 0.01, f"{name}: {share:.2%} of its spikes differ from the loop's"
                alive[name] = made
            runs = {n: c.both for n, c in alive.items() if c.both is not None}
            for name, timing in interleaved(runs, seconds / 6, (2, 10)).items():
                rows.setdefault(name, {})[f"{value:g}"] = asdict(timing)
        found["axes"][axis] = rows
    return found
