"""What the network made of the held-out digits: accuracy, spike rates, confusion picture.

    python examples/digits/report.py demo-out            # after `snncompile run`; exit status 1 below 96 %

Reads what the command line wrote: `outputs.npz` with the readout `out` and the hidden spikes `lif.spikes`, beside
`heldout.npz` and `heldout-labels.npy`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FLOOR = 0.96


@dataclass(frozen=True)
class Findings:
    """Accuracy, spikes per neuron and step by layer, and how often digit i was read as digit j."""

    accuracy: float
    rates: dict[str, float]
    confusion: np.ndarray


def evaluate(out: np.ndarray, labels: np.ndarray, spikes: dict[str, np.ndarray]) -> Findings:
    """Findings from the readout ``(scans, steps, 10)``, the digits, and spike trains by layer."""
    found = out.mean(1).argmax(1)
    confusion = np.zeros((10, 10), dtype=int)
    np.add.at(confusion, (labels, found), 1)
    return Findings(float(np.mean(found == labels)), {k: float(s.mean()) for k, s in spikes.items()}, confusion)


def draw(confusion: np.ndarray, title: str, path: Path) -> None:
    """The confusion matrix as a picture."""
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    axes.imshow(np.log1p(confusion), cmap="Blues")
    for i, j in zip(*np.nonzero(confusion), strict=True):
        axes.text(j, i, confusion[i, j], ha="center", va="center", color="white" if i == j else "black")
    axes.set(xlabel="read as", ylabel="is", xticks=range(10), yticks=range(10), title=title)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def show(findings: Findings, folder: Path) -> None:
    """Print the findings, and where everything lies."""
    console = Console()
    console.print(f"accuracy on the held-out digits: [bold]{findings.accuracy:.1%}[/bold]")
    table = Table("layer", "spikes per neuron and step")
    for layer, rate in findings.rates.items():
        table.add_row(layer, f"{rate:.3f}")
    console.print(table)
    for name, what in {
        "weights.safetensors": "trained weights",
        "digits.snn": "artifact: sources and binaries in kernels/, what the compiler did in report.txt",
        "digits.onnx": "the same network for ONNX Runtime, whole sequences",
        "digits-step.onnx": "and one step at a time",
        "heldout.npz": "input of `snncompile run`",
        "outputs.npz": "its output",
        "confusion.png": "which digit was read as which",
    }.items():
        if (folder / name).exists():
            console.print(f"  {folder / name}  [dim]{what}[/dim]", highlight=False, soft_wrap=True)


def main() -> int:
    """Print what was found and draw the confusions; return 1 below the floor of accuracy."""
    parser = argparse.ArgumentParser(description="Report on the held-out digits.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("demo-out"))
    folder = parser.parse_args().folder
    results, labels = np.load(folder / "outputs.npz"), np.load(folder / "heldout-labels.npy")
    spikes = {"input": np.load(folder / "heldout.npz")["x"], "hidden": results["lif.spikes"]}
    findings = evaluate(results["out"], labels, spikes)
    draw(findings.confusion, f"{findings.accuracy:.1%} of {len(labels)} held-out digits", folder / "confusion.png")
    show(findings, folder)
    if findings.accuracy < FLOOR:
        print(f"accuracy is below {FLOOR:.0%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
