"""Let the network learn the digits by itself, then ask what it has learnt.

    python examples/diehl_cook/learn.py --out demo-out   # writes receptive-fields.png

Nobody tells the network what a digit is. Afterwards each neuron is labelled with the digit it answered most on the
training scans, and a held-out scan is read as the digit whose neurons answer most. Untrained weights are labelled and
asked in the same way. The exit status is 1 where little was learnt.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from model import competition
from torch import Tensor

import snncompile as snn

sys.path.append(str(Path(__file__).resolve().parents[1] / "digits"))
from data import Split, load

STEPS = 60  # how long a digit is shown
BATCH = 16  # digits shown at once: what they would change is added up
SUM = 6.4  # of the weights of each neuron, restored before every batch
FLOOR = 0.75  # accuracy below which something is wrong


@dataclass
class Learner:
    """A network, its twin that does not learn, and the thresholds its neurons have come to, ``(1, neurons)``."""

    net: snn.Network
    frozen: snn.Network
    theta: Tensor

    @classmethod
    def untrained(cls, seed: int, neurons: int) -> Learner:
        """Random weights, normalised."""
        torch.manual_seed(seed)
        net = snn.compile(competition, neurons=neurons).normalize_("linear.weight", SUM)
        return cls(net, net.frozen(), torch.zeros(1, neurons))

    def show(self, images: Tensor, learn: bool = True) -> None:
        """Show digits ``(B, 64)`` at once. Membranes and traces start anew, as after a long rest.

        Args:
            images: brightness from 0 to 1.
            learn: whether weights change; thresholds do in any case.
        """
        if learn:
            start = self.net.initial_state(len(images), carry={"exc.theta": self.theta})
            _, state, _ = self.net.learn(over_time(images), state=start)
            self.net.normalize_("linear.weight", SUM)
        else:
            state, _ = self._ask(images)
        self.theta = self.theta + (state["exc.theta"] - self.theta).sum(0, keepdim=True)  # of all digits, as weights

    def counts(self, images: Tensor) -> Tensor:
        """How often each neuron answers each digit, ``(B, neurons)``, every digit from the same thresholds."""
        return self._ask(images)[1]

    @torch.no_grad()
    def _ask(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        start = self.frozen.initial_state(len(images), carry={"exc.theta": self.theta})
        _, state, record = self.frozen.evolve(over_time(images), state=start, record="exc.spikes:sum")
        return state, record["exc.spikes:sum"]

    def weights(self) -> Tensor:
        """What the neurons look for, ``(neurons, 64)``."""
        return self.net.value("linear.weight").detach().clone()


def over_time(images: Tensor) -> Tensor:
    """The same picture at every step, ``(B, 64)`` -> ``(B, STEPS, 64)``."""
    return images.unsqueeze(1).expand(-1, STEPS, -1)


def pixels(split: Split) -> Tensor:
    """Brightness from 0 to 1, ``(scans, 64)``."""
    return torch.from_numpy(split.pixels).float() / 16


def first(split: Split, digits: int | None) -> Split:
    """The first so many scans."""
    return Split(split.spikes[:digits], split.labels[:digits], split.pixels[:digits])


def label(counts: Tensor, digits: np.ndarray) -> np.ndarray:
    """The digit that each neuron answers most on average, ``(neurons,)``; -1 where it never answers."""
    shown = [counts[digits == d] for d in range(10)]
    means = torch.stack([part.mean(0) if len(part) else torch.zeros(counts.shape[1]) for part in shown])
    return np.where(means.amax(0) > 0, means.argmax(0), -1)


def read(counts: Tensor, labels: np.ndarray) -> np.ndarray:
    """The digit whose neurons answer most, on average over them, ``(scans,)``."""
    nothing = torch.full((len(counts),), -1.0)
    scores = [counts[:, labels == d].mean(1) if (labels == d).any() else nothing for d in range(10)]
    return torch.stack(scores, 1).argmax(1).numpy()


def accuracy(learner: Learner, training: Split, heldout: Split) -> tuple[float, np.ndarray]:
    """Share of held-out digits read right with labels from the training digits, and those labels."""
    labels = label(learner.counts(pixels(training)), training.labels)
    return float(np.mean(read(learner.counts(pixels(heldout)), labels) == heldout.labels)), labels


def pass_over(learner: Learner, images: Tensor, learn: bool = True) -> None:
    """Show all ``images`` once, in a random order."""
    for pick in torch.randperm(len(images)).split(BATCH):
        learner.show(images[pick], learn)


@dataclass(frozen=True)
class Findings:
    """What came out: accuracies, the labels of the neurons, weights, and accuracy by digits shown."""

    untrained: float
    adapted: float
    trained: float
    labels: np.ndarray
    weights: Tensor
    curve: list[tuple[int, float]]


def experiment(
    seed: int, training: Split, heldout: Split, neurons: int = 100, passes: int = 2,
    say: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Learn from ``training``, be tested on ``heldout``, with the same start left untrained for comparison."""
    images = pixels(training)
    control = Learner.untrained(seed, neurons)
    untrained = accuracy(control, training, heldout)[0]
    say(f"untrained weights: {untrained:.1%} of the held-out digits right")
    pass_over(control, images, learn=False)
    adapted = accuracy(control, training, heldout)[0]
    say(f"untrained weights, thresholds adapted: {adapted:.1%}")
    learner, curve, shown = Learner.untrained(seed, neurons), [(0, untrained)], 0
    labels = np.full(neurons, -1)
    for _ in range(passes):
        for half in torch.randperm(len(images)).chunk(2):
            pass_over(learner, images[half])
            shown += len(half)
            found, labels = accuracy(learner, training, heldout)
            curve.append((shown, found))
            say(f"after {shown:,} digits: {found:.1%}")
    return Findings(untrained, adapted, curve[-1][1], labels, learner.weights(), curve)


def draw(findings: Findings, path: Path) -> None:
    """What each neuron looks for, ordered by its label, and the learning curve."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    neurons = len(findings.labels)
    side = int(np.ceil(np.sqrt(neurons)))
    mosaic = np.full((side * 9, side * 9), np.nan)
    figure, (fields, plot) = plt.subplots(1, 2, figsize=(9, 5.2), width_ratios=[3, 2], layout="constrained")
    for place, neuron in enumerate(np.argsort(findings.labels, kind="stable")):
        y, x = 9 * (place // side), 9 * (place % side)
        mosaic[y : y + 8, x : x + 8] = findings.weights[neuron].reshape(8, 8).numpy()
        if findings.labels[neuron] >= 0:
            fields.text(x - 0.5, y + 1.5, str(findings.labels[neuron]), fontsize=7, color="firebrick")
    fields.imshow(mosaic, cmap="Blues", vmin=0)
    fields.axis("off")
    fields.set_title("weights of each neuron, and the digit it was labelled with", fontsize=9)
    shown, right_share = zip(*findings.curve, strict=True)
    plot.plot(shown, right_share, marker="o", label="learning")
    plot.axhline(findings.untrained, color="grey", linestyle=":", label="untrained weights")
    plot.axhline(findings.adapted, color="grey", linestyle="--", label="untrained, thresholds adapted")
    plot.set(xlabel="digits shown", ylabel="held-out digits read right", ylim=(0, 1))
    plot.legend(fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main() -> int:
    """Learn, label, ask, draw; return 1 where little was learnt."""
    parser = argparse.ArgumentParser(description="Unsupervised learning of digits.")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="directory to write to (default: demo-out)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", type=int, default=2, help="how often all training digits are shown (default: 2)")
    parser.add_argument("--neurons", type=int, default=100)
    parser.add_argument("--digits", type=int, help="training digits to take (default: all 1,437)")
    args = parser.parse_args()
    if args.neurons < 1 or args.passes < 0 or (args.digits is not None and args.digits < 10):
        parser.error("there is at least 1 neuron, at least 10 digits to learn from, and no pass less than none")
    torch.set_num_threads(1)  # small products: more threads only wait for each other
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    training, heldout = load()
    training = first(training, args.digits)
    findings = experiment(args.seed, training, heldout, args.neurons, args.passes, lambda text: print(text, flush=True))
    path = args.out / "receptive-fields.png"
    draw(findings, path)
    print(f"{time.perf_counter() - start:.0f} s; what the neurons look for: {path}")
    if args.passes and findings.trained < max(FLOOR, findings.adapted + 0.1, findings.untrained + 0.1):
        print(f"little was learnt: {findings.trained:.1%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
