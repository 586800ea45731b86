"""Runs Brunel's network in its asynchronous irregular state, draws a raster, and compares rates and regularity.

    python examples/brunel/simulate.py --out brunel-out            # 12,500 neurons, half a second of their time
    python examples/brunel/simulate.py --n 2000 --time 0.3         # 2,500 neurons, a few seconds of yours

At g = 5 and an outside rate of twice the threshold's, neurons fire irregularly at some 38 spikes a second, and the
activity of the whole network is stationary (Brunel 2000, figure 8C). A smaller network keeps the paper's 1,000
excitatory synapses of a neuron, and with them its statistics, while these are no more than a quarter of its neurons;
below 2,000 excitatory neurons single spikes are too strong for the theory.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from model import brunel
from theory import Prediction, predict

import snncompile as snn

SYNAPSES = 1000  # excitatory ones of a neuron, in the paper
SETTLING = 0.1  # seconds until the network has forgotten its start
PIECE = 500  # steps at a time
#: How far beyond the bounds of the theory a network may be: it knows no finite size, time steps or jumps, and a short
#: run misses long intervals.
TOLERANCE = 0.1
MOST_CORRELATION = 0.1


@dataclass(frozen=True)
class Activity:
    """Spikes of one population: step and neuron of each, after settling; the time step in seconds."""

    steps: np.ndarray
    neurons: np.ndarray
    size: int
    length: int
    dt: float

    @property
    def rate(self) -> float:
        """Spikes a second and neuron."""
        return len(self.steps) / (self.size * self.length * self.dt)

    @property
    def cv(self) -> float:
        """Mean coefficient of variation of inter-spike intervals, of neurons with at least five; NaN without any."""
        order = np.lexsort((self.steps, self.neurons))
        steps, neurons = self.steps[order], self.neurons[order]
        same = neurons[1:] == neurons[:-1]
        gaps, owner = np.diff(steps)[same].astype(float), neurons[1:][same]
        count = np.bincount(owner, minlength=self.size)
        mean = np.bincount(owner, gaps, self.size) / np.maximum(count, 1)
        square = np.bincount(owner, (gaps - mean[owner]) ** 2, self.size) / np.maximum(count - 1, 1)
        enough = count >= 5
        return float(np.mean(np.sqrt(square[enough]) / mean[enough])) if enough.any() else float("nan")

    def correlation(self, width: float = 2e-3, neurons: int = 200) -> float:
        """Mean correlation of the spike counts of two neurons in windows of ``width`` seconds; NaN in silence."""
        window = round(width / self.dt)
        chosen = self.neurons < neurons
        counts = np.zeros((min(neurons, self.size), -(-self.length // window)))
        np.add.at(counts, (self.neurons[chosen], self.steps[chosen] // window), 1)
        counts = counts[counts.std(1) > 0]
        if len(counts) < 2:
            return float("nan")
        c = np.corrcoef(counts)
        return float((c.sum() - len(c)) / (len(c) * (len(c) - 1)))


def simulate(net: snn.Network, seconds: float) -> dict[str, Activity]:
    """The spikes of both populations."""
    dt = net.graph.dt
    steps, settling = round((seconds + SETTLING) / dt), round(SETTLING / dt)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"e": [], "i": []}
    state = None
    with torch.no_grad():
        for start in range(0, steps, PIECE):
            length = min(PIECE, steps - start)
            out, state, _ = net.evolve(steps=length, batch=1, state=state)
            for name, events in found.items():
                t, n = out[name][0].nonzero(as_tuple=True)
                late = t + start >= settling
                events.append(((t[late] + (start - settling)).numpy(), n[late].numpy()))
    sizes = {name: net.graph.output_types()[name].shape[0] for name in found}
    joined = {name: [np.concatenate(part) for part in zip(*events, strict=True)] for name, events in found.items()}
    return {name: Activity(t, n, sizes[name], steps - settling, dt) for name, (t, n) in joined.items()}


def draw(activity: dict[str, Activity], title: str, path: Path, neurons: int = 100, length: float = 0.2) -> None:
    """A raster of some neurons, and the activity of all excitatory ones in windows of a millisecond."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8, 6), height_ratios=[3, 1], sharex=True, layout="constrained"
    )
    for name, colour, first in (("e", "#2f6db3", 0), ("i", "#b3261e", neurons)):
        a = activity[name]
        shown = (a.neurons < neurons) & (a.steps < length / a.dt)
        top.plot(a.steps[shown] * a.dt * 1e3, a.neurons[shown] + first, "|", color=colour, markersize=3)
    e = activity["e"]
    window = round(1e-3 / e.dt)
    counts = np.bincount(e.steps // window, minlength=-(-e.length // window))
    counts = counts[: round(length * 1e3)] / (e.size * 1e-3)
    bottom.plot(np.arange(len(counts)), counts, color="black", linewidth=0.8)
    top.set(ylabel="neuron (inhibitory: red)", title=title)
    bottom.set(xlabel="ms", ylabel="spikes/s", ylim=(0, None))
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def verdict(activity: dict[str, Activity], bounds: tuple[Prediction, Prediction]) -> list[tuple[str, str, bool]]:
    """What was measured, what was expected, and whether that agrees."""
    rates = {name: a.rate for name, a in activity.items()}
    cv, correlation = activity["e"].cv, activity["e"].correlation()
    slow, fast = sorted(p.rate for p in bounds)
    regular, irregular = sorted(p.cv for p in bounds)
    near = all(slow * (1 - TOLERANCE) <= r <= fast * (1 + TOLERANCE) for r in rates.values())
    said = ", ".join(f"{name} {r:.1f}" for name, r in rates.items())
    between = regular * (1 - TOLERANCE) <= cv <= irregular * (1 + TOLERANCE)
    return [
        (f"rate: {said} spikes/s", f"{slow:.1f} to {fast:.1f} by mean-field theory", near),
        (f"CV of intervals: {cv:.2f}", f"{regular:.2f} to {irregular:.2f} by mean-field theory", between),
        (f"correlation of pairs: {correlation:.3f}", f"asynchronous: below {MOST_CORRELATION}",
         correlation < MOST_CORRELATION),
    ]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Simulate, print rates and regularity beside the theory's, draw the raster; return 1 where they disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000, help="excitatory neurons")
    parser.add_argument("--g", type=float, default=5.0, help="relative strength of inhibition")
    parser.add_argument("--outside", type=float, default=2.0, help="outside rate, relative to the threshold's")
    parser.add_argument("--time", type=float, default=0.5, help="seconds of network time, after settling")
    parser.add_argument("--seed", type=int, default=1, help="of connections and outside spikes")
    parser.add_argument("--target", default="auto")
    parser.add_argument("--out", type=Path, default=Path("brunel-out"))
    args = parser.parse_args(argv)
    if args.n < 12 or args.time <= 0 or args.outside <= 0:
        parser.error("a network has at least 12 excitatory neurons; --time and --outside are above 0")
    if args.g <= 4:
        parser.error("--g is above 4: below, excitation wins, and neurons fire as fast as they can, all at once")

    degree = min(SYNAPSES, args.n // 4)
    j = 0.1 * SYNAPSES / degree  # mV: the mean input stays that of the full network
    started = time.perf_counter()
    settings = {"n": args.n, "connected": degree / args.n, "j": j, "g": args.g, "outside": args.outside}
    net = snn.compile(brunel, target=args.target, seed=args.seed, **settings)
    synapses = sum(p.shape[0] for name, p in net.graph.parameters().items() if name.endswith(".targets"))
    built = time.perf_counter()
    torch.manual_seed(args.seed)
    activity = simulate(net, args.time)
    done = time.perf_counter()
    print(f"{args.n + args.n // 4:,} neurons, {synapses:,} synapses: built in {built - started:.1f} s,"
          f" {args.time + SETTLING:g} s of network time in {done - built:.1f} s")  # fmt: skip
    found = verdict(activity, predict(**settings))
    for measured, expected, ok in found:
        print(f"  {'ok ' if ok else 'OFF'} {measured} (expected: {expected})")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "raster.png"
    draw(activity, f"g = {args.g:g}, outside {args.outside:g}: {activity['e'].rate:.1f} spikes/s", path)
    print(f"  {path}")
    return 0 if all(ok for _, _, ok in found) else 1


if __name__ == "__main__":
    sys.exit(main())
